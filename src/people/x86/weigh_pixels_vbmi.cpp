// Sums along rows. VPERMB brings the four bytes that a sum of a channel takes into one lane, and VPDPBUSD multiplies them as in
// weigh_rows_vnni.cpp: weights are three signed digits of base 256. Nothing is transposed, and indices and weights stay in registers.
// Vectors have 256 bits for the reason given there.

#include <immintrin.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "people/weigh_rows.h"

namespace reid {
namespace {

#define REID_VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define REID_VBMI_INLINE REID_VBMI inline __attribute__((always_inline))

constexpr size_t kDigits = 3, kLanes = 8, kReach = 32, kBlock = 32;

constexpr int kTopBits = kWindowBits - 16;  // of the weights' fraction in the highest digit
constexpr int kHalf = 1 << (kWindowBits - 1);

using Shorts = int16_t __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));  // g++ 12 warns of the plain intrinsics for shifts

// Four taps of every byte of an output row: where they stand among the 32 bytes from its lanes' base on, and digit d of their weights.
struct Quads {
  size_t lanes;
  std::vector<size_t> base;           // [lanes / 8], bytes from the start of the input row
  std::unique_ptr<int32_t[]> values;  // [1 + kDigits, lanes]
  int32_t* index() const { return values.get(); }
  int32_t* digit(size_t d) const { return values.get() + (1 + d) * lanes; }
};

using Plan = std::vector<Quads>;  // [taps / 4]

// Taps 4 q .. 4 q + 3 of every output. False when some are not among the 32 bytes.
REID_VBMI bool fill(const Windows& w, size_t q, const Quads& quads) {
  const size_t pixels = w.first.size();
  for (size_t x = 0; x < pixels; ++x) {
    const size_t count = static_cast<size_t>(w.count[x]), used = std::min<size_t>(4, count - std::min(count, 4 * q));
    const auto mask = static_cast<__mmask8>((1u << used) - 1);
    __m128i rest = _mm_maskz_loadu_epi32(mask, w.weights.data() + x * static_cast<size_t>(w.stride) + 4 * q);
    int32_t digits[kDigits];
    for (int32_t& digit : digits) {
      digit = _mm_cvtsi128_si32(_mm_maskz_cvtepi32_epi8(0xF, rest));
      rest = _mm_srai_epi32(_mm_add_epi32(rest, _mm_set1_epi32(128)), 8);
    }
    for (size_t c = 0; c < 3; ++c) {
      const size_t lane = 3 * x + c, start = 3 * (static_cast<size_t>(w.first[x]) + 4 * q) + c - quads.base[lane / kLanes];
      if (used > 0 && start + 3 * (used - 1) >= kReach) return false;
      quads.index()[lane] = used > 0 ? static_cast<int32_t>(start) * 0x01010101 + 0x09060300 : 0;
      for (size_t d = 0; d < kDigits; ++d) quads.digit(d)[lane] = digits[d];
    }
  }
  for (size_t k = 0; k <= kDigits; ++k) std::fill(quads.index() + k * quads.lanes + 3 * pixels, quads.index() + (k + 1) * quads.lanes, 0);
  return true;
}

bool make_plan(const Windows& w, size_t row, Plan& plan) {
  if (row < kReach) return false;
  const size_t pixels = w.first.size(), lanes = (3 * pixels + kBlock - 1) / kBlock * kBlock;
  const auto taps = static_cast<size_t>(*std::max_element(w.count.begin(), w.count.end()));
  for (size_t q = 0; 4 * q < taps; ++q) {
    Quads quads{lanes, {}, std::make_unique_for_overwrite<int32_t[]>((1 + kDigits) * lanes)};
    for (size_t lane = 0; lane < lanes; lane += kLanes) {
      const size_t x = std::min(lane / 3, pixels - 1);
      quads.base.push_back(std::min(3 * (static_cast<size_t>(w.first[x]) + 4 * q), row - kReach));
    }
    if (!fill(w, q, quads)) return false;
    plan.push_back(std::move(quads));
  }
  return true;
}

// Sums hold 64 times the results, which 16 bits suffice for.
REID_VBMI_INLINE __m256i results(Ints a, Ints b) {
  const __m256i both = _mm256_packs_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
  return reinterpret_cast<__m256i>(reinterpret_cast<Shorts>(both) >> kTopBits);
}

REID_VBMI_INLINE void store_block(const Ints* sums, __mmask32 mask, uint8_t* dst) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing goes by parts of 128 bits
  const __m256i bytes = _mm256_packus_epi16(results(sums[0], sums[1]), results(sums[2], sums[3]));
  _mm256_mask_storeu_epi8(dst, mask, _mm256_permutevar8x32_epi32(bytes, order));
}

REID_VBMI_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

struct Rows {
  const uint8_t* src;
  size_t src_stride;
  uint8_t* dst;
  size_t dst_stride, count;
};

REID_VBMI_INLINE __m256i four_bytes(__m256i index, const uint8_t* src) {
  return _mm256_maskz_permutexvar_epi8(~__mmask32{0}, index, load(src));
}

// 32 bytes of each row, from `lane` on. What is below a digit is cut off before the next one is added: the sum's own bits stay.
REID_VBMI void weigh_four(const Plan& plan, size_t lane, const Rows& rows, __mmask32 mask) {
  const Quads& quads = plan[0];
  const uint8_t* src[4];
  __m256i index[4], digits[kDigits][4];
#pragma GCC unroll 4
  for (size_t g = 0; g < 4; ++g) {
    src[g] = rows.src + quads.base[lane / kLanes + g];
    index[g] = load(quads.index() + lane + kLanes * g);
#pragma GCC unroll 3
    for (size_t d = 0; d < kDigits; ++d) digits[d][g] = load(quads.digit(d) + lane + kLanes * g);
  }
  for (size_t y = 0; y < rows.count; ++y) {
    Ints sums[4];
#pragma GCC unroll 4
    for (size_t g = 0; g < 4; ++g) {
      const __m256i bytes = four_bytes(index[g], src[g] + y * rows.src_stride);
      sums[g] = Ints{} + kHalf;
#pragma GCC unroll 3
      for (size_t d = 0; d < kDigits; ++d)
        sums[g] =
            reinterpret_cast<Ints>(_mm256_dpbusd_epi32(reinterpret_cast<__m256i>(d > 0 ? sums[g] >> 8 : sums[g]), bytes, digits[d][g]));
    }
    store_block(sums, mask, rows.dst + y * rows.dst_stride + lane);
  }
}

REID_VBMI void weigh_many(const Plan& plan, size_t lane, const Rows& rows, __mmask32 mask) {
  for (size_t y = 0; y < rows.count; ++y) {
    Ints sums[4];
    for (size_t g = 0; g < 4; ++g) {
      Ints parts[kDigits] = {Ints{} + kHalf, Ints{}, Ints{}};
      for (const Quads& quads : plan) {
        const size_t at = lane + kLanes * g;
        const __m256i bytes = four_bytes(load(quads.index() + at), rows.src + y * rows.src_stride + quads.base[at / kLanes]);
#pragma GCC unroll 3
        for (size_t d = 0; d < kDigits; ++d)
          parts[d] = reinterpret_cast<Ints>(_mm256_dpbusd_epi32(reinterpret_cast<__m256i>(parts[d]), bytes, load(quads.digit(d) + at)));
      }
      sums[g] = (((parts[0] >> 8) + parts[1]) >> 8) + parts[2];
    }
    store_block(sums, mask, rows.dst + y * rows.dst_stride + lane);
  }
}

}  // namespace

REID_VBMI bool weigh_pixels_vbmi(const Windows& windows, const uint8_t* src, size_t width, uint8_t* dst, size_t rows) {
  constexpr size_t kRows = 32;  // as many as stay in the first cache, in and out
  Plan plan;
  if (!make_plan(windows, 3 * width, plan)) return false;
  const size_t from = 3 * width, to = 3 * windows.first.size();
  const auto weigh = plan.size() == 1 ? weigh_four : weigh_many;
  for (size_t y = 0; y < rows; y += kRows) {
    const Rows some{src + y * from, from, dst + y * to, to, std::min(kRows, rows - y)};
    for (size_t lane = 0; lane < to; lane += kBlock) weigh(plan, lane, some, ~__mmask32{0} >> (kBlock - std::min(kBlock, to - lane)));
  }
  return true;
}

}  // namespace reid
