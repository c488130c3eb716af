// The gradient of a convolution's weights in bf16 on Hopper's tensor cores.
//
//   dw[k, r, t, c] = sum over n, p, q of dy[n, p, q, k] x[n, p stride + r - pad, q stride + t - pad, c]
//
// Layout: as in conv/gather.cuh. Map: filters by 64 channels of a tap; a box of 64 pixels (conv_boxes.cuh) is a step of depth, and both
// operands lie across it. The boxes are cut into parts (parts_of), which the blocks of a cluster add up from each other's shared memory, in
// order. Where eight are too few, clusters leave parts of dw that a second launch adds up: of 24 of ResNet-50's layers at batch 64, 18 us
// by their bytes, where parts of single blocks of all 52 would be 407 (calculated).
//   sm90_clusters      tiles have 128 rows and columns, two blocks a processor; and 64 where there are no more
//   sm90_clusters_256  128 x 256, a block a processor: three quarters of the fetches from L2
// A pixel that sticks out multiplies zeros of dy by what x holds there: infinities of x make NaN.
// Bytes: x, dy and dw once at best; a tap's box is fetched from L2, R S times in all. Flops: 2 N P Q K R S C. Floor on H200: 790 Tflop/s.
// Not measured yet. Sibling for other devices: conv/implicit_gemm_mma.cu.

#include <limits>

#include "gemm/parts.cuh"
#include "kernels.h"
#include "sm90/conv_boxes.cuh"

namespace reid::REID_TARGET {

namespace {

// How boxes of pixels are cut: for each of the groups, of which dw is a part, a cluster's blocks have `each`.
struct Parts {
  int64_t cost, each, groups;
  int cluster;
};

// The cheapest by a count of which nothing was measured yet, in twelfths of a box's products for 128 x 128 sums. Processors have so many
// blocks in turn; one that is alone waits for its boxes, and its beginning and end are two boxes' products, where nothing hides them
// (tiles of 128 x 256) five. Those take 20 twelfths for a box, not 24: they fetch less. Another launch is eight boxes' products.
Parts cheapest_parts(int64_t boxes, int64_t tiles, bool wide, int share) {
  Parts best{std::numeric_limits<int64_t>::max(), 0, 0, 0};
  const int64_t products = wide ? 20 : 12, alone = wide ? 20 : 16, ends = wide ? 60 : 24, again = 96;
  const auto consider = [&](int64_t groups, int cluster) {
    const int64_t blocks = groups * cluster, each = ceil_div(boxes, blocks),
                  turns = ceil_div(tiles * blocks, processors_for(cluster, share));
    const int64_t cost = std::max(products * turns, alone) * each + ends * turns + (groups > 1 ? again : 0);
    if (cost < best.cost) best = {cost, each, groups, cluster};
  };
  for (int cluster = 1; cluster <= kMostCluster; ++cluster) consider(1, cluster);
  for (int64_t groups = 2; groups * tiles <= processors_for(kMostCluster, share); ++groups) consider(groups, kMostCluster);
  return best;
}

// A column of tiles is one, two or four pieces, each 64 channels of a tap; a block has a stretch of boxes of pixels.
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
  __device__ float* place(const WgmmaPlace& at, int row, int64_t j) const {
    const int64_t k = int64_t{at.row} * kM + row;
    const int piece = static_cast<int>(j) / kChannels, tap = by_chunks.quotient(piece);
    const int channel = by_chunks.remainder(piece, tap) * kChannels + static_cast<int>(j) % kChannels;
    if (k >= m || tap >= taps || channel >= channels) return nullptr;  // channels are in eights
    return partial + (at.part * m + k) * depth + int64_t{tap} * channels + channel;
  }
  __device__ void store(float* to, Vec<float> four) const {
    if (accumulate) {
      const Vec<float> before = load_vec(to);
      UNROLL
      for (int e = 0; e < 4; ++e) four[e] = before[e] + four[e];
    }
    store_vec(to, four);
  }
};

int64_t chunks_of(const ConvShape& s) { return ceil_div(s.c, kChannels); }
Boxes sum_boxes(const ConvShape& s) { return {kWgmmaDepth, s.p(), s.q(), {static_cast<int>(s.stride[0]), static_cast<int>(s.stride[1])}}; }
template <int kRows, int kColumns>
Parts parts_of(const ConvShape& s) {
  const int64_t tiles = ceil_div(s.k, kRows) * ceil_div(s.r * s.s * chunks_of(s) * kChannels, kColumns);
  return cheapest_parts(sum_boxes(s).count(s.n), tiles, kColumns == kWide, WgmmaBlock<WgmmaWeightGradient<kRows, kColumns>>::kShare);
}

template <int kRows, int kColumns>
void weight_gradient(const ConvBackwardWeightArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  const auto narrow = [](int64_t v) { return static_cast<int>(v); };
  use_device_of(stream);
  WgmmaWeightGradient<kRows, kColumns> p{};
  const int64_t chunks = chunks_of(s);
  p.m = s.k, p.n = s.r * s.s * chunks * kChannels, p.depth = s.r * s.s * s.c;
  p.channels = narrow(s.c), p.taps = narrow(s.r * s.s), p.by_filter_columns = Divisor(s.s), p.by_chunks = Divisor(chunks);
  for (int axis = 0; axis < 2; ++axis) p.stride[axis] = narrow(s.stride[axis]), p.pad[axis] = narrow(s.pad[axis]);
  p.boxes = sum_boxes(s);
  p.a = pixel_map(a.dy, {s.n, s.p(), s.q(), s.k}, p.boxes, {1, 1});
  p.b = pixel_map(a.x, {s.n, s.h, s.w, s.c}, p.boxes, p.stride);
  const Parts parts = parts_of<kRows, kColumns>(s);
  p.all_boxes = narrow(p.boxes.count(s.n)), p.part_boxes = narrow(parts.each), p.cluster = parts.cluster;
  const auto run = [&](float* partial) {
    p.partial = partial;
    run_wgmma(p, parts.groups, ceil_div(p.m, kRows), stream);
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
const char* refuse_wide(const ConvBackwardWeightArgs& a) {
  if (const char* reason = refuse(a)) return reason;
  const ConvShape& s = a.shape;
  if (s.k <= 64 || s.r * s.s * s.c <= kTile) return "takes more than 64 filters of more than 128 weights";
  return parts_of<kTile, kWide>(s).cost < parts_of<kTile, kTile>(s).cost ? nullptr : "takes what tiles of 128 x 128 would do later";
}

}  // namespace

void register_sm90_conv_weight() {
  add<ConvBackwardWeight>(REID_KERNEL_NAME("sm90_clusters_256"), refuse_wide, weight_gradient<kTile, kWide>);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("sm90_clusters"), refuse, backward_weight);
}

}  // namespace reid::REID_TARGET
