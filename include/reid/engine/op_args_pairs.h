#pragma once
// The arguments of the operations that a search among rows of features is made of: see op_args.h. Arrays of doubles and of 64-bit numbers
// are void*, as all that this header says.
//
// A search multiplies tile by tile and looks at distances in double only where a product cannot decide (pair_filter.h of the
// people wing has the bounds). All of these operations have one right result, to the last bit, whoever computes it. Nothing in them is NaN.

#include "reid/engine/op_args.h"

namespace reid {

// y = scale x - center in double, rounded to f32, in two parts: rounded to bf16, and what that lacks rounded to bf16. And |y|^2 / 2.
struct CenterRowsArgs {
  const void* x;       // [N, D]
  const void* scale;   // [N] f64
  const void* center;  // [D] f64
  void* high;          // [N, D] bf16
  void* low;           // [N, D] bf16
  void* half;          // [N] f64, summed like DistanceForm's s
  int64_t rows, columns;
  DType dtype;  // of x, f32 or f64
  void describe(Visitor&) const;
};
struct CenterRows {
  using Args = CenterRowsArgs;
  static constexpr const char* name = "center_rows";
};

// What is made of s = |scale_x x - scale_y y|^2, which is summed in double in 32 lanes: lane l has the elements l modulo 32 in order, then
// lane l takes lane l + 16 for l < 16, and so on down to one.
enum class DistanceForm : uint8_t {
  squared,    // s
  euclidean,  // sqrt(s)
  cosine      // min(2, s / 2), which needs the scales 1 / |x| and 1 / |y|
};

// Two sets of rows with what a distance needs of them.
struct RowSets {
  const void* x;        // [M, D]
  const void* y;        // [N, D]
  const void* scale_x;  // [M] f64
  const void* scale_y;  // [N] f64
  int64_t m, n, columns;
  DistanceForm form;
  DType dtype;  // of x and y, f32 or f64
};

struct PairDistancesArgs : RowSets {
  const int32_t* pairs;  // [P, 2] a row of x and one of y
  void* d;               // [P] f64
  int64_t count;
  void describe(Visitor&) const;
};
struct PairDistances {
  using Args = PairDistancesArgs;
  static constexpr const char* name = "pair_distances";
};

// --- the nearest rows of each row, while tiles of products go by ---

// A list holds unsigned 64-bit numbers, ascending: in the upper half the key edge[j] - product (farthest: edge[j] + product) as a number
// that orders like it, below it the column, so that ties go to the lower one. Places that are still free hold kFreePlace.
inline constexpr uint64_t kFreePlace = ~uint64_t{0};
inline constexpr uint32_t ordered_bits(uint32_t float_bits) {
  return (float_bits & 0x80000000u) != 0 ? ~float_bits : float_bits | 0x80000000u;
}
inline constexpr uint32_t float_bits(uint32_t ordered) { return (ordered & 0x80000000u) != 0 ? ordered & 0x7FFFFFFFu : ~ordered; }

// The first `count` of a list and a tile's row.
struct MergeNearestArgs {
  const float* products;  // [M, N]
  const float* edge;      // [N]
  const void* before;     // [M, count] lists
  void* after;            // [M, count]
  int64_t m, n, count;
  int64_t first_column;  // what column 0 of the tile is called
  int64_t own_column;    // of row 0, which is left out of its list, as the next is of row 1's; -1: none is
  bool farthest;
  void describe(Visitor&) const;
};
struct MergeNearest {
  using Args = MergeNearestArgs;
  static constexpr const char* name = "merge_nearest";
};

// The first `wanted` of each list by (distance, column), or (farthest) by (-distance, column); 1 <= wanted <= count. Places above that of
// number `wanted` by more than `slack` cannot be among them and are not looked at. open: whether a row that fell off the list's end could.
struct RankNearestArgs : RowSets {
  const void* lists;  // [M, count] without free places among the first `wanted`
  int32_t* index;     // [M, wanted]
  void* d;            // [M, wanted] f64
  uint8_t* open;      // [M]: 1 when the list is full and its last place is within the slack
  int64_t count, wanted;
  double slack;
  bool farthest;
  void describe(Visitor&) const;
};
struct RankNearest {
  using Args = RankNearestArgs;
  static constexpr const char* name = "rank_nearest";
};

// --- pairs of a tile ---

// Pairs come as (first_row + i, first_column + j) by row, then column; `pairs` gets the first `capacity` of them, `found` counts all.
struct FoundPairs {
  int32_t* pairs;  // [capacity, 2]; what is behind the last pair stays as it is
  int32_t* found;  // [1]
  int64_t first_row, first_column, capacity;
};

// All (i, j) with product - edge[j] >= bar[i], or (below) <= bar[i].
struct SelectPairsArgs : FoundPairs {
  const float* products;  // [M, N]
  const float* edge;      // [N]
  const float* bar;       // [M]
  int64_t m, n;
  bool above;  // only with first_column + j > first_row + i
  bool below;
  void describe(Visitor&) const;
};
struct SelectPairs {
  using Args = SelectPairsArgs;
  static constexpr const char* name = "select_pairs";
};

// Each row has places in its ranking, given by bars that descend. Column j comes surely before place p when product - sure_edge[j] >
// sure_bar[p], which holds for all later places, too, and perhaps when product - maybe_edge[j] >= maybe_bar[p]. A column that perhaps, but
// not surely, comes before some place is undecided. Infinite edges: the column takes no part.
struct RankedTile {
  const float* products;    // [M, N]
  const float* sure_edge;   // [N]
  const float* maybe_edge;  // [N]
  const int32_t* places;    // [M + 1]: those of row i are places[i], ..., places[i + 1] - 1
  const float* sure_bar;    // [P], P = places[M]
  const float* maybe_bar;   // [P]
  int64_t m, n, place_count;
};

// before[p] += how many columns that are decided come before place p of their row.
struct CountBeforeArgs : RankedTile {
  int32_t* before;  // [P]
  void describe(Visitor&) const;
};
struct CountBefore {
  using Args = CountBeforeArgs;
  static constexpr const char* name = "count_before";
};
// The pairs that are undecided.
struct SelectUndecidedArgs : RankedTile, FoundPairs {
  void describe(Visitor&) const;
};
struct SelectUndecided {
  using Args = SelectUndecidedArgs;
  static constexpr const char* name = "select_undecided";
};

}  // namespace reid
