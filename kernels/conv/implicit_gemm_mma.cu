// Convolution of bf16 on tensor cores: the products of gather.cuh on the tiles of gemm/mma_tile.cuh, with sums in f32. x, y, w and their
// gradients are bf16, but dw, which is f32. Forward, each version takes the statistics of y as well (statistics.cuh),
// or, but for mma_gather, has y pass a norm (norm.cuh).
//
// Versions:
//   mma_gather    64 x 64 sums a block, elements fetched one by one: any channels
//   mma_async     64 x 64, 128 x 64 and 128 x 128 sums, pieces of 8 channels by cp.async, four stages: channels of a group in eights
//   mma_async_padded   channels filled up to eights in the workspace, then mma_async: the stem's three; forward and the weights' gradient
// The weights' gradient is cut into chunks of pixels until about two blocks wait for each of an H200's 132 processors; chunks are added in
// order. Bytes of the stem at batch 64, 256 x 128: read 13 MB, padded 34 MB written and read, 67 MB stored: 34 us at 4.3 TB/s, where x
// alone would be 19 us; 2.7 times the flops, 26 Gflop, 33 us. Elsewhere: x + y + w once at best; each tile row reads its patch R S times
// from L2. Flops: 2 N P Q K R S C / g. Floor on H200: 790 Tflop/s by wgmma, about 490 by mma.sync. No version was measured yet.

#include "conv/gather.cuh"
#include "conv/statistics.cuh"
#include "gemm/mma_tile.cuh"
#include "kernels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
using Small = MmaShape<64, 64>;
using Tall = MmaShape<128, 64>;
using Large = MmaShape<128, 128>;

// With a norm that y passes before it is stored.
struct ForwardFinish : ForwardProblem<bf16> {
  NormFinish finish;
  explicit ForwardFinish(const ConvForwardArgs& a) : ForwardProblem<bf16>(a), finish(a.finish) {}
  __device__ ChannelNorms<8> norms(int64_t group, int64_t j) const { return finish.channels(group * n + j); }
  __device__ Vec<bf16> finished(const Vec<bf16>& eight, const ChannelNorms<8>& norms, const bf16* target) const {
    if (!finish.residual) return finish(eight, norms, nullptr);
    const Vec<bf16> more = load_vec(finish.residual + (target - y));
    return finish(eight, norms, &more);
  }
};

template <class Shape>
struct Async {
  template <class Problem>
  static void run(const Problem& p, int64_t batches, Stream& stream) {
    run_mma_async<Shape>(p, batches, stream);
  }
  static constexpr int kM = Shape::kM, kN = Shape::kN;
  static constexpr bool kFinishes = true;
};
struct Gather {
  template <class Problem>
  static void run(const Problem& p, int64_t batches, Stream& stream) {
    run_mma_gather<Small>(p, batches, stream);
  }
  static constexpr int kM = Small::kM, kN = Small::kN;
  static constexpr bool kFinishes = false;
};

// moments: where there is room for them, null where no statistics are wanted.
template <class Tiles>
void forward_with(const ConvForwardArgs& a, Moments* moments, Stream& stream) {
  if constexpr (Tiles::kFinishes) {
    if (a.finish.mean) return Tiles::run(ForwardFinish(a), a.shape.groups, stream);
  }
  if (!moments) return Tiles::run(ForwardProblem<bf16>(a), a.shape.groups, stream);
  Tiles::run(ForwardMoments<bf16, Tiles::kM>(a, moments), a.shape.groups, stream);
  merge_moments(a, moments, Tiles::kM, stream);
}
template <class Tiles>
void forward(const ConvForwardArgs& a, Stream& stream) {
  forward_with<Tiles>(a, room_for_moments(a, Tiles::kM, stream), stream);
}

template <class Tiles>
void backward_data(const ConvBackwardDataArgs& a, Stream& stream) {
  const DataProblem<bf16> p(a);
  Tiles::run(p, a.shape.groups * p.phases, stream);
}

// Pixels of a chunk.
int64_t split_of(int64_t pixels, int64_t tiles) { return steps_of_part(ceil_div(pixels, kMmaDepth), tiles, 264, 8) * kMmaDepth; }

template <class Tiles>
void backward_weight(const ConvBackwardWeightArgs& a, Stream& stream) {
  WeightProblem<bf16> p(a);
  const int64_t tiles = ceil_div(p.m, Tiles::kM) * ceil_div(p.n, Tiles::kN) * a.shape.groups;
  if (tiles == 0) return;
  run_splits(p, split_of(p.pixels, tiles), a, stream, [&] { Tiles::run(p, a.shape.groups * p.splits, stream); });
}

// --- channels filled up to eights: rows of `from` elements become rows of `to`, zeros behind ---

__global__ void pad_rows_kernel(const bf16* x, bf16* y, int64_t rows, Divisor to, int from) {
  after_predecessors();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= rows) return;
  const int width = static_cast<int>(to.divisor);
  for (int piece = 0; piece < width; piece += 8) {
    Vec<bf16> eight;
    for (int e = 0; e < 8; ++e) eight[e] = piece + e < from ? x[i * from + piece + e] : bf16{0};
    store_vec(y + i * width + piece, eight);
  }
}

void pad_rows(const void* x, bf16* y, int64_t rows, int64_t from, int64_t to, Stream& stream) {
  launch(pad_rows_kernel, blocks_for(rows, kThreads), kThreads, 0, stream, in<bf16>(x), y, rows, Divisor(to), static_cast<int>(from));
}

template <class Tiles>
void forward_padded(const ConvForwardArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  const int64_t channels = ceil_div(s.c, 8) * 8, pixels = s.n * s.h * s.w, taps = s.k * s.r * s.s;
  if (pixels == 0 || taps == 0) return;
  const int64_t moments = count_moments(a, Tiles::kM);
  const size_t padded_bytes = static_cast<size_t>((pixels + taps) * channels) * sizeof(bf16);
  auto* x = static_cast<bf16*>(stream.workspace(padded_bytes + static_cast<size_t>(moments) * sizeof(Moments)));
  bf16 *w = x + pixels * channels, *end = w + taps * channels;
  pad_rows(a.x, x, pixels, s.c, channels, stream);
  pad_rows(a.w, w, taps, s.c, channels, stream);
  ConvForwardArgs padded = a;
  padded.x = x, padded.w = w, padded.shape.c = channels;
  forward_with<Tiles>(padded, moments > 0 ? reinterpret_cast<Moments*>(end) : nullptr, stream);
}

// Rows of `to` elements without the zeros behind `from`, or narrow += with `accumulate`.
__global__ void narrow_rows_kernel(const float* wide, float* narrow, int64_t count, Divisor from, int to, bool accumulate) {
  after_predecessors();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int row = from.quotient(static_cast<int>(i));
  const float value = wide[int64_t{row} * to + from.remainder(static_cast<int>(i), row)];
  narrow[i] = accumulate ? narrow[i] + value : value;
}

// The workspace holds x with more channels, then the filters' gradients with as many, then their parts.
template <class Tiles>
void backward_weight_padded(const ConvBackwardWeightArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  const int64_t channels = ceil_div(s.c, 8) * 8, pixels = s.n * s.h * s.w, taps = s.k * s.r * s.s, depth = s.n * s.p() * s.q();
  const int64_t split = split_of(depth, ceil_div(s.k, Tiles::kM) * ceil_div(s.r * s.s * channels, Tiles::kN));
  const int64_t parts = ceil_div(depth, split), count = taps * channels;
  auto* x = static_cast<bf16*>(
      stream.workspace(static_cast<size_t>(pixels * channels) * sizeof(bf16) + static_cast<size_t>((parts + 1) * count) * sizeof(float)));
  auto* dw = reinterpret_cast<float*>(x + pixels * channels);
  pad_rows(a.x, x, pixels, s.c, channels, stream);
  ConvBackwardWeightArgs padded = a;
  padded.x = x, padded.shape.c = channels;
  WeightProblem<bf16> p(padded);
  p.split = split, p.splits = parts, p.partial = dw + count;
  Tiles::run(p, parts, stream);
  add_parts(p.partial, parts, count, dw, false, stream);
  launch(narrow_rows_kernel, blocks_for(taps * s.c, kThreads), kThreads, 0, stream, dw, out<float>(a.dw), taps * s.c, Divisor(s.c),
         static_cast<int>(channels), a.accumulate);
}

// --- conditions ---

template <class Shape, class Args>
const char* refuse(const Args& a) {
  const char* reason = refuse_beyond_int(a.shape);
  if constexpr (std::is_same_v<Args, ConvForwardArgs>) reason = reason ? reason : refuse_statistics(a, Shape::kM);
  if constexpr (std::is_same_v<Args, ConvBackwardDataArgs>) reason = reason ? reason : refuse_wide_strides(a.shape);
  if (!reason) reason = refuse_sums(a);
  return reason ? reason : refuse_other_than_bf16(a.dtype);
}

bool eights(const ConvShape& s) { return s.c / s.groups % 8 == 0 && s.k / s.groups % 8 == 0; }
// The product's extents, that tiles should fill.
int64_t rows_of(const ConvForwardArgs& a) { return a.shape.n * a.shape.p() * a.shape.q(); }
int64_t rows_of(const ConvBackwardDataArgs& a) { return a.shape.n * a.shape.h * a.shape.w; }
int64_t rows_of(const ConvBackwardWeightArgs& a) { return a.shape.k / a.shape.groups; }
int64_t columns_of(const ConvForwardArgs& a) { return a.shape.k / a.shape.groups; }
int64_t columns_of(const ConvBackwardDataArgs& a) { return a.shape.c / a.shape.groups; }
int64_t columns_of(const ConvBackwardWeightArgs& a) { return a.shape.r * a.shape.s * a.shape.c / a.shape.groups; }
bool aligned(const ConvForwardArgs& a) { return aligned_to_16({a.x, a.w, a.y, a.finish.residual}); }
bool aligned(const ConvBackwardDataArgs& a) { return aligned_to_16({a.dy, a.w, a.dx, a.addend}); }
bool aligned(const ConvBackwardWeightArgs& a) { return aligned_to_16({a.x, a.dy}); }

template <class Shape, class Args>
const char* refuse_pieces(const Args& a) {
  if (!eights(a.shape)) return "takes channels and filters of groups in eights";
  if (!aligned(a)) return "takes arrays that start at multiples of 16 bytes";
  if (Shape::kM > 64 && (rows_of(a) < Shape::kM || columns_of(a) < Shape::kN)) return "takes products that fill its tiles";
  return refuse<Shape>(a);
}
template <class Args>
const char* refuse_padded(const Args& a, const void* result) {
  if (a.shape.groups != 1 || a.shape.c % 8 == 0 || a.shape.k % 8 != 0)
    return "takes channels that are not in eights, filters that are, one group";
  return aligned_to_16({result}) ? refuse<Small>(a) : "takes arrays that start at multiples of 16 bytes";
}
const char* refuse_padded_forward(const ConvForwardArgs& a) {
  return aligned_to_16({a.finish.residual}) ? refuse_padded(a, a.y) : "takes a residual that starts at a multiple of 16 bytes";
}
const char* refuse_gather_forward(const ConvForwardArgs& a) { return a.finish.mean ? "finishes nothing" : refuse<Small>(a); }
const char* refuse_padded_weight(const ConvBackwardWeightArgs& a) {
  return a.shape.n * a.shape.p() * a.shape.q() == 0 ? "takes at least one pixel" : refuse_padded(a, a.dy);
}

template <class Op, template <class> class Run, class Shape>
void add_async(const char* name) {
  add<Op>(name, refuse_pieces<Shape, typename Op::Args>, Run<Async<Shape>>::run);
}

template <class Tiles>
struct Forward {
  static void run(const ConvForwardArgs& a, Stream& stream) { forward<Tiles>(a, stream); }
};
template <class Tiles>
struct BackwardData {
  static void run(const ConvBackwardDataArgs& a, Stream& stream) { backward_data<Tiles>(a, stream); }
};
template <class Tiles>
struct BackwardWeight {
  static void run(const ConvBackwardWeightArgs& a, Stream& stream) { backward_weight<Tiles>(a, stream); }
};

template <class Op, template <class> class Run>
void add_all() {
  add_async<Op, Run, Large>(REID_KERNEL_NAME("mma_async_128"));
  add_async<Op, Run, Tall>(REID_KERNEL_NAME("mma_async_128x64"));
  add_async<Op, Run, Small>(REID_KERNEL_NAME("mma_async"));
}

}  // namespace

void register_conv_implicit_gemm_mma() {
  add_all<ConvForward, Forward>();
  add_all<ConvBackwardData, BackwardData>();
  add_all<ConvBackwardWeight, BackwardWeight>();
  add<ConvForward>(REID_KERNEL_NAME("mma_async_padded"), refuse_padded_forward, forward_padded<Async<Small>>);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("mma_async_padded"), refuse_padded_weight, backward_weight_padded<Async<Small>>);
  add<ConvForward>(REID_KERNEL_NAME("mma_gather"), refuse_gather_forward, forward<Gather>);
  add<ConvBackwardData>(REID_KERNEL_NAME("mma_gather"), refuse<Small, ConvBackwardDataArgs>, backward_data<Gather>);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("mma_gather"), refuse<Small, ConvBackwardWeightArgs>, backward_weight<Gather>);
}

}  // namespace reid::REID_TARGET
