// Convolution as a matrix product whose operands are gathered where they stand, on the register tiles of gemm/tile.cuh, in f32.
//
//   forward   y [NPQ, K/g]     = patches of x [NPQ, R S C/g] times w^T           batch: a group
//   data      dx [NHW, C/g]    = windows of dy [NHW, R S K/g] times w            batch: a group
//   weight    dw [K/g, RSC/g]  = dy^T times patches of x, over N P Q pixels      batch: a group and a chunk of pixels
// Filters are small and pixels many, so the weights' gradient is cut into chunks of 1024 pixels (split-K), added in order by a second
// kernel.
//
// Layout: x [N, H, W, C], w [K, R, S, C/g], y [N, P, Q, K]: channels innermost, so neighbors along a patch are neighbors in memory.
// Gather: a pixel's corner is computed once for a tile, a filter tap once for 16 steps of depth; beyond the border there are zeros.
// Flops: 2 N P Q K R S C / g. Data with a stride: 1 / stride^2 of the products are of use; the others meet zeros.
// Floor on H200: 67 Tflop/s of f32 FMA. No version was measured yet. Next: bf16 on tensor cores, strided data by phases.

#include "gemm/tile.cuh"
#include "kernels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kSplit = 1024;  // pixels

// What all three share: the shape, and where a filter tap meets a pixel.
struct Gather {
  ConvShape s;
  int p_count, q_count;
  __host__ __device__ int64_t channels() const { return s.c / s.groups; }
  __host__ __device__ int64_t filters() const { return s.k / s.groups; }
  __host__ int64_t outputs() const { return s.n * p_count * q_count; }

  struct Pixel {  // of the image that is gathered from: its corner in row and column, before the tap
    const float* image;
    int h, w;
    bool valid;
  };
  struct Tap {
    int64_t channel;
    int dh, dw;
    bool valid;
  };
  // Output pixel i of [N, P, Q], in x.
  __device__ Pixel patch(const float* x, int64_t i, bool valid) const {
    const int q = static_cast<int>(i % q_count), p = static_cast<int>(i / q_count % p_count);
    const int64_t n = i / q_count / p_count;
    return {x + n * s.h * s.w * s.c, p * static_cast<int>(s.stride[0]) - static_cast<int>(s.pad[0]),
            q * static_cast<int>(s.stride[1]) - static_cast<int>(s.pad[1]), valid};
  }
  // Element l of [R, S, extent], for the channels from `first`.
  __device__ Tap tap(int64_t l, int64_t extent, int64_t first, bool valid) const {
    const int t = static_cast<int>(l / extent % s.s), r = static_cast<int>(l / extent / s.s);
    return {first + l % extent, r * static_cast<int>(s.dilation[0]), t * static_cast<int>(s.dilation[1]), valid};
  }
  __device__ float at(const Pixel& pixel, const Tap& tap) const {
    const int64_t h = pixel.h + tap.dh, w = pixel.w + tap.dw;
    if (!pixel.valid || !tap.valid || h < 0 || h >= s.h || w < 0 || w >= s.w) return 0;
    return pixel.image[(h * s.w + w) * s.c + tap.channel];
  }
  __device__ static float term(float sum, float x, float y) { return sum + x * y; }
};

struct Line {  // a row or column of a plain matrix
  const float* start;
  bool valid;
};
struct Depth {
  int64_t offset;
  bool valid;
};
__device__ float plain(const Line& line, const Depth& depth) { return line.valid && depth.valid ? line.start[depth.offset] : 0; }

struct ForwardProblem : Gather {
  static constexpr bool kAlongDepthA = true, kAlongDepthB = true;
  int64_t m, n, depth;
  const float *x, *weight;
  float* y;
  __device__ Pixel a_row(int64_t, int64_t i) const { return patch(x, i, i < m); }
  __device__ Tap a_depth(int64_t group, int64_t l) const { return tap(l, channels(), group * channels(), l < depth); }
  __device__ float a(const Pixel& pixel, const Tap& t) const { return at(pixel, t); }
  __device__ Line b_column(int64_t group, int64_t j) const { return {weight + (group * n + j) * depth, j < n}; }
  __device__ Depth b_depth(int64_t, int64_t l) const { return {l, l < depth}; }
  __device__ float b(const Depth& d, const Line& column) const { return plain(column, d); }
  __device__ void store(int64_t group, int64_t i, int64_t j, float sum) const { y[i * s.k + group * n + j] = sum; }
};

// Pixels of dx look for the windows that hold them: row p with p stride = h + pad - r dilation.
struct DataProblem : Gather {
  static constexpr bool kAlongDepthA = true, kAlongDepthB = false;
  int64_t m, n, depth;
  const float *dy, *weight;
  float* dx;
  __device__ Pixel a_row(int64_t, int64_t i) const {
    const int w = static_cast<int>(i % s.w), h = static_cast<int>(i / s.w % s.h);
    return {dy + i / s.w / s.h * p_count * q_count * s.k, h + static_cast<int>(s.pad[0]), w + static_cast<int>(s.pad[1]), i < m};
  }
  __device__ Tap a_depth(int64_t group, int64_t l) const { return tap(l, filters(), group * filters(), l < depth); }
  __device__ float a(const Pixel& pixel, const Tap& t) const {
    const int ph = pixel.h - t.dh, qw = pixel.w - t.dw, step_h = static_cast<int>(s.stride[0]), step_w = static_cast<int>(s.stride[1]);
    if (!pixel.valid || !t.valid || ph < 0 || qw < 0 || ph % step_h != 0 || qw % step_w != 0) return 0;
    if (ph / step_h >= p_count || qw / step_w >= q_count) return 0;
    return pixel.image[(int64_t{ph / step_h} * q_count + qw / step_w) * s.k + t.channel];
  }
  __device__ Line b_column(int64_t, int64_t j) const { return {weight + j, j < n}; }
  __device__ Depth b_depth(int64_t group, int64_t l) const {
    return {((group * filters() + l % filters()) * s.r * s.s + l / filters()) * n, l < depth};
  }
  __device__ float b(const Depth& d, const Line& column) const { return plain(column, d); }
  __device__ void store(int64_t group, int64_t i, int64_t j, float sum) const { dx[i * s.c + group * n + j] = sum; }
};

// Batch = group * splits + split.
struct WeightProblem : Gather {
  static constexpr bool kAlongDepthA = false, kAlongDepthB = false;
  int64_t m, n, depth, splits, pixels;
  const float *x, *dy;
  float* partial;  // [splits, groups, m, n]
  __device__ int64_t pixel_of(int64_t batch, int64_t l) const { return batch % splits * kSplit + l; }
  __device__ bool within(int64_t batch, int64_t l) const { return l < depth && pixel_of(batch, l) < pixels; }
  __device__ Line a_row(int64_t batch, int64_t i) const { return {dy + batch / splits * m + i, i < m}; }
  __device__ Depth a_depth(int64_t batch, int64_t l) const { return {pixel_of(batch, l) * s.k, within(batch, l)}; }
  __device__ float a(const Line& row, const Depth& d) const { return plain(row, d); }
  __device__ Tap b_column(int64_t batch, int64_t j) const { return tap(j, channels(), batch / splits * channels(), j < n); }
  __device__ Pixel b_depth(int64_t batch, int64_t l) const { return patch(x, pixel_of(batch, l), within(batch, l)); }
  __device__ float b(const Pixel& pixel, const Tap& t) const { return at(pixel, t); }
  __device__ void store(int64_t batch, int64_t i, int64_t j, float sum) const {
    partial[((batch % splits * s.groups + batch / splits) * m + i) * n + j] = sum;
  }
};

__global__ void add_splits_kernel(const float* partial, int64_t splits, int64_t count, float* dw) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = partial[i];
  for (int64_t split = 1; split < splits; ++split) sum += partial[split * count + i];
  dw[i] = sum;
}

template <class Problem>
Problem problem_of(const ConvShape& s) {
  Problem p{};
  p.s = s, p.p_count = static_cast<int>(s.p()), p.q_count = static_cast<int>(s.q());
  return p;
}

void forward(const ConvForwardArgs& a, Stream& stream) {
  auto p = problem_of<ForwardProblem>(a.shape);
  p.m = p.outputs(), p.n = p.filters(), p.depth = a.shape.r * a.shape.s * p.channels();
  p.x = in<float>(a.x), p.weight = in<float>(a.w), p.y = out<float>(a.y);
  run_register_tile<64, 64>(p, a.shape.groups, stream);
}

void backward_data(const ConvBackwardDataArgs& a, Stream& stream) {
  auto p = problem_of<DataProblem>(a.shape);
  p.m = a.shape.n * a.shape.h * a.shape.w, p.n = p.channels(), p.depth = a.shape.r * a.shape.s * p.filters();
  p.dy = in<float>(a.dy), p.weight = in<float>(a.w), p.dx = out<float>(a.dx);
  run_register_tile<64, 64>(p, a.shape.groups, stream);
}

void backward_weight(const ConvBackwardWeightArgs& a, Stream& stream) {
  auto p = problem_of<WeightProblem>(a.shape);
  p.m = p.filters(), p.n = a.shape.r * a.shape.s * p.channels(), p.pixels = p.outputs();
  p.splits = p.pixels > kSplit ? ceil_div(p.pixels, kSplit) : 1, p.depth = p.pixels < kSplit ? p.pixels : kSplit;
  p.x = in<float>(a.x), p.dy = in<float>(a.dy);
  const int64_t count = a.shape.groups * p.m * p.n;
  auto* dw = out<float>(a.dw);
  p.partial = p.splits == 1 ? dw : static_cast<float*>(stream.workspace(static_cast<size_t>(p.splits * count) * sizeof(float)));
  run_register_tile<64, 64>(p, a.shape.groups * p.splits, stream);
  if (p.splits > 1) launch(add_splits_kernel, blocks_for(count, kThreads), kThreads, 0, stream, p.partial, p.splits, count, dw);
}

template <class Args>
const char* refuse(const Args& a) {
  const ConvShape& s = a.shape;
  constexpr int64_t kMost = int64_t{1} << 30;  // coordinates are 32-bit integers
  const bool fits = s.h + 2 * s.pad[0] < kMost && s.w + 2 * s.pad[1] < kMost && s.r * s.dilation[0] < kMost && s.s * s.dilation[1] < kMost;
  return fits ? refuse_other_than_f32(a.dtype) : "takes maps of less than 2^30 rows and columns";
}

}  // namespace

void register_conv_implicit_gemm() {
  add<ConvForward>(REID_KERNEL_NAME("implicit_gemm"), refuse<ConvForwardArgs>, forward);
  add<ConvBackwardData>(REID_KERNEL_NAME("implicit_gemm"), refuse<ConvBackwardDataArgs>, backward_data);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("implicit_gemm_split"), refuse<ConvBackwardWeightArgs>, backward_weight);
}

}  // namespace reid::REID_TARGET
