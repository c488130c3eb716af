// ReMix's keys: defaults, ranges, meaning and where each comes from.

#include "reid/learning/remix.h"

namespace reid {

using enum Origin;

namespace {

void visit_batch(ReMixConfig& c, ConfigKeys& keys) {
  keys.section("batch", "A mixed batch and the two encoders.");
  keys.key("multi_people", c.multi_people, inferred, "labeled identities in a batch", Range::at_least(2));
  keys.key("multi_images", c.multi_images, inferred, "images of each, spread over cameras", Range::at_least(1));
  keys.key("single_people", c.single_people, inferred, "pseudo identities in a batch", Range::at_least(2));
  keys.key("single_images", c.single_images, inferred, "images of each", Range::at_least(1));
  keys.choice("bn_batches", c.bn_batches, {"joint", "per_type"}, inferred,
              "batch-norm statistics of the whole batch, or of each data type");
  keys.key("two_view_encoder", c.two_view_encoder, inferred,
           "feed the original view to the encoder too, for all losses but augmentation (a second forward)");
  keys.key("ema", c.ema, inferred, "momentum of the momentum encoder, per step", Range::closed(0, 1));
  keys.key("ema_ramp", c.ema_ramp, engineering, "start with min(ema, (1 + t) / (10 + t)), for short runs");
}

void visit_loss(ReMixConfig& c, ConfigKeys& keys) {
  keys.section("loss",
               "Weights (0 switches a loss off), temperatures and scopes. Published: which losses see which data, and that higher "
               "single-camera temperatures did best; everything else here is inferred.");
  keys.key("instance_weight", c.instance_weight, inferred, "weight of the instance loss", Range::at_least(0));
  keys.key("augmentation_weight", c.augmentation_weight, inferred, "weight of the augmentation loss", Range::at_least(0));
  keys.key("centroid_weight", c.centroid_weight, inferred, "weight of the centroids loss", Range::at_least(0));
  keys.key("camera_weight", c.camera_weight, inferred, "weight of the camera centroids loss", Range::at_least(0));
  keys.key("tau_instance_multi", c.tau_instance_multi, inferred, "instance temperature, multi-camera anchors", Range::above(0));
  keys.key("tau_instance_single", c.tau_instance_single, inferred, "instance temperature, single-camera anchors", Range::above(0));
  keys.key("tau_augmentation", c.tau_augmentation, inferred, "augmentation temperature, both kinds", Range::above(0));
  keys.key("tau_centroid_multi", c.tau_centroid_multi, inferred, "centroid temperature, multi-camera anchors", Range::above(0));
  keys.key("tau_centroid_single", c.tau_centroid_single, inferred, "centroid temperature, single-camera anchors", Range::above(0));
  keys.key("tau_camera", c.tau_camera, inferred, "camera centroid temperature", Range::above(0));
  keys.key("single_in_instance", c.single_in_instance, published, "single-camera data in the instance loss");
  keys.key("single_in_augmentation", c.single_in_augmentation, published, "single-camera data in the augmentation loss");
  keys.key("single_in_centroid", c.single_in_centroid, published, "single-camera data in the centroids loss");
  keys.choice("negative_scope", c.negative_scope, {"joint", "same_type"}, inferred,
              "negatives of the whole batch, or of the anchor's type");
  keys.choice("centroid_scope", c.centroid_scope, {"joint", "same_type"}, inferred, "centroids of both types, or of the anchor's");
  keys.choice("type_reduction", c.type_reduction, {"sum", "pooled"}, inferred, "sum of the types' means, or one mean over all anchors");
  keys.choice("instance_denominator", c.instance_denominator, {"one_positive", "supcon"}, inferred,
              "one positive at a time against the negatives, or all positives in the denominator");
  keys.key("self_positive", c.self_positive, inferred, "the anchor's own original counts as a positive of the instance loss");
  keys.key("centroid_smoothing", c.centroid_smoothing, inferred, "label smoothing of the centroids loss", Range::half_open(0, 1));
  keys.key("hard_negatives", c.hard_negatives, inferred, "camera centroids of others in the denominator", Range::at_least(1));
  keys.key("include_own_camera", c.include_own_camera, inferred, "the anchor's own camera among the positive camera centroids");
}

void visit_pseudo(ReMixConfig& c, ConfigKeys& keys) {
  keys.section("pseudo", "Pseudo labels of single-camera videos: DBSCAN on momentum embeddings inside each video.");
  keys.choice("metric", c.pseudo_metric, {"cosine", "jaccard"}, inferred, "distance that DBSCAN clusters by");
  keys.choice("eps_mode", c.eps_mode, {"calibrated", "fixed"}, engineering,
              "calibrated: from same-camera pairs of the labeled data each epoch (cosine only); fixed: eps");
  keys.key("eps", c.eps, inferred, "DBSCAN radius when fixed, or when there are too few pairs to calibrate", Range::above(0));
  keys.key("eps_floor", c.eps_floor, engineering, "smallest calibrated radius", Range::above(0));
  keys.key("same_quantile", c.same_quantile, engineering, "quantile of same-person distances", Range::unit());
  keys.key("other_quantile", c.other_quantile, engineering, "quantile of different-person distances", Range::unit());
  keys.key("min_samples", c.min_samples, inferred, "neighbors of a core point, itself included", Range::at_least(1));
  keys.key("k1", c.k1, inferred, "Jaccard: neighbors", Range::at_least(1));
  keys.key("k2", c.k2, inferred, "Jaccard: query expansion", Range::at_least(1));
  keys.key("start_epoch", c.start_epoch, inferred, "multi-camera training only before this epoch", Range::at_least(0));
  keys.key("max_video_images", c.max_video_images, engineering, "longer videos are clustered by a random subset", Range::at_least(2));
  keys.key("truth", c.truth, engineering, "CSV of path,identity: measures pseudo labels, never used for training");
}

}  // namespace

void ReMixConfig::visit(ConfigKeys& keys) {
  common.visit(keys);
  visit_batch(*this, keys);
  visit_loss(*this, keys);
  visit_pseudo(*this, keys);
}

LossScope ReMixConfig::scope(const std::string& name, bool use_single) const {
  return {.joint = name == "joint", .pooled = type_reduction == "pooled", .use_single = use_single};
}

InstanceLossOptions ReMixConfig::instance() const {
  return {.tau_multi = tau_instance_multi,
          .tau_single = tau_instance_single,
          .scope = scope(negative_scope, single_in_instance),
          .self_positive = self_positive,
          .supcon = instance_denominator == "supcon"};
}

AugmentationLossOptions ReMixConfig::augmentation() const {
  return {.tau = tau_augmentation, .scope = scope(negative_scope, single_in_augmentation)};
}

CentroidLossOptions ReMixConfig::centroid() const {
  return {.tau_multi = tau_centroid_multi,
          .tau_single = tau_centroid_single,
          .scope = scope(centroid_scope, single_in_centroid),
          .smoothing = centroid_smoothing};
}

CameraCentroidLossOptions ReMixConfig::camera() const {
  return {.tau = tau_camera, .hard_negatives = hard_negatives, .include_own_camera = include_own_camera};
}

void ReMixConfig::check() const {
  REID_CHECK(!common.data.multi.empty(), "data.multi is empty: name at least one labeled set, e.g. multi = [\"market1501:PATH\"]");
  reid::check(common.model.encoder().backbone);
  REID_CHECK(instance_weight + augmentation_weight + centroid_weight + camera_weight > 0,
             "all weights of section loss are 0: nothing to train on");
  const int64_t multi = multi_people * multi_images, single = single_people * single_images;
  common.model.check_batch(multi);  // an epoch without pseudo labels trains on these alone
  if (!common.data.single.empty()) common.model.check_batch(bn_batches == "joint" ? multi + single : std::min(multi, single));
  REID_CHECK(
      bn_batches == "joint" || multi == single,
      "batch.bn_batches = per_type needs as many single-camera as multi-camera images in a batch; batch.multi_people * multi_images is ",
      multi, ", batch.single_people * single_images is ", single);
}

}  // namespace reid
