// The reference in double, forward and backward, against PyTorch: data/golden/ops and rows, made by tools/golden.py.

#include "harness.h"

namespace reid::test {
namespace {

constexpr double kTight = 1e-10;  // of the largest element

// The gradients of y with respect to named inputs, for the golden's dy.
void check_gradients(const Golden& g, Tape& tape, const Var& y, const std::vector<std::pair<std::string, Var>>& inputs) {
  CHECK_MESSAGE(difference(y.value(), g["y"], kTight) == "", g.prefix(), " y");
  if (g.has("dy")) {
    tape.backward(y, g["dy"]);
  } else {
    tape.backward(y);
  }
  for (const auto& input : inputs)
    CHECK_MESSAGE(difference(tape.gradient(input.second), g["d" + input.first], kTight) == "", g.prefix(), " d", input.first);
}

TEST_CASE("golden: convolution") {
  for (const Golden& g : golden_cases("ops", "conv_")) {
    Tape tape;
    const Var x = tape.input(g["x"]), w = tape.input(g["w"]);
    const ops::ConvGeometry geometry{
        .stride = g.integer("stride"), .pad = g.integer("pad"), .dilation = g.integer("dilation"), .groups = g.integer("groups")};
    check_gradients(g, tape, conv(x, w, geometry), {{"x", x}, {"w", w}});
  }
}

TEST_CASE("golden: matmul") {
  for (const Golden& g : golden_cases("ops", "matmul_")) {
    Tape tape;
    const Var a = tape.input(g["a"]), b = tape.input(g["b"]);
    check_gradients(g, tape, matmul(a, b, g.flag("transpose_a"), g.flag("transpose_b")), {{"a", a}, {"b", b}});
  }
}

TEST_CASE("golden: linear") {
  for (const Golden& g : golden_cases("ops", "linear")) {
    Tape tape;
    const Var x = tape.input(g["x"]), w = tape.input(g["w"]), bias = g.has("bias") ? tape.input(g["bias"]) : Var();
    std::vector<std::pair<std::string, Var>> inputs{{"x", x}, {"w", w}};
    if (g.has("bias")) inputs.emplace_back("bias", bias);
    check_gradients(g, tape, linear(x, w, bias), inputs);
  }
}

TEST_CASE("golden: relu and pooling") {
  for (const Golden& g : golden_cases("ops", "relu")) {
    Tape tape;
    const Var x = tape.input(g["x"]);
    check_gradients(g, tape, relu(x), {{"x", x}});
  }
  for (const Golden& g : golden_cases("ops", "max_pool")) {
    Tape tape;
    const Var x = tape.input(g["x"]);
    const ops::PoolGeometry geometry{
        .kernel = g.integer("kernel"), .stride = g.integer("stride"), .pad = g.integer("pad"), .ceil = g.flag("ceil")};
    check_gradients(g, tape, max_pool(x, geometry), {{"x", x}});
    CHECK_MESSAGE(difference(ops::max_pool(g["x"], geometry).index, g["index"], 0) == "", g.prefix(), " index");
  }
  for (const Golden& g : golden_cases("ops", "global_average_pool")) {
    Tape tape;
    const Var x = tape.input(g["x"]);
    check_gradients(g, tape, global_average_pool(x), {{"x", x}});
  }
  for (const Golden& g : golden_cases("clusters", "stripes")) {
    Tape tape;
    const Var x = tape.input(g["x"]);
    check_gradients(g, tape, stripe_pool(x, g.integer("stripes")), {{"x", x}});
  }
  for (const Golden& g : golden_cases("ops", "gem_pool")) {
    Tape tape;
    const Var x = tape.input(g["x"]), p = tape.input(g["p"]);
    check_gradients(g, tape, gem_pool(x, p, g.number("eps")), {{"x", x}, {"p", p}});
  }
}

// Columns [first, first + count) of a vector.
Tensor part(const Tensor& v, int64_t first, int64_t count) { return v.rows(first, first + count).clone(); }

Tensor joined(const std::vector<Tensor>& parts) {
  std::vector<double> values;
  for (const Tensor& t : parts) values.insert(values.end(), t.span<double>().begin(), t.span<double>().end());
  return Tensor::from(values);
}

TEST_CASE("golden: batch, instance and IBN normalization") {
  std::vector<Golden> cases = golden_cases("ops", "batch_norm");
  for (const Golden& g : golden_cases("ops", "instance_norm")) cases.push_back(g);
  for (const Golden& g : golden_cases("ops", "ibn")) cases.push_back(g);
  for (const Golden& g : cases) {
    const Tensor& image = g["x"];
    const int64_t n = image.dim(0), length = image.dim(1) * image.dim(2), c = image.dim(3);
    const int64_t half = g.has("running_mean") ? c - g["running_mean"].dim(0) : c;  // channels of the instance norm
    Tape tape;
    const Var x = tape.input(image), residual = g.has("residual") ? tape.input(g["residual"]) : Var();
    std::vector<NormPart> parts;
    if (half > 0)
      parts.push_back({.gamma = tape.input(part(g["gamma"], 0, half)),
                       .beta = tape.input(part(g["beta"], 0, half)),
                       .window = {n, length, c, 0, half},
                       .given = {}});
    if (half < c) {
      parts.push_back({.gamma = tape.input(part(g["gamma"], half, c - half)),
                       .beta = tape.input(part(g["beta"], half, c - half)),
                       .window = {1, n * length, c, half, c - half},
                       .given = {}});
      const Shape one_group{1, c - half};
      if (!g.flag("training"))
        parts.back().given = {g["running_mean_before"].reshape(one_group), g["running_var_before"].reshape(one_group)};
    }
    std::vector<ops::Statistics> seen;
    const Var y = norm_act(x, parts, residual, g.number("eps"), g.flag("relu"), &seen);
    std::vector<std::pair<std::string, Var>> inputs{{"x", x}};
    if (g.has("residual")) inputs.emplace_back("residual", residual);
    check_gradients(g, tape, y, inputs);
    std::vector<Tensor> dgamma, dbeta;
    for (const NormPart& p : parts) dgamma.push_back(tape.gradient(p.gamma)), dbeta.push_back(tape.gradient(p.beta));
    CHECK_MESSAGE(difference(joined(dgamma), g["dgamma"], kTight) == "", g.prefix());
    CHECK_MESSAGE(difference(joined(dbeta), g["dbeta"], kTight) == "", g.prefix());
    if (half < c && g.flag("training")) {  // running = 0.9 running + 0.1 batch, the variance unbiased
      const double count = static_cast<double>(n * length);
      const Shape flat{c - half};
      const Tensor mean = ops::add(ops::scale(g["running_mean_before"], 0.9), seen.back().mean.reshape(flat), 0.1);
      const Tensor variance =
          ops::add(ops::scale(g["running_var_before"], 0.9), seen.back().variance.reshape(flat), 0.1 * count / (count - 1));
      CHECK_MESSAGE(difference(mean, g["running_mean"], kTight) == "", g.prefix());
      CHECK_MESSAGE(difference(variance, g["running_var"], kTight) == "", g.prefix());
    }
  }
}

TEST_CASE("golden: l2_normalize") {
  for (const Golden& g : golden_cases("rows", "l2_normalize")) {
    Tape tape;
    const Var x = tape.input(g["x"]);
    check_gradients(g, tape, l2_normalize(x, g.number("eps")), {{"x", x}});
    CHECK(difference(ops::l2_normalize(g["x"], g.number("eps")).norm, g["norm"], kTight) == "");
  }
}

TEST_CASE("golden: row losses") {
  for (const std::string name : {"one_positive_rows", "softmax_rows", "softmax_rows_smooth"}) {
    const Golden g("rows", name);
    const ops::RowLoss r = name[0] == 'o' ? ops::one_positive_rows(g["s"], g["mask"], g["tau"], g["weight"])
                                          : ops::softmax_rows(g["s"], g["mask"], g["tau"], g["weight"], g.number("smoothing"));
    CHECK_MESSAGE(difference(r.loss, g["loss"], kTight) == "", name);
    CHECK_MESSAGE(difference(r.ds, g["ds"], kTight) == "", name);
  }
}

}  // namespace
}  // namespace reid::test
