// ResNet with IBN, and the encoder built on it.

#include "reid/engine/nn.h"

namespace reid {

namespace {

struct Depth {
  bool bottleneck;
  int blocks[4];
};

Depth depth_of(int depth) {
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

std::vector<ConvPlan> convs_of(bool bottleneck, int64_t in, int64_t width, int64_t stride, Norm::Kind first) {
  using enum Norm::Kind;
  if (bottleneck) return {{in, width, 1, 1, first}, {width, width, 3, stride, batch}, {width, 4 * width, 1, 1, batch}};
  return {{in, width, 3, stride, first}, {width, width, 3, 1, batch}};
}

Conv2d make_conv(const ConvPlan& plan, DType dtype, Rng rng) {
  return Conv2d(plan.in, plan.out, plan.kernel, plan.stride, plan.kernel / 2, dtype, rng);
}

ResidualBlock make_block(const BlockPlan& plan, DType dtype, Rng rng) {
  ResidualBlock block;
  for (const ConvPlan& conv : plan.convs) {
    block.convs.push_back(make_conv(conv, dtype, rng.at(block.convs.size())));
    block.norms.emplace_back(conv.norm, conv.out, dtype);
  }
  if (plan.shortcut) {
    block.shortcut_conv = make_conv(*plan.shortcut, dtype, rng.at("shortcut"));
    block.shortcut_norm.emplace(plan.shortcut->norm, plan.shortcut->out, dtype);
  }
  if (plan.norm_after) block.after.emplace(Norm::Kind::instance, plan.convs.back().out, dtype);
  return block;
}

}  // namespace

void check(const ResNetConfig& config) {
  depth_of(config.depth);
  REID_CHECK(config.ibn == "none" || config.ibn == "a" || config.ibn == "b", "model.ibn = '", config.ibn, "' is not one of none, a, b");
  REID_CHECK(config.last_stride == 1 || config.last_stride == 2, "model.last_stride = ", config.last_stride, " is not 1 or 2");
  REID_CHECK(config.width >= 2 && config.width % 2 == 0, "model.width = ", config.width,
             " must be even and positive: IBN splits it in halves");
  REID_CHECK(config.max_pool == "pad" || config.max_pool == "ceil", "model.max_pool = '", config.max_pool, "' is not one of pad, ceil");
}

std::string BlockPlan::name() const { return str("layer", stage + 1, ".", index); }

ResNetPlan plan_of(const ResNetConfig& config) {
  check(config);
  const Depth depth = depth_of(config.depth);
  ResNetPlan plan{{3, config.width, 7, 2, config.ibn == "b" ? Norm::Kind::instance : Norm::Kind::batch}, {}, config.width};
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t width = config.width << stage;
    for (int i = 0; i < depth.blocks[stage]; ++i) {
      const int64_t in = plan.features, stride = i > 0 || stage == 0 ? 1 : stage == 3 ? config.last_stride : 2;
      BlockPlan block{stage,
                      i,
                      convs_of(depth.bottleneck, in, width, stride, first_norm(config, stage)),
                      {},
                      has_norm_after(config, stage, i == depth.blocks[stage] - 1)};
      plan.features = block.convs.back().out;
      if (stride != 1 || in != plan.features) block.shortcut = ConvPlan{in, plan.features, 1, stride, Norm::Kind::batch};
      plan.blocks.push_back(std::move(block));
    }
  }
  return plan;
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
  const ResNetPlan plan = plan_of(config);
  conv1_ = make_conv(plan.stem, dtype, rng.at("conv1"));
  bn1_ = Norm(plan.stem.norm, plan.stem.out, dtype);
  stages_.resize(4);
  for (const BlockPlan& block : plan.blocks) {
    const Rng own = rng.at(static_cast<uint64_t>(block.stage)).at(static_cast<uint64_t>(block.index));
    stages_[static_cast<size_t>(block.stage)].push_back(make_block(block, dtype, own));
  }
  features_ = plan.features;
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
