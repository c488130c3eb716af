// Max pooling and global pooling, NHWC, f32 or bf16. Channels are the lanes; outputs are owned by one task each.
//
//   max_pool            y, index over windows: reads x up to (kernel / stride)^2 times, from cache; 8 bytes written a float of y
//   max_pool_backward   gathers: a pixel of dx asks the few windows that cover it whether it was their maximum, in order
//   global_pool         plain mean, summed in double over the pixels in order; generalized means are left to the reference

#include <algorithm>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

// One more candidate for the maxima of C channels. NaN wins and stays, as in the reference.
template <class T>
struct Candidate {
  const T* x;
  T* best;
  int32_t* index;
  int64_t count;
  int32_t place;
};
template <class T>
REID_BODY challenge_body(const Candidate<T>& a) {
  const int32_t place = a.place;
  REID_INDEPENDENT
  for (int64_t c = 0; c < a.count; ++c) {
    const float value = a.x[c], best = a.best[c];
    const int32_t index = a.index[c];
    const int32_t above = value <= best ? 0 : 1;  // also when either is NaN
    const int32_t wins = best == best ? above : 0;
    a.best[c] = static_cast<T>(wins != 0 ? value : best);
    a.index[c] = wins != 0 ? place : index;
  }
}
REID_MULTIVERSION(challenge, Candidate<float>)
REID_MULTIVERSION(challenge, Candidate<bf16>)

template <class T>
void max_pool(const MaxPoolArgs& a, Stream&) {
  const PoolShape& s = a.shape;
  const int64_t p_count = s.out(s.h), q_count = s.out(s.w);
  parallel_for(s.n * p_count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t top = row % p_count * s.stride - s.pad;
      const int64_t h0 = std::max<int64_t>(top, 0), h1 = std::min(top + s.kernel, s.h);
      const T* image = static_cast<const T*>(a.x) + row / p_count * s.h * s.w * s.c;
      for (int64_t q = 0; q < q_count; ++q) {
        const int64_t left = q * s.stride - s.pad;
        const int64_t w0 = std::max<int64_t>(left, 0), w1 = std::min(left + s.kernel, s.w);
        T* best = static_cast<T*>(a.y) + (row * q_count + q) * s.c;
        int32_t* index = a.index + (row * q_count + q) * s.c;
        std::copy_n(image + (h0 * s.w + w0) * s.c, s.c, best);
        std::fill_n(index, s.c, static_cast<int32_t>(h0 * s.w + w0));
        for (int64_t h = h0; h < h1; ++h) {
          for (int64_t w = h == h0 ? w0 + 1 : w0; w < w1; ++w) {
            const int64_t place = h * s.w + w;
            challenge(
                Candidate<T>{.x = image + place * s.c, .best = best, .index = index, .count = s.c, .place = static_cast<int32_t>(place)});
          }
        }
      }
    }
  });
}

template <class T>
struct Claim {
  const T* dy;
  const int32_t* index;
  float* sum;
  int64_t count;
  int32_t place;
};
template <class T>
REID_BODY collect_body(const Claim<T>& a) {
  REID_INDEPENDENT
  for (int64_t c = 0; c < a.count; ++c) {
    const float dy = a.dy[c];
    a.sum[c] += a.index[c] == a.place ? dy : 0.0f;
  }
}
REID_MULTIVERSION(collect, Claim<float>)
REID_MULTIVERSION(collect, Claim<bf16>)

// A row of sums to where it belongs; sums in f32 are already there.
void put(const float*, int64_t, float*) {}
void put(const float* sums, int64_t count, bf16* dx) { round_to_bf16(sums, count, dx); }
float* sums_for(float* dx, float*) { return dx; }
float* sums_for(bf16*, float* scratch) { return scratch; }

// The first window whose reach includes `at`, and one past the last: windows start at i * stride - pad.
int64_t first_window(const PoolShape& s, int64_t at) {
  const int64_t over = at + s.pad - s.kernel + 1;
  return over <= 0 ? 0 : (over + s.stride - 1) / s.stride;
}
int64_t window_end(const PoolShape& s, int64_t at, int64_t count) { return std::min(count, (at + s.pad) / s.stride + 1); }

template <class T>
void max_pool_backward(const MaxPoolBackwardArgs& a, Stream& stream) {
  const PoolShape& s = a.shape;
  const int64_t p_count = s.out(s.h), q_count = s.out(s.w), row_size = s.w * s.c;
  auto* scratch = static_cast<float*>(stream.workspace(static_cast<size_t>(row_size * threads()) * sizeof(float)));
  parallel_for(s.n * s.h, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / s.h, h = row % s.h;
      T* dx = static_cast<T*>(a.dx) + row * row_size;
      float* sums = sums_for(dx, scratch + worker * row_size);
      std::fill_n(sums, row_size, 0.0f);
      for (int64_t w = 0; w < s.w; ++w) {
        for (int64_t p = first_window(s, h); p < window_end(s, h, p_count); ++p) {
          for (int64_t q = first_window(s, w); q < window_end(s, w, q_count); ++q) {
            const int64_t source = ((n * p_count + p) * q_count + q) * s.c;
            collect(Claim<T>{.dy = static_cast<const T*>(a.dy) + source,
                             .index = a.index + source,
                             .sum = sums + w * s.c,
                             .count = s.c,
                             .place = static_cast<int32_t>(h * s.w + w)});
          }
        }
      }
      put(sums, row_size, dx);
    }
  });
}

constexpr int64_t kPoolBlock = 32;  // channels of a sum, in double: 4 vectors of 8 lanes

template <class T>
struct PixelSum {
  const T* x;
  T* y;
  int64_t length, stride, count;
};
template <int64_t kWidth, class T>
REID_BODY mean_block(const PixelSum<T>& a, int64_t j) {
  double sum[kWidth] = {};
  for (int64_t l = 0; l < a.length; ++l) {
    for (int64_t i = 0; i < kWidth; ++i) sum[i] += double{a.x[l * a.stride + j + i]};
  }
  for (int64_t i = 0; i < kWidth; ++i) a.y[j + i] = static_cast<T>(static_cast<float>(sum[i] / static_cast<double>(a.length)));
}
template <class T>
REID_BODY pixel_mean_body(const PixelSum<T>& a) {
  int64_t j = 0;
  for (; j + kPoolBlock <= a.count; j += kPoolBlock) mean_block<kPoolBlock>(a, j);
  for (; j < a.count; ++j) mean_block<1>(a, j);
}
REID_MULTIVERSION(pixel_mean, PixelSum<float>)
REID_MULTIVERSION(pixel_mean, PixelSum<bf16>)

template <class T>
void global_pool(const GlobalPoolArgs& a, Stream&) {
  parallel_for(a.n, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      pixel_mean(PixelSum<T>{.x = static_cast<const T*>(a.x) + n * a.length * a.c,
                             .y = static_cast<T*>(a.y) + n * a.c,
                             .length = a.length,
                             .stride = a.c,
                             .count = a.c});
    }
  });
}

template <class T>
void global_pool_backward(const GlobalPoolBackwardArgs& a, Stream&) {
  parallel_for(a.n, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const T* dy = static_cast<const T*>(a.dy) + n * a.c;
      T* dx = static_cast<T*>(a.dx) + n * a.length * a.c;
      if (a.length == 0) continue;
      for (int64_t c = 0; c < a.c; ++c) dx[c] = static_cast<T>(double{dy[c]} / static_cast<double>(a.length));
      for (int64_t l = 1; l < a.length; ++l) std::copy_n(dx, a.c, dx + l * a.c);
    }
  });
}

template <class Args>
const char* refuses_gem(const Args& args) {
  return args.p ? "plain means only" : refuse_wider(args.dtype);
}

}  // namespace

void register_pool() {
  add_both<MaxPool, max_pool<float>, max_pool<bf16>>("vectorized");
  add_both<MaxPoolBackward, max_pool_backward<float>, max_pool_backward<bf16>>("gather");
  add_both<GlobalPool, global_pool<float>, global_pool<bf16>>("vectorized", refuses_gem<GlobalPoolArgs>);
  add_both<GlobalPoolBackward, global_pool_backward<float>, global_pool_backward<bf16>>("vectorized", refuses_gem<GlobalPoolBackwardArgs>);
}

}  // namespace reid::cpu
