#pragma once
// The arguments of the operations that k-reciprocal encodings and their Jaccard distances are made of (Zhong et al., CVPR 2017): see
// op_args.h and, for R, R*, V and s, jaccard_distance in people/cluster.h.
//
// Lists: index [N, width] i32, row i holding i itself and then its neighbors, none twice. Sparse matrices are three arrays: offset
// [N + 1], and column (ascending within a row) and value of entries offset[i], ..., offset[i + 1] - 1. All in double, sums in the order
// that is stated: every implementation gives the same bits. How many entries a row has depends on the data: the operations that make them
// are called twice, without `offset`, which is then `made`, and with it for the entries.

#include "reid/engine/op_args.h"

namespace reid {

// R(i, k) of list lengths k = full and half.
struct ReciprocalMembersArgs {
  const int32_t* index;             // [N, width]
  uint8_t* member;                  // [N, full]: 1 where index[i, e] is in R(i, full), plus 2 where it is in R(i, half)
  uint8_t* joins;                   // [N, full]: 1 where it is in R(i, full) and over 2/3 of its R(., half) are: R* takes these in; else 0
  int64_t rows, width, full, half;  // 1 <= half <= full <= width <= N
  void describe(Visitor&) const;
};
struct ReciprocalMembers {
  using Args = ReciprocalMembersArgs;
  static constexpr const char* name = "reciprocal_members";
};

// V without query expansion: row i has the columns R*(i), weights exp(-2 d) over their sum, which is taken by ascending columns. d is what
// the list of i says or, where j is not in it, the cosine distance min(2, |scale_i x_i - scale_j x_j|^2 / 2), whose sum has 32 parts: the
// elements modulo 32, of which upper halves are added to lower ones until one is left. With `largest`, d is the euclidean distance
// |scale_i x_i - scale_j x_j|, its square summed like that, and weights are exp(-(d / largest_i)^power): power 2 or, as a square's
// square, 4.
struct ReciprocalRowsArgs {
  const void* x;                  // [N, depth]
  const double* scale;            // [N] 1 / |x_i|; with `largest` of 1
  const double* largest;          // [N] > 0, the largest distance of each row; may be null
  const int32_t* index;           // [N, width]
  const double* distance;         // [N, width] >= 0
  const uint8_t *member, *joins;  // [N, full] of reciprocal_members
  const int64_t* offset;          // [N + 1]; null: it is made
  int64_t* made;                  // [N + 1]; not written where there is an offset
  int32_t* column;                // [entries], as the next
  double* value;
  int64_t rows, width, full, half, depth, entries;
  int power;    // with `largest`
  DType dtype;  // of x
  void describe(Visitor&) const;
};
struct ReciprocalRows {
  using Args = ReciprocalRowsArgs;
  static constexpr const char* name = "reciprocal_rows";
};

// The mean of the rows index[i, 0], ..., index[i, terms - 1] of a sparse matrix of values above 0, added in this order.
struct MeanRowsArgs {
  const int32_t* index;      // [N, width]
  const int64_t* in_offset;  // [N + 1]
  const int32_t* in_column;  // [in_entries], as the next
  const double* in_value;
  const int64_t* offset;  // these four as in ReciprocalRowsArgs
  int64_t* made;
  int32_t* column;
  double* value;
  int64_t rows, width, terms, in_entries, entries;  // 1 <= terms <= width
  void describe(Visitor&) const;
};
struct MeanRows {
  using Args = MeanRowsArgs;
  static constexpr const char* name = "mean_rows";
};

// Of a square sparse matrix.
struct TransposeRowsArgs {
  const int64_t* in_offset;
  const int32_t* in_column;
  const double* in_value;
  int64_t* offset;
  int32_t* column;
  double* value;
  int64_t rows, entries;
  void describe(Visitor&) const;
};
struct TransposeRows {
  using Args = TransposeRowsArgs;
  static constexpr const char* name = "transpose_rows";
};

// Of rows i = first, ..., first + rows - 1 the columns j > i, from first_column on, with d = max(0, 1 - s / (2 - s)) <= radius < 1, where
// s = sum over the columns g of row i, ascending, of min(V[i, g], V[j, g]).
struct JaccardWithinArgs {
  const int64_t* offset;  // V
  const int32_t* column;
  const double* value;
  const int64_t* inverse_offset;  // its transpose
  const int32_t* inverse_column;
  const double* inverse_value;
  int32_t* count;                                 // [rows] how many there are, also where that is more than capacity
  int32_t* found;                                 // [rows, capacity] the first of them, ascending, then -1
  double* distance;                               // [rows, capacity] their d, then 1; may be null
  int64_t total, first, rows, capacity, entries;  // total: N
  int64_t first_column;
  double radius;
  void describe(Visitor&) const;
};
struct JaccardWithin {
  using Args = JaccardWithinArgs;
  static constexpr const char* name = "jaccard_within";
};

}  // namespace reid
