// Views of 8-bit images as a network reads them: window, mirror image, normalization, one erased rectangle. Mirror images of views.
//
//   y[n, h, w, c] = table[c][pixel (h + down, w' + right) of image n, 0 outside of it],  table[c][v] = (v / 255 - mean[c]) / std[c]
// and fill[c] in the rectangle; w' = w or, mirrored, W - 1 - w.
// Layout: x and y NHWC with three channels; a view's seven integers in a row.
// Types: y is f32 or bf16. The table is f32, its three steps rounded one by one: two divisions and a difference leave a compiler nothing
// to fuse, so that these are the host's bits.
// Map: a block makes the table in shared memory (its 771 entries cost two divisions each, a view of 256 x 128 has 98,304 numbers), then
// 2048 neighboring pieces of an image, a thread every 256th. A piece is 16 bytes of y (vectors) or one number (elements). Its pixels are
// read byte by byte, since a window begins anywhere: a warp's loads are neighbors, and a fifth of the traffic.
// Bytes: a byte read and 4 (f32) or 2 (bf16) written a number. Floor on H200 (4.3 TB/s): 64 views of 256 x 128 are 31.5 MB in f32, 7.3 us,
// and 18.9 MB in bf16, 4.4 us; the images travel from the host as 6.3 MB instead of 25.2. No version was measured yet.

#include "kernels.h"
#include "pixels.cuh"
#include "prims.cuh"
#include "reid/engine/op_args_pixels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256, kPieces = 8 * kThreads;
constexpr int kFill = 256, kTableRow = kFill + 1;  // behind the 256 values of a channel stands its fill

template <class T>
struct Views {
  const uint8_t* x;
  const int32_t* views;
  T* y;
  int height, width;
  Divisor chunks, row;  // blocks of an image, numbers of a row
  PixelColors colors;
};

// The table's entry of number (h, w, c) of a view.
__device__ int table_entry(const PixelView& view, const uint8_t* image, int height, int width, int h, int w, int c) {
  const unsigned down = static_cast<unsigned>(h) - static_cast<unsigned>(view.top);
  const unsigned right = static_cast<unsigned>(w) - static_cast<unsigned>(view.left);
  const int first = c * kTableRow;
  if (view.height > 0 && view.width > 0 && down < static_cast<unsigned>(view.height) && right < static_cast<unsigned>(view.width))
    return first + kFill;
  const int64_t place = window_place(view.down, view.right, view.mirrored != 0, height, width, h, w);
  return place < 0 ? first : first + image[place * 3 + c];
}

template <class T, int kEach>
__global__ void view_kernel(const Views<T> GRID_CONSTANT p) {
  after_predecessors();
  SHARED_ARRAY(float, table, 3 * kTableRow);
  for (int i = static_cast<int>(threadIdx.x); i < 3 * kTableRow; i += kThreads) {
    const int c = i / kTableRow, v = i - c * kTableRow;
    table[i] = v == kFill ? p.colors.fill[c] : (static_cast<float>(v) / 255.0f - p.colors.mean[c]) / p.colors.std[c];
  }
  __syncthreads();
  const int block = static_cast<int>(blockIdx.x), n = p.chunks.quotient(block), chunk = p.chunks.remainder(block, n);
  const int64_t numbers = int64_t{p.height} * p.width * 3;
  const uint8_t* const image = p.x + n * numbers;
  const int32_t* const fields = p.views + n * kPixelViewFields;
  const PixelView view{fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]};
  for (int piece = static_cast<int>(threadIdx.x); piece < kPieces; piece += kThreads) {
    const int64_t first = (int64_t{chunk} * kPieces + piece) * kEach;
    if (first >= numbers) return;
    int h = p.row.quotient(static_cast<int>(first)), c = p.row.remainder(static_cast<int>(first), h), w = c / 3;
    c -= 3 * w;
    T values[kEach];
    UNROLL
    for (int j = 0; j < kEach; ++j) {
      values[j] = from_float<T>(table[table_entry(view, image, p.height, p.width, h, w, c)]);
      if (++c < 3) continue;
      c = 0;
      if (++w < p.width) continue;
      w = 0, ++h;
    }
    T* const y = p.y + n * numbers + first;
    if constexpr (kEach == 1) {
      *y = values[0];
    } else {
      Vec<T> whole;
      UNROLL
      for (int j = 0; j < kEach; ++j) whole[j] = values[j];
      store_vec(y, whole);
    }
  }
}

template <class T, int kEach>
void run(const ViewsFromPixelsArgs& a, Stream& stream) {
  const int64_t numbers = a.h * a.w * 3;
  if (a.n * numbers == 0) return;
  const int64_t chunks = ceil_div(numbers, int64_t{kPieces} * kEach);
  const Views<T> p{a.x, a.views, out<T>(a.y), static_cast<int>(a.h), static_cast<int>(a.w), Divisor(chunks), Divisor(a.w * 3), a.colors};
  launch(view_kernel<T, kEach>, blocks_for(a.n * chunks, 1), kThreads, 0, stream, p);
}

const char* refuse_elements(const ViewsFromPixelsArgs& a) {
  if (a.h * a.w * 3 > 0x7FFFFFFF) return "takes images of less than 2^31 numbers";
  return refuse_other_floats(a.dtype);
}

const char* refuse_vectors(const ViewsFromPixelsArgs& a) {
  if (const char* reason = refuse_elements(a)) return reason;
  if (!aligned_to_16({a.y}) || a.h * a.w * 3 * size_of(a.dtype) % 16 != 0) return "takes views that start at multiples of 16 bytes";
  return nullptr;
}

void vectors(const ViewsFromPixelsArgs& a, Stream& stream) {
  with_type(a.dtype, [&](auto element) { run<decltype(element), Vec<decltype(element)>::kCount>(a, stream); });
}
void elements(const ViewsFromPixelsArgs& a, Stream& stream) {
  with_type(a.dtype, [&](auto element) { run<decltype(element), 1>(a, stream); });
}

// --- mirror images: a row's pixels in turn, a thread for each number ---

template <class T>
__global__ void mirror_kernel(const T* x, T* y, int64_t count, int width, int channels) {
  after_predecessors();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= count) return;
  const int64_t pixel = at / channels, row = pixel / width;
  const int64_t from = row * width + (width - 1 - (pixel - row * width));
  y[at] = x[from * channels + (at - pixel * channels)];
}

void mirror(const MirrorArgs& a, Stream& stream) {
  const int64_t count = a.n * a.h * a.w * a.c;
  if (count == 0) return;
  with_type(a.dtype, [&](auto element) {
    using T = decltype(element);
    launch(mirror_kernel<T>, blocks_for(count, kThreads), kThreads, 0, stream, in<T>(a.x), out<T>(a.y), count, static_cast<int>(a.w),
           static_cast<int>(a.c));
  });
}

const char* refuse_mirror(const MirrorArgs& a) {
  if (a.w > 0x7FFFFFFF || a.c > 0x7FFFFFFF) return "takes extents below 2^31";
  return refuse_other_floats(a.dtype);
}

}  // namespace

void register_pixels() {
  add<Mirror>(REID_KERNEL_NAME("elements"), refuse_mirror, mirror);
  add<ViewsFromPixels>(REID_KERNEL_NAME("vectors"), refuse_vectors, vectors);
  add<ViewsFromPixels>(REID_KERNEL_NAME("elements"), refuse_elements, elements);
}

}  // namespace reid::REID_TARGET
