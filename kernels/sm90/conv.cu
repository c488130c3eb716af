// Convolution of bf16 without stride on Hopper's tensor cores: forward, and the data's gradient, which is the same with mirrored taps.
//
//   y[n, p, q, k]  = sum over taps, c of x[n, p + r - pad, q + t - pad, c] w[k, r, t, c]
//   dx[n, h, w, c] = sum over taps, k of dy[n, h + pad - r, w + pad - t, k] w[k, r, t, c]
//
// Layout: as in conv/gather.cuh. Map: a block's 128 rows are a box of pixels, columns by rows by images (16 x 8 x 1 where the map is large
// enough), so that a tap's patches are a box too, moved by the tap: the copy engine gathers, and what lies beyond the border arrives as
// the zeros of the padding. 64 channels of one tap are a step of depth (wgmma_tile.cuh). Maps that boxes do not divide lose what sticks
// out. Bytes: x (dy), w, y once at best; a tap's box is fetched from L2, R S times in all. Flops: 2 N P Q K R S C. Floor on H200: 790
// Tflop/s. No version was measured yet. Sibling for other devices and for strides: conv/implicit_gemm_mma.cu. Next: strides by the copy
// engine's element steps, statistics of the norm that follows, the weights' gradient.

#include "kernels.h"
#include "sm90/wgmma_tile.cuh"

namespace reid::REID_TARGET {

namespace {

// One direction: maps of `from` channels gathered into maps of n channels.
template <bool forward>
struct WgmmaConvolution {
  static constexpr bool kAcrossA = false, kAcrossB = !forward;
  TensorMap a, b;
  int64_t n;
  int images, rows, columns, chunks;          // of the result; chunks: of 64 channels of the source
  int box_rows, box_columns, box_images;      // of pixels: 128 in all
  int tiles_rows, tiles_columns;              // of an image
  int filter_rows, filter_columns, shift[2];  // shift: of a box for tap 0
  bf16* result;                               // [images, rows, columns, n]

  struct Pixel {
    int image, row, column;
  };
  __device__ Pixel corner(int block_row) const {
    const int line = block_row / tiles_columns;
    return {line / tiles_rows * box_images, line % tiles_rows * box_rows, block_row % tiles_columns * box_columns};
  }
  __device__ int steps() const { return filter_rows * filter_columns * chunks; }
  __device__ void load_a(bf16* tile, int block_row, int step, Mbarrier* barrier) const {
    const Pixel at = corner(block_row);
    const int tap = step / chunks, down = tap / filter_columns, right = tap % filter_columns;
    const int row = at.row + shift[0] + (forward ? down : -down), column = at.column + shift[1] + (forward ? right : -right);
    load_box(tile, &a, step % chunks * kWgmmaDepth, column, row, at.image, barrier);
  }
  // w as [K, taps, C]: forward 128 filters by 64 channels, else 64 filters by twice 64 channels.
  __device__ void load_b(bf16* tile, int block_column, int step, Mbarrier* barrier) const {
    const int tap = step / chunks, depth = step % chunks * kWgmmaDepth, place = block_column * kWgmmaTile;
    if constexpr (forward) {
      load_box(tile, &b, depth, tap, place, 0, barrier);
    } else {
      load_box(tile, &b, place, tap, depth, 0, barrier);
      load_box(tile + 64 * kWgmmaDepth, &b, place + 64, tap, depth, 0, barrier);
    }
  }
  __device__ bf16* line(int block_row, int row) const {
    const Pixel at = corner(block_row);
    const int above = row / box_columns, column = at.column + row % box_columns;
    const int line = at.row + above % box_rows, image = at.image + above / box_rows;
    if (column >= columns || line >= rows || image >= images) return nullptr;
    return result + ((int64_t{image} * rows + line) * columns + column) * n;
  }
  __device__ void store(bf16* line, int64_t j, float first, float second) const {
    if (j < n) line[j] = to_bf16(first), line[j + 1] = to_bf16(second);  // n is a multiple of 8: both are inside
  }
};

// The largest power of two up to both.
int box_extent(int64_t extent, int most) {
  int size = 1;
  while (size * 2 <= most && size * 2 <= extent) size *= 2;
  return size;
}

template <bool forward>
void run(const ConvShape& s, const void* source, const void* w, void* result, Stream& stream) {
  WgmmaConvolution<forward> p{};
  const int64_t from = forward ? s.c : s.k, from_rows = forward ? s.h : s.p(), from_columns = forward ? s.w : s.q(), taps = s.r * s.s;
  p.n = forward ? s.k : s.c, p.images = static_cast<int>(s.n);
  p.rows = static_cast<int>(forward ? s.p() : s.h), p.columns = static_cast<int>(forward ? s.q() : s.w);
  p.box_columns = box_extent(p.columns, 16), p.box_rows = box_extent(p.rows, kWgmmaTile / p.box_columns);
  p.box_images = kWgmmaTile / p.box_columns / p.box_rows;
  p.tiles_rows = static_cast<int>(ceil_div(p.rows, p.box_rows)), p.tiles_columns = static_cast<int>(ceil_div(p.columns, p.box_columns));
  p.chunks = static_cast<int>(ceil_div(from, kWgmmaDepth));
  p.filter_rows = static_cast<int>(s.r), p.filter_columns = static_cast<int>(s.s), p.result = out<bf16>(result);
  for (int axis = 0; axis < 2; ++axis) p.shift[axis] = static_cast<int>(forward ? -s.pad[axis] : s.pad[axis]);
  p.a = tensor_map(in<bf16>(source), {{from, from_columns, from_rows, s.n},
                                      {1, from, from_columns * from, from_rows * from_columns * from},
                                      {64, p.box_columns, p.box_rows, p.box_images}});
  p.b = tensor_map(in<bf16>(w),
                   {{s.c, taps, s.k, 1}, {1, s.c, taps * s.c, s.k * taps * s.c}, {64, 1, forward ? kWgmmaTile : kWgmmaDepth, 1}});
  run_wgmma(p, ceil_div(s.n, p.box_images) * p.tiles_rows * p.tiles_columns, stream);
}

void forward(const ConvForwardArgs& a, Stream& stream) { run<true>(a.shape, a.x, a.w, a.y, stream); }
void backward_data(const ConvBackwardDataArgs& a, Stream& stream) { run<false>(a.shape, a.dy, a.w, a.dx, stream); }

const char* refuse_shape(const ConvShape& s, int64_t pixels, int64_t columns) {
  constexpr int64_t kMost = int64_t{1} << 30;  // coordinates are 32-bit integers
  if (s.stride[0] != 1 || s.stride[1] != 1 || s.dilation[0] != 1 || s.dilation[1] != 1 || s.groups != 1)
    return "takes one group, no stride";
  if (s.c % 8 != 0 || s.k % 8 != 0) return "takes channels and filters in eights";
  if (s.n * pixels < kWgmmaTile || columns < kWgmmaTile) return "takes products of at least 128 x 128";
  return s.n * pixels < kMost && s.r * s.s * s.c < kMost && s.r * s.s * s.k < kMost ? nullptr : "takes less than 2^30 pixels";
}
const char* refuse_forward(const ConvForwardArgs& a) {
  if (const char* reason = refuse_other_than_bf16(a.dtype)) return reason;
  if (const char* reason = refuse_shape(a.shape, a.shape.p() * a.shape.q(), a.shape.k)) return reason;
  return aligned_to_16({a.x, a.w, a.y}) ? refuse_other_than_hopper() : "takes arrays that start at multiples of 16 bytes";
}
const char* refuse_data(const ConvBackwardDataArgs& a) {
  if (const char* reason = refuse_other_than_bf16(a.dtype)) return reason;
  if (const char* reason = refuse_shape(a.shape, a.shape.h * a.shape.w, a.shape.c)) return reason;
  return aligned_to_16({a.dy, a.w, a.dx}) ? refuse_other_than_hopper() : "takes arrays that start at multiples of 16 bytes";
}

}  // namespace

void register_sm90_conv() {
  add<ConvForward>(REID_KERNEL_NAME("sm90_wgmma"), refuse_forward, forward);
  add<ConvBackwardData>(REID_KERNEL_NAME("sm90_wgmma"), refuse_data, backward_data);
}

}  // namespace reid::REID_TARGET
