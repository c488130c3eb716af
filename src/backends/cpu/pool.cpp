// Max pooling and global pooling, NHWC, f32. Channels are the lanes; outputs are owned by one task each.
//
//   max_pool            y, index over windows: reads x up to (kernel / stride)^2 times, from cache; 8 bytes written a float of y
//   max_pool_backward   gathers: a pixel of dx asks the few windows that cover it whether it was their maximum, in order
//   global_pool         plain mean, summed in double over the pixels in order; generalized means are left to the reference

#include <algorithm>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

// One more candidate for the maxima of C channels. NaN wins and stays, as in the reference.
struct Candidate {
  const float* x;
  float* best;
  int32_t* index;
  int64_t count;
  int32_t place;
};
REID_BODY challenge_body(const Candidate& a) {
  const int32_t place = a.place;
  REID_INDEPENDENT
  for (int64_t c = 0; c < a.count; ++c) {
    const float value = a.x[c], best = a.best[c];
    const int32_t index = a.index[c];
    const int32_t above = value <= best ? 0 : 1;  // also when either is NaN
    const int32_t wins = best == best ? above : 0;
    a.best[c] = wins != 0 ? value : best;
    a.index[c] = wins != 0 ? place : index;
  }
}
REID_MULTIVERSION(challenge, Candidate)

void max_pool(const MaxPoolArgs& a, Stream&) {
  const PoolShape& s = a.shape;
  const int64_t p_count = s.out(s.h), q_count = s.out(s.w);
  parallel_for(s.n * p_count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t top = row % p_count * s.stride - s.pad;
      const int64_t h0 = std::max<int64_t>(top, 0), h1 = std::min(top + s.kernel, s.h);
      const float* image = static_cast<const float*>(a.x) + row / p_count * s.h * s.w * s.c;
      for (int64_t q = 0; q < q_count; ++q) {
        const int64_t left = q * s.stride - s.pad;
        const int64_t w0 = std::max<int64_t>(left, 0), w1 = std::min(left + s.kernel, s.w);
        float* best = static_cast<float*>(a.y) + (row * q_count + q) * s.c;
        int32_t* index = a.index + (row * q_count + q) * s.c;
        std::copy_n(image + (h0 * s.w + w0) * s.c, s.c, best);
        std::fill_n(index, s.c, static_cast<int32_t>(h0 * s.w + w0));
        for (int64_t h = h0; h < h1; ++h) {
          for (int64_t w = h == h0 ? w0 + 1 : w0; w < w1; ++w) {
            const int64_t place = h * s.w + w;
            challenge({.x = image + place * s.c, .best = best, .index = index, .count = s.c, .place = static_cast<int32_t>(place)});
          }
        }
      }
    }
  });
}

struct Claim {
  const float* dy;
  const int32_t* index;
  float* dx;
  int64_t count;
  int32_t place;
};
REID_BODY collect_body(const Claim& a) {
  REID_INDEPENDENT
  for (int64_t c = 0; c < a.count; ++c) {
    const float dy = a.dy[c];
    a.dx[c] += a.index[c] == a.place ? dy : 0.0f;
  }
}
REID_MULTIVERSION(collect, Claim)

// The first window whose reach includes `at`, and one past the last: windows start at i * stride - pad.
int64_t first_window(const PoolShape& s, int64_t at) {
  const int64_t over = at + s.pad - s.kernel + 1;
  return over <= 0 ? 0 : (over + s.stride - 1) / s.stride;
}
int64_t window_end(const PoolShape& s, int64_t at, int64_t count) { return std::min(count, (at + s.pad) / s.stride + 1); }

void max_pool_backward(const MaxPoolBackwardArgs& a, Stream&) {
  const PoolShape& s = a.shape;
  const int64_t p_count = s.out(s.h), q_count = s.out(s.w);
  parallel_for(s.n * s.h, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / s.h, h = row % s.h;
      float* dx = static_cast<float*>(a.dx) + row * s.w * s.c;
      std::fill_n(dx, s.w * s.c, 0.0f);
      for (int64_t w = 0; w < s.w; ++w) {
        for (int64_t p = first_window(s, h); p < window_end(s, h, p_count); ++p) {
          for (int64_t q = first_window(s, w); q < window_end(s, w, q_count); ++q) {
            const int64_t source = ((n * p_count + p) * q_count + q) * s.c;
            collect({.dy = static_cast<const float*>(a.dy) + source,
                     .index = a.index + source,
                     .dx = dx + w * s.c,
                     .count = s.c,
                     .place = static_cast<int32_t>(h * s.w + w)});
          }
        }
      }
    }
  });
}

constexpr int64_t kPoolBlock = 32;  // channels of a sum, in double: 4 vectors of 8 lanes

struct PixelSum {
  const float* x;
  float* y;
  int64_t length, stride, count;
};
template <int64_t kWidth>
REID_BODY mean_block(const PixelSum& a, int64_t j) {
  double sum[kWidth] = {};
  for (int64_t l = 0; l < a.length; ++l) {
    for (int64_t i = 0; i < kWidth; ++i) sum[i] += double{a.x[l * a.stride + j + i]};
  }
  for (int64_t i = 0; i < kWidth; ++i) a.y[j + i] = static_cast<float>(sum[i] / static_cast<double>(a.length));
}
REID_BODY pixel_mean_body(const PixelSum& a) {
  int64_t j = 0;
  for (; j + kPoolBlock <= a.count; j += kPoolBlock) mean_block<kPoolBlock>(a, j);
  for (; j < a.count; ++j) mean_block<1>(a, j);
}
REID_MULTIVERSION(pixel_mean, PixelSum)

void global_pool(const GlobalPoolArgs& a, Stream&) {
  parallel_for(a.n, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      pixel_mean({.x = static_cast<const float*>(a.x) + n * a.length * a.c,
                  .y = static_cast<float*>(a.y) + n * a.c,
                  .length = a.length,
                  .stride = a.c,
                  .count = a.c});
    }
  });
}

void global_pool_backward(const GlobalPoolBackwardArgs& a, Stream&) {
  parallel_for(a.n, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const float* dy = static_cast<const float*>(a.dy) + n * a.c;
      float* dx = static_cast<float*>(a.dx) + n * a.length * a.c;
      if (a.length == 0) continue;
      for (int64_t c = 0; c < a.c; ++c) dx[c] = static_cast<float>(double{dy[c]} / static_cast<double>(a.length));
      for (int64_t l = 1; l < a.length; ++l) std::copy_n(dx, a.c, dx + l * a.c);
    }
  });
}

template <class Args>
const char* refuses(const Args& args) {
  return args.dtype == DType::f32 ? nullptr : "f32 only";
}
template <class Args>
const char* refuses_gem(const Args& args) {
  if (args.dtype != DType::f32) return "f32 only";
  return args.p ? "plain means only" : nullptr;
}

}  // namespace

void register_pool() {
  Registry::add<MaxPool>(DeviceType::cpu, {"vectorized", refuses<MaxPoolArgs>, max_pool});
  Registry::add<MaxPoolBackward>(DeviceType::cpu, {"gather", refuses<MaxPoolBackwardArgs>, max_pool_backward});
  Registry::add<GlobalPool>(DeviceType::cpu, {"vectorized", refuses_gem<GlobalPoolArgs>, global_pool});
  Registry::add<GlobalPoolBackward>(DeviceType::cpu, {"vectorized", refuses_gem<GlobalPoolBackwardArgs>, global_pool_backward});
}

}  // namespace reid::cpu
