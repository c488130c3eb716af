// Convolutions as products of matrices whose image operand is gathered while it is packed (implicit GEMM), NHWC, one group, in f32,
// or in bf16 that is widened while it is packed.
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
#include "backends/cpu/patches.h"
#include "backends/cpu/rounding.h"
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

void gather_rows(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
  patches.copy(row, rows, k, depth, panels, kRowStride, depth, 0);
  for (int64_t i = rows; i % kernel.rows != 0; ++i) std::fill_n(panels + i * kRowStride, depth, 0.0f);
}

// Pixels of a 1x1 convolution are rows of the image itself.
bool is_pointwise(const ConvShape& s) {
  return s.r == 1 && s.s == 1 && s.stride[0] == 1 && s.stride[1] == 1 && s.pad[0] == 0 && s.pad[1] == 0;
}

// Rows read in place are floats.
const float* in_place(const ConvShape& s, DType dtype, const void* rows) {
  return is_pointwise(s) && dtype == DType::f32 ? static_cast<const float*>(rows) : nullptr;
}

template <const MicroKernel& (*kKernel)(), class T>
void forward(const ConvForwardArgs& args, Stream& stream) {
  const MicroKernel& kernel = kKernel();
  const ConvShape& s = args.shape;
  const Patches patches = input_patches(args.x, args.dtype, s);
  const auto* w = static_cast<const T*>(args.w);
  auto* y = static_cast<T*>(args.y);
  const int64_t width = patches.width();
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    gather_rows(kernel, patches, row, rows, k, depth, panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    pack_transposed(w + column * width + k, width, columns, depth, kernel.columns, panels, panel);
  };
  const auto row_of = [&](int64_t i) { return y + i * s.k; };
  multiply(kernel,
           {.m = s.n * s.p() * s.q(),
            .n = s.k,
            .k = width,
            .a_by_depth = false,
            .accumulate = false,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = row_of,
            .a = in_place(s, args.dtype, args.x),
            .cache = args.cache,
            .weights = args.w,
            .narrow = args.dtype == DType::bf16},
           stream);
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

template <class T>
void backward_data_phase(const MicroKernel& kernel, const ConvBackwardDataArgs& args, int64_t top, int64_t left, Stream& stream) {
  const ConvShape& s = args.shape;
  const PhaseTaps down = phase_taps(top, s.r, s.stride[0], s.dilation[0], s.pad[0]);
  const PhaseTaps across = phase_taps(left, s.s, s.stride[1], s.dilation[1], s.pad[1]);
  const int64_t rows_here = (s.h - top + s.stride[0] - 1) / s.stride[0], columns_here = (s.w - left + s.stride[1] - 1) / s.stride[1];
  const Patches patches({.data = args.dy, .dtype = args.dtype, .h = s.p(), .w = s.q(), .c = s.k},
                        {.p = rows_here, .q = columns_here, .step_y = 1, .step_x = 1}, down.offsets, across.offsets);
  const auto* w = static_cast<const T*>(args.w);
  auto* dx = static_cast<T*>(args.dx);
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    gather_rows(kernel, patches, row, rows, k, depth, panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    for (int64_t done = 0; done < depth;) {  // runs of one tap: its channels k lie R * S * C apart
      const int64_t at = (k + done) / s.k, channel = (k + done) % s.k, count = std::min(depth - done, s.k - channel);
      const auto taps_across = static_cast<int64_t>(across.taps.size());
      const int64_t r = down.taps[static_cast<size_t>(at / taps_across)], c = across.taps[static_cast<size_t>(at % taps_across)];
      pack_depth(w + ((channel * s.r + r) * s.s + c) * s.c + column, s.r * s.s * s.c, columns, count, kernel.columns,
                 panels + done * kernel.columns, kernel.columns, panel);
      done += count;
    }
  };
  const auto row_of = [&](int64_t i) {
    const int64_t x = i % columns_here, y = i / columns_here % rows_here, n = i / columns_here / rows_here;
    return dx + ((n * s.h + top + y * s.stride[0]) * s.w + left + x * s.stride[1]) * s.c;
  };
  multiply(kernel,
           {.m = s.n * rows_here * columns_here,
            .n = s.c,
            .k = patches.width(),
            .a_by_depth = false,
            .accumulate = false,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = row_of,
            .a = in_place(s, args.dtype, args.dy),
            .narrow = args.dtype == DType::bf16},
           stream);
}

template <const MicroKernel& (*kKernel)(), class T>
void backward_data(const ConvBackwardDataArgs& args, Stream& stream) {
  const ConvShape& s = args.shape;
  for (int64_t top = 0; top < std::min(s.stride[0], s.h); ++top) {
    for (int64_t left = 0; left < std::min(s.stride[1], s.w); ++left) backward_data_phase<T>(kKernel(), args, top, left, stream);
  }
}

template <const MicroKernel& (*kKernel)(), class T>
void backward_weight(const ConvBackwardWeightArgs& args, Stream& stream) {
  const MicroKernel& kernel = kKernel();
  const ConvShape& s = args.shape;
  const auto* x = static_cast<const T*>(args.x);
  const Patches patches = input_patches(x, args.dtype, s);
  const auto* dy = static_cast<const T*>(args.dy);
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    pack_depth(dy + k * s.k + row, s.k, rows, depth, kernel.rows, panels, kernel.lead(), kernel.panel(true));
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    if (is_pointwise(s)) {
      pack_depth(x + k * s.c + column, s.c, columns, depth, kernel.columns, panels, kernel.columns, panel);
      return;
    }
    patches.copy(k, depth, column, columns, panels, kernel.columns, kernel.columns, panel);
    const int64_t rest = columns % kernel.columns;
    float* last = panels + columns / kernel.columns * panel + rest;
    for (int64_t i = 0; rest > 0 && i < depth; ++i) std::fill_n(last + i * kernel.columns, kernel.columns - rest, 0.0f);
  };
  const auto no_row = [](int64_t) -> void* { return nullptr; };
  multiply_split(kernel,
                 {.m = s.k,
                  .n = patches.width(),
                  .k = s.n * s.p() * s.q(),
                  .a_by_depth = true,
                  .accumulate = false,
                  .pack_a = pack_a,
                  .pack_b = pack_b,
                  .row = no_row},
                 static_cast<float*>(args.dw), stream);
}

template <class Args>
const char* refuses(const Args& args) {
  return args.shape.groups == 1 ? refuse_wider(args.dtype) : "groups == 1 only";
}

template <const MicroKernel& (*kKernel)()>
void add(const char* name) {
  add_both<ConvForward, forward<kKernel, float>, forward<kKernel, bf16>>(name, refuses);
  add_both<ConvBackwardData, backward_data<kKernel, float>, backward_data<kKernel, bf16>>(name, refuses);
  add_both<ConvBackwardWeight, backward_weight<kKernel, float>, backward_weight<kKernel, bf16>>(name, refuses);
}

}  // namespace

void register_conv() {
#if defined(__x86_64__)
  if (supports(Isa::avx512)) add<avx512_kernel>("implicit_gemm_avx512");
  if (supports(Isa::avx2)) add<avx2_kernel>("implicit_gemm_avx2");
#endif
  add<portable_kernel>("implicit_gemm_portable");
}

}  // namespace reid::cpu
