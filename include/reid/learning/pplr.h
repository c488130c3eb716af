#pragma once
// PPLR, part-based pseudo label refinement (Cho et al., CVPR 2022): re-identification without identities, from the whole image and its
// horizontal parts, whose neighborhoods say how far a pseudo label is to be trusted. Equations and settings: docs/methods.md.

#include "reid/learning/pseudo_labels.h"

namespace reid {

struct PPLRConfig {
  RunConfig common;
  ClusterBatches batches;
  ClusterSettings clusters;
  int64_t max_clusters = 3000;

  int64_t parts = 3, agreement_neighbors = 20;
  double beta = 0.5, smoothing = 0.1;
  int64_t agreement_start = 5;
  double refined_weight = 1, triplet_weight = 1, parts_weight = 1, camera_weight = 0;
  double tau_camera = 0.07;
  int64_t hard_negatives = 50;

  PPLRConfig();
  void visit(ConfigKeys& keys);
  void check() const;  // what no single key's range can say
};

class PPLR final : public Method {
 public:
  using Config = PPLRConfig;
  PPLR(const PPLRConfig& config, UnlabeledImages images);
  static std::unique_ptr<Method> prepare(const PPLRConfig& config, Run& run);  // with the training data that the run names

  void begin_epoch(Run& run, int64_t epoch) override;
  void step(Run& run, const Batch& batch) override;
  Tensor embed(const Tensor& images, WeightCache& made) override;
  const BatchPlan& plan() const override { return plan_; }
  const std::vector<Sample>& samples() const override { return images_.samples; }
  Inventory exported() override { return inventory(network_.encoder.encoder()); }
  void state(State& s) override;

 private:
  // A classifier for the whole and one for each part, over at most max_clusters clusters; an epoch uses the first of their rows.
  struct Network {
    PartEncoder encoder;
    std::vector<Parameter> classifiers;  // [max_clusters, D] each
    void fields(Fields& f);
  };
  std::vector<Tensor> extract_views(Run& run);  // unit rows [N, D] of the whole and of each part

  PPLRConfig cfg_;
  UnlabeledImages images_;
  Network network_;
  ParameterStore weights_;
  Optimizer optimizer_;

  // The epoch's state.
  int64_t epoch_ = 0, clusters_ = 0;
  Tensor agreement_;                // [parts, N] f64
  std::vector<Centroids> proxies_;  // of cluster and camera, for the whole and each part; empty without the camera loss
  BatchPlan plan_;
};

}  // namespace reid
