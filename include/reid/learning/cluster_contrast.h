#pragma once
// Cluster Contrast (Dai et al., ACCV 2022): re-identification without identities. Before each epoch all training images are clustered; a
// step contrasts each image with one vector per cluster and moves that vector. Equations and settings: docs/methods.md.

#include "reid/learning/cluster_memory.h"
#include "reid/learning/pseudo_labels.h"

namespace reid {

struct ClusterContrastConfig {
  RunConfig common;
  ClusterBatches batches;
  ClusterSettings clusters;
  MemoryOptions memory;

  ClusterContrastConfig();
  void visit(ConfigKeys& keys);
  void check() const;  // what no single key's range can say
};

class ClusterContrast final : public Method {
 public:
  using Config = ClusterContrastConfig;
  ClusterContrast(const ClusterContrastConfig& config, UnlabeledImages images);
  static std::unique_ptr<Method> prepare(const ClusterContrastConfig& config, Run& run);  // with the training data that the run names

  void begin_epoch(Run& run, int64_t epoch) override;
  void step(Run& run, const Batch& batch) override;
  Tensor embed(const Tensor& images, WeightCache& made) override;
  const BatchPlan& plan() const override { return plan_; }
  const std::vector<Sample>& samples() const override { return images_.samples; }
  Inventory exported() override { return inventory(encoder_); }
  void state(State& s) override;

 private:
  ClusterContrastConfig cfg_;
  UnlabeledImages images_;
  Encoder encoder_;
  ParameterStore weights_;
  Optimizer optimizer_;

  // The epoch's state.
  ClusterMemory memory_;
  BatchPlan plan_;
};

}  // namespace reid
