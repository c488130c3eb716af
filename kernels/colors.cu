// Blur and changed colors of 8-bit images, cut to a window: what an augmented view is made of.
//
//   across[h, w] = sum of weight |t| * window[h, w + t],  edges repeated, weights and sums of 15 fractional bits, rounded to bytes
//   down[h, w] = sum of weight |t| * across[h + t, w],    the same
//   y = the changes of colors, one behind the other, each to bytes
// Layout: NHWC with three channels; an image's changes are a row of integers (PixelChange).
// Map: a thread has four pixels of a chunk of 1024, neighbors in a warp. Three kernels, since a blur needs its neighbors' first half and a
// contrast the mean of the whole image: across (images without a blur need none), down and what precedes the contrast, with the sums of
// gray of each chunk, then the contrast and what follows it (images without one are done). Blocks leave at once where there is nothing.
// Exactness: bytes are Pillow's, which computes in double in places. Blends are a float's product and sum, rounded one by one. Hue is a
// quotient of small integers, in f32, and then integers: all colors were compared once, half a million are in every run of the tests.
// Bytes: each kernel reads an image and writes one, 98 KB at 256 x 128: 37.7 MB for 64 that need all three, on H200 (4.3 TB/s) 8.8 us, of
// which L2 keeps most. A blur of radius 6 is 26 products a number, 164 M for 64 images, about 10 us. No version was measured yet.

#include "kernels.h"
#include "pixels.cuh"
#include "prims.cuh"
#include "reid/engine/op_args_pixels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256, kEach = 4, kChunk = kThreads * kEach;

struct Pixel {
  int v[3];  // 0 to 255: red, green, blue
};
__device__ Pixel load_pixel(const uint8_t* p) { return {{p[0], p[1], p[2]}}; }
__device__ void store_pixel(uint8_t* p, const Pixel& pixel) {
  UNROLL
  for (int c = 0; c < 3; ++c) p[c] = static_cast<uint8_t>(pixel.v[c]);
}

struct Colors {
  const uint8_t* x;
  const int32_t* changes;
  uint8_t* y;
  int height, width, fields, weights;
  Divisor chunks, row;        // blocks of an image, pixels of a row
  uint8_t* across = nullptr;  // [N, H, W, 3], where images are blurred
  int32_t* grays = nullptr;   // [N, chunks] sums of gray before the contrast
};

// A block's chunk of an image.
struct Place {
  int64_t image, first;  // first: pixel of the image
  const int32_t* fields;
  int radius;

  __device__ explicit Place(const Colors& p) {
    const int block = static_cast<int>(blockIdx.x), n = p.chunks.quotient(block);
    image = n, first = int64_t{p.chunks.remainder(block, n)} * kChunk;
    fields = p.changes + image * p.fields;
    const int wanted = change().radius;
    radius = wanted < 0 ? 0 : wanted < p.weights ? wanted : p.weights - 1;
  }
  __device__ const PixelChange& change() const { return *reinterpret_cast<const PixelChange*>(fields); }  // where it lies: no copy
  __device__ int weight(int distance) const { return fields[kPixelChangeFields + distance]; }
};

// Calls f(place of a pixel, h, w) for the thread's pixels.
template <class F>
__device__ void for_pixels(const Colors& p, const Place& at, F f) {
  const int64_t pixels = int64_t{p.height} * p.width;
  for (int i = 0; i < kEach; ++i) {
    const int64_t place = at.first + i * kThreads + static_cast<int>(threadIdx.x);
    if (place >= pixels) return;
    const int h = p.row.quotient(static_cast<int>(place));
    f(place, h, p.row.remainder(static_cast<int>(place), h));
  }
}

__device__ Pixel window_pixel(const Colors& p, const Place& at, int h, int w) {
  const PixelChange& c = at.change();
  const int64_t place = window_place(c.down, c.right, c.mirrored != 0, p.height, p.width, h, w);
  return place < 0 ? Pixel{} : load_pixel(p.x + (at.image * p.height * p.width + place) * 3);
}

// The weighted sum of pixels at(center + t), |t| <= radius, 0 <= center + t <= last.
template <class At>
__device__ Pixel weighted(const Place& place, int center, int last, At at) {
  int64_t sums[3] = {1 << 14, 1 << 14, 1 << 14};  // of any weights
  for (int t = -place.radius; t <= place.radius; ++t) {
    const int where = center + t, weight = place.weight(t < 0 ? -t : t);
    const Pixel p = at(where < 0 ? 0 : where < last ? where : last);
    UNROLL
    for (int c = 0; c < 3; ++c) sums[c] += int64_t{weight} * p.v[c];
  }
  Pixel sum;
  UNROLL
  for (int c = 0; c < 3; ++c) sum.v[c] = sums[c] < 0 ? 0 : sums[c] >> 15 < 255 ? static_cast<int>(sums[c] >> 15) : 255;
  return sum;
}

__device__ int blend(int other, int value, float factor) {
  const float mixed = __fadd_rn(static_cast<float>(other), __fmul_rn(factor, static_cast<float>(value - other)));
  return mixed > 0 ? static_cast<int>(mixed < 255 ? mixed : 255) : 0;
}
__device__ int gray(const Pixel& p) { return (p.v[0] * 19595 + p.v[1] * 38470 + p.v[2] * 7471 + 0x8000) >> 16; }

// Rounded down, as the product in double would be: tried for all quotients of bytes and all hues.
__device__ int times255(float x) { return static_cast<int>(255.0f * x); }

// Pillow counts sextants from red: 0 + b - g, 2 + r - b or 4 + g - r, where a letter is that channel's distance from the highest in units
// of the range. The lowest channel's is 1, so one quotient is enough. Of the way back, 510 steps are a turn, hence 85 a sextant; the middle
// channel is v (1 - s mix) and the lowest v (1 - s), in fractions of 255 and of 85, to the nearest: the denominators are odd.
__device__ Pixel shift_hue(const Pixel& p, int steps) {
  const int r = p.v[0], g = p.v[1], b = p.v[2];
  const int high = r > g ? (r > b ? r : b) : (g > b ? g : b), low = r < g ? (r < b ? r : b) : (g < b ? g : b), range = high - low;
  if (range == 0) return p;
  const int after = r == high ? b : g == high ? r : g;  // the channel whose distance is added
  const float share = static_cast<float>(low + 2 * high - r - g - b) / static_cast<float>(range);
  const float center = r == high ? 0.0f : g == high ? 2.0f : 4.0f;
  const float turns = (after == low ? center + 1.0f - share : center - 1.0f + share) / 6.0f;
  const int h = times255(turns < 0 ? 1.0f + turns : turns), s = times255(static_cast<float>(range) / static_cast<float>(high)), v = high;

  const int turn = 2 * ((h + steps) & 255), sector = turn / 85 % 6, rest = turn % 85;
  const int mix = sector % 2 != 0 ? rest : 85 - rest;
  const int middle = (2 * v * (85 * 255 - s * mix) + 85 * 255) / (2 * 85 * 255);
  const int product = v * (255 - s) + 128, lowest = (product + (product >> 8)) >> 8;
  const bool blue = sector == 3 || sector == 4, yellow = sector == 1 || sector == 2, violet = sector == 4 || sector == 5;
  return {{sector == 1 || sector == 4   ? middle
           : sector == 2 || sector == 3 ? lowest
                                        : v,
           yellow   ? v
           : violet ? lowest
                    : middle,
           blue                         ? v
           : sector == 2 || sector == 5 ? middle
                                        : lowest}};
}

// The number of the first contrast, 4 where there is none.
__device__ int contrast_of(const PixelChange& change) {
  for (int i = 0; i < 4; ++i) {
    if (change.colors[i].what == static_cast<int>(ColorChange::contrast)) return i;
  }
  return 4;
}

__device__ float factor_of(const PixelChange& change, int i) {
  float factor;
  memcpy(&factor, &change.colors[i].how_much, sizeof(factor));
  return factor;
}

// The changes of number first to last - 1, contrasts left out.
__device__ void change_colors(const PixelChange& change, int first, int last, Pixel& p) {
  for (int i = first; i < last; ++i) {
    const auto what = static_cast<ColorChange>(change.colors[i].what);
    if (what == ColorChange::hue) p = shift_hue(p, change.colors[i].how_much & 255);
    if (what != ColorChange::brightness && what != ColorChange::saturation) continue;
    const int other = what == ColorChange::saturation ? gray(p) : 0;
    UNROLL
    for (int c = 0; c < 3; ++c) p.v[c] = blend(other, p.v[c], factor_of(change, i));
  }
}

__global__ void blur_across_kernel(const Colors GRID_CONSTANT p) {
  after_predecessors();
  const Place at(p);
  if (at.radius == 0) return;
  for_pixels(p, at, [&](int64_t place, int h, int w) {
    const Pixel sum = weighted(at, w, p.width - 1, [&](int column) { return window_pixel(p, at, h, column); });
    store_pixel(p.across + (at.image * p.height * p.width + place) * 3, sum);
  });
}

__global__ void __launch_bounds__(kThreads) blur_down_kernel(const Colors GRID_CONSTANT p) {
  after_predecessors();
  const Place at(p);
  const int64_t image = at.image * p.height * p.width;
  const int contrast = contrast_of(at.change());
  int grays = 0;
  for_pixels(p, at, [&](int64_t place, int h, int w) {
    Pixel pixel = at.radius == 0 ? window_pixel(p, at, h, w) : weighted(at, h, p.height - 1, [&](int row) {
      return load_pixel(p.across + (image + int64_t{row} * p.width + w) * 3);
    });
    change_colors(at.change(), 0, contrast, pixel);
    store_pixel(p.y + (image + place) * 3, pixel);
    grays += gray(pixel);
  });
  if (contrast == 4) return;  // the whole block
  grays = block_reduce(grays, Add());
  if (threadIdx.x == 0) p.grays[blockIdx.x] = grays;
}

__global__ void __launch_bounds__(kThreads) contrast_kernel(const Colors GRID_CONSTANT p) {
  after_predecessors();
  const Place at(p);
  const int contrast = contrast_of(at.change()), chunks = static_cast<int>(p.chunks.divisor);
  if (contrast == 4) return;
  int64_t sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kThreads) sum += p.grays[at.image * chunks + i];
  const int64_t pixels = int64_t{p.height} * p.width, twice = 2 * block_reduce(sum, Add());
  const int mean = static_cast<int>((twice + pixels) / (2 * pixels));  // to the nearest, halves up
  const float factor = factor_of(at.change(), contrast);
  for_pixels(p, at, [&](int64_t place, int, int) {
    uint8_t* const y = p.y + (at.image * pixels + place) * 3;
    Pixel pixel = load_pixel(y);
    UNROLL
    for (int c = 0; c < 3; ++c) pixel.v[c] = blend(mean, pixel.v[c], factor);
    change_colors(at.change(), contrast + 1, 4, pixel);
    store_pixel(y, pixel);
  });
}

void chunks(const ColorPixelsArgs& a, Stream& stream) {
  const int64_t pixels = a.h * a.w;
  if (a.n * pixels == 0) return;
  const int64_t chunks = ceil_div(pixels, kChunk), half_blurred = a.weights > 1 ? a.n * pixels * 3 : 0;
  Colors p{.x = a.x,
           .changes = a.changes,
           .y = a.y,
           .height = static_cast<int>(a.h),
           .width = static_cast<int>(a.w),
           .fields = static_cast<int>(kPixelChangeFields + a.weights),
           .weights = static_cast<int>(a.weights),
           .chunks = Divisor(chunks),
           .row = Divisor(a.w)};
  p.grays =
      static_cast<int32_t*>(stream.workspace(static_cast<size_t>(a.n * chunks) * sizeof(int32_t) + static_cast<size_t>(half_blurred)));
  p.across = reinterpret_cast<uint8_t*>(p.grays + a.n * chunks);
  const unsigned blocks = blocks_for(a.n * chunks, 1);
  if (half_blurred > 0) launch(blur_across_kernel, blocks, kThreads, 0, stream, p);
  launch(blur_down_kernel, blocks, kThreads, 0, stream, p);
  launch(contrast_kernel, blocks, kThreads, 0, stream, p);
}

const char* refuse(const ColorPixelsArgs& a) {
  if (a.h * a.w * 3 > 0x7FFFFFFF || a.weights > 0x7FFFFF) return "takes images of less than 2^31 numbers";
  return nullptr;
}

}  // namespace

void register_colors() { add<ColorPixels>(REID_KERNEL_NAME("chunks"), refuse, chunks); }

}  // namespace reid::REID_TARGET
