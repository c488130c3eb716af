// ResNet with IBN, and the encoder built on it.

#include "reid/engine/nn.h"

namespace reid {

namespace {

struct Plan {
  bool bottleneck;
  int blocks[4];
};

Plan plan_of(int depth) {
  switch (depth) {
    case 18: return {false, {2, 2, 2, 2}};
    case 34: return {false, {3, 4, 6, 3}};
    case 50: return {true, {3, 4, 6, 3}};
    case 101: return {true, {3, 4, 23, 3}};
    case 152: return {true, {3, 8, 36, 3}};
    default: fail(str("model.depth = ", depth, " is not one of 18, 34, 50, 101, 152"));
  }
}

// Where a block of stage 0..3 deviates from batch norm. IBN-a: the first norm of every block of stages 0-2. IBN-b: the stem and
// an instance norm after the last block of stages 0-1 (IBN-Net's published configurations).
Norm::Kind first_norm(const ResNetConfig& config, int stage) {
  return config.ibn == "a" && stage < 3 ? Norm::Kind::ibn : Norm::Kind::batch;
}
bool has_norm_after(const ResNetConfig& config, int stage, bool last_block) { return config.ibn == "b" && stage < 2 && last_block; }

struct BlockPlan {
  int64_t in, width, out, stride;
  Norm::Kind first;
  bool norm_after, bottleneck;
};

ResidualBlock make_block(const BlockPlan& plan, DType dtype, Rng rng) {
  using enum Norm::Kind;
  ResidualBlock block;
  const auto add = [&](int64_t in, int64_t out, int64_t kernel, int64_t stride, Norm::Kind kind) {
    block.convs.emplace_back(in, out, kernel, stride, kernel / 2, dtype, rng.at(block.convs.size()));
    block.norms.emplace_back(kind, out, dtype);
  };
  if (plan.bottleneck) {
    add(plan.in, plan.width, 1, 1, plan.first);
    add(plan.width, plan.width, 3, plan.stride, batch);
    add(plan.width, plan.out, 1, 1, batch);
  } else {
    add(plan.in, plan.width, 3, plan.stride, plan.first);
    add(plan.width, plan.out, 3, 1, batch);
  }
  if (plan.stride != 1 || plan.in != plan.out) {
    block.shortcut_conv.emplace(plan.in, plan.out, 1, plan.stride, 0, dtype, rng.at("shortcut"));
    block.shortcut_norm.emplace(batch, plan.out, dtype);
  }
  if (plan.norm_after) block.after.emplace(instance, plan.out, dtype);
  return block;
}

}  // namespace

void check(const ResNetConfig& config) {
  plan_of(config.depth);
  REID_CHECK(config.ibn == "none" || config.ibn == "a" || config.ibn == "b", "model.ibn = '", config.ibn, "' is not one of none, a, b");
  REID_CHECK(config.last_stride == 1 || config.last_stride == 2, "model.last_stride = ", config.last_stride, " is not 1 or 2");
  REID_CHECK(config.width >= 2 && config.width % 2 == 0, "model.width = ", config.width,
             " must be even and positive: IBN splits it in halves");
  REID_CHECK(config.max_pool == "pad" || config.max_pool == "ceil", "model.max_pool = '", config.max_pool, "' is not one of pad, ceil");
}

Var ResidualBlock::operator()(const Var& x, const Pass& pass) {
  Var shortcut = x;
  if (shortcut_conv) shortcut = conv_norm_act(x, *shortcut_conv, *shortcut_norm, Var(), false, pass);
  Var y = x;
  const size_t last = convs.size() - 1;
  for (size_t i = 0; i < last; ++i) y = conv_norm_act(y, convs[i], norms[i], Var(), true, pass);
  y = conv_norm_act(y, convs[last], norms[last], shortcut, !after, pass);
  return after ? (*after)(y, Var(), true, pass) : y;
}

void ResidualBlock::fields(Fields& f) {
  for (size_t i = 0; i < convs.size(); ++i) {
    f.child(str("conv", i + 1), convs[i]);
    f.child(str("bn", i + 1), norms[i]);
  }
  if (after) f.child("IN", *after);
  if (shortcut_conv) {
    f.child("downsample.0", *shortcut_conv);
    f.child("downsample.1", *shortcut_norm);
  }
}

ResNet::ResNet(const ResNetConfig& config, DType dtype, Rng rng) : config_(config) {
  check(config);
  const Plan plan = plan_of(config.depth);
  const int64_t expansion = plan.bottleneck ? 4 : 1;
  conv1_ = Conv2d(3, config.width, 7, 2, 3, dtype, rng.at("conv1"));
  bn1_ = Norm(config.ibn == "b" ? Norm::Kind::instance : Norm::Kind::batch, config.width, dtype);
  int64_t in = config.width;
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t width = config.width << stage, out = width * expansion;
    const int64_t stride = stage == 0 ? 1 : stage == 3 ? config.last_stride : 2;
    std::vector<ResidualBlock>& blocks = stages_.emplace_back();
    for (int i = 0; i < plan.blocks[stage]; ++i) {
      const bool norm_after = has_norm_after(config, stage, i == plan.blocks[stage] - 1);
      const BlockPlan block{in, width, out, i == 0 ? stride : 1, first_norm(config, stage), norm_after, plan.bottleneck};
      blocks.push_back(make_block(block, dtype, rng.at(static_cast<uint64_t>(stage)).at(static_cast<uint64_t>(i))));
      in = out;
    }
  }
  features_ = in;
}

Var ResNet::operator()(const Var& images, const Pass& pass) {
  Var x = conv_norm_act(images, conv1_, bn1_, Var(), true, pass);  // [N, H/2, W/2, width]
  const bool ceil = config_.max_pool == "ceil";
  x = max_pool(x, {.kernel = 3, .stride = 2, .pad = ceil ? 0 : 1, .ceil = ceil});
  for (std::vector<ResidualBlock>& stage : stages_) {
    for (ResidualBlock& block : stage) x = block(x, pass);
  }
  return x;
}

void ResNet::fields(Fields& f) {
  f.child("conv1", conv1_);
  f.child("bn1", bn1_);
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    for (size_t i = 0; i < stages_[stage].size(); ++i) f.child(str("layer", stage + 1, ".", i), stages_[stage][i]);
  }
}

Encoder::Encoder(const EncoderConfig& config, DType dtype, Rng rng) : config_(config), backbone_(config.backbone, dtype, rng) {
  const auto one_of = [](const char* key, const std::string& value, const char* a, const char* b) {
    REID_CHECK(value == a || value == b, "model.", key, " = '", value, "' is not one of ", a, ", ", b);
  };
  one_of("pooling", config.pooling, "gap", "gem");
  one_of("neck", config.neck, "bn", "none");
  one_of("feature", config.feature, "after", "before");
  REID_CHECK(config.gem_p > 0, "model.gem_p = ", config.gem_p, " must be positive");
  if (config.map_norm) map_norm_ = Norm(Norm::Kind::batch, backbone_.features(), dtype);
  if (config.pooling == "gem") p_.value = Tensor::full({1}, config.gem_p, dtype);
  if (config.neck == "bn") {
    neck_ = Norm(Norm::Kind::batch, backbone_.features(), dtype);
    neck_.batch.bias.trainable = false;
  }
}

Var Encoder::operator()(const Var& images, const Pass& pass) {
  REID_CHECK(images.shape().rank() == 4 && images.shape()[3] == 3, "[encoder] images ", images.shape(), " must be [N, H, W, 3]");
  Var map = backbone_(images, pass);
  if (config_.map_norm) map = map_norm_(map, Var(), false, pass);
  const bool gem = config_.pooling == "gem";
  const Var pooled = gem ? gem_pool(map, pass.tape ? pass.tape->watch(p_) : Var(p_.value)) : global_average_pool(map);
  const bool embeds_neck = config_.neck == "bn" && config_.feature == "after";
  return embeds_neck ? neck_(pooled, Var(), false, pass) : pooled;
}

void Encoder::fields(Fields& f) {
  backbone_.fields(f);
  if (config_.map_norm) f.child("map_norm", map_norm_);
  if (config_.pooling == "gem") f.parameter("pool.p", p_);
  if (config_.neck == "bn") f.child("bottleneck", neck_);
}

void copy_state(const Inventory& from, const Inventory& to) {
  REID_CHECK(from.parameters.size() == to.parameters.size() && from.buffers.size() == to.buffers.size(),
             "[copy_state] the modules differ in structure");
  for (size_t i = 0; i < from.parameters.size(); ++i) to.parameters[i].parameter->value.copy_from(from.parameters[i].parameter->value);
  for (size_t i = 0; i < from.buffers.size(); ++i) to.buffers[i].tensor->copy_from(*from.buffers[i].tensor);
}

}  // namespace reid
