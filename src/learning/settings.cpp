#include "reid/learning/settings.h"

#include "reid/formats/weights.h"

namespace reid {

using enum Origin;

void RunSettings::visit(ConfigKeys& keys) {
  keys.section("run", "The recipe, how long, from which seed, and how often something is written.");
  keys.choice("method", method, {method}, engineering, "the recipe: docs/methods.md");
  keys.key("seed", seed, engineering, "start of every random draw", Range::at_least(0));
  keys.key("epochs", epochs, inferred,
           "rounds of `iterations` batches; before each the recipe makes anew what it has of the kind: centroids, pseudo labels",
           Range::at_least(1));
  keys.key("iterations", iterations, inferred, "batches in an epoch", Range::at_least(1));
  keys.key("workers", workers, engineering, "threads that decode and augment; results do not depend on it", Range::closed(1, 256));
  keys.key("checkpoint_every", checkpoint_every, engineering, "steps between checkpoints; one is also written after each epoch",
           Range::at_least(1));
  keys.key("evaluate_every", evaluate_every, engineering, "epochs between evaluations; 0: only at the end", Range::at_least(0));
  keys.key("best_on", best_on, engineering,
           "a set of data.evaluate: also keep the epoch that is best on it. This looks at its labels; results are marked");
}

void ModelSettings::visit(ConfigKeys& keys) {
  keys.section("model", "The encoder (of remix also its twin, the momentum encoder).");
  keys.key("depth", depth, inferred, "ResNet depth: 18, 34, 50, 101 or 152");
  keys.choice("ibn", ibn, {"none", "a", "b"}, inferred, "instance-batch norm variant");
  keys.key("last_stride", last_stride, inferred, "stride of the fourth stage, 1 or 2", Range::closed(1, 2));
  keys.key("width", width, engineering, "channels of the first stage; 64 is the published network", Range::closed(2, 1024));
  keys.choice("max_pool", max_pool, {"pad", "ceil"}, engineering, "padding of the stem's max pooling: torchvision's or Caffe's");
  keys.choice("pooling", pooling, {"gap", "gem"}, inferred, "global pooling: average or generalized mean");
  keys.key("gem_p", gem_p, inferred, "start of the generalized mean's exponent", Range::above(0));
  keys.choice("neck", neck, {"bn", "none"}, inferred, "batch norm after pooling (BNNeck), or nothing");
  keys.choice("feature", feature, {"after", "before"}, inferred, "where the embedding is taken: after the neck or before it");
  keys.key("map_norm", map_norm, engineering, "a batch norm on the last feature map, before pooling (LUPerson's fine-tuning)");
  keys.key("non_local", non_local, engineering, "non-local blocks behind the last blocks of stages 2 and 3 (AGW); depth 50 and 101");
  keys.key("non_local_width", non_local_width, engineering, "their inner channels; 1 in AGW's and fast-reid's code",
           Range::closed(1, 4096));
  keys.key("bn_groups", bn_groups, engineering,
           "batch norm in training: the batch is cut into this many equal parts with statistics of their own, as on several GPUs",
           Range::at_least(1));
  keys.choice("bn_running", bn_running, {"all", "first"}, engineering, "which of these parts move the running statistics");
  keys.choice("numerics", numerics, {"deterministic", "strict"}, engineering,
              "deterministic: 3x3 convolutions by minimal filtering (Winograd), twice as fast, with about twice the rounding, and others, "
              "and classifiers, by AMX, where the processor has it, as sums of six products of bf16, as exact as f32; strict: by the sums "
              "of their definition, the same "
              "bits on every processor with AVX2. Results are repeatable, and do not depend on the batch, either way");
  keys.choice(
      "precision", precision, {"f32", "bf16"}, engineering,
      "bf16: in the run the backbone's activations and filters are rounded to bf16, half the memory; sums, norms, losses, the update and "
      "all that is saved stay f32, and an exported encoder computes in f32. On a CPU with AMX or AVX512-BF16 products are several times "
      "faster; on others bf16 is widened and multiplied in f32");
  keys.key("weights", weights, engineering, "safetensors file to start from; empty: random weights");
}

EncoderConfig ModelSettings::encoder() const {
  return {.backbone = {.depth = static_cast<int>(depth),
                       .ibn = ibn,
                       .last_stride = last_stride,
                       .width = width,
                       .max_pool = max_pool,
                       .non_local = non_local,
                       .non_local_width = non_local_width},
          .map_norm = map_norm,
          .pooling = pooling,
          .gem_p = gem_p,
          .neck = neck,
          .feature = feature,
          .precision = precision};
}

void ModelSettings::load(Encoder& encoder) const {
  if (!weights.empty()) load_weights(inventory(encoder), read_safetensors(weights));
}

void ModelSettings::check_batch(int64_t images) const {
  REID_CHECK(can_cut(images), "model.bn_groups = ", bn_groups, " does not cut a batch of ", images,
             " images into equal parts of at least two: change it or the batch");
}

Pass ModelSettings::training(Tape* tape, int64_t parts) const {
  return {.tape = tape,
          .batch_statistics = true,
          .update_running = true,
          .norm_groups = static_cast<int>(bn_groups * parts),
          .running_from_first = bn_running == "first",
          .other_sums = other_sums()};
}

Pass ModelSettings::inference(WeightCache* made) const { return {.other_sums = other_sums(), .cache = made}; }

void DataSettings::visit(ConfigKeys& keys) {
  keys.section("data", "Which images, and at what size the network sees them.");
  keys.key("multi", multi, engineering,
           "multi-camera sets, each LAYOUT:PATH; recipes without identities look at theirs for measuring only");
  keys.key("single", single, engineering, "remix: single-camera videos, each LAYOUT:PATH; empty: multi-camera training only");
  keys.key("evaluate", evaluate, engineering, "sets to evaluate on, each NAME=LAYOUT:PATH");
  keys.key("height", height, inferred, "input rows", Range::closed(16, 4096));
  keys.key("width", width, inferred, "input columns", Range::closed(16, 4096));
  keys.choice("resize", resize, {"bilinear", "bicubic"}, inferred, "Pillow-compatible filter");
  keys.key("skip_damaged", skip_damaged, engineering, "leave out images that cannot be decoded and list them, instead of stopping");
  keys.key("cache_mib", cache_mib, engineering, "memory for decoded images; 0: none", Range::at_least(0));
  keys.key("embed_batch", embed_batch, engineering, "images at once when embedding; results do not depend on it", Range::closed(1, 4096));
}

void ProtocolSettings::visit(ConfigKeys& keys) {
  keys.section("protocol", "A named protocol instead of data.multi and data.evaluate: docs/protocols.md.");
  keys.key("name", choice.protocol, engineering,
           "cross-dataset, leave-one-out, p0, p1, p1-without-duke, p2, p3 or merged-msmt17; empty: none");
  keys.key("sets", choice.sets, engineering, "the data sets at hand, each NAME=LAYOUT:PATH, under the protocol's names");
  keys.key("source", choice.source, engineering, "cross-dataset: the set to train on");
  keys.key("target", choice.target, engineering, "protocols that leave one out: the set to test on");
}

void ProtocolSettings::apply(DataSettings& data) {
  if (choice.protocol.empty()) {
    REID_CHECK(choice.sets.empty() && choice.source.empty() && choice.target.empty(),
               "protocol.sets, protocol.source and protocol.target need protocol.name");
    return;
  }
  const ResolvedProtocol resolved = resolve(choice);
  const auto fill = [&](const char* key, std::vector<std::string>& list, const std::vector<std::string>& value) {
    REID_CHECK(list.empty() || list == value, key, " is set, but protocol.name = ", choice.protocol, " determines it: remove one of them");
    list = value;
  };
  fill("data.multi", data.multi, resolved.train);
  fill("data.evaluate", data.evaluate, resolved.evaluate);
  trained_on = resolved.trained_on;
  text = resolved.text;
}

void AugmentSettings::visit(ConfigKeys& keys) {
  TransformConfig& v = values;
  keys.section("augment", "The augmented view; the original view (remix, embedding) is resized and normalized only.");
  keys.key("pad", pad, inferred, "pixels around the image before the random crop", Range::closed(0, 512));
  keys.key("flip", v.flip, inferred, "probability of the mirror image", Range::unit());
  keys.key("blur", v.blur, inferred, "probability of Gaussian blur", Range::unit());
  keys.key("blur_min", v.blur_min, inferred, "smallest sigma, pixels", Range::above(0));
  keys.key("blur_max", v.blur_max, inferred, "largest sigma, pixels", Range{.low = 0, .high = 100, .open_low = true});
  keys.key("jitter", v.jitter, inferred, "probability of color jitter", Range::unit());
  keys.key("brightness_min", v.brightness_min, inferred, "smallest brightness factor", Range::at_least(0));
  keys.key("brightness_max", v.brightness_max, inferred, "largest brightness factor", Range::at_least(0));
  keys.key("contrast_min", v.contrast_min, inferred, "smallest contrast factor", Range::at_least(0));
  keys.key("contrast_max", v.contrast_max, inferred, "largest contrast factor", Range::at_least(0));
  keys.key("saturation_min", v.saturation_min, inferred, "smallest saturation factor", Range::at_least(0));
  keys.key("saturation_max", v.saturation_max, inferred, "largest saturation factor", Range::at_least(0));
  keys.key("hue", v.hue, inferred, "largest hue shift either way, turns", Range::closed(0, 0.5));
  keys.key("erase", v.erase, inferred, "probability of random erasing", Range::unit());
  keys.choice("erase_fill", erase_fill, {"mean_color", "mean_values"}, engineering,
              "what is erased becomes the mean color (0 after normalization), or the numbers of the mean written after it, as the strong "
              "baseline's code does");
  keys.key("erase_area_min", v.erase_area_min, inferred, "smallest erased share of the image", Range::closed(0, 1));
  keys.key("erase_area_max", v.erase_area_max, inferred, "largest erased share of the image", Range::closed(0, 1));
  keys.key("erase_aspect_min", v.erase_aspect_min, inferred, "smallest height / width of the erased rectangle", Range::above(0));
  keys.key("erase_aspect_max", v.erase_aspect_max, inferred, "largest height / width of the erased rectangle", Range::above(0));
}

void AugmentSettings::set_customary() {
  values.blur = 0;
  values.jitter = 0;
  values.erase = 0.5;
  erase_fill = "mean_values";
}

TransformConfig AugmentSettings::transform(const DataSettings& data) const {
  TransformConfig t = values;
  t.height = static_cast<int>(data.height);
  t.width = static_cast<int>(data.width);
  t.filter = data.resize == "bicubic" ? Filter::bicubic : Filter::bilinear;
  t.pad = static_cast<int>(pad);
  if (erase_fill == "mean_values") t.erase_value = t.mean;
  t.check();
  return t;
}

void OptimizerSettings::visit(ConfigKeys& keys) {
  keys.section("optimizer", "The update of the encoder.");
  keys.choice("kind", optimizer.kind, {"adam", "adamw", "sgd"}, inferred, "adam adds decay to the gradient, adamw decouples it");
  keys.key("decay", optimizer.decay, inferred, "weight decay", Range::at_least(0));
  keys.key("beta1", optimizer.beta1, inferred, "Adam's first moment", Range::half_open(0, 1));
  keys.key("beta2", optimizer.beta2, inferred, "Adam's second moment", Range::half_open(0, 1));
  keys.key("eps", optimizer.eps, inferred, "Adam's denominator offset", Range::above(0));
  keys.key("momentum", optimizer.momentum, engineering, "SGD's momentum", Range::half_open(0, 1));
  keys.key("nesterov", optimizer.nesterov, engineering, "SGD looks ahead");
  keys.section("schedule", "The learning rate over the epochs.");
  keys.key("lr", schedule.lr, inferred, "learning rate after warm-up", Range::above(0));
  keys.choice("kind", schedule.kind, {"constant", "step", "cosine"}, inferred, "what follows the warm-up");
  keys.key("per_step", per_step, engineering, "change the rate every step instead of every epoch");
  keys.key("warmup_epochs", schedule.warmup_epochs, inferred, "epochs of linear warm-up", Range::at_least(0));
  keys.key("warmup_factor", schedule.warmup_factor, inferred, "where the warm-up starts, times lr", Range::closed(0, 1));
  keys.key("milestones", schedule.milestones, inferred, "epochs at which step multiplies the rate by gamma", Range::at_least(0));
  keys.key("gamma", schedule.gamma, inferred, "factor at a milestone", Range::above(0));
  keys.key("flat_epochs", schedule.flat_epochs, engineering, "epoch at which the cosine begins to fall", Range::at_least(0));
  keys.key("final_factor", schedule.final_factor, engineering, "where the cosine ends, times lr", Range::unit());
}

void customary_origins(ConfigKeys& keys) {
  keys.published({"run.epochs"});
  keys.published({"model.depth", "model.ibn", "model.last_stride", "model.pooling", "model.neck", "model.feature"});
  keys.published({"data.height", "data.width", "data.resize"});
  keys.published({"augment.pad", "augment.flip", "augment.blur", "augment.jitter", "augment.erase", "augment.erase_fill",
                  "augment.erase_area_min", "augment.erase_area_max", "augment.erase_aspect_min", "augment.erase_aspect_max"});
  keys.published({"optimizer.kind", "optimizer.decay"});
  keys.published({"schedule.lr", "schedule.kind", "schedule.warmup_epochs", "schedule.milestones", "schedule.gamma"});
}

}  // namespace reid
