// Convolutions as products of matrices whose image operand is gathered while it is packed (implicit GEMM), NHWC, one group, in f32,
// in bf16 that is widened while it is packed, or in pairs of bf16 where the processor multiplies them.
//
//   forward   y[npq, k]   = sum_{rsc}  x(npq, rsc) * w[k, rsc]        M = N P Q pixels, N = K, K = R S C
//   data      dx[nhw, c]  = sum_{rsk} dy(nhw, rsk) * w[k, rs, c]      M = N H W pixels, N = C, K = R S K
//   weight    dw[k, rsc]  = sum_{npq} dy[npq, k] * x(npq, rsc)        M = K, N = R S C, K = N P Q pixels, split (multiply_split)
//
// x(...) and dy(...) are rows of Patches. Each of the three does 2 N P Q K R S C flops. Weights are packed once a call: their
// bytes, twice. Activations are packed once for each block of rows and k: R * S times the bytes of the image, from cache after
// the first tap, a few percent of the time from 64 output channels on.
// A pixel of y or dx is a sum in fixed order over its own patch, so it does not depend on the batch around it.
//
// Data gradient with a stride: pixel h receives from the taps r with (h + pad - r * dilation) a multiple of the stride. All
// pixels of one phase (h mod stride, w mod stride) share these taps, and for them the gather is one of step 1 again: the
// gradient is stride^2 dense products without any multiplication by inserted zeros. A phase no tap reaches is set to zero.

#include <algorithm>
#include <vector>

#include "backends/cpu/fast.h"
#include "backends/cpu/gemm.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/packing.h"
#include "backends/cpu/rounding.h"
#if defined(__x86_64__)
#include "backends/cpu/x86/pairs.h"
#include "backends/cpu/x86/parts.h"
#endif
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

// Input offsets of the taps of one axis, relative to output position * stride.
std::vector<int64_t> tap_offsets(int64_t taps, int64_t dilation, int64_t pad) {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < taps; ++i) offsets.push_back(i * dilation - pad);
  return offsets;
}

Patches input_patches(const void* x, DType dtype, const ConvShape& s) {
  return Patches({.data = x, .dtype = dtype, .h = s.h, .w = s.w, .c = s.c},
                 {.p = s.p(), .q = s.q(), .step_y = s.stride[0], .step_x = s.stride[1]}, tap_offsets(s.r, s.dilation[0], s.pad[0]),
                 tap_offsets(s.s, s.dilation[1], s.pad[1]));
}

// Pixels of a 1x1 convolution are rows of the image itself.
bool is_pointwise(const ConvShape& s) {
  return s.r == 1 && s.s == 1 && s.stride[0] == 1 && s.stride[1] == 1 && s.pad[0] == 0 && s.pad[1] == 0;
}

// Where rows [.., channels] are read in place: they are then whole units.
template <class Panels>
const float* in_place(const MicroKernel& kernel, const ConvShape& s, int64_t channels, const void* rows) {
  const bool whole = Panels::kReadInPlace && units_of<Panels>(kernel, channels) * Panels::kValues == channels * Panels::kUnits;
  return whole && is_pointwise(s) ? static_cast<const float*>(rows) : nullptr;
}

template <const MicroKernel& (*kKernel)(), class Panels>
void forward(const ConvForwardArgs& args, Stream& stream) {
  using T = typename Panels::Value;
  const MicroKernel& kernel = kKernel();
  const ConvShape& s = args.shape;
  const Patches patches = input_patches(args.x, args.dtype, s);
  const auto* w = static_cast<const T*>(args.w);
  auto* y = static_cast<T*>(args.y);
  const int64_t width = patches.width();
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    Panels::a_patches(kernel, patches, row, rows, depth_range<Panels>(k, depth, width), panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    Panels::b_columns(kernel, w + column * width, width, columns, depth_range<Panels>(k, depth, width), panels, panel);
  };
  const auto row_of = [&](int64_t i) { return y + i * s.k; };
  const Behind behind(args);
  multiply(kernel,
           {.m = s.n * s.p() * s.q(),
            .n = s.k,
            .k = units_of<Panels>(kernel, width),
            .a_by_depth = false,
            .accumulate = false,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = row_of,
            .a = in_place<Panels>(kernel, s, s.c, args.x),
            .cache = args.cache,
            .weights = args.w,
            .behind = behind.any() ? &behind : nullptr,
            .narrow = args.dtype == DType::bf16},
           stream);
  behind.complete();
}

// The taps of one axis that reach the input positions phase, phase + stride, ..., by growing offset into dy.
struct PhaseTaps {
  std::vector<int64_t> taps, offsets;
};
PhaseTaps phase_taps(int64_t phase, int64_t taps, int64_t stride, int64_t dilation, int64_t pad) {
  PhaseTaps result;
  for (int64_t tap = taps - 1; tap >= 0; --tap) {
    const int64_t distance = phase + pad - tap * dilation;
    if (distance % stride != 0) continue;
    result.taps.push_back(tap);
    result.offsets.push_back(distance / stride);
  }
  return result;
}

template <class Panels>
void backward_data_phase(const MicroKernel& kernel, const ConvBackwardDataArgs& args, int64_t top, int64_t left, Stream& stream) {
  using T = typename Panels::Value;
  const ConvShape& s = args.shape;
  const PhaseTaps down = phase_taps(top, s.r, s.stride[0], s.dilation[0], s.pad[0]);
  const PhaseTaps across = phase_taps(left, s.s, s.stride[1], s.dilation[1], s.pad[1]);
  const int64_t rows_here = (s.h - top + s.stride[0] - 1) / s.stride[0], columns_here = (s.w - left + s.stride[1] - 1) / s.stride[1];
  const Patches patches({.data = args.dy, .dtype = args.dtype, .h = s.p(), .w = s.q(), .c = s.k},
                        {.p = rows_here, .q = columns_here, .step_y = 1, .step_x = 1}, down.offsets, across.offsets);
  const int64_t width = patches.width();
  const auto* w = static_cast<const T*>(args.w);
  auto* dx = static_cast<T*>(args.dx);
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    Panels::a_patches(kernel, patches, row, rows, depth_range<Panels>(k, depth, width), panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    const DepthRange range = depth_range<Panels>(k, depth, width);
    for (int64_t unit = 0; unit < depth;) {  // runs of one tap: its channels k lie R * S * C apart
      const int64_t value = range.first + values_of<Panels>(unit), at = value / s.k, channel = value % s.k;
      const int64_t here = std::min(range.first + range.values - value, s.k - channel);
      const int64_t units = value + here == range.first + range.values ? depth - unit : here / Panels::kValues * Panels::kUnits;
      const auto taps_across = static_cast<int64_t>(across.taps.size());
      const int64_t r = down.taps[static_cast<size_t>(at / taps_across)], c = across.taps[static_cast<size_t>(at % taps_across)];
      Panels::b_rows(kernel, w + (r * s.s + c) * s.c + column, s.r * s.s * s.c, columns, {channel, here, units},
                     panels + unit * kernel.columns, panel);
      unit += units;
    }
  };
  const auto row_of = [&](int64_t i) {
    const int64_t x = i % columns_here, y = i / columns_here % rows_here, n = i / columns_here / rows_here;
    return dx + ((n * s.h + top + y * s.stride[0]) * s.w + left + x * s.stride[1]) * s.c;
  };
  multiply(kernel,
           {.m = s.n * rows_here * columns_here,
            .n = s.c,
            .k = units_of<Panels>(kernel, width),
            .a_by_depth = false,
            .accumulate = false,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = row_of,
            .a = in_place<Panels>(kernel, s, s.k, args.dy),
            .even = s.stride[0] == 1 && s.stride[1] == 1,
            .narrow = args.dtype == DType::bf16},
           stream);
}

template <const MicroKernel& (*kKernel)(), class Panels>
void backward_data(const ConvBackwardDataArgs& args, Stream& stream) {
  const ConvShape& s = args.shape;
  for (int64_t top = 0; top < std::min(s.stride[0], s.h); ++top) {
    for (int64_t left = 0; left < std::min(s.stride[1], s.w); ++left) backward_data_phase<Panels>(kKernel(), args, top, left, stream);
  }
}

template <const MicroKernel& (*kKernel)(), class Panels>
void backward_weight(const ConvBackwardWeightArgs& args, Stream& stream) {
  using T = typename Panels::Value;
  const MicroKernel& kernel = kKernel();
  const ConvShape& s = args.shape;
  const auto* x = static_cast<const T*>(args.x);
  const Patches patches = input_patches(x, args.dtype, s);
  const auto* dy = static_cast<const T*>(args.dy);
  const int64_t pixels = s.n * s.p() * s.q();
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    Panels::a_columns(kernel, dy + row, s.k, rows, depth_range<Panels>(k, depth, pixels), panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    const DepthRange range = depth_range<Panels>(k, depth, pixels);
    is_pointwise(s) ? Panels::b_rows(kernel, x + column, s.c, columns, range, panels, panel)
                    : Panels::b_patches(kernel, patches, column, columns, range, panels, panel);
  };
  const auto no_row = [](int64_t) -> void* { return nullptr; };
  multiply_split(kernel,
                 {.m = s.k,
                  .n = patches.width(),
                  .k = units_of<Panels>(kernel, pixels),
                  .a_by_depth = Panels::kByDepth,
                  .accumulate = false,
                  .pack_a = pack_a,
                  .pack_b = pack_b,
                  .row = no_row},
                 static_cast<float*>(args.dw), stream);
}

template <class Args>
const char* refuses(const Args& args) {
  if (const char* reason = refuse_addend(args)) return reason;
  return args.shape.groups == 1 ? refuse_wider(args.dtype) : "groups == 1 only";
}

template <const MicroKernel& (*kKernel)()>
void add(const char* name) {
  using F32 = FloatPanels<float>;
  using Bf16 = FloatPanels<bf16>;
  add_both<ConvForward, forward<kKernel, F32>, forward<kKernel, Bf16>>(name, refuses);
  add_both<ConvBackwardData, backward_data<kKernel, F32>, backward_data<kKernel, Bf16>>(name, refuses);
  add_both<ConvBackwardWeight, backward_weight<kKernel, F32>, backward_weight<kKernel, Bf16>>(name, refuses);
}

#if defined(__x86_64__)
template <class Args>
const char* refuses_pairs(const Args& args) {
  if (const char* reason = refuse_addend(args)) return reason;
  if (args.dtype != DType::bf16) return "bf16 only";
  return args.shape.groups == 1 ? nullptr : "groups == 1 only";
}
const char* refuses_pairs_of_taps(const ConvBackwardDataArgs& args) {
  return args.shape.k % 2 == 0 ? refuses_pairs(args) : "an even number of output channels only";
}
template <const MicroKernel& (*kKernel)()>
void add_pairs(const char* name) {
  Registry::add<ConvForward>(DeviceType::cpu, {name, refuses_pairs, forward<kKernel, PairPanels>});
  Registry::add<ConvBackwardData>(DeviceType::cpu, {name, refuses_pairs_of_taps, backward_data<kKernel, PairPanels>});
  Registry::add<ConvBackwardWeight>(DeviceType::cpu, {name, refuses_pairs, backward_weight<kKernel, PairPanels>});
}

// Floats in parts: other sums than the definition's.
template <class Args>
const char* refuses_parts(const Args& args) {
  if (const char* reason = refuse_addend(args)) return reason;
  if (args.dtype != DType::f32) return "f32 only";
  if (!args.shape.other_sums) return "the definition's sums are asked for";
  if (args.shape.groups != 1) return "groups == 1 only";
  return args.shape.c < PartPanels::kValues ? "32 input channels and more: it gains nothing with fewer" : nullptr;
}
const char* refuses_parts_of_taps(const ConvBackwardDataArgs& args) {
  return args.shape.k % PartPanels::kValues == 0 ? refuses_parts(args) : "output channels in multiples of 32 only";
}
void add_parts(const char* name) {
  Registry::add<ConvForward>(DeviceType::cpu, {name, refuses_parts, forward<amx_parts_kernel, PartPanels>});
  Registry::add<ConvBackwardData>(DeviceType::cpu, {name, refuses_parts_of_taps, backward_data<amx_parts_kernel, PartPanels>});
  Registry::add<ConvBackwardWeight>(DeviceType::cpu, {name, refuses_parts, backward_weight<amx_parts_kernel, PartPanels>});
}
#endif

}  // namespace

void register_conv_pairs() {
#if defined(__x86_64__)
  if (supports(Isa::amx)) add_pairs<amx_kernel>("implicit_gemm_amx");
#endif
}

void register_conv() {
#if defined(__x86_64__)
  if (supports(Isa::amx)) add_parts("implicit_gemm_amx_parts");
  if (supports(Isa::avx512_bf16)) add_pairs<avx512_bf16_kernel>("implicit_gemm_avx512_bf16");
  if (supports(Isa::avx512)) add<avx512_kernel>("implicit_gemm_avx512");
  if (supports(Isa::avx2)) add<avx2_kernel>("implicit_gemm_avx2");
#endif
  add<portable_kernel>("implicit_gemm_portable");
}

}  // namespace reid::cpu
