// Convolution of bf16 on Hopper's tensor cores: forward, and the gradient of the data. That of the weights: conv_weight.cu.
//
//   y[n, p, q, k]  = sum over taps, c of x[n, p stride + r - pad, q stride + t - pad, c] w[k, r, t, c]
//   dx[n, h, w, c] = sum over taps, k of dy[n, (h + pad - r) / stride, (w + pad - t) / stride, k] w[k, r, t, c], where that is whole
//
// Layout: as in conv/gather.cuh, and its phases: pixels of dx that meet the same taps are a convolution without stride.
// Map: a block's 128 rows are a box of pixels (conv_boxes.cuh); 64 channels of one tap are a step of depth (wgmma_tile.cuh).
//   sm90_wgmma      tiles have 128 columns, and 64 where there are no more, or where a norm's sums are taken (dy's boxes are fetched twice
//                   as often then); two blocks a processor or more
//   sm90_wgmma_256  256 columns, a block a processor: three quarters of the fetches from L2, where all processors have work
//   sm90_pairs      both by pairs of blocks, of which each fetches half of w's boxes, for both: three quarters of the fetches of tiles of
//   sm90_pairs_256  128 columns, two thirds of those of 256. Where sums are long: pairs begin and end together
// Bytes: x (dy), w, y once at best; a tap's box is fetched from L2, R S times in all. Flops: 2 N P Q K R S C. Floor on H200: 790
// Tflop/s. No version was measured yet. Sibling for other devices: conv/implicit_gemm_mma.cu. Forward also takes the statistics of y
// (conv/statistics.cuh), where boxes divide the maps, or has y pass a norm (norm.cuh), whose table each block makes and whose residual's
// boxes come while products run: in inference 40 of ResNet-50-IBN-a's 53 norms are no pass of their own, 29 MB less an image of 256 x 128
// (calculated: 1.7 ms of a batch of 256). The data's gradient also takes an addend, and then turns what comes of both into the gradient
// that a norm before it lets through, with its sums (NormSumsArgs): the boxes of the addend and x are fetched while products run, the signs
// of y are bits (0.45 GB less to read at batch 64; calculated: 0.1 ms). Between the bottlenecks of ResNet-50 at batch 64 that is four
// passes less over 0.5 GB (calculated: 0.5 ms; twice the boxes of dy, from L2, not counted).

#include "conv/statistics.cuh"
#include "kernels.h"
#include "sm90/conv_boxes.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kPixels = 128;  // of a block's box, forward and data

// --- forward, and the data's gradient: maps of `from` channels gathered into maps of n channels ---

// Rows or columns of one phase. Pixel i of the result is first + i stride; tap t is tap + t tap_step of the filter, and meets the source's
// base + i move + t turn.
struct GatherAxis {
  int first, stride, count;
  int tap, tap_step, taps;
  int base, move, turn;
  Divisor by_taps;
};
GatherAxis forward_axis(const ConvShape& s, int axis) {
  const auto narrow = [](int64_t v) { return static_cast<int>(v); };
  const int64_t taps = axis == 0 ? s.r : s.s;
  return {0, 1, narrow(axis == 0 ? s.p() : s.q()), 0, 1, narrow(taps), narrow(-s.pad[axis]), narrow(s.stride[axis]), 1, Divisor(taps)};
}
GatherAxis data_axis(const ConvShape& s, int axis, int64_t phase) {
  const PhaseAxis p(phase, axis == 0 ? s.h : s.w, axis == 0 ? s.r : s.s, s.stride[axis], s.pad[axis], 1);
  return {p.first, static_cast<int>(s.stride[axis]), p.count, p.tap, p.tap_step, p.taps, p.base, 1, -p.step, p.by_taps};
}

// A block's part is its phase.
template <int kColumns, bool paired, bool forward>
struct WgmmaConvolution {
  static constexpr int kM = kPixels, kN = kColumns;
  static constexpr bool kForward = forward, kAcrossA = false, kAcrossB = !forward, kPaired = paired;
  static constexpr int kOwn = paired ? kN / 2 : kN;  // columns whose boxes of w a block fetches
  using Result = bf16;
  TensorMap a, b;
  int64_t n;
  int images, rows, columns;  // of the result
  int chunks;                 // of 64 channels of the source
  int filter_columns;
  int phases;
  Divisor by_chunks, by_column_phases;
  Boxes boxes;
  GatherAxis down[kMostStride], across[kMostStride];
  bf16* result;  // [images, rows, columns, n]

  // A block's axes; forward it has no choice.
  __device__ const GatherAxis& row_axis(const WgmmaPlace& at) const { return down[forward ? 0 : by_column_phases.quotient(at.part)]; }
  __device__ const GatherAxis& column_axis(const WgmmaPlace& at) const {
    return across[forward ? 0 : by_column_phases.remainder(at.part, by_column_phases.quotient(at.part))];
  }
  __device__ int steps(const WgmmaPlace& at) const { return row_axis(at).taps * column_axis(at).taps * chunks; }
  __device__ void load_a(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    const GatherAxis &r = row_axis(at), &c = column_axis(at);
    const WgmmaPixel pixel = boxes.corner(at.row);
    const int tap = by_chunks.quotient(step), tap_row = c.by_taps.quotient(tap);
    const int row = r.base + pixel.row * r.move + tap_row * r.turn;
    const int column = c.base + pixel.column * c.move + c.by_taps.remainder(tap, tap_row) * c.turn;
    load_box(tile, &a, by_chunks.remainder(step, tap) * kWgmmaDepth, column, row, pixel.image, barrier);
  }
  // w as [K, taps, C]: forward kN filters by 64 channels, else 64 filters by kN channels, 64 a box.
  __device__ void load_b(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    const GatherAxis &r = row_axis(at), &c = column_axis(at);
    const int index = by_chunks.quotient(step), depth = by_chunks.remainder(step, index) * kWgmmaDepth;
    const int own = paired ? at.rank * kOwn : 0, place = at.column * kN + own;
    const int index_row = c.by_taps.quotient(index), index_column = c.by_taps.remainder(index, index_row);
    const int tap = (r.tap + index_row * r.tap_step) * filter_columns + c.tap + index_column * c.tap_step;
    bf16* const to = tile + own * kWgmmaDepth;
    if constexpr (forward) {
      load_columns<WgmmaConvolution>(to, &b, depth, tap, place, 0, barrier);
    } else {
      UNROLL
      for (int first = 0; first < kOwn; first += kChannels)
        load_columns<WgmmaConvolution>(to + first * kWgmmaDepth, &b, place + first, tap, depth, 0, barrier);
    }
  }
  __device__ bf16* line(const WgmmaPlace& at, int row) const {
    const GatherAxis &r = row_axis(at), &c = column_axis(at);
    const WgmmaPixel at_row = boxes.pixel(boxes.corner(at.row), row);
    if (at_row.column >= c.count || at_row.row >= r.count || at_row.image >= images) return nullptr;
    const int64_t line = (int64_t{at_row.image} * rows + r.first + at_row.row * r.stride) * columns;
    return result + (line + c.first + at_row.column * c.stride) * n;
  }
  __device__ void store(bf16* line, int64_t j, const Vec<bf16>& eight) const {
    if (j < n) store_vec(line + j, eight);  // n is a multiple of 8
  }
};

template <int kColumns, bool paired>
using WgmmaForward = WgmmaConvolution<kColumns, paired, true>;
template <int kColumns, bool paired>
using WgmmaData = WgmmaConvolution<kColumns, paired, false>;

// With the moments of y's columns over every box, moments [boxes, K].
template <class Convolution>
struct WgmmaForwardMoments : Convolution {
  Moments* moments;
  __device__ void store_moments(const WgmmaPlace& at, int64_t j, const Moments& of) const { moments[at.row * this->n + j] = of; }
};

// With maps laid out as the result, of which the blocks' boxes are extras.
template <class Convolution, int kCount>
struct WgmmaExtras : Convolution {
  static constexpr int kExtras = kCount, kN = Convolution::kN;
  TensorMap extras[kCount];
  __device__ void load_extra(int which, bf16* tile, const WgmmaPlace& at, Mbarrier* barrier) const {
    const GatherAxis &r = this->row_axis(at), &c = this->column_axis(at);
    const WgmmaPixel pixel = this->boxes.corner(at.row);
    const int row = r.first + pixel.row * r.stride, column = c.first + pixel.column * c.stride;
    UNROLL
    for (int first = 0; first < kN; first += kChannels) {
      load_box(tile + first * kPixels, &extras[which], at.column * kN + first, column, row, pixel.image, barrier);
    }
  }
};
// With the sums of the norm before. With 128 columns this would take more registers than two blocks leave each other.
struct WgmmaDataNorm : WgmmaExtras<WgmmaData<kChannels, false>, 2> {
  const uint64_t* signs;  // [pixels, n / 64]
  int boxes_of_phase;
  const float *mean, *variance;
  float eps;
  float *sums, *dots;  // [phases, boxes of a phase, n]
  __device__ uint64_t positive(const WgmmaPlace& at, int row) const {
    const bf16* const pixel = line(at, row);
    return pixel ? signs[(pixel - result) / kChannels + at.column] : 0;
  }
  __device__ void store_gradient_sums(const WgmmaPlace& at, int64_t j, const GradientSums& of) const {
    const int64_t to = (int64_t{at.part} * boxes_of_phase + at.row) * n + j;
    sums[to] = of.sum, dots[to] = of.dot / sqrtf(variance[j] + eps);
  }
};

// With a norm that y passes before it is stored; the extra is the residual.
template <class Convolution>
struct WgmmaForwardFinish : Convolution {
  NormFinish finish;
};

// Boxes of y.
Boxes forward_boxes(const ConvShape& s) { return {kPixels, s.p(), s.q(), {static_cast<int>(s.stride[0]), static_cast<int>(s.stride[1])}}; }

template <class Convolution>
Convolution convolution(const ConvShape& s, const void* source, const void* w, void* result, Stream& stream) {
  constexpr bool forward = Convolution::kForward;
  const int64_t from = forward ? s.c : s.k, taps = s.r * s.s;
  use_device_of(stream);
  Convolution p{};
  p.n = forward ? s.k : s.c, p.images = static_cast<int>(s.n);
  p.rows = static_cast<int>(forward ? s.p() : s.h), p.columns = static_cast<int>(forward ? s.q() : s.w);
  p.chunks = static_cast<int>(ceil_div(from, kWgmmaDepth)), p.filter_columns = static_cast<int>(s.s), p.result = out<bf16>(result);
  const int row_phases = forward ? 1 : static_cast<int>(s.stride[0]);
  const int column_phases = forward ? 1 : static_cast<int>(s.stride[1]);
  p.by_chunks = Divisor(p.chunks), p.by_column_phases = Divisor(column_phases);
  int most[2] = {};  // pixels of a phase
  for (int f = 0; f < row_phases; ++f) {
    p.down[f] = forward ? forward_axis(s, 0) : data_axis(s, 0, f), most[0] = std::max(most[0], p.down[f].count);
  }
  for (int f = 0; f < column_phases; ++f) {
    p.across[f] = forward ? forward_axis(s, 1) : data_axis(s, 1, f), most[1] = std::max(most[1], p.across[f].count);
  }
  const int every[2] = {p.down[0].move, p.across[0].move}, stride[2] = {static_cast<int>(s.stride[0]), static_cast<int>(s.stride[1])};
  p.boxes = Boxes(kPixels, most[0], most[1], stride);
  p.a = pixel_map(source, {s.n, forward ? s.h : s.p(), forward ? s.w : s.q(), from}, p.boxes, every);
  p.b = tensor_map(in<bf16>(w),
                   {{s.c, taps, s.k, 1}, {1, s.c, taps * s.c, s.k * taps * s.c}, {kChannels, 1, forward ? p.kOwn : kWgmmaDepth, 1}});
  p.phases = row_phases * column_phases;
  return p;
}

template <class Forward>
void forward_and_moments(const ConvForwardArgs& a, Stream& stream) {
  Moments* moments = room_for_moments(a, kPixels, stream);
  const auto p = convolution<Forward>(a.shape, a.x, a.w, a.y, stream);
  const int64_t boxes = p.boxes.count(a.shape.n);
  moments ? run_wgmma(WgmmaForwardMoments<Forward>{p, moments}, 1, boxes, stream) : run_wgmma(p, 1, boxes, stream);
  if (moments) merge_moments(a, moments, kPixels, stream);
}
template <class Forward>
void forward_and_finish(const ConvForwardArgs& a, Stream& stream) {
  const auto p = convolution<Forward>(a.shape, a.x, a.w, a.y, stream);
  const int64_t boxes = p.boxes.count(a.shape.n);
  const NormFinish finish(a.finish);
  if (!a.finish.residual) return run_wgmma(WgmmaForwardFinish<Forward>{p, finish}, 1, boxes, stream);
  using Extras = WgmmaExtras<Forward, 1>;
  const Extras with{p, {pixel_map(a.finish.residual, {a.shape.n, p.rows, p.columns, a.shape.k}, p.boxes, {1, 1})}};
  run_wgmma(WgmmaForwardFinish<Extras>{with, finish}, 1, boxes, stream);
}
// Of tiles of 256 columns registers and stages leave no room for a norm or an addend: these have 128.
template <int kColumns, bool paired>
void forward_by(const ConvForwardArgs& a, Stream& stream) {
  a.finish.mean ? forward_and_finish<WgmmaForward<std::min(kColumns, kTile), paired>>(a, stream)
                : forward_and_moments<WgmmaForward<kColumns, paired>>(a, stream);
}
void forward(const ConvForwardArgs& a, Stream& stream) {
  with_extent(a.shape.k, [&](auto columns) { forward_by<columns(), false>(a, stream); });
}

// A map laid out as dx, in the boxes of its phases.
TensorMap extra_map(const void* data, const ConvShape& s, const Boxes& boxes) {
  return pixel_map(data, {s.n, s.h, s.w, s.c}, boxes, {static_cast<int>(s.stride[0]), static_cast<int>(s.stride[1])});
}

template <class Data>
void backward_data_alone(const ConvBackwardDataArgs& a, Stream& stream) {
  const auto p = convolution<Data>(a.shape, a.dy, a.w, a.dx, stream);
  run_wgmma(p, p.phases, p.boxes.count(a.shape.n), stream);
}
template <class Data>
void backward_data_and_addend(const ConvBackwardDataArgs& a, Stream& stream) {
  const auto p = convolution<Data>(a.shape, a.dy, a.w, a.dx, stream);
  run_wgmma(WgmmaExtras<Data, 1>{p, {extra_map(a.addend, a.shape, p.boxes)}}, p.phases, p.boxes.count(a.shape.n), stream);
}

void backward_data_and_sums(const ConvBackwardDataArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  WgmmaDataNorm p{};
  static_cast<WgmmaData<kChannels, false>&>(p) = convolution<WgmmaData<kChannels, false>>(s, a.dy, a.w, a.dx, stream);
  p.extras[0] = extra_map(a.addend, s, p.boxes), p.extras[1] = extra_map(a.norm.x, s, p.boxes);
  p.signs = in<uint64_t>(a.norm.positive);
  const int64_t boxes = p.boxes.count(s.n), items = p.phases * boxes;
  p.boxes_of_phase = static_cast<int>(boxes);
  p.mean = in<float>(a.norm.mean), p.variance = in<float>(a.norm.variance), p.eps = static_cast<float>(a.norm.eps);
  p.sums = static_cast<float*>(stream.workspace(static_cast<size_t>(2 * items * s.c) * sizeof(float))), p.dots = p.sums + items * s.c;
  run_wgmma(p, p.phases, boxes, stream);
  merge_sums(p.sums, 1, items, s.c, out<float>(a.norm.dbeta), out<float>(a.norm.dgamma), stream);
}

template <int kColumns, bool paired>
void backward_data_by(const ConvBackwardDataArgs& a, Stream& stream) {
  if (a.norm.x) return backward_data_and_sums(a, stream);
  a.addend ? backward_data_and_addend<WgmmaData<std::min(kColumns, kTile), paired>>(a, stream)
           : backward_data_alone<WgmmaData<kColumns, paired>>(a, stream);
}
void backward_data(const ConvBackwardDataArgs& a, Stream& stream) {
  with_extent(a.shape.c, [&](auto columns) { backward_data_by<columns(), false>(a, stream); });
}

// --- conditions ---

// Boxes follow each other image by image: those of a group are neighbors where they hold whole images of it, or a part of one.
const char* refuse_boxes(const ConvForwardArgs& a) {
  const ConvShape& s = a.shape;
  const Boxes boxes = forward_boxes(s);
  const bool whole = s.p() % boxes.rows == 0 && s.q() % boxes.columns == 0;
  for (const NormStatisticsArgs& statistics : a.statistics) {
    if (statistics.x && !(whole && statistics.window.length % (s.p() * s.q() * boxes.images) == 0))
      return "takes statistics of maps that boxes divide, over groups of whole images";
  }
  return refuse_statistics(a, kPixels);
}
constexpr char kFewPixels[] = "takes at least 128 pixels";
const char* refuse_forward(const ConvForwardArgs& a) {
  if (a.shape.n * a.shape.p() * a.shape.q() < kPixels) return kFewPixels;
  const char* reason = refuse_wgmma(a, {a.x, a.w, a.y, a.finish.residual});
  return reason ? reason : refuse_boxes(a);
}
const char* refuse_data(const ConvBackwardDataArgs& a) {
  if (a.norm.x && (!a.addend || a.shape.c % kChannels != 0)) return "takes a norm's sums of channels in sixty-fours, with an addend";
  return a.shape.n * a.shape.h * a.shape.w < kPixels ? kFewPixels : refuse_wgmma(a, {a.dy, a.w, a.dx, a.addend, a.norm.x, a.norm.positive});
}
// Tiles of 128 x 256 have a processor for themselves, where of 128 x 128 two share one: that is quicker where all have as many turns, and
// where sums are so long that a tile's beginning and end, which nothing hides, are less than what fewer fetches save.
template <int kColumns, bool paired>
const char* refuse_tiles(const Boxes& boxes, int64_t images, int64_t columns, int64_t terms) {
  if (terms < deep_terms()) return "takes sums that are long for such tiles";
  const int64_t tiles_m = boxes.count(images), wide = tiles_m * ceil_div(columns, kWide), narrow = tiles_m * ceil_div(columns, kTile);
  if (paired && tiles_m % 2 != 0) return "takes boxes that come in pairs";
  if (columns <= kTile / 2) return "takes more than 64 columns";
  if (kColumns == kTile || 2 * ceil_div(wide, processors()) <= ceil_div(narrow, processors())) return nullptr;
  return "takes tiles of 128 x 256 that fill all processors' turns";
}
template <int kColumns, bool paired>
const char* refuse_forward_by(const ConvForwardArgs& a) {
  const ConvShape& s = a.shape;
  const char* reason = refuse_forward(a);
  return reason ? reason : refuse_tiles<kColumns, paired>(forward_boxes(s), s.n, s.k, s.r * s.s * s.c);
}
template <int kColumns, bool paired>
const char* refuse_data_by(const ConvBackwardDataArgs& a) {
  const ConvShape& s = a.shape;
  if (s.stride[0] != 1 || s.stride[1] != 1) return "takes strides of one";
  if (paired && a.norm.x) return "takes no norm's sums";
  const char* reason = refuse_data(a);
  return reason ? reason : refuse_tiles<kColumns, paired>({kPixels, s.h, s.w, {1, 1}}, s.n, s.c, s.r * s.s * s.k);
}

}  // namespace

void register_sm90_conv() {
  add<ConvForward>(REID_KERNEL_NAME("sm90_pairs_256"), refuse_forward_by<kWide, true>, forward_by<kWide, true>);
  add<ConvForward>(REID_KERNEL_NAME("sm90_pairs"), refuse_forward_by<kTile, true>, forward_by<kTile, true>);
  add<ConvForward>(REID_KERNEL_NAME("sm90_wgmma_256"), refuse_forward_by<kWide, false>, forward_by<kWide, false>);
  add<ConvForward>(REID_KERNEL_NAME("sm90_wgmma"), refuse_forward, forward);
  add<ConvBackwardData>(REID_KERNEL_NAME("sm90_pairs_256"), refuse_data_by<kWide, true>, backward_data_by<kWide, true>);
  add<ConvBackwardData>(REID_KERNEL_NAME("sm90_pairs"), refuse_data_by<kTile, true>, backward_data_by<kTile, true>);
  add<ConvBackwardData>(REID_KERNEL_NAME("sm90_wgmma_256"), refuse_data_by<kWide, false>, backward_data_by<kWide, false>);
  add<ConvBackwardData>(REID_KERNEL_NAME("sm90_wgmma"), refuse_data, backward_data);
}

}  // namespace reid::REID_TARGET
