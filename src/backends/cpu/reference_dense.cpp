// Reference: matrix product, convolution in its three directions, pointwise ops.

#include "reference.h"
#include "reid/engine/op_args_rate.h"

namespace reid::cpu {

namespace {

template <class T>
void gemm(const GemmArgs& g) {
  const T* a = in<T>(g.a);
  const T* b = in<T>(g.b);
  auto* c = out<Wide<T>>(g.c);
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < g.k; ++l) {
        sum += double{a[g.transpose_a ? l * g.m + i : i * g.k + l]} * double{b[g.transpose_b ? j * g.k + l : l * g.n + j]};
      }
      Wide<T>& target = c[i * g.n + j];
      target = static_cast<Wide<T>>(g.accumulate ? double{target} + sum : sum);
    }
  }
}

template <class T>
void repeated_product(const RepeatedProductArgs& p) {
  for (int64_t e = 0; e < p.tiles * p.m * p.n; ++e) {
    const int64_t i = e / p.n % p.m, j = e % p.n;
    double sum = 0;
    for (int64_t l = 0; l < p.k; ++l) sum += double{in<T>(p.a)[i * p.k + l]} * double{in<T>(p.b)[l * p.n + j]};
    out<Wide<T>>(p.c)[e] = static_cast<Wide<T>>(sum * static_cast<double>(p.rounds));
  }
}

void code_products(const CodeProductsArgs& p) {
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      float total = 0;
      for (int64_t block = 0; block < p.k; block += kCodeBlock) {
        int64_t sum = 0;
        for (int64_t k = block; k < std::min(block + kCodeBlock, p.k); ++k) sum += int64_t{p.a[i * p.k + k]} * p.b[j * p.k + k];
        total += static_cast<float>(sum);
      }
      p.c[i * p.n + j] = total * (p.scale_a[i] * p.scale_b[j]);
    }
  }
}

// Calls f(y index, x index, w index) for every product of the convolution: the three directions differ in what they add up.
template <class F>
void for_each_product(const ConvShape& s, F&& f) {
  const int64_t cg = s.c / s.groups, kg = s.k / s.groups, p_count = s.p(), q_count = s.q();
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t p = 0; p < p_count; ++p) {
      for (int64_t q = 0; q < q_count; ++q) {
        for (int64_t r = 0; r < s.r; ++r) {
          const int64_t h = p * s.stride[0] - s.pad[0] + r * s.dilation[0];
          if (h < 0 || h >= s.h) continue;
          for (int64_t t = 0; t < s.s; ++t) {
            const int64_t w = q * s.stride[1] - s.pad[1] + t * s.dilation[1];
            if (w < 0 || w >= s.w) continue;
            const int64_t x = ((n * s.h + h) * s.w + w) * s.c, y = ((n * p_count + p) * q_count + q) * s.k;
            for (int64_t k = 0; k < s.k; ++k) {
              const int64_t first = (k / kg) * cg, filter = ((k * s.r + r) * s.s + t) * cg;
              for (int64_t c = 0; c < cg; ++c) f(y + k, x + first + c, filter + c);
            }
          }
        }
      }
    }
  }
}

template <class T>
void store(const std::vector<double>& sums, T* target) {
  for (size_t i = 0; i < sums.size(); ++i) target[i] = static_cast<T>(sums[i]);
}

template <class T>
void conv_forward(const ConvForwardArgs& a) {
  const ConvShape& s = a.shape;
  std::vector<double> sums(static_cast<size_t>(s.n * s.p() * s.q() * s.k));
  for_each_product(s, [&, x = in<T>(a.x), w = in<T>(a.w)](int64_t yi, int64_t xi, int64_t wi) {
    sums[static_cast<size_t>(yi)] += double{x[xi]} * double{w[wi]};
  });
  store(sums, out<T>(a.y));
  for (const NormStatisticsArgs& behind : a.statistics) {
    if (behind.x) dispatch<NormStatistics>({}, behind);
  }
  if (a.finish.mean) dispatch<NormApply>({}, a.finishing());
}

template <class T>
void conv_backward_data(const ConvBackwardDataArgs& a) {
  const ConvShape& s = a.shape;
  std::vector<double> sums(static_cast<size_t>(s.n * s.h * s.w * s.c));
  for_each_product(s, [&, dy = in<T>(a.dy), w = in<T>(a.w)](int64_t yi, int64_t xi, int64_t wi) {
    sums[static_cast<size_t>(xi)] += double{dy[yi]} * double{w[wi]};
  });
  for (size_t i = 0; a.addend && i < sums.size(); ++i) sums[i] += double{in<T>(a.addend)[i]};
  for (size_t i = 0; a.norm.x && i < sums.size(); ++i) sums[i] = in<uint8_t>(a.norm.positive)[i / 8] >> i % 8 & 1 ? sums[i] : 0;
  store(sums, out<T>(a.dx));
  if (!a.norm.x) return;
  for (int64_t c = 0; c < s.c; ++c) {
    const double mean = double{in<Wide<T>>(a.norm.mean)[c]};
    double sum = 0, dot = 0;
    for (int64_t i = c; i < s.n * s.h * s.w * s.c; i += s.c) {
      const auto d = double{out<T>(a.dx)[i]};
      sum += d, dot += d * (double{in<T>(a.norm.x)[i]} - mean);
    }
    out<Wide<T>>(a.norm.dbeta)[c] = static_cast<Wide<T>>(sum);
    out<Wide<T>>(a.norm.dgamma)[c] = static_cast<Wide<T>>(dot / std::sqrt(double{in<Wide<T>>(a.norm.variance)[c]} + a.norm.eps));
  }
}

template <class T>
void conv_backward_weight(const ConvBackwardWeightArgs& a) {
  const ConvShape& s = a.shape;
  std::vector<double> sums(static_cast<size_t>(s.k * s.r * s.s * (s.c / s.groups)));
  if (a.accumulate) std::copy_n(in<Wide<T>>(a.dw), sums.size(), sums.begin());
  for_each_product(s, [&, x = in<T>(a.x), dy = in<T>(a.dy)](int64_t yi, int64_t xi, int64_t wi) {
    sums[static_cast<size_t>(wi)] += double{dy[yi]} * double{x[xi]};
  });
  store(sums, out<Wide<T>>(a.dw));
}

template <class T>
void relu(const ReluArgs& a) {
  const T* x = in<T>(a.x);
  T* y = out<T>(a.y);
  for (int64_t i = 0; i < a.count; ++i) y[i] = x[i] < 0 ? T{0} : x[i];  // NaN stays NaN
}

template <class T>
void relu_backward(const ReluBackwardArgs& a) {
  const T* dy = in<T>(a.dy);
  const T* y = in<T>(a.y);
  T* dx = out<T>(a.dx);
  for (int64_t i = 0; i < a.count; ++i) dx[i] = y[i] > 0 ? dy[i] : T{0};
}

template <class T>
void add_scaled(const AddScaledArgs& args) {
  const T* a = in<T>(args.a);
  const T* b = in<T>(args.b);
  T* y = out<T>(args.y);
  const auto scale = static_cast<Wide<T>>(args.scale);
  for (int64_t i = 0; i < args.count; ++i) y[i] = static_cast<T>(a[i] + scale * b[i]);
}

template <class T>
void multiply(const MultiplyArgs& a) {
  for (int64_t i = 0; i < a.count; ++i) out<T>(a.y)[i] = static_cast<T>(in<T>(a.a)[i] * in<T>(a.b)[i]);
}

template <class T>
void bias_add(const BiasAddArgs& a) {
  const T* x = in<T>(a.x);
  const auto* bias = in<Wide<T>>(a.bias);
  T* y = out<T>(a.y);
  for (int64_t i = 0; i < a.rows * a.columns; ++i) y[i] = static_cast<T>(x[i] + bias[i % a.columns]);
}

template <class T>
void column_sum(const ColumnSumArgs& a) {
  const T* x = in<T>(a.x);
  for (int64_t d = 0; d < a.columns; ++d) {
    double sum = 0;
    for (int64_t b = 0; b < a.rows; ++b) sum += double{x[b * a.columns + d]};
    out<Wide<T>>(a.y)[d] = static_cast<Wide<T>>(sum);
  }
}

// Calls f with a value of the type.
template <class F>
void with_floating(DType dtype, F&& f) {
  if (dtype == DType::bf16) return f(bf16{});
  dtype == DType::f32 ? f(float{}) : f(double{});
}

void cast(const CastArgs& a) {
  with_floating(a.from, [&](auto from) {
    with_floating(a.to, [&](auto to) {
      const auto* x = in<decltype(from)>(a.x);
      for (int64_t i = 0; i < a.count; ++i) out<decltype(to)>(a.y)[i] = static_cast<decltype(to)>(x[i]);
    });
  });
}
const char* refuse_integers_in(const CastArgs& a) {
  const char* reason = refuse_integers(a.from);
  return reason ? reason : refuse_integers(a.to);
}

}  // namespace

void register_reference_dense() {
  REID_REFERENCE_BF16(Gemm, gemm);
  REID_REFERENCE_BF16(RepeatedProduct, repeated_product);
  Registry::add<CodeProducts>(DeviceType::cpu, {"reference", nullptr, [](const CodeProductsArgs& p, Stream&) { code_products(p); }});
  REID_REFERENCE_BF16(ConvForward, conv_forward);
  REID_REFERENCE_BF16(ConvBackwardData, conv_backward_data);
  REID_REFERENCE_BF16(ConvBackwardWeight, conv_backward_weight);
  REID_REFERENCE_BF16(Relu, relu);
  REID_REFERENCE_BF16(ReluBackward, relu_backward);
  REID_REFERENCE_BF16(AddScaled, add_scaled);
  REID_REFERENCE_BF16(Multiply, multiply);
  REID_REFERENCE_BF16(BiasAdd, bias_add);
  REID_REFERENCE_BF16(ColumnSum, column_sum);
  Registry::add<Cast>(DeviceType::cpu, {"reference", refuse_integers_in, [](const CastArgs& a, Stream&) { cast(a); }});
}

}  // namespace reid::cpu
