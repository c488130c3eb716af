// Convolution of bf16 on tensor cores: the products of gather.cuh on the tiles of gemm/mma_tile.cuh, with sums in f32. x, y, w and their
// gradients are bf16, but dw, which is f32. Forward, each version takes the statistics of y as well (statistics.cuh),
// or, but for mma_gather, has y pass a norm (norm.cuh).
//
// Versions:
//   mma_gather    64 x 64 sums a block, elements fetched one by one: any channels
//   mma_async     64 x 64, 128 x 64 and 128 x 128 sums, pieces of 8 channels by cp.async, four stages: channels of a group in eights
//   mma_async_padded   channels filled up to eights in the workspace, then mma_async: forward and the weights' gradient
//   mma_async_folded   two neighboring pixels of up to four channels in one of eight: the stem, whose columns go in steps of two
//   mma_windows        the same without patches: a block holds the rows of x that its pixels meet (windows.cuh)
// The weights' gradient is cut into chunks of pixels until about two blocks wait for each of an H200's 132 processors; chunks are added in
// order. Bytes of the stem at batch 64, 256 x 128: read 13 MB, folded 17 MB written and read, 67 MB stored: 27 us at 4.3 TB/s, where x
// alone would be 19 us. Its 147 terms are 7 x 7 x 8 = 392 padded, 13 steps of depth, but 7 x 4 x 8 = 224 folded, 7 steps: 15 Gflop, not 28,
// 31 us of mma.sync, not 57. From L2 its blocks read 872 MB padded, 352 MB folded, 147 MB by windows: 159, 64, 27 us at 5.5 TB/s; those of
// the weights' gradient 503 MB folded, 95 MB by windows: 91, 17 us (all calculated). Elsewhere: x + y + w once at best; each tile row reads
// its patch R S times from L2. Flops: 2 N P Q K R S C / g. Floor on H200: 790 Tflop/s by wgmma, about 490 by mma.sync. No version was
// measured yet.

#include "conv/statistics.cuh"
#include "conv/windows.cuh"
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
struct Overlapping {
  template <class Problem>
  static void run(const Problem& p, int64_t, Stream& stream) {
    run_mma_windows(p, stream);
  }
  static constexpr int kM = Windows::kPixels;
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

// --- channels that are not in eights, as an equal convolution of channels that are ---

// Rows of `width` pixels with `channels` each become rows of to.divisor pixels with `wide` channels, `pixels` neighbors side by side, each
// filled up by zeros. first: the pixel of x that the first of a row begins with.
struct FoldedRows {
  int width, channels, wide, first;
  Divisor to;
};

// Two pixels in one, where columns go in steps of two: column j of the folded map holds columns 2 j - pad % 2 of x and the next. Tap t of
// window q, which meets column 2 q - pad + t, is half t % 2 of tap t / 2, which meets column q - pad / 2 + t / 2.
// Where the filter ends, half a tap of zeros meets a pixel all the same: infinities become NaN.
template <int pixels>
struct Fold {
  static_assert(pixels == 1 || pixels == 2);
  ConvShape from, shape;
  explicit Fold(const ConvShape& s) : from(s), shape(s) {
    shape.c = pixels == 1 ? ceil_div(s.c, 8) * 8 : 8;
    if (pixels == 1) return;
    shape.s = ceil_div(s.s, pixels), shape.stride[1] = 1, shape.pad[1] = s.pad[1] / pixels;
    shape.w = s.q() + shape.s - 1 - 2 * shape.pad[1];  // for as many windows
  }
  int64_t elements_of_x() const { return shape.n * shape.h * shape.w * shape.c; }
  int64_t elements_of_w() const { return shape.k * shape.r * shape.s * shape.c; }
  FoldedRows rows_of_x() const { return rows(from.w, -from.pad[1] % pixels, shape.w); }
  FoldedRows rows_of_w() const { return rows(from.s, 0, shape.s); }

 private:
  FoldedRows rows(int64_t width, int64_t first, int64_t to) const {
    return {static_cast<int>(width), static_cast<int>(from.c), static_cast<int>(shape.c), static_cast<int>(first), Divisor(to)};
  }
};

template <int pixels>
__global__ void fold_rows_kernel(const bf16* x, bf16* folded, int count, FoldedRows rows) {
  after_predecessors();
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);  // of the folded rows' pixels
  if (i >= count) return;
  const int row = rows.to.quotient(i), first = rows.first + rows.to.remainder(i, row) * pixels;
  for (int piece = 0; piece < rows.wide; piece += 8) {
    Vec<bf16> eight;
    UNROLL
    for (int e = 0; e < 8; ++e) {
      const int column = first + (pixels == 1 ? 0 : e / (8 / pixels)), channel = pixels == 1 ? piece + e : e % (8 / pixels);
      const bool there = column >= 0 && column < rows.width && channel < rows.channels;
      eight[e] = there ? x[(int64_t{row} * rows.width + column) * rows.channels + channel] : bf16{0};
    }
    store_vec(folded + int64_t{i} * rows.wide + piece, eight);
  }
}
template <int pixels>
void fold_rows(const void* x, bf16* folded, int64_t elements, const FoldedRows& rows, Stream& stream) {
  const int64_t count = elements / rows.wide;
  launch(fold_rows_kernel<pixels>, blocks_for(count, kThreads), kThreads, 0, stream, in<bf16>(x), folded, static_cast<int>(count), rows);
}

template <class Tiles, int pixels>
void forward_folded(const ConvForwardArgs& a, Stream& stream) {
  const Fold<pixels> fold(a.shape);
  const int64_t of_x = fold.elements_of_x(), of_w = fold.elements_of_w(), moments = count_moments(a, Tiles::kM);
  auto* x = static_cast<bf16*>(
      stream.workspace(static_cast<size_t>(of_x + of_w) * sizeof(bf16) + static_cast<size_t>(moments) * sizeof(Moments)));
  bf16 *w = x + of_x, *end = w + of_w;
  fold_rows<pixels>(a.x, x, of_x, fold.rows_of_x(), stream);
  fold_rows<pixels>(a.w, w, of_w, fold.rows_of_w(), stream);
  ConvForwardArgs folded = a;
  folded.x = x, folded.w = w, folded.shape = fold.shape;
  forward_with<Tiles>(folded, moments > 0 ? reinterpret_cast<Moments*>(end) : nullptr, stream);
}

void forward_windows(const ConvForwardArgs& a, Stream& stream) {
  const Fold<2> fold(a.shape);
  const int64_t of_w = fold.elements_of_w(), moments = count_moments(a, Windows::kPixels);
  auto* w = static_cast<bf16*>(stream.workspace(static_cast<size_t>(of_w) * sizeof(bf16) + static_cast<size_t>(moments) * sizeof(Moments)));
  fold_rows<2>(a.w, w, of_w, fold.rows_of_w(), stream);
  ConvForwardArgs folded = a;
  folded.w = w;
  forward_with<Overlapping>(folded, moments > 0 ? reinterpret_cast<Moments*>(w + of_w) : nullptr, stream);
}

// Gradients of folded filters back to w's places, or dw += with `accumulate`.
template <int pixels>
__global__ void unfold_rows_kernel(const float* folded, float* dw, int count, FoldedRows rows, bool accumulate) {
  after_predecessors();
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= count) return;
  const int tap = i / rows.channels, row = tap / rows.width, column = tap - row * rows.width;
  const int64_t from = (int64_t{row} * rows.to.divisor + column / pixels) * rows.wide;
  const float value = folded[from + column % pixels * (rows.wide / pixels) + i - tap * rows.channels];
  dw[i] = accumulate ? dw[i] + value : value;
}

// Folded filters' gradients over chunks of pixels, added up in `folded` and brought to dw.
template <int pixels>
void end_folded(const WeightProblem<bf16>& p, const Fold<pixels>& fold, float* folded, const ConvBackwardWeightArgs& a, Stream& stream) {
  add_parts(p.partial, p.splits, fold.elements_of_w(), folded, false, stream);
  const int64_t elements = a.shape.k * a.shape.r * a.shape.s * a.shape.c;
  launch(unfold_rows_kernel<pixels>, blocks_for(elements, kThreads), kThreads, 0, stream, folded, out<float>(a.dw),
         static_cast<int>(elements), fold.rows_of_w(), a.accumulate);
}

// The workspace holds x folded, then the folded filters' gradients, then their parts.
template <class Tiles, int pixels>
void backward_weight_folded(const ConvBackwardWeightArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  const Fold<pixels> fold(s);
  const int64_t of_x = fold.elements_of_x(), of_w = fold.elements_of_w(), depth = s.n * s.p() * s.q();
  const int64_t split = split_of(depth, ceil_div(s.k, Tiles::kM) * ceil_div(of_w / s.k, Tiles::kN)), parts = ceil_div(depth, split);
  auto* x = static_cast<bf16*>(
      stream.workspace(static_cast<size_t>(of_x) * sizeof(bf16) + static_cast<size_t>((parts + 1) * of_w) * sizeof(float)));
  auto* dw = reinterpret_cast<float*>(x + of_x);
  fold_rows<pixels>(a.x, x, of_x, fold.rows_of_x(), stream);
  ConvBackwardWeightArgs folded = a;
  folded.x = x, folded.shape = fold.shape;
  WeightProblem<bf16> p(folded);
  p.split = split, p.splits = parts, p.partial = dw + of_w;
  Tiles::run(p, parts, stream);
  end_folded(p, fold, dw, a, stream);
}
void backward_weight_windows(const ConvBackwardWeightArgs& a, Stream& stream) {
  const Fold<2> fold(a.shape);
  const int64_t of_w = fold.elements_of_w();
  WeightProblem<bf16> p(a);
  p.n = of_w / p.m;
  p.split = steps_of_part(p.pixels / Windows::kPixels, ceil_div(p.m, WindowsGradientShape::kM), 264, 3) * Windows::kPixels;
  p.splits = ceil_div(p.pixels, p.split);
  auto* dw = static_cast<float*>(stream.workspace(static_cast<size_t>((p.splits + 1) * of_w) * sizeof(float)));
  p.partial = dw + of_w;
  run_mma_windows_gradient(p, stream);
  end_folded(p, fold, dw, a, stream);
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
// Of odd filters the folded map holds every column of x.
bool folds_in_pairs(const ConvShape& s) { return s.c <= 4 && s.stride[1] == 2 && s.dilation[1] == 1 && s.s % 2 == 1 && s.q() > 0; }
template <int pixels, class Shape, class Args>
const char* refuse_folded(const Args& a) {
  const ConvShape& s = a.shape;
  if (s.groups != 1 || s.c % 8 == 0 || s.k % 8 != 0) return "takes channels that are not in eights, filters that are, one group";
  if (pixels == 2 && !folds_in_pairs(s)) return "takes up to four channels, columns in steps of two by odd filters";
  if (s.n * s.h * s.w == 0 || s.k * s.r * s.s == 0) return "takes at least one pixel and one tap";
  if (const char* reason = refuse<Shape>(a)) return reason;
  const Fold<pixels> fold(s);
  return fold.elements_of_w() < int64_t{1} << 31 ? refuse_beyond_int(fold.shape) : "takes filters of less than 2^31 elements";
}
template <int pixels, class Shape>
const char* refuse_folded_forward(const ConvForwardArgs& a) {
  if (!aligned_to_16({a.y, a.finish.residual})) return "takes arrays that start at multiples of 16 bytes";
  if (Shape::kM > 64 && rows_of(a) < Shape::kM) return "takes pixels that fill its tiles";
  return refuse_folded<pixels, Shape>(a);
}
const char* refuse_windows(const ConvShape& s, bool rows) {
  if (s.s != 7 || !rows || s.stride[0] != 2 || s.dilation[0] != 1) return "takes filters of seven columns and few rows, in steps of two";
  const int64_t q = s.q(), lines = q > 0 ? Windows::kPixels / q : 0;
  return lines * q == Windows::kPixels && s.p() % lines == 0 ? nullptr : "takes maps that whole rows of 128 pixels divide";
}
const char* refuse_windows_forward(const ConvForwardArgs& a) {
  const char* reason = refuse_windows(a.shape, a.shape.r <= 8);
  return reason ? reason : refuse_folded_forward<2, Tall>(a);
}
template <int pixels, class Shape>
const char* refuse_folded_weight(const ConvBackwardWeightArgs& a) {
  if (a.shape.p() * a.shape.q() == 0) return "takes at least one window";
  return aligned_to_16({a.dy}) ? refuse_folded<pixels, Shape>(a) : "takes arrays that start at multiples of 16 bytes";
}
const char* refuse_gather_forward(const ConvForwardArgs& a) { return a.finish.mean ? "finishes nothing" : refuse<Small>(a); }
const char* refuse_windows_weight(const ConvBackwardWeightArgs& a) {
  const char* reason = refuse_windows(a.shape, a.shape.r == WindowsGradientShape::kWarpsN);
  return reason ? reason : refuse_folded_weight<2, Small>(a);
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
  add<ConvForward>(REID_KERNEL_NAME("mma_windows"), refuse_windows_forward, forward_windows);
  add<ConvForward>(REID_KERNEL_NAME("mma_async_folded"), refuse_folded_forward<2, Tall>, forward_folded<Async<Tall>, 2>);
  add<ConvForward>(REID_KERNEL_NAME("mma_async_padded"), refuse_folded_forward<1, Small>, forward_folded<Async<Small>, 1>);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("mma_windows"), refuse_windows_weight, backward_weight_windows);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("mma_async_folded"), refuse_folded_weight<2, Small>, backward_weight_folded<Async<Small>, 2>);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("mma_async_padded"), refuse_folded_weight<1, Small>, backward_weight_folded<Async<Small>, 1>);
  add<ConvForward>(REID_KERNEL_NAME("mma_gather"), refuse_gather_forward, forward<Gather>);
  add<ConvBackwardData>(REID_KERNEL_NAME("mma_gather"), refuse<Small, ConvBackwardDataArgs>, backward_data<Gather>);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("mma_gather"), refuse<Small, ConvBackwardWeightArgs>, backward_weight<Gather>);
}

}  // namespace reid::REID_TARGET
