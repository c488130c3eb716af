// Pointwise ops (f32, bf16) and optimizer steps over flat buffers (f32): bound by memory, one read of each operand and one write.
// Bytes an element in f32: relu 8, relu_backward 12, add_scaled 12, sgd 20, adam 28, ema 12.
// Optimizer arithmetic is in double, as in the reference: it hides behind the memory, and the two agree bit for bit.
// Every loop is compiled for the vectors of the machine (REID_MULTIVERSION); tasks own disjoint ranges.

#include <algorithm>
#include <cmath>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements a task: some 10 us, far above the cost of handing out a task

template <class F>
void for_each_range(int64_t count, F&& f) {
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end, int) { f(begin, end - begin); });
}

// The ranges of one kernel call. `out` may be one of the inputs.
template <class T>
struct Range {
  const T *a, *b;
  T* out;
  int64_t count;
  float scale = 0;
};

template <class T>
REID_BODY relu_range_body(const Range<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    const float x = r.a[i];
    r.out[i] = static_cast<T>(x < 0.0f ? 0.0f : x);
  }
}
REID_MULTIVERSION(relu_range, Range<float>)
REID_MULTIVERSION(relu_range, Range<bf16>)

template <class T>
REID_BODY relu_backward_range_body(const Range<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    const float dy = r.a[i];  // loaded before the choice: a load in one branch keeps the loop from becoming vector code
    r.out[i] = static_cast<T>(r.b[i] > 0.0f ? dy : 0.0f);
  }
}
REID_MULTIVERSION(relu_backward_range, Range<float>)
REID_MULTIVERSION(relu_backward_range, Range<bf16>)

template <class T>
REID_BODY add_scaled_range_body(const Range<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) r.out[i] = static_cast<T>(r.a[i] + r.scale * r.b[i]);
}
REID_MULTIVERSION(add_scaled_range, Range<float>)
REID_MULTIVERSION(add_scaled_range, Range<bf16>)

template <class T>
void relu(const ReluArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    relu_range(Range<T>{.a = static_cast<const T*>(a.x) + at, .b = nullptr, .out = static_cast<T*>(a.y) + at, .count = count});
  });
}

template <class T>
void relu_backward(const ReluBackwardArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    relu_backward_range(Range<T>{
        .a = static_cast<const T*>(a.dy) + at, .b = static_cast<const T*>(a.y) + at, .out = static_cast<T*>(a.dx) + at, .count = count});
  });
}

template <class T>
void add_scaled(const AddScaledArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    add_scaled_range(Range<T>{.a = static_cast<const T*>(a.a) + at,
                              .b = static_cast<const T*>(a.b) + at,
                              .out = static_cast<T*>(a.y) + at,
                              .count = count,
                              .scale = static_cast<float>(a.scale)});
  });
}

template <class T>
struct BiasRow {
  const T* x;
  const float* bias;
  T* y;
  int64_t count;
};
template <class T>
REID_BODY bias_row_body(const BiasRow<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) r.y[i] = static_cast<T>(r.x[i] + r.bias[i]);
}
REID_MULTIVERSION(bias_row, BiasRow<float>)
REID_MULTIVERSION(bias_row, BiasRow<bf16>)

template <class T>
void bias_add(const BiasAddArgs& a, Stream&) {
  const int64_t rows = std::max<int64_t>(1, kGrain / std::max<int64_t>(a.columns, 1));
  parallel_for(a.rows, rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      bias_row(BiasRow<T>{.x = static_cast<const T*>(a.x) + i * a.columns,
                          .bias = static_cast<const float*>(a.bias),
                          .y = static_cast<T*>(a.y) + i * a.columns,
                          .count = a.columns});
    }
  });
}

// Columns are lanes, each summed over the rows in order, in double.
template <class T>
struct ColumnBlock {
  const T* x;
  float* y;
  int64_t rows, stride, count;
};
constexpr int64_t kColumnBlock = 32;

template <class T>
REID_BODY column_block_body(const ColumnBlock<T>& a) {
  double sum[kColumnBlock] = {};
  if (a.count == kColumnBlock) {
    for (int64_t b = 0; b < a.rows; ++b) {
      for (int64_t j = 0; j < kColumnBlock; ++j) sum[j] += double{a.x[b * a.stride + j]};
    }
  } else {
    for (int64_t b = 0; b < a.rows; ++b) {
      for (int64_t j = 0; j < a.count; ++j) sum[j] += double{a.x[b * a.stride + j]};
    }
  }
  for (int64_t j = 0; j < a.count; ++j) a.y[j] = static_cast<float>(sum[j]);
}
REID_MULTIVERSION(column_block, ColumnBlock<float>)
REID_MULTIVERSION(column_block, ColumnBlock<bf16>)

template <class T>
void column_sum(const ColumnSumArgs& a, Stream&) {
  parallel_for(a.columns, kColumnBlock, [&](int64_t begin, int64_t end, int) {
    column_block(ColumnBlock<T>{.x = static_cast<const T*>(a.x) + begin,
                                .y = static_cast<float*>(a.y) + begin,
                                .rows = a.rows,
                                .stride = a.columns,
                                .count = end - begin});
  });
}

// --- optimizers ---

struct SgdRange {
  float* w;
  const float* g;
  float* v;
  int64_t count;
  double lr, momentum, decay;
  bool nesterov;
};
template <bool kNesterov>
REID_BODY sgd_loop(const SgdRange& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    const double weight = double{r.w[i]}, gradient = double{r.g[i]} + r.decay * weight;
    const double velocity = r.momentum * double{r.v[i]} + gradient;
    r.v[i] = static_cast<float>(velocity);
    r.w[i] = static_cast<float>(weight - r.lr * (kNesterov ? gradient + r.momentum * velocity : velocity));
  }
}
REID_BODY sgd_range_body(const SgdRange& r) { r.nesterov ? sgd_loop<true>(r) : sgd_loop<false>(r); }
REID_MULTIVERSION(sgd_range, SgdRange)

struct AdamRange {
  float* w;
  const float* g;
  float *m, *v;
  int64_t count;
  double beta1, beta2, eps;
  double keep;        // weights are multiplied by it first: decoupled decay
  double decay;       // joins the gradient
  double step, root;  // lr over the first moment's bias correction; root of the second's
};
REID_BODY adam_range_body(const AdamRange& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    const double old = double{r.w[i]}, gradient = double{r.g[i]} + r.decay * old;
    const double m = r.beta1 * double{r.m[i]} + (1 - r.beta1) * gradient;
    const double v = r.beta2 * double{r.v[i]} + (1 - r.beta2) * gradient * gradient;
    r.m[i] = static_cast<float>(m);
    r.v[i] = static_cast<float>(v);
    r.w[i] = static_cast<float>(old * r.keep - r.step * m / (__builtin_sqrt(v) / r.root + r.eps));
  }
}
REID_MULTIVERSION(adam_range, AdamRange)

struct EmaRange {
  float* average;
  const float* w;
  int64_t count;
  double momentum;
};
REID_BODY ema_range_body(const EmaRange& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    r.average[i] = static_cast<float>(r.momentum * double{r.average[i]} + (1 - r.momentum) * double{r.w[i]});
  }
}
REID_MULTIVERSION(ema_range, EmaRange)

template <class Args, class F>
void for_each_trainable(const Args& a, F&& f) {
  for (int64_t i = 0; i < a.segment_count; ++i) {
    const Segment& s = a.segments[i];
    if (!s.trainable) continue;
    for_each_range(s.count, [&](int64_t at, int64_t count) { f(s, s.offset + at, count, a.lr * s.lr_factor, a.decay * s.decay_factor); });
  }
}

void sgd(const SgdArgs& a, Stream&) {
  for_each_trainable(a, [&](const Segment&, int64_t at, int64_t count, double lr, double decay) {
    sgd_range({.w = static_cast<float*>(a.w) + at,
               .g = static_cast<const float*>(a.g) + at,
               .v = static_cast<float*>(a.v) + at,
               .count = count,
               .lr = lr,
               .momentum = a.momentum,
               .decay = decay,
               .nesterov = a.nesterov});
  });
}

void adam(const AdamArgs& a, Stream&) {
  for_each_trainable(a, [&](const Segment& s, int64_t at, int64_t count, double lr, double decay) {
    const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(s.step));
    const double correction2 = std::sqrt(1 - std::pow(a.beta2, static_cast<double>(s.step)));
    adam_range({.w = static_cast<float*>(a.w) + at,
                .g = static_cast<const float*>(a.g) + at,
                .m = static_cast<float*>(a.m) + at,
                .v = static_cast<float*>(a.v) + at,
                .count = count,
                .beta1 = a.beta1,
                .beta2 = a.beta2,
                .eps = a.eps,
                .keep = a.decoupled ? 1 - lr * decay : 1,
                .decay = a.decoupled ? 0 : decay,
                .step = lr / correction1,
                .root = correction2});
  });
}

void ema(const EmaArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    ema_range(
        {.average = static_cast<float*>(a.average) + at, .w = static_cast<const float*>(a.w) + at, .count = count, .momentum = a.momentum});
  });
}

template <class Args>
const char* refuses(const Args& args) {
  return args.dtype == DType::f32 ? nullptr : "f32 only";
}

template <class Op>
void add(void (*run)(const typename Op::Args&, Stream&)) {
  Registry::add<Op>(DeviceType::cpu, {"vectorized", refuses<typename Op::Args>, run});
}

}  // namespace

void register_pointwise() {
  add_both<Relu, relu<float>, relu<bf16>>("vectorized");
  add_both<ReluBackward, relu_backward<float>, relu_backward<bf16>>("vectorized");
  add_both<AddScaled, add_scaled<float>, add_scaled<bf16>>("vectorized");
  add_both<BiasAdd, bias_add<float>, bias_add<bf16>>("vectorized");
  add_both<ColumnSum, column_sum<float>, column_sum<bf16>>("vectorized");
  add<SgdStep>(sgd);
  add<AdamStep>(adam);
  add<EmaUpdate>(ema);
}

}  // namespace reid::cpu
