// Matrix product, convolution and pointwise ops: check, allocate, dispatch.

#include "op_checks.h"
#include "reid/engine/ops.h"

namespace reid::ops {

Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b, bool other_sums) {
  const bool matrices = a.shape().rank() == 2 && b.shape().rank() == 2;
  const int64_t k = matrices ? a.dim(transpose_a ? 0 : 1) : 0;
  REID_CHECK(matrices && k == b.dim(transpose_b ? 1 : 0) && a.dtype() == b.dtype(), "[matmul] a ", a.shape(), " ", a.dtype(), ", b ",
             b.shape(), " ", b.dtype(), transpose_a ? ", a transposed" : "", transpose_b ? ", b transposed" : "");
  const int64_t m = a.dim(transpose_a ? 1 : 0), n = b.dim(transpose_b ? 0 : 1);
  Tensor c = Tensor::empty({m, n}, wide(a.dtype()), a.device());
  if (c.numel() == 0) return c;
  dispatch<Gemm>(a.device(), {.a = a.raw(),
                              .b = b.raw(),
                              .c = c.raw(),
                              .m = m,
                              .n = n,
                              .k = k,
                              .transpose_a = transpose_a,
                              .transpose_b = transpose_b,
                              .other_sums = other_sums,
                              .dtype = a.dtype()});
  return c;
}

Tensor code_products(const Tensor& a, const Tensor& b, const Tensor& scale_a, const Tensor& scale_b) {
  const bool rows = a.shape().rank() == 2 && b.shape().rank() == 2 && a.dtype() == DType::i16 && b.dtype() == DType::i16;
  REID_CHECK(rows && a.dim(1) == b.dim(1), "[code_products] a ", a.shape(), " ", a.dtype(), ", b ", b.shape(), " ", b.dtype(),
             "; expected i16 [M, K] and [N, K]");
  require_shape("code_products", "scale_a", scale_a, {a.dim(0)});
  require_shape("code_products", "scale_b", scale_b, {b.dim(0)});
  REID_CHECK(scale_a.dtype() == DType::f32 && scale_b.dtype() == DType::f32, "[code_products] scales are ", scale_a.dtype(), " and ",
             scale_b.dtype(), ", expected f32");
  for (const Tensor& codes : {a, b}) {
    const std::span<const int16_t> all = codes.span<int16_t>();
    for (int64_t i = 0; i < codes.dim(0); ++i) {
      for (int64_t block = 0; block < codes.dim(1); block += kCodeBlock) {
        int64_t squares = 0;
        for (int64_t k = block; k < std::min(block + kCodeBlock, codes.dim(1)); ++k) {
          const int64_t code = all[static_cast<size_t>(i * codes.dim(1) + k)];
          squares += code * code;
        }
        REID_CHECK(squares < int64_t{1} << 31, "[code_products] the squares of codes ", block, "... of row ", i, " add up to ", squares,
                   ", expected less than 2^31");
      }
    }
  }
  Tensor c = Tensor::empty({a.dim(0), b.dim(0)}, DType::f32, a.device());
  if (c.numel() == 0) return c;
  dispatch<CodeProducts>(a.device(), {.a = a.address<int16_t>(),
                                      .b = b.address<int16_t>(),
                                      .scale_a = scale_a.address<float>(),
                                      .scale_b = scale_b.address<float>(),
                                      .c = c.address<float>(),
                                      .m = a.dim(0),
                                      .n = b.dim(0),
                                      .k = a.dim(1)});
  return c;
}

bool fast_code_products() {
  initialize();
  return Registry::implementations<CodeProducts>(DeviceType::cpu).size() > 1;
}

namespace {

ConvShape conv_shape(const char* op, const Shape& x, const Shape& w, const ConvGeometry& g) {
  REID_CHECK(x.rank() == 4 && w.rank() == 4, "[", op, "] x ", x, " and w ", w, " must be [N, H, W, C] and [K, R, S, C/groups]");
  REID_CHECK(g.stride >= 1 && g.dilation >= 1 && g.pad >= 0 && g.groups >= 1, "[", op, "] stride ", g.stride, ", dilation ", g.dilation,
             ", pad ", g.pad, ", groups ", g.groups, ": stride, dilation and groups start at 1, pad at 0");
  REID_CHECK(x[3] % g.groups == 0 && w[0] % g.groups == 0 && w[3] == x[3] / g.groups, "[", op, "] x ", x, ", w ", w, ", groups ", g.groups,
             ": the filters' last extent must be C/groups, and groups divide C and K");
  const ConvShape s{.n = x[0],
                    .h = x[1],
                    .w = x[2],
                    .c = x[3],
                    .k = w[0],
                    .r = w[1],
                    .s = w[2],
                    .stride = {g.stride, g.stride},
                    .pad = {g.pad, g.pad},
                    .dilation = {g.dilation, g.dilation},
                    .groups = g.groups,
                    .other_sums = g.other_sums};
  const bool fits = s.h + 2 * g.pad >= g.dilation * (s.r - 1) + 1 && s.w + 2 * g.pad >= g.dilation * (s.s - 1) + 1;
  REID_CHECK(fits, "[", op, "] filters ", w, " with dilation ", g.dilation, " are larger than the padded input ", x, ", pad ", g.pad);
  return s;
}

Shape output_shape(const ConvShape& s) { return {s.n, s.p(), s.q(), s.k}; }

}  // namespace

Tensor conv_forward(const Tensor& x, const Tensor& w, const ConvGeometry& g) {
  require_same_dtype("conv_forward", x, w);
  const ConvShape s = conv_shape("conv_forward", x.shape(), w.shape(), g);
  Tensor y = Tensor::empty(output_shape(s), x.dtype(), x.device());
  dispatch<ConvForward>(x.device(), {.x = x.raw(), .w = w.raw(), .y = y.raw(), .shape = s, .dtype = x.dtype(), .cache = g.cache});
  return y;
}

Shape conv_output(const Shape& x, const Shape& w, const ConvGeometry& g) { return output_shape(conv_shape("conv_output", x, w, g)); }

ConvStatistics conv_statistics(const Tensor& x, const Tensor& w, const ConvGeometry& g, const std::vector<NormWindow>& windows) {
  require_same_dtype("conv_statistics", x, w);
  REID_CHECK(windows.size() == 1 || windows.size() == 2, "[conv_statistics] takes one or two windows, got ", windows.size());
  const ConvShape s = conv_shape("conv_statistics", x.shape(), w.shape(), g);
  ConvStatistics result{Tensor::empty(output_shape(s), x.dtype(), x.device()), {}};
  const ConvForwardArgs plain{.x = x.raw(), .w = w.raw(), .y = result.y.raw(), .shape = s, .dtype = x.dtype(), .cache = g.cache};
  ConvForwardArgs together = plain;
  for (size_t i = 0; i < windows.size(); ++i) {
    const NormWindow& window = windows[i];
    require_window("conv_statistics", result.y, window);
    const Shape shape{window.groups, window.count};
    const auto wide_tensor = [&] { return Tensor::empty(shape, wide(x.dtype()), x.device()); };
    const Statistics& taken = result.taken.emplace_back(Statistics{wide_tensor(), wide_tensor()});
    together.statistics[i] = {
        .x = result.y.raw(), .mean = taken.mean.raw(), .variance = taken.variance.raw(), .window = window, .dtype = x.dtype()};
  }
  // The fastest convolution, also where it takes no statistics.
  if (Registry::accepts_more<ConvForward>(x.device().type, plain, together)) {
    dispatch<ConvForward>(x.device(), together);
  } else {
    dispatch<ConvForward>(x.device(), plain);
    for (size_t i = 0; i < windows.size(); ++i) dispatch<NormStatistics>(x.device(), together.statistics[i]);
  }
  return result;
}

Tensor conv_norm(const Tensor& x, const Tensor& w, const ConvGeometry& g, const Statistics& s, const Tensor& gamma, const Tensor& beta,
                 const Tensor& residual, double eps, bool relu) {
  require_same_dtype("conv_norm", x, w);
  const ConvShape shape = conv_shape("conv_norm", x.shape(), w.shape(), g);
  for (const auto& [name, given] : {std::pair{"mean", &s.mean}, {"variance", &s.variance}}) {
    require_shape("conv_norm", name, *given, {1, shape.k});
    require_wide("conv_norm", name, *given, x);
  }
  for (const auto& [name, given] : {std::pair{"gamma", &gamma}, {"beta", &beta}}) {
    require_shape("conv_norm", name, *given, {shape.k});
    require_wide("conv_norm", name, *given, x);
  }
  Tensor y = Tensor::empty(output_shape(shape), x.dtype(), x.device());
  if (residual.defined()) require_alike("conv_norm", y, residual);
  const ConvForwardArgs plain{.x = x.raw(), .w = w.raw(), .y = y.raw(), .shape = shape, .dtype = x.dtype(), .cache = g.cache};
  ConvForwardArgs together = plain;
  together.finish = {.mean = s.mean.raw(),
                     .variance = s.variance.raw(),
                     .gamma = gamma.raw(),
                     .beta = beta.raw(),
                     .residual = residual.raw(),
                     .eps = eps,
                     .relu = relu};
  // The fastest convolution, also where it finishes nothing.
  if (Registry::accepts_more<ConvForward>(x.device().type, plain, together)) {
    dispatch<ConvForward>(x.device(), together);
  } else {
    dispatch<ConvForward>(x.device(), plain);
    dispatch<NormApply>(x.device(), together.finishing());
  }
  return y;
}

Tensor conv_backward_data(const Tensor& dy, const Tensor& w, const Shape& x_shape, const ConvGeometry& g, const Tensor* addend,
                          NormBefore* norm) {
  require_same_dtype("conv_backward_data", dy, w);
  const ConvShape s = conv_shape("conv_backward_data", x_shape, w.shape(), g);
  require_shape("conv_backward_data", "dy", dy, output_shape(s));
  Tensor dx = Tensor::empty(x_shape, dy.dtype(), dy.device());
  if (addend) require_alike("conv_backward_data", dx, *addend);
  const ConvBackwardDataArgs plain{.dy = dy.raw(), .w = w.raw(), .dx = dx.raw(), .shape = s, .dtype = dy.dtype()};
  // The fastest convolution, also where it does nothing else.
  const auto accepts = [&](const ConvBackwardDataArgs& fuller) {
    return Registry::accepts_more<ConvBackwardData>(dy.device().type, plain, fuller);
  };
  ConvBackwardDataArgs adding = plain;
  if (addend) adding.addend = addend->raw();
  if (norm) {
    require_alike("conv_backward_data", dx, norm->x);
    require_shape("conv_backward_data", "positive", norm->positive, {s.n * s.h * s.w, s.c / 8});
    for (const auto& [name, given] : {std::pair{"mean", &norm->statistics.mean}, {"variance", &norm->statistics.variance}}) {
      require_shape("conv_backward_data", name, *given, {1, s.c});
      require_wide("conv_backward_data", name, *given, dx);
    }
    ConvBackwardDataArgs taking = adding;
    taking.norm = {.x = norm->x.raw(),
                   .positive = norm->positive.raw(),
                   .mean = norm->statistics.mean.raw(),
                   .variance = norm->statistics.variance.raw(),
                   .dgamma = nullptr,
                   .dbeta = nullptr,
                   .eps = norm->eps};
    if (accepts(taking)) {
      const auto parameter = [&] { return Tensor::empty({s.c}, wide(dx.dtype()), dx.device()); };
      norm->gradients = {parameter(), parameter()};
      taking.norm.dgamma = norm->gradients.gamma.raw(), taking.norm.dbeta = norm->gradients.beta.raw();
      dispatch<ConvBackwardData>(dy.device(), taking);
      return dx;
    }
  }
  if (accepts(adding)) {
    dispatch<ConvBackwardData>(dy.device(), adding);
  } else {
    dispatch<ConvBackwardData>(dy.device(), plain);
    add_into(dx, *addend);
  }
  return dx;
}

Tensor conv_backward_weight(const Tensor& x, const Tensor& dy, const Shape& w_shape, const ConvGeometry& g, const Tensor* sum) {
  require_same_dtype("conv_backward_weight", x, dy);
  const ConvShape s = conv_shape("conv_backward_weight", x.shape(), w_shape, g);
  require_shape("conv_backward_weight", "dy", dy, output_shape(s));
  Tensor dw = Tensor::empty(w_shape, wide(x.dtype()), x.device());
  const ConvBackwardWeightArgs plain{.x = x.raw(), .dy = dy.raw(), .dw = dw.raw(), .shape = s, .dtype = x.dtype()};
  if (sum) {
    require_alike("conv_backward_weight", dw, *sum);
    ConvBackwardWeightArgs adding = plain;
    adding.dw = sum->raw(), adding.accumulate = true;
    // The fastest convolution, also where it adds nothing.
    if (Registry::accepts_more<ConvBackwardWeight>(x.device().type, plain, adding)) {
      dispatch<ConvBackwardWeight>(x.device(), adding);
      return {};
    }
  }
  dispatch<ConvBackwardWeight>(x.device(), plain);
  return dw;
}

Tensor relu(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch<Relu>(x.device(), {.x = x.raw(), .y = y.raw(), .count = x.numel(), .dtype = x.dtype()});
  return y;
}

Tensor relu_backward(const Tensor& dy, const Tensor& y) {
  require_alike("relu_backward", dy, y);
  Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
  dispatch<ReluBackward>(y.device(), {.dy = dy.raw(), .y = y.raw(), .dx = dx.raw(), .count = y.numel(), .dtype = y.dtype()});
  return dx;
}

namespace {

void add_scaled(const Tensor& a, const Tensor& b, double scale, const Tensor& y) {
  require_alike("add", a, b);
  dispatch<AddScaled>(a.device(), {.a = a.raw(), .b = b.raw(), .y = y.raw(), .scale = scale, .count = a.numel(), .dtype = a.dtype()});
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b, double scale) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  add_scaled(a, b, scale, y);
  return y;
}

void add_into(const Tensor& a, const Tensor& b, double scale) { add_scaled(a, b, scale, a); }
void add_pairs(const std::vector<std::pair<Tensor, Tensor>>& pairs) {
  constexpr size_t kMost = AddPairsArgs::kMost;
  for (size_t first = 0; first < pairs.size(); first += kMost) {
    AddPairsArgs args{.pairs = {}, .number = 0, .dtype = pairs[0].first.dtype()};
    for (size_t i = first; i < std::min(first + kMost, pairs.size()); ++i) {
      const Tensor &to = pairs[i].first, &from = pairs[i].second;
      require_alike("add_pairs", to, from);
      REID_CHECK(to.dtype() == args.dtype && to.device() == pairs[0].first.device(), "[add_pairs] takes tensors of one dtype and device");
      const auto taken = [&](const AddPair& other) { return other.to == to.raw(); };
      REID_CHECK(std::none_of(args.pairs, args.pairs + args.number, taken), "[add_pairs] two pairs add to the same elements");
      args.pairs[args.number++] = {to.raw(), from.raw(), to.numel()};
    }
    dispatch<AddPairs>(pairs[0].first.device(), args);
  }
}

Tensor scale(const Tensor& x, double factor) { return add(Tensor::zeros(x.shape(), x.dtype(), x.device()), x, factor); }

Tensor scale(const Tensor& x, const Tensor& scalar, double factor) {
  REID_CHECK(scalar.numel() == 1, "[scale] the factor is ", scalar.shape(), ", expected one element");
  if (x.device().type == DeviceType::cpu) {
    const double all = factor * scalar.item();
    return all == 1 ? x : scale(x, all);
  }
  return matmul(x.reshape({x.numel(), 1}), (factor == 1 ? scalar : scale(scalar, factor)).reshape({1, 1})).reshape(x.shape());
}

Tensor multiply(const Tensor& a, const Tensor& b) {
  require_alike("multiply", a, b);
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  dispatch<Multiply>(a.device(), {.a = a.raw(), .b = b.raw(), .y = y.raw(), .count = a.numel(), .dtype = a.dtype()});
  return y;
}

Tensor bias_add(const Tensor& x, const Tensor& bias) {
  require_wide("bias_add", "bias", bias, x);
  REID_CHECK(x.shape().rank() == 2, "[bias_add] x ", x.shape(), " must be [B, D]");
  require_shape("bias_add", "bias", bias, {x.dim(1)});
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch<BiasAdd>(x.device(),
                    {.x = x.raw(), .bias = bias.raw(), .y = y.raw(), .rows = x.dim(0), .columns = x.dim(1), .dtype = x.dtype()});
  return y;
}

Tensor column_sum(const Tensor& x) {
  REID_CHECK(x.shape().rank() == 2, "[column_sum] x ", x.shape(), " must be [B, D]");
  Tensor y = Tensor::empty({x.dim(1)}, wide(x.dtype()), x.device());
  dispatch<ColumnSum>(x.device(), {.x = x.raw(), .y = y.raw(), .rows = x.dim(0), .columns = x.dim(1), .dtype = x.dtype()});
  return y;
}

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  dispatch<Cast>(x.device(), {.x = x.raw(), .y = y.raw(), .count = x.numel(), .from = x.dtype(), .to = dtype});
  return y;
}

Tensor sum(const Tensor& x) { return column_sum(x.reshape({x.numel(), 1})).reshape(Shape{}); }

}  // namespace reid::ops
