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

// The last blocks of stages 2 and 3: two and three of a ResNet-50 (AGW's code), two and nine of a ResNet-101 (fast-reid's).
bool has_non_local(const ResNetConfig& config, int stage, int blocks_behind) {
  const int blocks[] = {0, 2, config.depth == 101 ? 9 : 3, 0};
  return config.non_local && blocks_behind < blocks[stage];
}

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
  REID_CHECK(!config.non_local || config.depth == 50 || config.depth == 101, "model.non_local = true with model.depth = ", config.depth,
             ": non-local blocks have places in ResNets of depth 50 and 101 only");
  REID_CHECK(config.non_local_width >= 1, "model.non_local_width = ", config.non_local_width, " must be positive");
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
                      has_norm_after(config, stage, i == depth.blocks[stage] - 1),
                      has_non_local(config, stage, depth.blocks[stage] - 1 - i)};
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

NonLocalBlock::Pointwise::Pointwise(int64_t in, int64_t out, DType dtype, Rng rng) : conv(in, out, 1, 1, 0, dtype, Rng(0)) {
  const Linear drawn(in, out, dtype, rng);  // He's deviation, sqrt(2 / outputs), would be far too large for a single output
  conv.weight.value = drawn.weight.value.reshape({out, 1, 1, in});
  bias.value = drawn.bias.value;
}

Var NonLocalBlock::Pointwise::operator()(const Var& x, const Pass& pass) {
  const auto watched = [&](Parameter& p) { return pass.tape ? pass.tape->watch(p) : Var(p.value); };
  return bias_add(reid::conv(x, watched(conv.weight), conv.geometry), watched(bias));
}

void NonLocalBlock::Pointwise::fields(Fields& f) {
  conv.fields(f);
  f.parameter("bias", bias);
}

NonLocalBlock::NonLocalBlock(int64_t channels, int64_t width, DType dtype, Rng rng)
    : g_(channels, width, dtype, rng.at("g")),
      theta_(channels, width, dtype, rng.at("theta")),
      phi_(channels, width, dtype, rng.at("phi")),
      out_(width, channels, dtype, rng.at("out")),
      norm_(Norm::Kind::batch, channels, dtype) {
  norm_.batch.weight.value.fill(0);
}

Var NonLocalBlock::operator()(const Var& x, const Pass& pass) {
  return norm_(out_(non_local(theta_(x, pass), phi_(x, pass), g_(x, pass)), pass), x, false, pass);
}

void NonLocalBlock::fields(Fields& f) {
  f.child("g", g_);
  f.child("W.0", out_);
  f.child("W.1", norm_);
  f.child("theta", theta_);
  f.child("phi", phi_);
}

ResNet::ResNet(const ResNetConfig& config, DType dtype, Rng rng) : config_(config) {
  const ResNetPlan plan = plan_of(config);
  conv1_ = make_conv(plan.stem, dtype, rng.at("conv1"));
  bn1_ = Norm(plan.stem.norm, plan.stem.out, dtype);
  stages_.resize(4);
  non_local_.resize(4);
  for (const BlockPlan& block : plan.blocks) {
    const Rng own = rng.at(static_cast<uint64_t>(block.stage)).at(static_cast<uint64_t>(block.index));
    const size_t stage = static_cast<size_t>(block.stage);
    stages_[stage].push_back(make_block(block, dtype, own));
    if (block.non_local) non_local_[stage].emplace_back(block.convs.back().out, config.non_local_width, dtype, own.at("non-local"));
  }
  features_ = plan.features;
}

Var ResNet::operator()(const Var& images, const Pass& given) {
  std::vector<ops::RunningStep> steps;  // of all norms at once: a launch of its own for each would take a device longer than its work
  Pass pass = given;
  if (!pass.running_steps) pass.running_steps = &steps;
  Var x = conv_norm_act(images, conv1_, bn1_, Var(), true, pass);  // [N, H/2, W/2, width]
  const bool ceil = config_.max_pool == "ceil";
  x = max_pool(x, {.kernel = 3, .stride = 2, .pad = ceil ? 0 : 1, .ceil = ceil});
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    const size_t first = stages_[stage].size() - non_local_[stage].size();  // with a non-local block behind it
    for (size_t i = 0; i < stages_[stage].size(); ++i) {
      x = stages_[stage][i](x, pass);
      if (i >= first) x = non_local_[stage][i - first](x, pass);
    }
  }
  ops::update_running(steps);
  return x;
}

void ResNet::fields(Fields& f) {
  f.child("conv1", conv1_);
  f.child("bn1", bn1_);
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    for (size_t i = 0; i < stages_[stage].size(); ++i) f.child(str("layer", stage + 1, ".", i), stages_[stage][i]);
    for (size_t i = 0; i < non_local_[stage].size(); ++i) f.child(str("NL_", stage + 1, ".", i), non_local_[stage][i]);
  }
}

Encoder::Encoder(const EncoderConfig& config, DType dtype, Rng rng) : config_(config), backbone_(config.backbone, dtype, rng) {
  const auto one_of = [](const char* key, const std::string& value, const char* a, const char* b) {
    REID_CHECK(value == a || value == b, "model.", key, " = '", value, "' is not one of ", a, ", ", b);
  };
  one_of("pooling", config.pooling, "gap", "gem");
  one_of("neck", config.neck, "bn", "none");
  one_of("feature", config.feature, "after", "before");
  one_of("precision", config.precision, "f32", "bf16");
  REID_CHECK(config.precision == "f32" || dtype == DType::f32, "model.precision = bf16 rounds a network in f32, not in ", dtype);
  REID_CHECK(config.gem_p > 0, "model.gem_p = ", config.gem_p, " must be positive");
  if (config.map_norm) map_norm_ = Norm(Norm::Kind::batch, backbone_.features(), dtype);
  if (config.pooling == "gem") p_.value = Tensor::full({1}, config.gem_p, dtype);
  if (config.neck == "bn") {
    neck_ = Norm(Norm::Kind::batch, backbone_.features(), dtype);
    neck_.batch.bias.trainable = false;
  }
}

Var Encoder::map(const Var& images, const Pass& pass) {
  REID_CHECK(images.shape().rank() == 4 && images.shape()[3] == 3, "[encoder] images ", images.shape(), " must be [N, H, W, 3]");
  const Var map = backbone_(config_.precision == "bf16" ? cast(images, DType::bf16) : images, pass);
  return config_.map_norm ? map_norm_(map, Var(), false, pass) : map;
}

Var Encoder::widened(const Var& x) const { return config_.precision == "bf16" ? cast(x, DType::f32) : x; }

Var Encoder::pooled(const Var& map, const Pass& pass) {
  return widened(config_.pooling == "gem" ? gem_pool(map, pass.tape ? pass.tape->watch(p_) : Var(p_.value)) : global_average_pool(map));
}

Var Encoder::stripes(const Var& map, int64_t count) const { return widened(stripe_pool(map, count)); }

Encoder::Sides Encoder::head(const Var& map, const Pass& pass) {
  const Var before = pooled(map, pass);
  return {before, config_.neck == "bn" ? neck_(before, Var(), false, pass) : before};
}

Var Encoder::operator()(const Var& images, const Pass& pass) {
  const Var before = pooled(map(images, pass), pass);
  const bool embeds_neck = config_.neck == "bn" && config_.feature == "after";
  return embeds_neck ? neck_(before, Var(), false, pass) : before;
}

std::vector<std::string> Encoder::backbone_prefixes(const std::string& outer) {
  std::vector<std::string> prefixes;
  for (const char* name : {"conv1.", "bn1.", "layer", "NL_", "map_norm."}) prefixes.push_back(outer + name);
  return prefixes;
}

void Encoder::fields(Fields& f) {
  backbone_.fields(f);
  if (config_.map_norm) f.child("map_norm", map_norm_);
  if (config_.pooling == "gem") f.parameter("pool.p", p_);
  if (config_.neck == "bn") f.child("bottleneck", neck_);
}

PartEncoder::PartEncoder(const EncoderConfig& config, int64_t parts, DType dtype, Rng rng) : encoder_(config, dtype, rng) {
  REID_CHECK(config.neck == "bn" && config.feature == "after", "an encoder with parts needs model.neck = bn and model.feature = after");
  REID_CHECK(parts >= 1, "an encoder with ", parts, " parts has none");
  for (int64_t n = 0; n < parts; ++n) {
    necks_.emplace_back(Norm::Kind::batch, encoder_.features(), dtype);
    necks_.back().batch.bias.trainable = false;
  }
}

std::vector<Var> PartEncoder::operator()(const Var& images, const Pass& pass) {
  const Var map = encoder_.map(images, pass);
  REID_CHECK(parts() <= map.shape()[1], "parts.count = ", parts(), " are more than the ", map.shape()[1],
             " rows of the network's last feature map: lower it, or raise data.height");
  const int64_t batch = images.shape()[0];
  const Var stripes = encoder_.stripes(map, parts());
  std::vector<Var> views = {encoder_.head(map, pass).after};
  for (int64_t n = 0; n < parts(); ++n)
    views.push_back(necks_[static_cast<size_t>(n)](rows(stripes, n * batch, (n + 1) * batch), Var(), false, pass));
  return views;
}

void PartEncoder::fields(Fields& f) {
  encoder_.fields(f);
  for (size_t n = 0; n < necks_.size(); ++n) f.child(str("part_bottleneck.", n), necks_[n]);
}

void copy_state(const Inventory& from, const Inventory& to) {
  REID_CHECK(from.parameters.size() == to.parameters.size() && from.buffers.size() == to.buffers.size(),
             "[copy_state] the modules differ in structure");
  for (size_t i = 0; i < from.parameters.size(); ++i) {
    to.parameters[i].parameter->value.copy_from(from.parameters[i].parameter->value);
    to.parameters[i].parameter->refresh();
  }
  for (size_t i = 0; i < from.buffers.size(); ++i) to.buffers[i].tensor->copy_from(*from.buffers[i].tensor);
}

void move_to(Device device, const Inventory& module) {
  for (const NamedParameter& p : module.parameters) {
    p.parameter->value = p.parameter->value.to(device);
    p.parameter->grad = p.parameter->grad.to(device);
    p.parameter->rounded = Tensor();  // the store's, which it leaves
  }
  for (const NamedBuffer& b : module.buffers) *b.tensor = b.tensor->to(device);
}

}  // namespace reid
