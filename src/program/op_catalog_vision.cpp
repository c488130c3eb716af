// The catalog: normalization and pooling.

#include "program/op.h"

#include <memory>

#include "reid/engine/nn.h"

namespace reid::program {
namespace {

Tensor slice(const Tensor& vector, int64_t first, int64_t count) { return vector.rows(first, first + count).clone(); }

// Instance-norm channels first, batch-norm channels behind them, as one vector.
Tensor joined(const Tensor& instance, const Tensor& batch, DType dtype) {
  const int64_t a = instance.defined() ? instance.numel() : 0, b = batch.defined() ? batch.numel() : 0;
  Tensor all = Tensor::empty({a + b}, dtype);
  if (a > 0) all.rows(0, a).copy_from(instance);
  if (b > 0) all.rows(a, a + b).copy_from(batch);
  return all;
}

// Fills a norm's parameters and running statistics from the inputs; what is absent keeps its start value.
Norm norm_from(OpCall& c, Norm::Kind kind) {
  const int64_t channels = c.tensor("x").dim(-1);
  REID_CHECK(kind != Norm::Kind::ibn || channels >= 2, "[ibn] x needs two channels at least, to have halves");
  Norm norm(kind, channels, c.dtype());
  norm.eps = c.number("eps");
  const int64_t half = norm.instance.weight.value.defined() ? norm.instance.weight.value.numel() : 0;
  for (const char* name : {"gamma", "beta"}) {
    if (!c.has(name)) continue;
    const bool gamma = name[0] == 'g';
    if (half > 0) (gamma ? norm.instance.weight : norm.instance.bias).value.copy_from(slice(c.tensor(name), 0, half));
    if (half < channels) (gamma ? norm.batch.weight : norm.batch.bias).value.copy_from(slice(c.tensor(name), half, channels - half));
  }
  if (kind == Norm::Kind::instance) return norm;
  norm.momentum = c.number("momentum");
  for (const char* name : {"running_mean", "running_var"}) {
    if (!c.has(name)) continue;
    const Tensor& target = name[8] == 'm' ? norm.running.mean : norm.running.variance;
    REID_CHECK(c.tensor(name).numel() == target.numel(), c.inputs().source, ": ", name, " ", c.tensor(name).shape(),
               " must have an entry for each of the ", target.numel(), " channels of the batch norm");
    target.copy_from(c.tensor(name));
  }
  return norm;
}

void run_norm(OpCall& c, Norm::Kind kind) {
  auto norm = std::make_shared<Norm>(norm_from(c, kind));
  Pass pass{.tape = c.tape(), .batch_statistics = true, .update_running = true};
  if (kind != Norm::Kind::instance) {
    pass.batch_statistics = pass.update_running = c.flag("training");
    pass.norm_groups = static_cast<int>(c.integer("groups"));
    REID_CHECK(pass.norm_groups >= 1, "groups = ", pass.norm_groups, " must be at least 1");
  }
  c.result("y", (*norm)(c.var("x"), c.var("residual"), c.flag("relu"), pass));
  if (kind != Norm::Kind::instance) {
    c.result("running_mean", norm->running.mean);
    c.result("running_var", norm->running.variance);
  }
  c.after_backward([&c, norm] {
    c.result("dgamma", joined(norm->instance.weight.grad, norm->batch.weight.grad, c.dtype()));
    c.result("dbeta", joined(norm->instance.bias.grad, norm->batch.bias.grad, c.dtype()));
  });
}

std::vector<OpInput> norm_inputs(bool running) {
  std::vector<OpInput> inputs = {differentiable("x", "[..., C]", "maps [N, H, W, C] or rows [N, C]"),
                                 optional(differentiable("gamma", "[C]", "scale, else 1")),
                                 optional(differentiable("beta", "[C]", "shift, else 0")),
                                 optional(differentiable("residual", "[..., C]", "shaped like x, added before the ReLU"))};
  if (!running) return inputs;
  inputs.push_back(optional(constant("running_mean", "[.]", "a value for each channel of the batch norm, else 0")));
  inputs.push_back(optional(constant("running_var", "[.]", "likewise, else 1")));
  return inputs;
}

std::vector<OpAttribute> norm_attributes(bool running) {
  std::vector<OpAttribute> attributes = {{"eps", OpAttribute::number, "1e-5", "added to the variance"},
                                         {"relu", OpAttribute::flag, "false", "ReLU at the end"}};
  if (!running) return attributes;
  attributes.push_back({"training", OpAttribute::flag, "true", "the batch's statistics, else the running ones"});
  attributes.push_back({"momentum", OpAttribute::number, "0.1", "share of the batch in the running statistics"});
  attributes.push_back({"groups", OpAttribute::integer, "1", "equal runs of images with statistics of their own"});
  return attributes;
}

std::vector<OpEntry> norms() {
  const std::vector<OpResult> running = {
      {"y", "like x", ""}, {"running_mean", "[.]", "after this pass"}, {"running_var", "[.]", "after this pass (unbiased)"}};
  const std::vector<std::string> kernels = {"norm_statistics", "norm_apply", "norm_backward", "norm_gradient"};
  return {
      {.name = "batch_norm",
       .summary = "batch normalization, residual, ReLU",
       .inputs = norm_inputs(true),
       .attributes = norm_attributes(true),
       .results = running,
       .kernels = kernels,
       .run = [](OpCall& c) { run_norm(c, Norm::Kind::batch); }},
      {.name = "instance_norm",
       .summary = "instance normalization, residual, ReLU",
       .inputs = norm_inputs(false),
       .attributes = norm_attributes(false),
       .results = {{"y", "like x", ""}},
       .kernels = kernels,
       .run = [](OpCall& c) { run_norm(c, Norm::Kind::instance); }},
      {.name = "ibn",
       .summary = "instance norm on the first C/2 channels, batch norm on the others",
       .inputs = norm_inputs(true),
       .attributes = norm_attributes(true),
       .results = running,
       .kernels = kernels,
       .run = [](OpCall& c) { run_norm(c, Norm::Kind::ibn); }},
      {.name = "norm_statistics",
       .summary = "mean and biased variance of each channel",
       .inputs = {constant("x", "[..., C]", "maps or rows")},
       .attributes = {{"groups", OpAttribute::integer, "1", "equal runs of the first axis; its extent gives each image its own"}},
       .results = {{"mean", "[groups, C]", ""}, {"variance", "[groups, C]", "divided by the count"}},
       .kernels = {"norm_statistics"},
       .run =
           [](OpCall& c) {
             const Tensor& x = c.tensor("x");
             const int64_t groups = c.integer("groups"), rows = x.numel() / std::max<int64_t>(1, x.dim(-1));
             REID_CHECK(groups >= 1 && rows > 0 && rows % groups == 0, "[norm_statistics] ", rows, " rows of x ", x.shape(),
                        " cannot be cut into ", groups, " equal groups");
             const ops::Statistics s = ops::norm_statistics(
                 x, {.groups = groups, .length = rows / groups, .channels = x.dim(-1), .first = 0, .count = x.dim(-1)});
             c.result("mean", s.mean);
             c.result("variance", s.variance);
           }},
  };
}

std::vector<OpAttribute> window(std::vector<OpAttribute> more = {}) {
  std::vector<OpAttribute> all = {{"kernel", OpAttribute::integer, "3", "rows and columns of a window"},
                                  {"stride", OpAttribute::integer, "2", "step between windows"},
                                  {"pad", OpAttribute::integer, "1", "rows and columns outside, never chosen"},
                                  {"ceil", OpAttribute::flag, "false", "Caffe's convention: partial windows at the far edge count"}};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

ops::PoolGeometry window_of(const OpCall& c) {
  return {.kernel = c.integer("kernel"), .stride = c.integer("stride"), .pad = c.integer("pad"), .ceil = c.flag("ceil")};
}

std::vector<OpEntry> pools() {
  return {
      {.name = "max_pool",
       .summary = "largest value of each window",
       .inputs = {differentiable("x", "[N, H, W, C]", "maps")},
       .attributes = window(),
       .results = {{"y", "[N, P, Q, C]", ""}, {"index", "[N, P, Q, C]", "i32, h W + w of the first maximum"}},
       .kernels = {"max_pool", "max_pool_backward"},
       .run =
           [](OpCall& c) {
             c.result("index", ops::max_pool(c.tensor("x"), window_of(c)).index);
             c.result("y", max_pool(c.var("x"), window_of(c)));
           }},
      {.name = "max_pool_backward",
       .summary = "sends dy to the chosen pixels",
       .inputs = {constant("dy", "[N, P, Q, C]", "gradient of the output"),
                  constant("index", "[N, P, Q, C]", "as max_pool gives it", "i64")},
       .attributes = window({{"height", OpAttribute::integer, "0", "rows of x"}, {"width", OpAttribute::integer, "0", "columns of x"}}),
       .results = {{"dx", "[N, height, width, C]", ""}},
       .kernels = {"max_pool_backward"},
       .run =
           [](OpCall& c) {
             const Tensor& dy = c.tensor("dy");
             const int64_t pixels = c.integer("height") * c.integer("width");
             for (const int64_t index : c.integers("index"))
               REID_CHECK(index >= 0 && index < pixels, "[max_pool_backward] index ", index, " lies outside of the ", pixels,
                          " pixels of x");
             c.result("dx", ops::max_pool_backward(dy, c.tensor("index").to(DType::i32),
                                                   {dy.dim(0), c.integer("height"), c.integer("width"), dy.dim(3)}, window_of(c)));
           }},
      {.name = "global_average_pool",
       .summary = "the mean over all pixels",
       .inputs = {differentiable("x", "[N, H, W, C]", "maps")},
       .attributes = {},
       .results = {{"y", "[N, C]", ""}},
       .kernels = {"global_pool", "global_pool_backward"},
       .run = [](OpCall& c) { c.result("y", global_average_pool(c.var("x"))); }},
      {.name = "gem_pool",
       .summary = "the generalized mean over all pixels, (mean max(x, eps)^p)^(1/p)",
       .inputs = {differentiable("x", "[N, H, W, C]", "maps"), differentiable("p", "[1]", "the exponent")},
       .attributes = {{"eps", OpAttribute::number, "1e-6", "smaller values count as this"}},
       .results = {{"y", "[N, C]", ""}},
       .kernels = {"global_pool", "global_pool_backward"},
       .run = [](OpCall& c) { c.result("y", gem_pool(c.var("x"), c.var("p"), c.number("eps"))); }},
  };
}

std::vector<OpEntry> parts() {
  return {
      {.name = "stripe_pool",
       .summary = "the means of horizontal stripes, one block of N rows for each, from the top",
       .inputs = {differentiable("x", "[N, H, W, C]", "maps")},
       .attributes = {{"stripes", OpAttribute::integer, "3", "how many"}},
       .results = {{"y", "[stripes N, C]", ""}},
       .kernels = {"stripe_pool", "stripe_pool_backward"},
       .run = [](OpCall& c) { c.result("y", stripe_pool(c.var("x"), c.integer("stripes"))); }},
      {.name = "non_local",
       .summary = "the core of a non-local block: (1 / L) sum over pixels j of (theta_i . phi_j) g_j",
       .inputs = {differentiable("theta", "[N, H, W, D]", "maps"), differentiable("phi", "[N, H, W, D]", "maps"),
                  differentiable("g", "[N, H, W, D]", "maps")},
       .attributes = {},
       .results = {{"y", "[N, H, W, D]", ""}},
       .kernels = {"non_local", "non_local_backward"},
       .run = [](OpCall& c) { c.result("y", non_local(c.var("theta"), c.var("phi"), c.var("g"))); }},
  };
}

}  // namespace

std::vector<OpEntry> vision_ops() {
  std::vector<OpEntry> all = norms();
  for (const auto& more : {pools(), parts()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace reid::program
