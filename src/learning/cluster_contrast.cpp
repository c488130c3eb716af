// Cluster Contrast (Dai et al., ACCV 2022): read begin_epoch, then step. The memory stands in cluster_memory.cpp.

#include "reid/learning/cluster_contrast.h"

#include "terms.h"

namespace reid {

using enum Origin;

ClusterContrastConfig::ClusterContrastConfig() {
  common.run.method = "cluster-contrast";
  common.run.epochs = 50;
  common.run.iterations = 200;
  common.model.ibn = "none";
  common.model.pooling = "gem";
  common.model.bn_groups = 4;  // the authors' four GPUs
  common.model.bn_running = "first";
  common.augment.set_customary();
  common.optimizer.schedule.warmup_epochs = 0;
  common.optimizer.schedule.milestones = {20, 40};
}

void ClusterContrastConfig::visit(ConfigKeys& keys) {
  common.visit(keys);
  customary_origins(keys);
  keys.published({"run.iterations", "model.bn_groups", "model.bn_running"});
  batches.visit(keys);
  clusters.visit(keys);
  keys.section("memory", "A unit vector for each cluster, at first the mean of its images.");
  keys.key("tau", memory.tau, published, "temperature of the contrast", Range::above(0));
  keys.key("momentum", memory.momentum, published, "share of the old vector in an update", Range::closed(0, 1));
  keys.choice("update", memory.update, {"all", "hard", "mean"}, published,
              "a cluster's vector moves towards each of its images in the batch in turn, the least similar one, or their mean");
}

void ClusterContrastConfig::check() const { check_unlabeled(common, batches, "cluster-contrast"); }

std::unique_ptr<Method> ClusterContrast::prepare(const ClusterContrastConfig& config, Run& run) {
  return std::make_unique<ClusterContrast>(config, read_unlabeled(run, config.clusters.k1, "pseudo.k1"));
}

ClusterContrast::ClusterContrast(const ClusterContrastConfig& config, UnlabeledImages images) : cfg_(config), images_(std::move(images)) {
  const Rng init = Rng(static_cast<uint64_t>(cfg_.common.run.seed)).at("init");
  encoder_ = Encoder(cfg_.common.model.encoder(), DType::f32, init);
  cfg_.common.model.load(encoder_);
  move_to(cfg_.common.device, inventory(encoder_));
  weights_ = ParameterStore(encoder_, cfg_.common.model.rounds());
  optimizer_ = Optimizer(weights_, cfg_.common.optimizer.optimizer);
}

void ClusterContrast::begin_epoch(Run& run, int64_t epoch) {
  const Tensor f =
      ops::l2_normalize(run.extract(images_.samples, [this](const Tensor& x, WeightCache& made) { return embed(x, made); })).y;  // [N, D]
  const Clusters clusters = pseudo_label(run, f, cfg_.clusters, images_.truth);
  memory_ = ClusterMemory(identity_centroids(f, clusters.labels).rows.to(cfg_.common.device), cfg_.memory);
  plan_ = cluster_plan(run, images_.samples, clusters, cfg_.batches, run.rng(epoch).at("plan"));
}

void ClusterContrast::step(Run& run, const Batch& batch) {
  const std::vector<int64_t> labels = batch.labels();
  Tape tape;
  const Var f = l2_normalize(encoder_(Var(batch.augmented), cfg_.common.model.training(&tape)));  // [B, D]
  const Var total = weighted_sum(run, {{"contrast", 1, [&] { return memory_.loss(f, labels); }}});
  tape.backward(total);
  memory_.update(f.value(), labels);
  optimizer_.step(weights_, run.learning_rate(), {.clear_gradients = true});
}

Tensor ClusterContrast::embed(const Tensor& images, WeightCache& made) {
  return encoder_(Var(images.to(cfg_.common.device)), cfg_.common.model.inference(&made)).value();
}

void ClusterContrast::state(State& s) {
  s.module("encoder", encoder_);
  s.module("optimizer", optimizer_);
  Tensor rows = memory_.rows();
  s.tensor("epoch.memory", rows, cfg_.common.device);
  if (s.reading() && rows.defined()) memory_ = ClusterMemory(rows, cfg_.memory);
  s.plan("epoch.plan", plan_);
}

}  // namespace reid
