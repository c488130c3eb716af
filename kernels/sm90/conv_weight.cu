// The gradient of a convolution's weights in bf16 on Hopper's tensor cores.
//
//   dw[k, r, t, c] = sum over n, p, q of dy[n, p, q, k] x[n, p stride + r - pad, q stride + t - pad, c]
//
// Layout: as in conv/gather.cuh. Map: filters by 64 channels of a tap; a box of 64 pixels (conv_boxes.cuh) is a step of depth, and both
// operands lie across it. The boxes are cut into parts (parts_of), which the blocks of a cluster add up from each other's shared memory, in
// order. Where eight are too few, clusters leave parts of dw that a second launch adds up: of 24 of ResNet-50's layers at batch 64, 21 us
// by their bytes, where parts of single blocks of all 52 would be 407 (calculated). Tiles have 128 rows and columns, and 64 where there are
// no more. A pixel that sticks out multiplies zeros of dy by what x holds there: infinities of x make NaN.
// Bytes: x, dy and dw once at best; a tap's box is fetched from L2, R S times in all. Flops: 2 N P Q K R S C. Floor on H200: 790 Tflop/s.
// Not measured yet. Sibling for other devices: conv/implicit_gemm_mma.cu.

#include <limits>

#include "gemm/parts.cuh"
#include "kernels.h"
#include "sm90/conv_boxes.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kMostCluster = 8;

// How boxes of pixels are cut: for each of the groups, of which dw is a part, a cluster's blocks have `each`.
struct Parts {
  int64_t each, groups;
  int cluster;
};

// The cheapest by a count in thirds of a box's products, of which nothing was measured yet: processors have so many blocks in turn, and one
// that is alone waits for its boxes; a block's beginning and end are two boxes' products, another launch eight.
Parts parts_of(int64_t boxes, int64_t tiles) {
  Parts best{};
  const int64_t all = processors();
  int64_t least = std::numeric_limits<int64_t>::max();
  const auto consider = [&](int64_t groups, int cluster) {
    const int64_t blocks = groups * cluster, each = ceil_div(boxes, blocks), turns = ceil_div(tiles * blocks, all);
    const int64_t cost = std::max<int64_t>(3 * turns, 4) * each + 6 * turns + (groups > 1 ? 24 : 0);
    if (cost < least) least = cost, best = {each, groups, cluster};
  };
  for (int cluster = 1; cluster <= kMostCluster; ++cluster) consider(1, cluster);
  for (int64_t groups = 2; groups * tiles <= all; ++groups) consider(groups, kMostCluster);
  return best;
}

// A column of tiles is one or two pieces, each 64 channels of a tap; a block has a stretch of boxes of pixels.
template <int kRows, int kColumns>
struct WgmmaWeightGradient {
  static constexpr int kM = kRows, kN = kColumns;
  static constexpr bool kAcrossA = true, kAcrossB = true;
  using Result = float;
  TensorMap a, b;             // dy, x
  int64_t m, n, depth;        // filters; channels of all pieces; elements of a filter
  int all_boxes, part_boxes;  // of pixels
  int cluster;
  bool accumulate;
  int channels, taps;
  int stride[2], pad[2];
  Boxes boxes;
  Divisor by_chunks, by_filter_columns;  // chunks: pieces of a tap
  float* partial;                        // [groups, m, depth]

  __device__ int steps(const WgmmaPlace& at) const {
    const int left = all_boxes - first_box(at);
    return left < 0 ? 0 : left < part_boxes ? left : part_boxes;
  }
  __device__ int first_box(const WgmmaPlace& at) const { return (at.part * cluster + at.rank) * part_boxes; }
  __device__ WgmmaPixel pixel(const WgmmaPlace& at, int step) const { return boxes.corner(first_box(at) + step); }
  __device__ void load_a(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    const WgmmaPixel p = pixel(at, step);
    UNROLL
    for (int first = 0; first < kM; first += kChannels) {
      load_box(tile + first * kWgmmaDepth, &a, at.row * kM + first, p.column, p.row, p.image, barrier);
    }
  }
  __device__ void load_b(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    const WgmmaPixel p = pixel(at, step);
    UNROLL
    for (int first = 0; first < kN; first += kChannels) {
      const int piece = (at.column * kN + first) / kChannels, tap = by_chunks.quotient(piece);
      const int channel = by_chunks.remainder(piece, tap) * kChannels;  // behind the last tap too: nobody stores that
      const int tap_row = by_filter_columns.quotient(tap), tap_column = by_filter_columns.remainder(tap, tap_row);
      const int row = p.row * stride[0] + tap_row - pad[0], column = p.column * stride[1] + tap_column - pad[1];
      load_box(tile + first * kWgmmaDepth, &b, channel, column, row, p.image, barrier);
    }
  }
  __device__ float* line(const WgmmaPlace& at, int row) const {
    const int64_t k = int64_t{at.row} * kM + row;
    return k < m ? partial + (at.part * m + k) * depth : nullptr;
  }
  __device__ void store(float* line, int64_t j, Vec<float> four) const {
    const int piece = static_cast<int>(j) / kChannels, tap = by_chunks.quotient(piece);
    const int channel = by_chunks.remainder(piece, tap) * kChannels + static_cast<int>(j) % kChannels;
    if (tap >= taps || channel >= channels) return;  // channels are in eights
    float* const to = line + int64_t{tap} * channels + channel;
    if (accumulate) {
      const Vec<float> before = load_vec(to);
      UNROLL
      for (int e = 0; e < 4; ++e) four[e] = before[e] + four[e];
    }
    store_vec(to, four);
  }
};

template <int kRows, int kColumns>
void weight_gradient(const ConvBackwardWeightArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  const auto narrow = [](int64_t v) { return static_cast<int>(v); };
  use_device_of(stream);
  WgmmaWeightGradient<kRows, kColumns> p{};
  const int64_t chunks = ceil_div(s.c, kChannels);
  p.m = s.k, p.n = s.r * s.s * chunks * kChannels, p.depth = s.r * s.s * s.c;
  p.channels = narrow(s.c), p.taps = narrow(s.r * s.s), p.by_filter_columns = Divisor(s.s), p.by_chunks = Divisor(chunks);
  for (int axis = 0; axis < 2; ++axis) p.stride[axis] = narrow(s.stride[axis]), p.pad[axis] = narrow(s.pad[axis]);
  p.boxes = Boxes(kWgmmaDepth, s.p(), s.q(), p.stride);
  p.a = pixel_map(a.dy, {s.n, s.p(), s.q(), s.k}, p.boxes, {1, 1});
  p.b = pixel_map(a.x, {s.n, s.h, s.w, s.c}, p.boxes, p.stride);
  const int64_t boxes = p.boxes.count(s.n), tiles_m = ceil_div(p.m, kRows);
  const Parts parts = parts_of(boxes, tiles_m * ceil_div(p.n, kColumns));
  p.all_boxes = narrow(boxes), p.part_boxes = narrow(parts.each), p.cluster = parts.cluster;
  const auto run = [&](float* partial) {
    p.partial = partial;
    run_wgmma(p, parts.groups, tiles_m, stream);
  };
  p.accumulate = parts.groups == 1 && a.accumulate;
  if (parts.groups == 1) return run(out<float>(a.dw));
  run_parts(parts.groups, p.m * p.depth, out<float>(a.dw), a.accumulate, stream, run);
}
void backward_weight(const ConvBackwardWeightArgs& a, Stream& stream) {
  with_extent(a.shape.k, [&](auto rows) {
    with_extent(a.shape.r * a.shape.s * a.shape.c, [&](auto columns) { weight_gradient<rows(), columns()>(a, stream); });
  });
}

const char* refuse(const ConvBackwardWeightArgs& a) {
  if (a.shape.n * a.shape.p() * a.shape.q() < kWgmmaDepth) return "takes sums of at least 64 pixels";
  return refuse_wgmma(a, {a.x, a.dy, a.dw});
}

}  // namespace

void register_sm90_conv_weight() { add<ConvBackwardWeight>(REID_KERNEL_NAME("sm90_wgmma"), refuse, backward_weight); }

}  // namespace reid::REID_TARGET
