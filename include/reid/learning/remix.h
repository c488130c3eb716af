#pragma once
// ReMix: training generalized person re-identification on a mixture of data (Mamedov, Konushin and Konushin, WACV 2025).
// What of it is published and what is our reconstruction: docs/remix.md.

#include "reid/learning/losses.h"
#include "reid/learning/method.h"

namespace reid {

struct ReMixConfig {
  RunConfig common;

  // Mixed batches: people x images of each kind.
  int64_t multi_people = 16, multi_images = 4, single_people = 16, single_images = 4;
  std::string bn_batches = "joint";
  bool two_view_encoder = false;
  double ema = 0.999;
  bool ema_ramp = true;

  // Losses.
  double instance_weight = 1, augmentation_weight = 1, centroid_weight = 1, camera_weight = 0.5;
  double tau_instance_multi = 0.1, tau_instance_single = 0.2, tau_augmentation = 0.1;
  double tau_centroid_multi = 0.5, tau_centroid_single = 0.6, tau_camera = 0.07;
  bool single_in_instance = true, single_in_augmentation = true, single_in_centroid = true;
  std::string negative_scope = "joint", centroid_scope = "joint", type_reduction = "sum", instance_denominator = "one_positive";
  bool self_positive = true, include_own_camera = false;
  double centroid_smoothing = 0;
  int64_t hard_negatives = 50;

  // Pseudo labels.
  std::string pseudo_metric = "cosine", eps_mode = "calibrated";
  double eps = 0.3, eps_floor = 0.01, same_quantile = 0.90, other_quantile = 0.001;
  int64_t min_samples = 4, k1 = 30, k2 = 6, start_epoch = 0, max_video_images = 4096;
  std::string truth;

  void visit(ConfigKeys& keys);
  void check() const;  // what no single key's range can say

  InstanceLossOptions instance() const;
  AugmentationLossOptions augmentation() const;
  CentroidLossOptions centroid() const;
  CameraCentroidLossOptions camera() const;

 private:
  LossScope scope(const std::string& name, bool use_single) const;
};

class ReMix final : public Method {
 public:
  using Config = ReMixConfig;
  ReMix(const ReMixConfig& config, Dataset multi, Dataset single);
  static std::unique_ptr<Method> prepare(const ReMixConfig& config, Run& run);  // with the training data that the run names

  void begin_epoch(Run& run, int64_t epoch) override;
  void step(Run& run, const Batch& batch) override;
  Tensor embed(const Tensor& images, WeightCache& made) override;
  const BatchPlan& plan() const override { return plan_; }
  const std::vector<Sample>& samples() const override { return samples_; }
  Inventory exported() override { return inventory(momentum_encoder_); }
  void state(State& s) override;

 private:
  struct PseudoLabels {
    std::vector<PlanEntry> entries;
    std::vector<Tensor> centroids;  // [clusters of a video, D] each
    std::vector<int64_t> labels, truth;
    int64_t people = 0, videos = 0, images = 0, noise = 0;
  };
  PseudoLabels pseudo_label(Run& run, int64_t epoch, const Tensor& multi);
  void label_video(Run& run, int64_t video, double eps, const Rng& rng, PseudoLabels& found);
  Clusters cluster(const Tensor& embeddings, double eps) const;
  int64_t next_video(const std::vector<int64_t>& drawn);
  void log_quality(Run& run, const PseudoLabels& found, double eps) const;

  ReMixConfig cfg_;
  std::vector<Sample> samples_;               // all labeled images, then all videos' images
  std::vector<int64_t> multi_labels_;         // of the labeled images
  std::vector<int64_t> calibration_labels_;   // the same; -1 where the camera is not known
  std::vector<std::vector<int64_t>> videos_;  // samples of each video
  std::vector<int64_t> truth_;                // identity of each sample of a video, -1 unknown; for measuring only

  Encoder encoder_, momentum_encoder_;
  ParameterStore weights_, momentum_weights_;
  Optimizer optimizer_;

  // The epoch's state.
  Tensor people_;  // [C_m + C_s, D] centroids
  int64_t multi_count_ = 0;
  Centroids views_;  // camera centroids
  BatchPlan plan_;
  std::vector<int64_t> video_queue_;  // videos not drawn yet in this round over all of them
  int64_t video_round_ = 0;
};

}  // namespace reid
