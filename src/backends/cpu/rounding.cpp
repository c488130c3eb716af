#include "backends/cpu/rounding.h"

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements a task

template <class From, class To>
struct Run {
  const From* x;
  To* y;
  int64_t count;
};
template <class From, class To>
REID_BODY convert_body(const Run<From, To>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) r.y[i] = static_cast<To>(r.x[i]);
}
using Widening = Run<bf16, float>;
using Rounding = Run<float, bf16>;
REID_MULTIVERSION(convert, Widening)
REID_MULTIVERSION(convert, Rounding)

template <class From, class To>
void cast_as(const CastArgs& a) {
  parallel_for(a.count, kGrain, [&](int64_t begin, int64_t end, int) {
    convert(Run<From, To>{.x = static_cast<const From*>(a.x) + begin, .y = static_cast<To*>(a.y) + begin, .count = end - begin});
  });
}

void cast(const CastArgs& a, Stream&) { a.to == DType::bf16 ? cast_as<float, bf16>(a) : cast_as<bf16, float>(a); }

const char* refuses(const CastArgs& a) {
  const bool narrows = a.from == DType::f32 && a.to == DType::bf16, widens = a.from == DType::bf16 && a.to == DType::f32;
  return narrows || widens ? nullptr : "between f32 and bf16 only";
}

}  // namespace

void widen(const bf16* x, int64_t count, float* y) { convert(Widening{.x = x, .y = y, .count = count}); }
void round_to_bf16(const float* x, int64_t count, bf16* y) { convert(Rounding{.x = x, .y = y, .count = count}); }

void register_cast() { Registry::add<Cast>(DeviceType::cpu, {"vectorized", refuses, cast}); }

}  // namespace reid::cpu
