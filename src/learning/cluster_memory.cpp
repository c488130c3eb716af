#include "reid/learning/cluster_memory.h"

#include "labels.h"

namespace reid {

namespace {

MemoryRule rule_of(const std::string& update) {
  return update == "hard" ? MemoryRule::hard : update == "mean" ? MemoryRule::mean : MemoryRule::all;
}

}  // namespace

ClusterMemory::ClusterMemory(Tensor rows, const MemoryOptions& options) : rows_(std::move(rows)), options_(options) {
  REID_CHECK(rows_.shape().rank() == 2, "[cluster memory] rows ", rows_.shape(), " must be [K, D]");
  REID_CHECK(options_.tau > 0, "[cluster memory] temperature ", options_.tau, " must be positive");
  REID_CHECK(options_.momentum >= 0 && options_.momentum <= 1, "[cluster memory] momentum ", options_.momentum, " is outside 0..1");
  REID_CHECK(options_.update == "all" || options_.update == "hard" || options_.update == "mean", "[cluster memory] update '",
             options_.update, "' is not one of all, hard, mean");
}

Tensor ClusterMemory::own_rows(const Tensor& f, const std::vector<int64_t>& labels) const {
  REID_CHECK(
      f.shape().rank() == 2 && f.dim(1) == rows_.dim(1) && f.dtype() == rows_.dtype() && static_cast<size_t>(f.dim(0)) == labels.size(),
      "[cluster memory] f ", f.shape(), " with ", labels.size(), " labels, rows ", rows_.shape());
  return class_numbers("cluster memory", labels, rows_.dim(0), rows_.device());
}

// The op keeps nothing of the rows: update() may change them before the backward pass.
Var ClusterMemory::loss(const Var& f, const std::vector<int64_t>& labels) const {
  const Tensor own = own_rows(f.value(), labels);
  const int64_t batch = f.shape()[0];
  const Device device = rows_.device();
  const DType sums = wide(rows_.dtype());
  return centroid_rows(f, rows_,
                       {.label = own,
                        .first = Tensor::zeros({batch}, DType::i32, device),
                        .end = Tensor::full({batch}, static_cast<double>(rows_.dim(0)), DType::i32, device),
                        .tau = Tensor::full({batch}, options_.tau, sums, device),
                        .weight = Tensor::full({batch}, 1 / static_cast<double>(batch), sums, device)});
}

void ClusterMemory::update(const Tensor& f, const std::vector<int64_t>& labels) {
  ops::memory_update(rows_, f, own_rows(f, labels), options_.momentum, rule_of(options_.update));
}

}  // namespace reid
