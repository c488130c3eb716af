// Optimizer steps and the moving average over flat buffers, f32: bound by memory. Bytes an element: sgd 20, adam 28, ema 12; what a step
// makes behind its update (StepBehind) adds what it writes, and the average what it reads: 8, rounded copies 2 each, a cleared gradient 4.
// Arithmetic is in double, as in the reference: it hides behind the memory, and the two agree bit for bit.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;    // elements a task
constexpr int64_t kInCache = 1 << 11;  // elements that are updated before what stands behind: seven buffers of them are 56 KB

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

void write_behind(const StepBehind& b, const void* weights, void* gradients, int64_t at, int64_t count) {
  const float* w = static_cast<const float*>(weights) + at;
  if (b.rounded) round_to_bf16(w, count, static_cast<bf16*>(b.rounded) + at);
  if (b.average) {
    float* average = static_cast<float*>(b.average) + at;
    ema_range({.average = average, .w = w, .count = count, .momentum = b.momentum});
    if (b.average_rounded) round_to_bf16(average, count, static_cast<bf16*>(b.average_rounded) + at);
  }
  if (b.clear) std::memset(static_cast<float*>(gradients) + at, 0, static_cast<size_t>(count) * sizeof(float));
}

// updater(segment, lr, decay) -> update(first, count): runs it over all trainable segments, and writes behind it.
template <class Args, class F>
void for_each_piece(const Args& a, F&& updater) {
  int64_t extent = 0;
  for (int64_t i = 0; i < a.segment_count; ++i) extent = std::max(extent, a.segments[i].offset + a.segments[i].count);
  const int64_t piece = a.behind.any() ? kInCache : kGrain;
  parallel_for(extent, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < a.segment_count; ++i) {
      const Segment& s = a.segments[i];
      const int64_t first = std::max(begin, s.offset), last = std::min(end, s.offset + s.count);
      if (first >= last || (!s.trainable && !a.behind.any())) continue;
      const auto update = updater(s, a.lr * s.lr_factor, a.decay * s.decay_factor);
      for (int64_t at = first; at < last; at += piece) {
        const int64_t count = std::min(piece, last - at);
        if (s.trainable) update(at, count);
        write_behind(a.behind, a.w, a.g, at, count);
      }
    }
  });
}

void sgd(const SgdArgs& a, Stream&) {
  for_each_piece(a, [&](const Segment&, double lr, double decay) {
    return [&a, lr, decay](int64_t at, int64_t count) {
      sgd_range({.w = static_cast<float*>(a.w) + at,
                 .g = static_cast<const float*>(a.g) + at,
                 .v = static_cast<float*>(a.v) + at,
                 .count = count,
                 .lr = lr,
                 .momentum = a.momentum,
                 .decay = decay,
                 .nesterov = a.nesterov});
    };
  });
}

void adam(const AdamArgs& a, Stream&) {
  for_each_piece(a, [&](const Segment& s, double lr, double decay) {
    const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(s.step));
    const double correction2 = std::sqrt(1 - std::pow(a.beta2, static_cast<double>(s.step)));
    return [&a, lr, decay, correction1, correction2](int64_t at, int64_t count) {
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
    };
  });
}

void ema(const EmaArgs& a, Stream&) {
  parallel_for(a.count, kGrain, [&](int64_t begin, int64_t end, int) {
    ema_range({.average = static_cast<float*>(a.average) + begin,
               .w = static_cast<const float*>(a.w) + begin,
               .count = end - begin,
               .momentum = a.momentum});
  });
}

template <class Op>
void add(void (*run)(const typename Op::Args&, Stream&)) {
  const auto refuses = [](const typename Op::Args& a) { return a.dtype == DType::f32 ? nullptr : "f32 only"; };
  Registry::add<Op>(DeviceType::cpu, {"vectorized", refuses, run});
}

}  // namespace

void register_optim() {
  add<SgdStep>(sgd);
  add<AdamStep>(adam);
  add<EmaUpdate>(ema);
}

}  // namespace reid::cpu
