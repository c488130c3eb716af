// The supervised recipe: read begin_epoch, then step. Its keys stand in supervised_config.cpp, the losses in losses_metric.cpp.

#include "reid/learning/supervised.h"

#include <algorithm>

#include "reid/learning/losses.h"
#include "terms.h"

namespace reid {

IdentityRows::IdentityRows(int64_t classes, int64_t features, double deviation, Rng rng) {
  Tensor rows = Tensor::empty({classes, features}, DType::f32);
  for (float& v : rows.span<float>()) v = static_cast<float>(deviation * rng.normal());
  weight.value = rows;
}

std::unique_ptr<Method> Supervised::prepare(const SupervisedConfig& config, Run& run) {
  Dataset multi = run.read_training(config.common.data.multi);
  require_training(multi);
  return std::make_unique<Supervised>(config, std::move(multi));
}

Supervised::Supervised(const SupervisedConfig& config, Dataset multi) : cfg_(config), samples_(std::move(multi.train)) {
  labels_ = relabel(samples_).labels;
  people_ = 1 + *std::max_element(labels_.begin(), labels_.end());
  REID_CHECK(people_ >= 2, "the training data hold a single identity: a classifier has nothing to tell apart");

  const Rng init = Rng(static_cast<uint64_t>(cfg_.common.run.seed)).at("init");
  network_.encoder = Encoder(cfg_.common.model.encoder(), DType::f32, init);
  cfg_.common.model.load(network_.encoder);
  const int64_t width = network_.encoder.features();
  network_.classifier = IdentityRows(people_, width, cfg_.classifier_deviation, init.at("classifier"));
  move_to(cfg_.common.device, inventory(network_));
  weights_ = ParameterStore(network_, cfg_.common.model.rounds());
  optimizer_ = Optimizer(weights_, cfg_.common.optimizer.optimizer);
  if (cfg_.center_weight > 0) {
    centers_ = IdentityRows(people_, width, 1, init.at("centers"));
    move_to(cfg_.common.device, inventory(centers_));
    center_weights_ = ParameterStore(centers_);
    center_optimizer_ = Optimizer(center_weights_, {.kind = "sgd", .decay = 0, .momentum = 0});
  }
}

void Supervised::begin_epoch(Run& run, int64_t epoch) {
  const std::vector<PlanEntry> entries = labeled_entries(samples_, labels_, DataKind::multi);
  const PK pk{cfg_.people, cfg_.images};
  const int64_t batches = cfg_.common.run.iterations;
  const Rng rng = run.rng(epoch).at("plan");
  plan_ =
      cfg_.sampling == "cameras" ? multi_camera_plan(entries, pk, batches, rng) : random_plan(entries, pk, batches, rng, "labeled people");
}

void Supervised::step(Run& run, const Batch& batch) {
  const std::vector<int64_t> labels = batch.labels();
  const bool frozen = run.step_count() < cfg_.freeze_steps;

  Tape tape;
  const Pass training = cfg_.common.model.training(&tape);
  const Pass backbone = frozen ? cfg_.common.model.inference() : training;  // fast-reid's frozen norms use running statistics
  const Encoder::Sides f = network_.encoder.sides(Var(batch.augmented), training, backbone);
  const Var& metric = cfg_.metric_feature == "before" ? f.before : f.after;
  Var scores;
  if (cfg_.id_weight > 0) {
    scores = logits(f.after, tape, labels);
    run.log("accuracy", id_accuracy(f.after.value(), scores.value(), labels));
  }
  const Var total =
      weighted_sum(run, {{"id", cfg_.id_weight, [&] { return id_loss(scores, labels); }},
                         {"triplet", cfg_.triplet_weight, [&] { return triplet_loss(metric, labels, cfg_.triplet_options()); }},
                         {"center", cfg_.center_weight, [&] { return center_loss(metric, tape.watch(centers_.weight), labels); }}});

  if (cfg_.center_weight > 0) center_weights_.zero_grad();
  tape.backward(total);
  if (cfg_.freeze_steps > 0) weights_.freeze(Encoder::backbone_prefixes("encoder."), frozen);
  optimizer_.step(weights_, run.learning_rate(), {.clear_gradients = true});
  // The strong baseline's code divides the centers' gradients by the weight of their loss.
  if (cfg_.center_weight > 0) center_optimizer_.step(center_weights_, cfg_.center_lr / cfg_.center_weight);
}

Var Supervised::logits(const Var& f, Tape& tape, const std::vector<int64_t>& labels) {
  const Var rows = tape.watch(network_.classifier.weight);
  if (cfg_.classifier == "circle") return circle_classifier(f, rows, labels, {.scale = cfg_.circle_scale, .margin = cfg_.circle_margin});
  return linear(f, rows, Var(), cfg_.common.model.other_sums());
}

// Without the circle's margin, which would count against the right class.
Tensor Supervised::id_accuracy(const Tensor& f, const Tensor& scores, const std::vector<int64_t>& labels) const {
  if (cfg_.classifier != "circle") return accuracy(scores, labels);
  return accuracy(ops::matmul(f, ops::l2_normalize(network_.classifier.weight.value).y, false, true), labels);
}

Var Supervised::id_loss(const Var& logits, const std::vector<int64_t>& labels) const {
  const bool others = cfg_.smoothing_share == "others";
  return cross_entropy(logits, labels, others ? smoothing_over_others(cfg_.smoothing, people_) : cfg_.smoothing);
}

Tensor Supervised::embed(const Tensor& images, WeightCache& made) {
  return network_.encoder(Var(images.to(cfg_.common.device)), cfg_.common.model.inference(&made)).value();
}

void Supervised::state(State& s) {
  s.module("network", network_);
  s.module("optimizer", optimizer_);
  if (cfg_.center_weight > 0) s.module("centers", centers_);
  s.plan("epoch.plan", plan_);
}

}  // namespace reid
