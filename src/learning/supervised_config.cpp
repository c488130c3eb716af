// The supervised recipe's keys. Its defaults are the strong baseline's (Luo et al., CVPRW 2019, and its code).

#include "reid/learning/supervised.h"

namespace reid {

using enum Origin;

SupervisedConfig::SupervisedConfig() {
  common.run.method = "supervised";
  common.run.epochs = 120;
  common.run.iterations = 202;  // Market-1501: 12,936 images in batches of 64
  common.model.ibn = "none";
  common.data.resize = "bilinear";
  common.augment.set_customary();
  common.optimizer.schedule.warmup_factor = 0.01;
}

void SupervisedConfig::visit(ConfigKeys& keys) {
  common.visit(keys);
  customary_origins(keys);
  keys.published({"schedule.warmup_factor"});
  keys.section("batch", "Identities and images of each in a batch.");
  keys.key("people", people, published, "identities in a batch", Range::at_least(2));
  keys.key("images", images, published, "images of each", Range::at_least(1));
  keys.choice("sampling", sampling, {"random", "cameras"}, engineering, "an identity's images: any, or one from each camera first");
  keys.section("loss", "Weights (0 switches a loss off) and their settings.");
  keys.key("id_weight", id_weight, published, "weight of the identity classifier's cross-entropy", Range::at_least(0));
  keys.choice("classifier", classifier, {"linear", "circle"}, published, "logits: f W^T, or cosines with a circle margin (SBS)");
  keys.key("classifier_deviation", classifier_deviation, published, "standard deviation of the classifier at the start", Range::above(0));
  keys.key("circle_scale", circle_scale, published, "circle: scale of the logits", Range::above(0));
  keys.key("circle_margin", circle_margin, published, "circle: margin of the cosines", Range::half_open(0, 1));
  keys.key("smoothing", smoothing, published, "label smoothing", Range::half_open(0, 1));
  keys.choice("smoothing_share", smoothing_share, {"all", "others"}, engineering,
              "what smoothing spreads its share over: all classes (strong baseline) or the other ones (fast-reid)");
  keys.key("triplet_weight", triplet_weight, published, "weight of the triplet loss", Range::at_least(0));
  keys.choice("triplet", triplet, {"hard", "weighted"}, published, "the hardest pair of each image, or softmax-weighted means (AGW)");
  keys.key("triplet_margin", triplet_margin, published, "margin of the hinge; 0: the soft margin log(1 + exp)", Range::at_least(0));
  keys.key("triplet_normalize", triplet_normalize, engineering, "triplet distances between unit vectors");
  keys.choice("metric_feature", metric_feature, {"before", "after"}, published,
              "features of the triplet and center losses: before the neck (strong baseline, AGW) or after it (SBS)");
  keys.key("center_weight", center_weight, published, "weight of the center loss; 5e-4 where the strong baseline uses it",
           Range::at_least(0));
  keys.key("center_lr", center_lr, published, "learning rate of the centers", Range::above(0));
  keys.key("freeze_steps", freeze_steps, published,
           "steps before the backbone's weights and statistics begin to move; its norms use these till then (SBS: 1000)",
           Range::at_least(0));
}

TripletOptions SupervisedConfig::triplet_options() const {
  return {.margin = triplet_margin, .weighted = triplet == "weighted", .normalize = triplet_normalize};
}

void SupervisedConfig::check() const {
  REID_CHECK(!common.data.multi.empty(), "data.multi is empty: name at least one labeled set, e.g. multi = [\"market1501:PATH\"]");
  REID_CHECK(common.data.single.empty(), "data.single is set, but the supervised recipe trains on labeled sets only: remove it");
  reid::check(common.model.encoder().backbone);
  REID_CHECK(id_weight + triplet_weight + center_weight > 0, "all weights of section loss are 0: nothing to train on");
  REID_CHECK(triplet_weight == 0 || images >= 2,
             "batch.images = 1 leaves the triplet loss without positives: set at least 2, or "
             "loss.triplet_weight = 0");
  common.model.check_batch(people * images);
}

}  // namespace reid
