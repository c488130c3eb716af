// PPLR (Cho et al., CVPR 2022): read begin_epoch, then step. The losses stand in losses_parts.cpp.

#include "reid/learning/pplr.h"

#include <algorithm>
#include <numeric>

#include "reid/learning/losses.h"
#include "reid/learning/losses_metric.h"
#include "reid/learning/losses_parts.h"
#include "terms.h"

namespace reid {

using enum Origin;

PPLRConfig::PPLRConfig() {
  common.run.method = "pplr";
  common.run.epochs = 50;
  common.run.iterations = 400;
  common.model.ibn = "none";
  common.model.bn_groups = 4;
  common.model.bn_running = "first";
  common.data.height = 384;
  common.augment.set_customary();
  common.optimizer.schedule.warmup_epochs = 0;
  common.optimizer.schedule.milestones = {20, 40};
  batches.images = 4;
  clusters.eps = 0.5;
}

void PPLRConfig::visit(ConfigKeys& keys) {
  common.visit(keys);
  customary_origins(keys);
  keys.published({"run.iterations", "model.bn_groups", "model.bn_running"});
  batches.visit(keys);
  clusters.visit(keys);
  keys.key("max_clusters", max_clusters, published, "rows of the classifiers; of more clusters the largest are trained on",
           Range::at_least(2));
  keys.section("parts", "What the parts say, and how far it is believed.");
  keys.key("count", parts, published, "horizontal parts", Range::closed(1, 64));
  keys.key("neighbors", agreement_neighbors, published, "nearest images compared between the whole and a part", Range::at_least(1));
  keys.key("beta", beta, published, "share of the pseudo label in the whole's target; the rest are the parts' predictions", Range::unit());
  keys.key("agreement_start", agreement_start, published, "epoch from which the agreement smooths the parts' labels", Range::at_least(0));
  keys.key("smoothing", smoothing, published, "label smoothing of the parts before that epoch", Range::half_open(0, 1));
  keys.section("loss", "Weights (0 switches a loss off) and their settings.");
  keys.key("refined_weight", refined_weight, published, "weight of the whole's cross-entropy to refined labels", Range::at_least(0));
  keys.key("triplet_weight", triplet_weight, published, "weight of the whole's soft-margin triplets", Range::at_least(0));
  keys.key("parts_weight", parts_weight, published, "weight of the parts' cross-entropies, their mean", Range::at_least(0));
  keys.key("camera_weight", camera_weight, published, "weight of the camera-aware proxies; 0.5 and 1 where the cameras are used",
           Range::at_least(0));
  keys.key("tau_camera", tau_camera, published, "temperature of the camera-aware proxies", Range::above(0));
  keys.key("hard_negatives", hard_negatives, published, "proxies of other clusters in the denominator", Range::at_least(1));
}

void PPLRConfig::check() const {
  check_unlabeled(common, batches, "pplr");
  REID_CHECK(common.model.neck == "bn" && common.model.feature == "after", "pplr needs model.neck = bn and model.feature = after");
  REID_CHECK(refined_weight + triplet_weight + parts_weight + camera_weight > 0, "all weights of section loss are 0: nothing to train on");
}

void PPLR::Network::fields(Fields& f) {
  encoder.fields(f);
  for (size_t n = 0; n < classifiers.size(); ++n) f.parameter(str("classifier.", n).c_str(), classifiers[n]);
}

std::unique_ptr<Method> PPLR::prepare(const PPLRConfig& config, Run& run) {
  const bool more = config.clusters.k1 > config.agreement_neighbors;
  UnlabeledImages images =
      read_unlabeled(run, std::max(config.clusters.k1, config.agreement_neighbors), more ? "pseudo.k1" : "parts.neighbors");
  const bool several = std::ranges::any_of(images.samples, [&](const Sample& s) { return s.camera != images.samples.front().camera; });
  REID_CHECK(config.camera_weight == 0 || several, "loss.camera_weight = ", config.camera_weight,
             " needs images of several cameras, and the training data name only one: set it to 0, or give data with cameras");
  return std::make_unique<PPLR>(config, std::move(images));
}

PPLR::PPLR(const PPLRConfig& config, UnlabeledImages images) : cfg_(config), images_(std::move(images)) {
  const Rng init = Rng(static_cast<uint64_t>(cfg_.common.run.seed)).at("init");
  network_.encoder = PartEncoder(cfg_.common.model.encoder(), cfg_.parts, DType::f32, init);
  Encoder& encoder = network_.encoder.encoder();
  cfg_.common.model.load(encoder);
  const Shape rows{cfg_.max_clusters, encoder.features()};
  for (int64_t view = 0; view <= cfg_.parts; ++view) network_.classifiers.push_back({.value = Tensor::zeros(rows, DType::f32), .grad = {}});
  move_to(cfg_.common.device, inventory(network_));
  weights_ = ParameterStore(network_, cfg_.common.model.rounds());
  optimizer_ = Optimizer(weights_, cfg_.common.optimizer.optimizer);
}

void PPLR::begin_epoch(Run& run, int64_t epoch) {
  epoch_ = epoch;
  const std::vector<Tensor> views = extract_views(run);
  Clusters clusters = pseudo_label(run, views.front(), cfg_.clusters, images_.truth);
  if (clusters.count > cfg_.max_clusters) {
    run.note(str(clusters.count, " clusters are more than pseudo.max_clusters = ", cfg_.max_clusters, ": only the largest are trained on"));
    clusters = largest_clusters(clusters, cfg_.max_clusters);
  }
  clusters_ = clusters.count;

  run.progress("comparing the neighbors of whole and parts");
  std::vector<double> agreement;
  for (int64_t n = 1; n <= cfg_.parts; ++n) {
    const std::vector<double> part =
        cross_agreement(views.front(), views[static_cast<size_t>(n)], cfg_.agreement_neighbors, cfg_.common.device);
    agreement.insert(agreement.end(), part.begin(), part.end());
  }
  agreement_ = Tensor::from(agreement, {cfg_.parts, static_cast<int64_t>(images_.samples.size())});
  run.log("agreement", std::accumulate(agreement.begin(), agreement.end(), 0.0) / static_cast<double>(agreement.size()));

  // The classifiers begin at the clusters' means; the optimizer's moments stay, as in the authors' code.
  std::vector<int64_t> cameras;
  for (const Sample& s : images_.samples) cameras.push_back(s.camera);
  proxies_.clear();
  for (size_t view = 0; view < views.size(); ++view) {
    network_.classifiers[view].value.rows(0, clusters_).copy_from(identity_centroids(views[view], clusters.labels).rows);
    network_.classifiers[view].refresh();
    if (cfg_.camera_weight == 0) continue;
    proxies_.push_back(camera_centroids(views[view], clusters.labels, cameras));
    proxies_.back().rows = proxies_.back().rows.to(cfg_.common.device);
  }
  plan_ = cluster_plan(run, images_.samples, clusters, cfg_.batches, run.rng(epoch).at("plan"));
}

void PPLR::step(Run& run, const Batch& batch) {
  const std::vector<int64_t> labels = batch.labels();
  PartAgreement agreement(static_cast<size_t>(cfg_.parts));
  for (size_t n = 0; n < agreement.size(); ++n) {
    const Tensor all = agreement_.rows(static_cast<int64_t>(n), static_cast<int64_t>(n) + 1);
    for (const int64_t sample : batch.samples()) agreement[n].push_back(all.data<double>()[sample]);
  }

  Tape tape;
  const std::vector<Var> views = network_.encoder(Var(batch.augmented), cfg_.common.model.training(&tape));
  std::vector<Var> logits;
  for (size_t view = 0; view < views.size(); ++view)
    logits.push_back(
        linear(views[view], rows(tape.watch(network_.classifiers[view]), 0, clusters_), Var(), cfg_.common.model.other_sums()));
  const std::vector<Var> part_logits(logits.begin() + 1, logits.end());
  const BatchPeople who{labels, batch.cameras(), std::vector<uint8_t>(labels.size())};

  const auto part_loss = [&](size_t n) {
    return epoch_ < cfg_.agreement_start ? cross_entropy(part_logits[n], labels, cfg_.smoothing)
                                         : agreement_smoothing_loss(part_logits[n], labels, agreement[n]);
  };
  const auto camera_loss = [&](size_t view) {
    return camera_centroid_loss(l2_normalize(views[view]), proxies_[view], who,
                                {.tau = cfg_.tau_camera, .hard_negatives = cfg_.hard_negatives, .over_batch = true});
  };
  const auto mean_over_parts = [&](const auto& loss) {
    Var total = loss(size_t{0});
    for (size_t n = 1; n < part_logits.size(); ++n) total = add(total, loss(n));
    return scale(total, 1 / static_cast<double>(part_logits.size()));
  };
  const Var total = weighted_sum(
      run,
      {{"refined", cfg_.refined_weight, [&] { return refined_label_loss(logits.front(), part_logits, labels, agreement, cfg_.beta); }},
       {"triplet", cfg_.triplet_weight, [&] { return triplet_loss(views.front(), labels, {.margin = 0}); }},
       {"parts", cfg_.parts_weight, [&] { return mean_over_parts(part_loss); }},
       {"camera", cfg_.camera_weight, [&] { return add(camera_loss(0), mean_over_parts([&](size_t n) { return camera_loss(n + 1); })); }}});
  tape.backward(total);
  optimizer_.step(weights_, run.learning_rate(), {.clear_gradients = true});
}

Tensor PPLR::embed(const Tensor& images, WeightCache& made) {
  return network_.encoder.encoder()(Var(images.to(cfg_.common.device)), cfg_.common.model.inference(&made)).value();
}

// All views come from one pass; those of a batch stand one behind the other [views, B, D] while batches are gathered.
std::vector<Tensor> PPLR::extract_views(Run& run) {
  const int64_t width = network_.encoder.encoder().features(), count = cfg_.parts + 1;
  const auto view_of = [&](const Tensor& batch, int64_t view) {
    const int64_t images = batch.dim(0);
    return batch.reshape({count * images, width}).rows(view * images, (view + 1) * images);
  };
  const Tensor all = run.extract(images_.samples, [&](const Tensor& images, WeightCache& made) {
    const std::vector<Var> views = network_.encoder(Var(images.to(cfg_.common.device)), cfg_.common.model.inference(&made));
    const Tensor batch = Tensor::empty({images.dim(0), count * width}, DType::f32, cfg_.common.device);
    for (int64_t view = 0; view < count; ++view) view_of(batch, view).copy_from(views[static_cast<size_t>(view)].value());
    return batch;
  });
  std::vector<Tensor> views;
  for (int64_t view = 0; view < count; ++view) {
    const Tensor rows = Tensor::empty({all.dim(0), width}, DType::f32);
    for (int64_t begin = 0; begin < all.dim(0); begin += cfg_.common.data.embed_batch) {
      const int64_t end = std::min(begin + cfg_.common.data.embed_batch, all.dim(0));
      rows.rows(begin, end).copy_from(view_of(all.rows(begin, end), view));
    }
    views.push_back(ops::l2_normalize(rows).y);
  }
  return views;
}

void PPLR::state(State& s) {
  s.module("network", network_);
  s.module("optimizer", optimizer_);
  s.integer("epoch.number", epoch_);
  s.integer("epoch.clusters", clusters_);
  s.tensor("epoch.agreement", agreement_);
  if (cfg_.camera_weight > 0) {
    proxies_.resize(static_cast<size_t>(cfg_.parts) + 1);
    for (size_t view = 0; view < proxies_.size(); ++view) {
      const std::string name = str("epoch.proxies.", view, ".");
      s.tensor(name + "rows", proxies_[view].rows, cfg_.common.device);
      s.integers(name + "labels", proxies_[view].labels);
      s.integers(name + "cameras", proxies_[view].cameras);
    }
  }
  s.plan("epoch.plan", plan_);
}

}  // namespace reid
