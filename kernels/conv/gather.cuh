#pragma once
// Convolution as a matrix product whose operands are gathered where they stand, for the tiles of gemm/: f32 and bf16 (T).
//
//   forward   y [NPQ, K/g]     = patches of x [NPQ, R S C/g] times w^T           batch: a group
//   data      dx [pixels, C/g] = windows of dy [pixels, taps K/g] times w        batch: a group and a phase
//   weight    dw [K/g, RSC/g]  = dy^T times patches of x, over N P Q pixels      batch: a group and a chunk of pixels
//
// Layout: x [N, H, W, C], w [K, R, S, C/g], y [N, P, Q, K]: channels innermost, so neighbors along a patch are neighbors in memory.
// Gather: a pixel's corner is computed once for a tile, a filter tap once for a step of depth; beyond the border there are zeros.
// Phases: pixel h of dx meets tap r in the window p = (h + pad - r dilation) / stride, where that is whole. Pixels of one remainder of
// (h + pad) / stride meet the same taps, in windows that are neighbors: each remainder is a convolution without stride, and together
// they do no product in vain. In row h = first + y stride, tap r = tap + t tap_step lies in window base + y - t step.

#include <numeric>

#include "gemm/moments.cuh"
#include "gemm/parts.cuh"
#include "gemm/tile.cuh"

namespace reid::REID_TARGET {

// A convolution's sizes as kernels need them: 32-bit integers, divisions prepared.
struct Geometry {
  int h, w, c, k, s, p, q;
  int channels, filters;  // of a group
  int stride[2], pad[2], dilation[2];
  Divisor by_p, by_q, by_channels, by_filters, by_s;

  __host__ explicit Geometry(const ConvShape& shape) {
    const auto narrow = [](int64_t v) { return static_cast<int>(v); };
    h = narrow(shape.h), w = narrow(shape.w), c = narrow(shape.c), k = narrow(shape.k), s = narrow(shape.s);
    p = narrow(shape.p()), q = narrow(shape.q());
    channels = narrow(shape.c / shape.groups), filters = narrow(shape.k / shape.groups);
    for (int axis = 0; axis < 2; ++axis) {
      stride[axis] = narrow(shape.stride[axis]), pad[axis] = narrow(shape.pad[axis]), dilation[axis] = narrow(shape.dilation[axis]);
    }
    by_p = Divisor(p), by_q = Divisor(q), by_channels = Divisor(channels), by_filters = Divisor(filters), by_s = Divisor(s);
  }
};

inline const char* refuse_beyond_int(const ConvShape& s) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const bool map = s.h + 2 * s.pad[0] < kMost && s.w + 2 * s.pad[1] < kMost && s.r * s.dilation[0] < kMost && s.s * s.dilation[1] < kMost;
  const bool counts = s.n * s.h * s.w < kMost && s.n * s.p() * s.q() < kMost && s.r * s.s * s.c < kMost && s.r * s.s * s.k < kMost;
  return map && counts ? nullptr : "takes less than 2^30 pixels, and filters of less than 2^30 elements";
}

// --- patches of x ---

struct Tap {
  int channel, dh, dw;  // channel < 0: none
};
template <class T>
struct Pixel {
  const T* image;  // null: none
  int h, w;        // its corner in row and column, before the tap
};

template <class T>
struct Patches : Geometry {
  const T* x;
  Patches(const ConvShape& shape, const void* data) : Geometry(shape), x(in<T>(data)) {}

  // Output pixel i of [N, P, Q], in x.
  __device__ Pixel<T> pixel(int i, bool valid) const {
    const int rows = by_q.quotient(i), column = by_q.remainder(i, rows), n = by_p.quotient(rows), row = by_p.remainder(rows, n);
    return {valid ? x + int64_t{n} * h * w * c : nullptr, row * stride[0] - pad[0], column * stride[1] - pad[1]};
  }
  // Element l of [R, S, channels] of a group.
  __device__ Tap tap(int group, int l, bool valid) const {
    const int taps = by_channels.quotient(l), channel = by_channels.remainder(l, taps), row = by_s.quotient(taps);
    return {valid ? group * channels + channel : -1, row * dilation[0], by_s.remainder(taps, row) * dilation[1]};
  }
  __device__ const T* at(const Pixel<T>& pixel, const Tap& tap) const {
    const int row = pixel.h + tap.dh, column = pixel.w + tap.dw;
    const bool inside = pixel.image && tap.channel >= 0 && row >= 0 && row < h && column >= 0 && column < w;
    return inside ? pixel.image + (int64_t{row} * w + column) * c + tap.channel : nullptr;
  }
  __device__ static float term(float sum, float a, float b) { return sum + a * b; }
};

template <class T>
struct ForwardProblem : Patches<T> {
  using Element = T;
  static constexpr bool kAlongDepthA = true, kAlongDepthB = true, kVectors = sizeof(T) == 2;
  int64_t m, n, depth;
  const T* weight;
  T* y;
  explicit ForwardProblem(const ConvForwardArgs& a)
      : Patches<T>(a.shape, a.x), m(a.shape.n * this->p * this->q), n(this->filters), depth(a.shape.r * a.shape.s * this->channels) {
    weight = in<T>(a.w), y = out<T>(a.y);
  }
  __device__ int64_t depth_of(int64_t) const { return depth; }
  __device__ Pixel<T> a_row(int64_t, int64_t i) const { return this->pixel(static_cast<int>(i), i < m); }
  __device__ Tap a_depth(int64_t group, int64_t l) const { return this->tap(static_cast<int>(group), static_cast<int>(l), l < depth); }
  __device__ const T* a(const Pixel<T>& pixel, const Tap& tap) const { return this->at(pixel, tap); }
  __device__ Line<T> b_column(int64_t group, int64_t j) const { return j < n ? weight + (group * n + j) * depth : nullptr; }
  __device__ Depth b_depth(int64_t, int64_t l) const { return l < depth ? l : -1; }
  __device__ const T* b(Depth d, Line<T> column) const { return element_at(column, d); }
  __device__ const T* any_a() const { return this->x; }
  __device__ const T* any_b() const { return weight; }
  __device__ T* target(int64_t group, int64_t i, int64_t j) const { return y + i * this->k + group * n + j; }
  __device__ void store(int64_t group, int64_t i, int64_t j, float sum) const { *target(group, i, j) = from_float<T>(sum); }
};

// With the moments of y's columns over every kRows rows, moments [NPQ / kRows, K].
template <class T, int kRows>
struct ForwardMoments : ForwardProblem<T> {
  Moments* moments;
  ForwardMoments(const ConvForwardArgs& a, Moments* where) : ForwardProblem<T>(a), moments(where) {}
  __device__ void store_moments(int64_t group, int64_t i, int64_t j, const Moments& of) const {
    moments[i / kRows * this->k + group * this->n + j] = of;
  }
};

// Batch = group * splits + split.
template <class T>
struct WeightProblem : Patches<T> {
  using Element = T;
  static constexpr bool kAlongDepthA = false, kAlongDepthB = false, kVectors = false;
  int64_t m, n, pixels, split, splits;  // split: pixels of a chunk
  const T* dy;
  float* partial;  // [splits, groups, m, n]
  explicit WeightProblem(const ConvBackwardWeightArgs& a)
      : Patches<T>(a.shape, a.x), m(this->filters), n(a.shape.r * a.shape.s * this->channels), pixels(a.shape.n * this->p * this->q) {
    dy = in<T>(a.dy), split = pixels, splits = 1, partial = out<float>(a.dw);
  }
  __device__ int64_t depth_of(int64_t batch) const {
    const int64_t left = pixels - batch % splits * split;
    return left < split ? left : split;
  }
  __device__ int64_t pixel_of(int64_t batch, int64_t l) const { return batch % splits * split + l; }
  __device__ Line<T> a_row(int64_t batch, int64_t i) const { return i < m ? dy + batch / splits * m + i : nullptr; }
  __device__ Depth a_depth(int64_t batch, int64_t l) const { return l < depth_of(batch) ? pixel_of(batch, l) * this->k : -1; }
  __device__ const T* a(Line<T> row, Depth d) const { return element_at(row, d); }
  __device__ Tap b_column(int64_t batch, int64_t j) const {
    return this->tap(static_cast<int>(batch / splits), static_cast<int>(j), j < n);
  }
  __device__ Pixel<T> b_depth(int64_t batch, int64_t l) const {
    return this->pixel(static_cast<int>(pixel_of(batch, l)), l < depth_of(batch));
  }
  __device__ const T* b(const Pixel<T>& pixel, const Tap& tap) const { return this->at(pixel, tap); }
  __device__ const T* any_a() const { return dy; }
  __device__ const T* any_b() const { return this->x; }
  __device__ void store(int64_t batch, int64_t i, int64_t j, float sum) const {
    const int64_t groups = this->k / m;
    partial[((batch % splits * groups + batch / splits) * m + i) * n + j] = sum;
  }
};

// Cuts p, of `a`, into chunks of `split` pixels, calls run(), which computes the chunks, and adds them up in dw.
template <class T, class F>
void run_splits(WeightProblem<T>& p, int64_t split, const ConvBackwardWeightArgs& a, Stream& stream, F run) {
  if (p.pixels > split) p.split = split, p.splits = ceil_div(p.pixels, split);
  run_parts(p.splits, p.k / p.m * p.m * p.n, out<float>(a.dw), a.accumulate, stream, [&](float* partial) {
    p.partial = partial;
    run();
  });
}

// --- phases of dx ---

inline constexpr int kMostStride = 4;

struct PhaseAxis {
  int first, count;         // pixels
  int tap, tap_step, taps;  // of the filter
  int base, step;           // windows
  Divisor by_taps;

  PhaseAxis() = default;
  __host__ PhaseAxis(int64_t phase, int64_t extent, int64_t filter, int64_t stride, int64_t pad, int64_t dilation) {
    const int64_t first_pixel = (phase + stride - pad % stride) % stride, period = stride / std::gcd(stride, dilation);
    int64_t first_tap = 0;
    while (first_tap < period && first_tap * dilation % stride != phase) ++first_tap;
    const int64_t tap_count = first_tap < period && first_tap < filter ? ceil_div(filter - first_tap, period) : 0;
    first = static_cast<int>(first_pixel), count = first_pixel < extent ? static_cast<int>(ceil_div(extent - first_pixel, stride)) : 0;
    tap = static_cast<int>(first_tap), tap_step = static_cast<int>(period), taps = static_cast<int>(tap_count);
    base = static_cast<int>((first_pixel + pad - first_tap * dilation) / stride), step = static_cast<int>(period * dilation / stride);
    by_taps = Divisor(tap_count > 0 ? tap_count : 1);
  }
};

// Batch = group * phases + phase, phase = row phase * stride of columns + column phase.
template <class T>
struct DataProblem : Geometry {
  using Element = T;
  static constexpr bool kAlongDepthA = true, kAlongDepthB = false, kVectors = sizeof(T) == 2;
  int64_t m, n;  // m: the most pixels that a phase has
  int images, r, phases;
  PhaseAxis rows[kMostStride], columns[kMostStride];
  const T *dy, *weight, *addend;
  T* dx;
  explicit DataProblem(const ConvBackwardDataArgs& a)
      : Geometry(a.shape), m(0), n(channels), dy(in<T>(a.dy)), weight(in<T>(a.w)), addend(in<T>(a.addend)), dx(out<T>(a.dx)) {
    const ConvShape& shape = a.shape;
    images = static_cast<int>(shape.n), r = static_cast<int>(shape.r), phases = stride[0] * stride[1];
    for (int f = 0; f < stride[0]; ++f) rows[f] = PhaseAxis(f, h, r, stride[0], pad[0], dilation[0]);
    for (int f = 0; f < stride[1]; ++f) columns[f] = PhaseAxis(f, w, s, stride[1], pad[1], dilation[1]);
    for (int f = 0; f < phases; ++f) m = pixels_of(f) > m ? pixels_of(f) : m;
  }
  __host__ __device__ const PhaseAxis& row_phase(int64_t batch) const { return rows[static_cast<int>(batch) % phases / stride[1]]; }
  __host__ __device__ const PhaseAxis& column_phase(int64_t batch) const { return columns[static_cast<int>(batch) % phases % stride[1]]; }
  __host__ __device__ int pixels_of(int64_t batch) const { return images * row_phase(batch).count * column_phase(batch).count; }
  __device__ int64_t depth_of(int64_t batch) const { return int64_t{row_phase(batch).taps} * column_phase(batch).taps * filters; }

  // Pixel i of the phase: its image, row and column within the phase; image < 0 beyond the last.
  struct Place {
    int image, y, x;
  };
  __device__ Place place(int64_t batch, int64_t i) const {
    if (i >= pixels_of(batch)) return {-1, 0, 0};
    const int width = column_phase(batch).count, height = row_phase(batch).count, line = static_cast<int>(i) / width;
    return {line / height, line % height, static_cast<int>(i) - line * width};
  }
  __device__ Pixel<T> a_row(int64_t batch, int64_t i) const {
    const Place at = place(batch, i);
    if (at.image < 0) return {nullptr, 0, 0};
    return {dy + int64_t{at.image} * p * q * k, row_phase(batch).base + at.y, column_phase(batch).base + at.x};
  }
  // Step l of [taps of the rows, taps of the columns, filters].
  struct Step {
    int filter, down, right, tap;
  };
  __device__ Step step(int64_t batch, int64_t l) const {
    const int all = by_filters.quotient(static_cast<int>(l)), down = column_phase(batch).by_taps.quotient(all);
    const int right = column_phase(batch).by_taps.remainder(all, down);
    const int tap =
        (row_phase(batch).tap + down * row_phase(batch).tap_step) * s + column_phase(batch).tap + right * column_phase(batch).tap_step;
    const int filter = static_cast<int>(batch) / phases * filters + by_filters.remainder(static_cast<int>(l), all);
    return {l < depth_of(batch) ? filter : -1, down * row_phase(batch).step, right * column_phase(batch).step, tap};
  }
  __device__ Tap a_depth(int64_t batch, int64_t l) const {
    const Step at = step(batch, l);
    return {at.filter, at.down, at.right};
  }
  __device__ const T* a(const Pixel<T>& pixel, const Tap& tap) const {
    const int row = pixel.h - tap.dh, column = pixel.w - tap.dw;
    const bool inside = pixel.image && tap.channel >= 0 && row >= 0 && row < p && column >= 0 && column < q;
    return inside ? pixel.image + (int64_t{row} * q + column) * k + tap.channel : nullptr;
  }
  __device__ Line<T> b_column(int64_t, int64_t j) const { return j < n ? weight + j : nullptr; }
  __device__ Depth b_depth(int64_t batch, int64_t l) const {
    const Step at = step(batch, l);
    return at.filter < 0 ? -1 : (int64_t{at.filter} * r * s + at.tap) * n;
  }
  __device__ const T* b(Depth d, Line<T> column) const { return element_at(column, d); }
  __device__ const T* any_a() const { return dy; }
  __device__ const T* any_b() const { return weight; }
  __device__ static float term(float sum, float x, float y) { return sum + x * y; }
  __device__ T* target(int64_t batch, int64_t i, int64_t j) const {
    const Place at = place(batch, i);
    if (at.image < 0) return nullptr;
    const int row = row_phase(batch).first + at.y * stride[0], column = column_phase(batch).first + at.x * stride[1];
    return dx + ((int64_t{at.image} * h + row) * w + column) * c + batch / phases * n + j;
  }
  __device__ void store(int64_t batch, int64_t i, int64_t j, float sum) const {
    T* element = target(batch, i, j);
    if (element) *element = from_float<T>(addend ? sum + to_float(*added(element)) : sum);
  }
  __device__ const T* added(const T* element) const { return addend + (element - dx); }
};

inline const char* refuse_wide_strides(const ConvShape& s) {
  return s.stride[0] > kMostStride || s.stride[1] > kMostStride ? "takes strides up to 4" : nullptr;
}

}  // namespace reid::REID_TARGET
