// Reference: optimizer steps and the moving average over flat parameter buffers.

#include <cmath>

#include "reference.h"

namespace reid::cpu {

namespace {

// Calls f(index, segment, lr, decay) for every trainable element.
template <class Args, class F>
void for_each_trainable(const Args& a, F&& f) {
  for (int64_t i = 0; i < a.segment_count; ++i) {
    const Segment& s = a.segments[i];
    if (!s.trainable) continue;
    for (int64_t j = s.offset; j < s.offset + s.count; ++j) f(j, s, a.lr * s.lr_factor, a.decay * s.decay_factor);
  }
}

template <class T>
T moved(double momentum, T average, T w) {
  return static_cast<T>(momentum * double{average} + (1 - momentum) * double{w});
}

// What stands behind a step, of all elements.
template <class T, class Args>
void write_behind(const Args& a) {
  const StepBehind& b = a.behind;
  const T* w = in<T>(a.w);
  for (int64_t i = 0; i < a.segment_count; ++i) {
    for (int64_t j = a.segments[i].offset; j < a.segments[i].offset + a.segments[i].count; ++j) {
      if (b.rounded) out<bf16>(b.rounded)[j] = bf16(static_cast<float>(w[j]));
      if (b.average) out<T>(b.average)[j] = moved(b.momentum, in<T>(b.average)[j], w[j]);
      if (b.average_rounded) out<bf16>(b.average_rounded)[j] = bf16(static_cast<float>(in<T>(b.average)[j]));
      if (b.clear) out<T>(a.g)[j] = 0;
    }
  }
}

template <class T>
void sgd(const SgdArgs& a) {
  T* w = out<T>(a.w);
  T* velocity = out<T>(a.v);
  for_each_trainable(a, [&, g = in<T>(a.g)](int64_t i, const Segment&, double lr, double decay) {
    const double gradient = double{g[i]} + decay * double{w[i]};
    const double v = a.momentum * double{velocity[i]} + gradient;
    velocity[i] = static_cast<T>(v);
    w[i] = static_cast<T>(double{w[i]} - lr * (a.nesterov ? gradient + a.momentum * v : v));
  });
  write_behind<T>(a);
}

template <class T>
void adam(const AdamArgs& a) {
  T* w = out<T>(a.w);
  T* first = out<T>(a.m);
  T* second = out<T>(a.v);
  for_each_trainable(a, [&, g = in<T>(a.g)](int64_t i, const Segment& s, double lr, double decay) {
    const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(s.step));
    const double correction2 = std::sqrt(1 - std::pow(a.beta2, static_cast<double>(s.step)));
    double weight = double{w[i]}, gradient = double{g[i]};
    if (a.decoupled) {
      weight *= 1 - lr * decay;
    } else {
      gradient += decay * weight;
    }
    const double m = a.beta1 * double{first[i]} + (1 - a.beta1) * gradient;
    const double v = a.beta2 * double{second[i]} + (1 - a.beta2) * gradient * gradient;
    first[i] = static_cast<T>(m);
    second[i] = static_cast<T>(v);
    w[i] = static_cast<T>(weight - lr / correction1 * m / (std::sqrt(v) / correction2 + a.eps));
  });
  write_behind<T>(a);
}

template <class T>
void ema(const EmaArgs& a) {
  T* average = out<T>(a.average);
  const T* w = in<T>(a.w);
  for (int64_t i = 0; i < a.count; ++i) average[i] = moved(a.momentum, average[i], w[i]);
}

}  // namespace

void register_reference_optim() {
  REID_REFERENCE(SgdStep, sgd);
  REID_REFERENCE(AdamStep, adam);
  REID_REFERENCE(EmaUpdate, ema);
}

}  // namespace reid::cpu
