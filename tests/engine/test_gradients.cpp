// Every differentiable function against central differences in double: h = 1e-5, a random cotangent, inputs away from kinks.

#include "harness.h"

namespace reid::test {
namespace {

using Function = std::function<Var(const std::vector<Var>&)>;

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (size_t i = 0; i < a.span<double>().size(); ++i) sum += a.span<double>()[i] * b.span<double>()[i];
  return sum;
}

// Compares d<f(inputs), cotangent> element by element; relative to each input's largest derivative.
void check(const std::string& name, const std::vector<Tensor>& inputs, const Function& f) {
  Tape tape;
  std::vector<Var> leaves;
  for (const Tensor& t : inputs) leaves.push_back(tape.input(t.clone()));
  const Var y = f(leaves);
  const Tensor cotangent = normal_tensor(name + " cotangent", y.shape());
  tape.backward(y, cotangent);
  constexpr double h = 1e-5;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensor numeric = Tensor::empty(inputs[i].shape(), DType::f64);
    for (size_t j = 0; j < numeric.span<double>().size(); ++j) {
      double side[2];
      for (const int sign : {-1, 1}) {
        std::vector<Var> moved;
        for (size_t k = 0; k < inputs.size(); ++k) moved.emplace_back(k == i ? inputs[k].clone() : inputs[k]);
        moved[i].value().span<double>()[j] += sign * h;
        side[sign > 0] = dot(f(moved).value(), cotangent);
      }
      numeric.span<double>()[j] = (side[1] - side[0]) / (2 * h);
    }
    CHECK_MESSAGE(difference(tape.gradient(leaves[i]), numeric, 1e-6) == "", name, ", input ", i);
  }
}

// Normal numbers, none of which is within 0.05 of zero.
Tensor away_from_zero(const std::string& name, Shape shape) {
  Tensor t = normal_tensor(name, shape);
  for (double& v : t.span<double>()) v += v < 0 ? -0.05 : 0.05;
  return t;
}

// A shuffled ladder: no two elements within 0.1 of each other, so that maxima are unique.
Tensor ladder(const std::string& name, Shape shape) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1 * static_cast<double>(i);
  Rng(2).at(name).shuffle(values);
  return Tensor::from(values, shape);
}

TEST_CASE("gradients: products") {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const Shape a = ta ? Shape{5, 3} : Shape{3, 5}, b = tb ? Shape{4, 5} : Shape{5, 4};
      check(str("matmul ", ta, tb), {normal_tensor("a", a), normal_tensor("b", b)},
            [=](const auto& v) { return matmul(v[0], v[1], ta, tb); });
    }
  }
  check("matmul of one value twice", {normal_tensor("a", {4, 3})}, [](const auto& v) { return matmul(v[0], v[0], false, true); });
  check("linear", {normal_tensor("x", {3, 4}), normal_tensor("w", {2, 4}), normal_tensor("b", {2})},
        [](const auto& v) { return linear(v[0], v[1], v[2]); });
  check("linear without bias", {normal_tensor("x", {3, 4}), normal_tensor("w", {2, 4})},
        [](const auto& v) { return linear(v[0], v[1], Var()); });
}

TEST_CASE("gradients: convolution") {
  const auto run = [](const std::string& name, Shape x, Shape w, ops::ConvGeometry g) {
    check(name, {normal_tensor("x", x), normal_tensor("w", w)}, [=](const auto& v) { return conv(v[0], v[1], g); });
  };
  run("conv 1x1", {2, 3, 4, 3}, {2, 1, 1, 3}, {});
  run("conv 1x1 stride 2", {1, 5, 4, 3}, {2, 1, 1, 3}, {.stride = 2});
  run("conv 3x3", {2, 4, 3, 2}, {3, 3, 3, 2}, {.pad = 1});
  run("conv 3x3 stride 2", {1, 6, 5, 2}, {2, 3, 3, 2}, {.stride = 2, .pad = 1});
  run("conv dilated", {1, 6, 6, 2}, {2, 3, 3, 2}, {.pad = 2, .dilation = 2});
  run("conv grouped", {1, 4, 4, 4}, {4, 3, 3, 2}, {.pad = 1, .groups = 2});
}

TEST_CASE("gradients: normalization") {
  const int64_t n = 3, l = 6, c = 4;
  const Tensor x = normal_tensor("norm x", {n, 2, 3, c}), residual = normal_tensor("norm r", {n, 2, 3, c});
  const Tensor gamma = away_from_zero("gamma", {c}), beta = normal_tensor("beta", {c});
  const NormWindow whole{1, n * l, c, 0, c}, each{n, l, c, 0, c};
  const auto one = [](NormWindow window, bool relu, bool add_residual, ops::Statistics given = {}) {
    return [=](const std::vector<Var>& v) {
      return norm_act(v[0], {{.gamma = v[1], .beta = v[2], .window = window, .given = given}}, add_residual ? v[3] : Var(), 1e-5, relu);
    };
  };
  check("batch norm", {x, gamma, beta}, one(whole, false, false));
  check("batch norm, relu", {x, gamma, beta}, one(whole, true, false));
  check("batch norm, residual, relu", {x, gamma, beta, residual}, one(whole, true, true));
  check("batch norm, residual", {x, gamma, beta, residual}, one(whole, false, true));
  check("instance norm, relu", {x, gamma, beta}, one(each, true, false));
  const ops::Statistics running{normal_tensor("mean", {1, c}), Tensor::full({1, c}, 1.5, DType::f64)};
  check("running statistics, relu", {x, gamma, beta, residual}, one(whole, true, true, running));
  const Tensor g0 = away_from_zero("g0", {1}), b0 = normal_tensor("b0", {1}), g1 = away_from_zero("g1", {3}), b1 = normal_tensor("b1", {3});
  check("ibn, residual, relu", {x, g0, b0, g1, b1, residual}, [=](const std::vector<Var>& v) {
    return norm_act(v[0],
                    {{.gamma = v[1], .beta = v[2], .window = {n, l, c, 0, 1}, .given = {}},
                     {.gamma = v[3], .beta = v[4], .window = {1, n * l, c, 1, 3}, .given = {}}},
                    v[5], 1e-5, true);
  });
  const auto ibn = [=](int64_t images, int64_t groups, const ops::Statistics& given) {
    return [=](const std::vector<Var>& v) {
      return norm_act(v[0],
                      {{.gamma = v[1], .beta = v[2], .window = {images, l, c, 0, 1}, .given = {}},
                       {.gamma = v[3], .beta = v[4], .window = {groups, images / groups * l, c, 1, 3}, .given = given}},
                      Var(), 1e-5, true);
    };
  };
  const ops::Statistics known{normal_tensor("mean", {1, 3}), Tensor::full({1, 3}, 1.5, DType::f64)};
  check("ibn, relu, running statistics of its batch norm", {x, g0, b0, g1, b1}, ibn(n, 1, known));
  check("ibn, relu, two domains", {normal_tensor("norm 4", {4, 2, 3, c}), g0, b0, g1, b1}, ibn(4, 2, {}));
  // Groups of images: two domains in one batch, each with statistics of its own.
  const Tensor four = normal_tensor("norm four", {4, 2, 2, c});
  check("grouped batch norm", {four, gamma, beta}, one({2, 8, c, 0, c}, false, false));
}

TEST_CASE("gradients: pointwise and sums") {
  const Tensor x = away_from_zero("x", {3, 5}), y = normal_tensor("y", {3, 5});
  check("relu", {x}, [](const auto& v) { return relu(v[0]); });
  check("add", {x, y}, [](const auto& v) { return add(v[0], v[1], -0.7); });
  check("add of one value twice", {x}, [](const auto& v) { return add(v[0], v[0], 2); });
  check("scale", {x}, [](const auto& v) { return scale(v[0], 1.7); });
  check("sum", {x}, [](const auto& v) { return sum(v[0]); });
}

TEST_CASE("gradients: pooling") {
  const Tensor x = ladder("pool", {2, 6, 5, 3});
  check("max_pool", {x}, [](const auto& v) { return max_pool(v[0], {}); });
  check("max_pool ceil", {x}, [](const auto& v) { return max_pool(v[0], {.kernel = 3, .stride = 2, .pad = 0, .ceil = true}); });
  check("global_average_pool", {x}, [](const auto& v) { return global_average_pool(v[0]); });
  Tensor positive = normal_tensor("gem", {2, 3, 3, 2});
  for (double& v : positive.span<double>()) v = v > 0 ? v + 0.1 : v;
  check("gem_pool", {positive, Tensor::from(std::vector<double>{3.0})}, [](const auto& v) { return gem_pool(v[0], v[1], 1e-2); });
}

TEST_CASE("gradients: rows") {
  const Tensor x = normal_tensor("rows", {4, 5});
  check("l2_normalize", {x}, [](const auto& v) { return l2_normalize(v[0]); });
  check("l2_normalize, all shorter than eps", {x}, [](const auto& v) { return l2_normalize(v[0], 50); });
  const std::vector<uint8_t> mask{1, 2, 2, 0, 1, 2, 1, 2, 0, 2, 1, 1, 2, 2, 2, 0, 2, 2, 2, 2};
  const Tensor kinds = Tensor::from(mask, Shape{4, 5});
  const Tensor tau = Tensor::from(std::vector<double>{0.3, 0.5, 0.7, 1}), weight = Tensor::from(std::vector<double>{1, 0.5, 0.25, 2});
  check("one_positive_rows", {x}, [&](const auto& v) { return one_positive_rows(v[0], kinds, tau, weight); });
  check("softmax_rows", {x}, [&](const auto& v) { return softmax_rows(v[0], kinds, tau, weight); });
  check("softmax_rows, smoothed", {x}, [&](const auto& v) { return softmax_rows(v[0], kinds, tau, weight, 0.2); });
  const Tensor own = Tensor::from(std::vector<int32_t>{4, 0, 5, 2});
  check("softmax_rows, smoothed, by labels", {x}, [&](const auto& v) { return softmax_rows(v[0], own, tau, weight, 0.2); });
  const Tensor c = normal_tensor("centroids", {6, 5}), labels = Tensor::from(std::vector<int32_t>{1, 2, 1, 0, 2, 1});
  const ops::CentroidRowSettings settings{.label = Tensor::from(std::vector<int32_t>{1, 2, 0, 7}),
                                          .first = Tensor::from(std::vector<int32_t>{0, 1, 2, 0}),
                                          .end = Tensor::from(std::vector<int32_t>{6, 5, 6, 6}),
                                          .tau = tau,
                                          .weight = weight};
  check("centroid_rows", {x}, [&](const auto& v) { return centroid_rows(v[0], c, settings, labels); });
  check("centroid_rows, smoothed, by number", {x}, [&](const auto& v) { return centroid_rows(v[0], c, settings, {}, 0.2); });
}

TEST_CASE("gradients: metric learning") {
  const Tensor x = normal_tensor("metric", {6, 3});
  check("row_distances", {x}, [](const auto& v) { return row_distances(v[0]); });
  check("row_distances, a floor under all", {x}, [](const auto& v) { return row_distances(v[0], 1e3); });
  std::vector<uint8_t> mask;
  for (int i = 0; i < 36; ++i) mask.push_back(i / 6 / 3 == i % 6 / 3 ? kPositive : kNegative);
  mask[4] = kIgnored;
  const Tensor kinds = Tensor::from(mask, Shape{6, 6}), weight = Tensor::from(std::vector<double>{1, 0.5, 2, 0, 1, 1});
  for (const bool weighted : {false, true}) {
    for (const double margin : {0.0, 0.3, 3.0})
      check("triplet_rows", {x}, [&](const auto& v) { return triplet_rows(row_distances(v[0]), kinds, weight, margin, weighted); });
  }
  const Tensor logits = normal_tensor("logits", {3, 4}), target = ops::softmax(normal_tensor("target", {3, 4}));
  const Tensor three = Tensor::from(std::vector<double>{1, 0.5, 0});
  check("soft_target_rows", {logits}, [&](const auto& v) { return soft_target_rows(v[0], target, three); });
  check("soft_target_rows, targets of another sum", {logits},
        [&](const auto& v) { return soft_target_rows(v[0], ops::scale(target, 2.5), three); });
  check("rows", {logits}, [](const auto& v) { return rows(v[0], 1, 3); });
  const Tensor maps = normal_tensor("maps", {2, 5, 2, 3});
  for (const int64_t stripes : {1, 2, 3, 5}) check("stripe_pool", {maps}, [=](const auto& v) { return stripe_pool(v[0], stripes); });
  const Tensor pixels = normal_tensor("pixels", {2, 3, 2, 3});
  check("non_local", {pixels, normal_tensor("phi", {2, 3, 2, 3}), normal_tensor("g", {2, 3, 2, 3})},
        [](const auto& v) { return non_local(v[0], v[1], v[2]); });
  check("bias_add", {pixels, normal_tensor("bias", {3})}, [](const auto& v) { return bias_add(v[0], v[1]); });
  // The factor of a circle is a constant, so differences of the function are not its gradient: those of the factor's bracket are.
  const Tensor s = normal_tensor("cosines", {2, 3}, DType::f64, 0.4), label = Tensor::from(std::vector<int32_t>{2, 0});
  const ops::CircleLogitsResult circle = ops::circle_logits(s, label, 64, 0.35);
  Tape tape;
  const Var leaf = tape.input(s.clone());
  tape.backward(sum(circle_logits(leaf, label, 64, 0.35)));
  CHECK(difference(tape.gradient(leaf), circle.slope, 0).empty());
  for (int64_t i = 0; i < 6; ++i) {
    const bool own = i == 2 || i == 3;
    const double v = s.data<double>()[i], factor = 64 * std::max(0.0, own ? 1.35 - v : v + 0.35);
    CHECK(circle.slope.data<double>()[i] == doctest::Approx(factor).epsilon(1e-14));
    CHECK(circle.y.data<double>()[i] == doctest::Approx(factor * (own ? v - 0.65 : v - 0.35)).epsilon(1e-14));
  }
}

TEST_CASE("gradients: a function of a function, one value used three times") {
  check("composite", {away_from_zero("c", {4, 4})}, [](const auto& v) {
    const Var a = matmul(relu(v[0]), v[0]);
    return sum(add(l2_normalize(a), scale(v[0], 0.5)));
  });
}

}  // namespace
}  // namespace reid::test
