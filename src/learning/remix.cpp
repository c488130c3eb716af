// ReMix (Mamedov et al., WACV 2025): one encoder trained on labeled multi-camera people and on pseudo-labeled single-camera videos.
// Read begin_epoch, then step. The losses stand in losses_contrastive.cpp; the keys in remix_config.cpp.

#include "reid/learning/remix.h"

#include <algorithm>
#include <numeric>

#include "reid/learning/pseudo_labels.h"
#include "remix_truth.h"
#include "terms.h"

namespace reid {

std::unique_ptr<Method> ReMix::prepare(const ReMixConfig& config, Run& run) {
  Dataset multi = run.read_training(config.common.data.multi);
  require_training(multi);
  const PartCounts people = count_part(multi.train);
  REID_CHECK(config.camera_weight == 0 || config.include_own_camera || people.one_camera < people.identities,
             "loss.camera_weight = ", config.camera_weight, " needs people under several cameras, and ", multi.name,
             " shows each under one: set it to 0");
  Dataset single = config.common.data.single.empty() ? Dataset{} : run.read_training(config.common.data.single);
  return std::make_unique<ReMix>(config, std::move(multi), std::move(single));
}

ReMix::ReMix(const ReMixConfig& config, Dataset multi, Dataset single) : cfg_(config), samples_(std::move(multi.train)) {
  multi_labels_ = relabel(samples_).labels;
  videos_.resize(single.videos.size());
  for (Sample& image : single.train) {
    REID_CHECK(image.video >= 0, image.path, " of data.single belongs to no video: give layouts videos or luperson, or a manifest whose ",
               "column video is filled");
    videos_[static_cast<size_t>(image.video)].push_back(static_cast<int64_t>(samples_.size()));
    samples_.push_back(std::move(image));
  }
  std::erase_if(videos_, [](const std::vector<int64_t>& images) { return images.empty(); });  // all of it was damaged
  calibration_labels_ = multi_labels_;
  for (size_t i = 0; i < multi_labels_.size(); ++i) {
    if (multi.unknown_cameras.contains(samples_[i].camera)) calibration_labels_[i] = -1;
  }
  if (!cfg_.truth.empty()) truth_ = read_truth(cfg_.truth, samples_, multi_labels_.size());

  const Rng init = Rng(static_cast<uint64_t>(cfg_.common.run.seed)).at("init");
  encoder_ = Encoder(cfg_.common.model.encoder(), DType::f32, init);
  momentum_encoder_ = Encoder(cfg_.common.model.encoder(), DType::f32, init);
  cfg_.common.model.load(encoder_);
  copy_state(inventory(encoder_), inventory(momentum_encoder_));
  move_to(cfg_.common.device, inventory(encoder_));
  move_to(cfg_.common.device, inventory(momentum_encoder_));
  weights_ = ParameterStore(encoder_, cfg_.common.model.rounds());
  momentum_weights_ = ParameterStore(momentum_encoder_, cfg_.common.model.rounds());
  optimizer_ = Optimizer(weights_, cfg_.common.optimizer.optimizer);
}

void ReMix::begin_epoch(Run& run, int64_t epoch) {
  const Rng rng = run.rng(epoch);

  // What the momentum encoder currently believes about the labeled people.
  const std::vector<Sample> labeled(samples_.begin(), samples_.begin() + static_cast<std::ptrdiff_t>(multi_labels_.size()));
  std::vector<int64_t> cameras;
  for (const Sample& s : labeled) cameras.push_back(s.camera);
  const Tensor multi = ops::l2_normalize(run.extract(labeled, [this](const Tensor& images, WeightCache& made) {
                         return embed(images, made);
                       })).y;                                         // [N_m, D]
  const Centroids people = identity_centroids(multi, multi_labels_);  // [C_m, D]
  views_ = camera_centroids(multi, multi_labels_, cameras);           // [pairs of person and camera, D]
  views_.rows = views_.rows.to(cfg_.common.device);
  multi_count_ = people.rows.dim(0);

  // Pseudo labels for this epoch's videos: clusters inside each video, outliers dropped, until the image budget is met.
  PseudoLabels single;
  if (!videos_.empty() && epoch >= cfg_.start_epoch) single = pseudo_label(run, epoch, multi);
  PK single_pk{cfg_.single_people, cfg_.single_images};
  if (single.people < single_pk.people) {
    if (!videos_.empty() && epoch >= cfg_.start_epoch) {
      run.note(str("epoch ", epoch, ": ", single.people, " pseudo identities are fewer than batch.single_people = ", single_pk.people,
                   "; this epoch trains on multi-camera data only"));
    }
    single = {};
    single_pk.people = 0;
  }

  // One table of centroids for both kinds; every batch mixes both worlds.
  people_ = Tensor::empty({multi_count_ + single.people, people.rows.dim(1)}, DType::f32, cfg_.common.device);
  people_.rows(0, multi_count_).copy_from(people.rows);
  int64_t row = multi_count_;
  for (const Tensor& centroids : single.centroids) {
    people_.rows(row, row + centroids.dim(0)).copy_from(centroids);
    row += centroids.dim(0);
  }
  const std::vector<PlanEntry> entries = labeled_entries(labeled, multi_labels_, DataKind::multi);
  plan_ =
      mixed_plan(entries, {cfg_.multi_people, cfg_.multi_images}, single.entries, single_pk, cfg_.common.run.iterations, rng.at("plan"));
}

namespace {

BatchPeople people_of(const Batch& batch) {
  BatchPeople who;
  for (const PlanEntry& e : batch.entries) {
    who.labels.push_back(e.label);
    who.cameras.push_back(e.camera);
    who.single.push_back(e.kind == DataKind::single);
  }
  return who;
}

}  // namespace

void ReMix::step(Run& run, const Batch& batch) {
  const BatchPeople who = people_of(batch);
  const bool mixed = std::ranges::count(who.single, uint8_t{1}) > 0;
  const int groups = mixed && cfg_.bn_batches == "per_type" ? 2 : 1;

  Tape tape;
  const ModelSettings& model = cfg_.common.model;
  const Pass training = model.training(&tape, groups);
  const Var f = l2_normalize(encoder_(Var(batch.augmented), training));                                   // [B, D]
  const Var f_plain = cfg_.two_view_encoder ? l2_normalize(encoder_(Var(batch.original), training)) : f;  // [B, D]
  const Var m = l2_normalize(momentum_encoder_(Var(batch.original), model.training(nullptr, groups)));    // [B, D] no gradient

  const Var total = weighted_sum(
      run, {{"instance", cfg_.instance_weight, [&] { return instance_loss(f_plain, m.value(), who, cfg_.instance()); }},
            {"augmentation", cfg_.augmentation_weight, [&] { return augmentation_loss(f, m.value(), who, cfg_.augmentation()); }},
            {"centroid", cfg_.centroid_weight, [&] { return centroid_loss(f_plain, people_, multi_count_, who, cfg_.centroid()); }},
            {"camera", cfg_.camera_weight, [&] { return camera_centroid_loss(f_plain, views_, who, cfg_.camera()); }}});
  tape.backward(total);

  // Weights only: the momentum encoder's buffers come from its own forward passes.
  const double t = static_cast<double>(run.step_count()), momentum = cfg_.ema_ramp ? std::min(cfg_.ema, (1 + t) / (10 + t)) : cfg_.ema;
  optimizer_.step(weights_, run.learning_rate(), {.average = &momentum_weights_, .momentum = momentum, .clear_gradients = true});
}

Tensor ReMix::embed(const Tensor& images, WeightCache& made) {
  return momentum_encoder_(Var(images.to(cfg_.common.device)), cfg_.common.model.inference(&made)).value();
}

// --- pseudo labels ---

ReMix::PseudoLabels ReMix::pseudo_label(Run& run, int64_t epoch, const Tensor& multi) {
  const Rng rng = run.rng(epoch).at("pseudo");
  double eps = cfg_.eps;
  if (cfg_.eps_mode == "calibrated" && cfg_.pseudo_metric == "cosine") {
    std::vector<int64_t> cameras;
    for (size_t i = 0; i < multi_labels_.size(); ++i) cameras.push_back(samples_[i].camera);
    const CalibrationOptions options{
        .fixed_eps = cfg_.eps, .floor = cfg_.eps_floor, .same_quantile = cfg_.same_quantile, .other_quantile = cfg_.other_quantile};
    eps = calibrated_eps(multi, calibration_labels_, cameras, options, rng.at("eps")).eps;
  }
  const int64_t budget = cfg_.common.run.iterations * cfg_.single_people * cfg_.single_images;
  PseudoLabels found;
  std::vector<int64_t> drawn;
  while (static_cast<int64_t>(found.entries.size()) < budget && drawn.size() < videos_.size()) {
    drawn.push_back(next_video(drawn));
    label_video(run, drawn.back(), eps, rng.at("subset").at(static_cast<uint64_t>(drawn.back())), found);
  }
  found.videos = static_cast<int64_t>(drawn.size());
  log_quality(run, found, eps);
  return found;
}

// Videos come in a random order, all of them before any comes again. When a new round begins inside an epoch, the videos that the
// epoch already has go to the end of it (the queue is drawn from its back).
int64_t ReMix::next_video(const std::vector<int64_t>& drawn) {
  if (video_queue_.empty()) {
    video_queue_.resize(videos_.size());
    std::iota(video_queue_.begin(), video_queue_.end(), int64_t{0});
    Rng(static_cast<uint64_t>(cfg_.common.run.seed)).at("videos").at(static_cast<uint64_t>(video_round_++)).shuffle(video_queue_);
    std::stable_partition(video_queue_.begin(), video_queue_.end(), [&](int64_t v) { return std::ranges::count(drawn, v) > 0; });
  }
  const int64_t video = video_queue_.back();
  video_queue_.pop_back();
  return video;
}

void ReMix::label_video(Run& run, int64_t video, double eps, const Rng& rng, PseudoLabels& found) {
  std::vector<int64_t> images = videos_[static_cast<size_t>(video)];
  if (static_cast<int64_t>(images.size()) > cfg_.max_video_images) {
    Rng(rng).shuffle(images);
    images.resize(static_cast<size_t>(cfg_.max_video_images));
    std::ranges::sort(images);
  }
  std::vector<Sample> frames;
  for (const int64_t i : images) frames.push_back(samples_[static_cast<size_t>(i)]);
  const Tensor z =
      ops::l2_normalize(run.extract(frames, [this](const Tensor& x, WeightCache& made) { return embed(x, made); })).y;  // [frames, D]
  Clusters clusters = cluster(z, eps);

  for (size_t i = 0; i < images.size(); ++i) {
    found.labels.push_back(clusters.labels[i] < 0 ? -1 : clusters.labels[i] + found.people);
    found.truth.push_back(truth_.empty() ? -1 : truth_[static_cast<size_t>(images[i])]);
    if (clusters.labels[i] < 0) continue;
    found.entries.push_back({.sample = images[i],
                             .label = multi_count_ + found.people + clusters.labels[i],
                             .camera = frames[i].camera,
                             .kind = DataKind::single});
  }
  found.images += static_cast<int64_t>(images.size());
  found.noise += clusters.noise;
  if (clusters.count == 0) return;
  found.centroids.push_back(identity_centroids(z, clusters.labels).rows);
  found.people += clusters.count;
}

// Clusters of one image say nothing about sameness: they count as noise.
Clusters ReMix::cluster(const Tensor& embeddings, double eps) const {
  const DbscanOptions options{.eps = eps, .min_samples = cfg_.min_samples, .device = cfg_.common.device};
  Clusters c = cfg_.pseudo_metric == "jaccard" ? dbscan_jaccard(embeddings, {.k1 = cfg_.k1, .k2 = cfg_.k2}, options)
                                               : dbscan_features(embeddings, Metric::cosine, options);
  std::vector<int64_t> sizes(static_cast<size_t>(c.count)), renamed(static_cast<size_t>(c.count), -1);
  for (const int64_t label : c.labels) {
    if (label >= 0) ++sizes[static_cast<size_t>(label)];
  }
  int64_t kept = 0;
  for (size_t k = 0; k < sizes.size(); ++k) {
    if (sizes[k] >= 2) renamed[k] = kept++;
  }
  c.noise = 0;
  for (int64_t& label : c.labels) {
    if (label >= 0) label = renamed[static_cast<size_t>(label)];
    c.noise += label < 0;
  }
  c.count = kept;
  return c;
}

void ReMix::log_quality(Run& run, const PseudoLabels& found, double eps) const {
  run.log("eps", eps);
  run.log("videos", static_cast<double>(found.videos));
  run.log("clusters", static_cast<double>(found.people));
  run.log("pseudo_images", static_cast<double>(found.entries.size()));
  run.log("noise", found.images ? static_cast<double>(found.noise) / static_cast<double>(found.images) : 0.0);
  if (!truth_.empty()) reid::log_quality(run, found.labels, found.truth);
}

// --- resume ---

void ReMix::state(State& s) {
  s.module("encoder", encoder_);
  s.module("momentum_encoder", momentum_encoder_);
  s.module("optimizer", optimizer_);
  s.tensor("epoch.people", people_, cfg_.common.device);
  s.integer("epoch.multi_count", multi_count_);
  s.tensor("epoch.views", views_.rows, cfg_.common.device);
  s.integers("epoch.view_labels", views_.labels);
  s.integers("epoch.view_cameras", views_.cameras);
  s.integers("epoch.video_queue", video_queue_);
  s.integer("epoch.video_round", video_round_);
  s.plan("epoch.plan", plan_);
}

}  // namespace reid
