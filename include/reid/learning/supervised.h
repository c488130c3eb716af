#pragma once
// Supervised re-identification: a classifier over the training identities and triplets within the batch, on both sides of a batch-norm
// neck. One recipe, three published settings of it: the strong baseline (Luo et al., CVPRW 2019), AGW (Ye et al., TPAMI 2021) and SBS
// (He et al., fast-reid, 2020). Equations and presets: docs/methods.md.

#include "reid/learning/losses_metric.h"
#include "reid/learning/method.h"

namespace reid {

struct SupervisedConfig {
  RunConfig common;

  // Batches.
  int64_t people = 16, images = 4;
  std::string sampling = "random";

  // Losses.
  double id_weight = 1, triplet_weight = 1, center_weight = 0;
  std::string classifier = "linear";
  double classifier_deviation = 0.001, circle_scale = 64, circle_margin = 0.35;
  double smoothing = 0.1;
  std::string smoothing_share = "all";
  std::string triplet = "hard";
  double triplet_margin = 0.3;
  bool triplet_normalize = false;
  std::string metric_feature = "before";
  double center_lr = 0.5;
  int64_t freeze_steps = 0;

  SupervisedConfig();
  void visit(ConfigKeys& keys);
  void check() const;  // what no single key's range can say
  TripletOptions triplet_options() const;
};

// Rows of a linear classifier without bias, normal at first.
struct IdentityRows {
  Parameter weight;  // [C, D]
  IdentityRows() = default;
  IdentityRows(int64_t classes, int64_t features, double deviation, Rng rng);
  void fields(Fields& f) { f.parameter("weight", weight); }
};

class Supervised final : public Method {
 public:
  using Config = SupervisedConfig;
  Supervised(const SupervisedConfig& config, Dataset multi);
  static std::unique_ptr<Method> prepare(const SupervisedConfig& config, Run& run);  // with the training data that the run names

  void begin_epoch(Run& run, int64_t epoch) override;
  void step(Run& run, const Batch& batch) override;
  Tensor embed(const Tensor& images, WeightCache& made) override;
  const BatchPlan& plan() const override { return plan_; }
  const std::vector<Sample>& samples() const override { return samples_; }
  Inventory exported() override { return inventory(network_.encoder); }
  void state(State& s) override;

 private:
  struct Network {
    Encoder encoder;
    IdentityRows classifier;
    void fields(Fields& f) {
      f.child("encoder", encoder);
      f.child("classifier", classifier);
    }
  };
  Var logits(const Var& f, Tape& tape, const std::vector<int64_t>& labels);
  Tensor id_accuracy(const Tensor& f, const Tensor& scores, const std::vector<int64_t>& labels) const;
  Var id_loss(const Var& logits, const std::vector<int64_t>& labels) const;

  SupervisedConfig cfg_;
  std::vector<Sample> samples_;
  std::vector<int64_t> labels_;  // of the samples, from 0
  int64_t people_ = 0;

  Network network_;
  IdentityRows centers_;  // of the identities' features; trained by steps of their own
  ParameterStore weights_, center_weights_;
  Optimizer optimizer_, center_optimizer_;
  BatchPlan plan_;
};

}  // namespace reid
