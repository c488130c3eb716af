#pragma once
// Inside the people wing: which pairs of rows can lie within a distance, told from scalar products whose error is bounded.
//
// Design: every metric becomes q = |x_i - x_j|^2 / 2 of prepared rows x: unit rows under cosine (q is the distance), rows scaled
// by a power of two under the euclidean ones. A block of rows is prepared when it is needed: scaled and centered in double (a
// mean common to all rows would cost digits), rounded once to f32 as y. With h = |y|^2 / 2 and p the f32 product y_i . y_j,
//
//   | h_i + h_j - p - q |  <=  c (h_i + h_j) + t,     c = (D + 16) u / (1 - (D + 16) u),  u = 2^-24
//
// whatever the order of the sum: D u (h_i + h_j) bounds the product, 4 u the rounding of y, 7 u the arithmetic of a test in f32. Where
// the CPU multiplies 16-bit codes faster than f32 (coded_rows.h), p is the product of the codes y' = y - e with |e| <= r |y|, and
//
//   | y_i . y_j - y'_i . y'_j |  <=  |y_i| |e_j| + |e_i| (|y_j| + |e_j|)  <=  (2 r + r^2) |y_i| |y_j|  <=  (2 r + r^2) (h_i + h_j)
//
// stands in for most of D u: c = (2 r + r^2) + (D / 64 + 24) u / (1 - ...), with a rounding for each block of codes. In both cases
// t = 2^22 (2^-52 (D + 16))^2 + 2^-74 bounds the rounding errors in double of the distance that is
// defined by DistanceTiles::pair, and f32 underflow.
//
// An accelerator multiplies on tensor cores: y = a + b + e with a = y rounded to bf16, b = y - a rounded to bf16, |b| <= 2^-8 (1 + 2^-8)
// |y| and |e| <= 2^-16 |y|. p = a . a' + a . b' + b . a' lacks b . b' and all that e takes part in, at most 3.03 2^-16 |y_i| |y_j|. Its
// sums are f32 that may be cut off instead of rounded, with v = 2^-23 for each term and twice more for each 16 of them (when they join the
// sum, and when that is normalized): 18/16 D v of the terms' magnitudes, which add up to (1 + 2^-8)^2 (1 + 2^-7) |y_i| |y_j| at most: c
// = 3.03 2^-16 + (1.15 D + 32) v / (1 - ...).
//
// Whoever decides by these bounds and asks pair() about the pairs between them gets the answer that pair() alone would give for all pairs,
// bit for bit.

#include <functional>
#include <span>
#include <vector>

#include "people/coded_rows.h"
#include "people/distances.h"

namespace reid {

using Progress = std::function<void(double share)>;  // called now and then, from the calling thread; may be empty

// Products of some rows of a with some rows of b, where pairs.device() says.
struct ProductTile {
  int64_t row = 0, rows = 0;        // of a
  int64_t column = 0, columns = 0;  // of b
  const float* products = nullptr;  // [rows, columns]
  // A set among itself: pairs below the diagonal are in no tile of their own. True: this tile stands for its mirror image, too.
  bool mirrored = false;
};

class PairFilter {
 public:
  explicit PairFilter(const DistanceTiles& pairs);  // `pairs` must stay

  // All tiles in a fixed order, from one thread: the rows of a strip of columns, then the next strip; the tile's memory is reused. Tiles on
  // the diagonal hold both triangles. `whole`: a set among itself is multiplied below the diagonal, too, and no tile is mirrored.
  void for_each(const Progress& progress, FunctionRef<void(const ProductTile&)> use, bool whole = false) const;

  // An upper limit of what for_each and this object hold.
  static int64_t bytes(int64_t rows_a, int64_t rows_b, int64_t width, bool same);
  static int64_t tile_pairs(int64_t rows_a, int64_t rows_b, bool same);  // of the largest tile

  bool same() const { return pairs_.same(); }
  Device device() const { return pairs_.device(); }
  bool coded() const { return coded_; }                       // products of codes, not of f32
  double margin() const { return margin_; }                   // c
  double absolute() const { return absolute_; }               // t
  std::span<const double> half_a() const { return half_a_; }  // h
  std::span<const double> half_b() const { return same() ? half_a_ : half_b_; }
  // q lies between these two, given the product.
  double lower(int64_t i, int64_t j, float product) const { return (1 - margin_) * sum(i, j) - double{product} - absolute_; }
  double upper(int64_t i, int64_t j, float product) const { return (1 + margin_) * sum(i, j) - double{product} + absolute_; }
  double half_square(double distance) const;  // the q of a distance
  // The weights of h in f32 tests: edges (1 - c) h_j, or (1 + c) h_j, of all rows of b.
  std::vector<float> lower_edges() const { return edges(1 - margin_); }
  std::vector<float> upper_edges() const { return edges(1 + margin_); }

 private:
  double sum(int64_t i, int64_t j) const { return half_a_[static_cast<size_t>(i)] + half_b()[static_cast<size_t>(j)]; }
  class Products;
  struct Parts {
    Tensor high, low;  // bf16, [rows, D]
  };
  void prepare(bool b, int64_t begin, int64_t end, const Tensor& block) const;
  std::vector<double> half_lengths(bool b, CodedRows* codes) const;  // and the codes, where they are wanted
  std::vector<double> split_there(bool b, Parts& parts) const;       // and the parts
  std::vector<float> edges(double weight) const;

  const DistanceTiles& pairs_;
  double scale_ = 1;                       // of all rows, a power of two; cosine: 1
  std::vector<double> scale_a_, scale_b_;  // of each row; empty: scale_
  std::vector<double> center_;             // [D]
  std::vector<double> half_a_, half_b_;
  CodedRows codes_a_, codes_b_;
  bool coded_ = false;
  Parts parts_a_, parts_b_;  // on an accelerator
  double margin_, absolute_;
};

// The test of a threshold, in f32 without branches. edge_j and bar_i come from h and the threshold.
inline bool any_reaches(const float* products, const float* edges, int64_t count, float bar) {
  int any = 0;
  for (int64_t j = 0; j < count; ++j) any |= products[j] - edges[j] >= bar;
  return any != 0;
}

inline constexpr int64_t kFilterColumns = 128;  // tested at a time before single pairs are looked at

inline int64_t accelerator_tile = 8192;  // rows and columns of a tile there; tests of several tiles lower it

float to_float(double value);  // nearest, infinities become the largest numbers

}  // namespace reid
