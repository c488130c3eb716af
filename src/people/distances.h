#pragma once
// Inside the people wing: distances by blocks of rows, and of single pairs.

#include <cmath>
#include <string>
#include <vector>

#include "reid/people/cluster.h"

namespace reid {

void check_labels(const std::vector<int64_t>& labels, const Tensor& features, const char* what);  // as many as rows

// Squared length of each row, in double, summed in an order that depends on the width only.
std::vector<double> squared_lengths(const Tensor& features);

// 1 / |row| of each row, from squared lengths: the scales that cosine distances are defined with.
std::vector<double> inverse_lengths(const std::vector<double>& squared);

// The distances of the rows of `a` to all rows of `b`, some rows at a time.
class DistanceTiles {
 public:
  // Checks both (`what_*` name them in errors). Keeps the features alive. Searches among them happen on `device`, which gets a copy.
  DistanceTiles(const Tensor& a, const std::string& what_a, const Tensor& b, const std::string& what_b, Metric metric, Device device = {});
  DistanceTiles(const Tensor& features, const std::string& what, Metric metric, Device device = {});  // among themselves
  // Of a set among itself the rows before `row` to those from it on, which share its memory.
  DistanceTiles split_at(int64_t row) const;

  int64_t count() const { return a_.dim(0); }
  int64_t width() const { return b_.dim(0); }
  DType dtype() const { return a_.dtype(); }
  Metric metric() const { return metric_; }
  bool same() const { return same_; }  // a set among itself
  const Tensor& a() const { return a_; }
  const Tensor& b() const { return b_; }
  Device device() const { return there_a_.device(); }
  const Tensor& there_a() const { return there_a_; }  // the copies; on the CPU the features themselves
  const Tensor& there_b() const { return there_b_; }
  const std::vector<double>& squared_a() const { return squared_a_; }  // squared lengths
  const std::vector<double>& squared_b() const { return squared_b_; }
  int64_t rows_per_block() const;                 // a tile of at most 64 MB, at least one row
  Tensor rows(int64_t begin, int64_t end) const;  // [end - begin, width()]
  // The distance of one pair from its differences, in double whatever the dtype and however close: a function of the two rows
  // alone, the same for (i, j) and (j, i). Neighbor lists, radius searches and what is built on them are defined by it.
  double pair(int64_t i, int64_t j) const;

 private:
  template <class T>
  void combine(int64_t begin, const Tensor& tile) const;
  template <class T>
  double exact(int64_t i, int64_t j) const;  // from the differences; euclidean: squared

  Tensor a_, b_, there_a_, there_b_;
  Metric metric_;
  bool same_;
  std::vector<double> squared_a_, squared_b_;
};

// Calls use(begin, tile) for all rows, block by block; `Tiles` has count(), rows_per_block() and rows(begin, end).
template <class Tiles, class Use>
void for_each_tile(const Tiles& tiles, Use&& use) {
  const int64_t step = tiles.rows_per_block();
  for (int64_t begin = 0; begin < tiles.count(); begin += step) {
    use(begin, tiles.rows(begin, std::min(begin + step, tiles.count())));
  }
}

}  // namespace reid
