#include "reid/learning/cluster_memory.h"

#include <cmath>
#include <map>

#include "reid/learning/losses.h"

namespace reid {

namespace {

// c <- momentum c + (1 - momentum) v, scaled to length 1. Left alone where that is zero: it has no direction.
template <class T>
void move_towards(std::span<T> c, const std::vector<double>& v, double momentum) {
  std::vector<double> moved(c.size());
  double squared = 0;
  for (size_t d = 0; d < c.size(); ++d) {
    moved[d] = momentum * double{c[d]} + (1 - momentum) * v[d];
    squared += moved[d] * moved[d];
  }
  if (squared == 0) return;
  for (size_t d = 0; d < c.size(); ++d) c[d] = static_cast<T>(moved[d] / std::sqrt(squared));
}

template <class T>
double product(std::span<const T> a, std::span<T> b) {
  double sum = 0;
  for (size_t d = 0; d < a.size(); ++d) sum += double{a[d]} * double{b[d]};
  return sum;
}

template <class T>
std::vector<double> mean_of(const std::vector<std::span<const T>>& rows) {
  std::vector<double> mean(rows.front().size());
  for (const std::span<const T>& row : rows) {
    for (size_t d = 0; d < row.size(); ++d) mean[d] += double{row[d]} / static_cast<double>(rows.size());
  }
  return mean;
}

template <class T>
std::vector<double> hardest_of(const std::vector<std::span<const T>>& rows, std::span<T> c) {
  const std::span<const T>* hardest = &rows.front();
  for (const std::span<const T>& row : rows) {
    if (product(row, c) < product(*hardest, c)) hardest = &row;
  }
  return {hardest->begin(), hardest->end()};
}

}  // namespace

ClusterMemory::ClusterMemory(Tensor rows, const MemoryOptions& options) : rows_(std::move(rows)), options_(options) {
  REID_CHECK(rows_.shape().rank() == 2, "[cluster memory] rows ", rows_.shape(), " must be [K, D]");
  REID_CHECK(options_.tau > 0, "[cluster memory] temperature ", options_.tau, " must be positive");
  REID_CHECK(options_.momentum >= 0 && options_.momentum <= 1, "[cluster memory] momentum ", options_.momentum, " is outside 0..1");
  REID_CHECK(options_.update == "all" || options_.update == "hard" || options_.update == "mean", "[cluster memory] update '",
             options_.update, "' is not one of all, hard, mean");
}

Var ClusterMemory::loss(const Var& f, const std::vector<int64_t>& labels) const {
  // The backward of the product keeps the rows until it runs, and update() changes them in place: so they are copied.
  const Var similarities = matmul(f, Var(rows_.clone()), false, true);
  return cross_entropy(scale(similarities, 1 / options_.tau), labels);
}

template <class T>
void ClusterMemory::update_as(const Tensor& f, const std::vector<int64_t>& labels) {
  std::map<int64_t, std::vector<std::span<const T>>> batch;
  for (size_t i = 0; i < labels.size(); ++i) {
    const std::span<const T> row = f.rows(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).template span<T>();
    batch[labels[i]].push_back(row);
  }
  for (const auto& [label, rows] : batch) {  // clusters do not meet: their order does not matter
    const Tensor row = rows_.rows(label, label + 1), here = row.to(Device{});
    const std::span<T> c = here.template span<T>();
    if (options_.update == "mean") {
      move_towards(c, mean_of(rows), options_.momentum);
    } else if (options_.update == "hard") {
      move_towards(c, hardest_of(rows, c), options_.momentum);
    } else {
      for (const std::span<const T>& image : rows) move_towards(c, {image.begin(), image.end()}, options_.momentum);
    }
    if (row.device() != here.device()) row.copy_from(here);
  }
}

void ClusterMemory::update(const Tensor& f, const std::vector<int64_t>& labels) {
  REID_CHECK(
      f.shape().rank() == 2 && f.dim(1) == rows_.dim(1) && f.dtype() == rows_.dtype() && static_cast<size_t>(f.dim(0)) == labels.size(),
      "[cluster memory] f ", f.shape(), " with ", labels.size(), " labels, rows ", rows_.shape());
  for (const int64_t label : labels)
    REID_CHECK(label >= 0 && label < rows_.dim(0), "[cluster memory] label ", label, " is outside 0..", rows_.dim(0) - 1);
  const Tensor here = f.to(Device{});
  f.dtype() == DType::f64 ? update_as<double>(here, labels) : update_as<float>(here, labels);
}

}  // namespace reid
