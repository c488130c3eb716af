#pragma once
// The arguments of operations that would hold a large matrix if they were composed of others: see op_args.h.

#include "reid/engine/op_args.h"

namespace reid {

// softmax_rows (op_args_rows.h) over the similarities s = x c^T, whose columns have labels. Of row i only the columns first_column[i],
// ..., end_column[i] - 1 count: those with its label are its positives, the others its negatives. The gradient goes to x; c is a constant,
// such as the centroids of clusters. Neither a mask [B, M] nor, when it is large, s is ever held; rows without a positive give 0.
struct CentroidRowsArgs {
  const void* x;                // [B, D]
  const void* c;                // [M, D]
  const int32_t* row_label;     // [B]
  const int32_t* column_label;  // [M]; null: a column's label is its number
  const int32_t* first_column;  // [B]
  const int32_t* end_column;    // [B] 0 <= first_column <= end_column <= M
  const void* tau;              // [B] wide
  const void* weight;           // [B] wide
  void* loss;                   // [B] wide
  void* dx;                     // [B, D] wide, of the sum of the losses: what they are scaled by is still to come, then it is rounded
  int64_t rows, columns, depth;
  double smoothing;
  DType dtype;
  void describe(Visitor&) const;
};
struct CentroidRows {
  using Args = CentroidRowsArgs;
  static constexpr const char* name = "centroid_rows";
};

}  // namespace reid
