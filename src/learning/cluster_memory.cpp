#include "reid/learning/cluster_memory.h"

#include "reid/learning/losses.h"

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

Var ClusterMemory::loss(const Var& f, const std::vector<int64_t>& labels) const {
  // The backward of the product keeps the rows until it runs, and update() changes them in place: so they are copied.
  const Var similarities = matmul(f, Var(rows_.clone()), false, true);
  return cross_entropy(scale(similarities, 1 / options_.tau), labels);
}

void ClusterMemory::update(const Tensor& f, const std::vector<int64_t>& labels) {
  REID_CHECK(
      f.shape().rank() == 2 && f.dim(1) == rows_.dim(1) && f.dtype() == rows_.dtype() && static_cast<size_t>(f.dim(0)) == labels.size(),
      "[cluster memory] f ", f.shape(), " with ", labels.size(), " labels, rows ", rows_.shape());
  for (const int64_t label : labels)
    REID_CHECK(label >= 0 && label < rows_.dim(0), "[cluster memory] label ", label, " is outside 0..", rows_.dim(0) - 1);
  const std::vector<int32_t> narrow(labels.begin(), labels.end());
  ops::memory_update(rows_, f, Tensor::from(narrow).to(rows_.device()), options_.momentum, rule_of(options_.update));
}

}  // namespace reid
