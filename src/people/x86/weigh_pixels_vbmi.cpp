// Sums along rows. VPERMB brings the four bytes that a sum of a channel takes into one lane, and VPDPBUSD multiplies them as in
// weigh_rows_vnni.cpp: weights are three signed digits of base 256. Nothing is transposed, and indices and weights stay in registers.

#include <immintrin.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "people/weigh_rows.h"

namespace reid {
namespace {

#define REID_VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define REID_VBMI_INLINE REID_VBMI inline __attribute__((always_inline))

constexpr size_t kDigits = 3, kLanes = 16, kBlock = 64;

using Ints = int32_t __attribute__((vector_size(64)));  // g++ 12 warns of the plain intrinsics for shifts

// Four taps of every byte of an output row: where they stand among the 64 bytes from its lanes' base on, and digit d of their weights.
struct Quads {
  std::unique_ptr<int32_t[]> values;  // [1 + kDigits, lanes]
  size_t lanes;
  int32_t* index() const { return values.get(); }
  int32_t* digit(size_t d) const { return values.get() + (1 + d) * lanes; }
};

struct Plan {
  std::vector<size_t> base;  // [lanes / 16], bytes from the start of the input row
  std::vector<Quads> quads;  // [taps / 4]
};

// Taps 4 q .. 4 q + 3 of every output. False when some are not among the 64 bytes.
REID_VBMI bool fill(const Windows& w, const std::vector<size_t>& base, size_t q, const Quads& quads) {
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
      const size_t lane = 3 * x + c, start = 3 * (static_cast<size_t>(w.first[x]) + 4 * q) + c - base[lane / kLanes];
      if (used > 0 && start + 3 * (used - 1) >= kBlock) return false;
      quads.index()[lane] = used > 0 ? static_cast<int32_t>(start) * 0x01010101 + 0x09060300 : 0;
      for (size_t d = 0; d < kDigits; ++d) quads.digit(d)[lane] = digits[d];
    }
  }
  for (size_t k = 0; k <= kDigits; ++k) std::fill(quads.index() + k * quads.lanes + 3 * pixels, quads.index() + (k + 1) * quads.lanes, 0);
  return true;
}

bool make_plan(const Windows& w, size_t row, Plan& plan) {
  if (row < kBlock) return false;
  const size_t pixels = w.first.size(), lanes = (3 * pixels + kBlock - 1) / kBlock * kBlock;
  for (size_t lane = 0; lane < lanes; lane += kLanes) {
    const size_t x = std::min(lane / 3, pixels - 1);
    plan.base.push_back(std::min(3 * static_cast<size_t>(w.first[x]), row - kBlock));
  }
  const auto taps = static_cast<size_t>(*std::max_element(w.count.begin(), w.count.end()));
  for (size_t q = 0; 4 * q < taps; ++q) {
    plan.quads.push_back({std::make_unique_for_overwrite<int32_t[]>((1 + kDigits) * lanes), lanes});
    if (!fill(w, plan.base, q, plan.quads.back())) return false;
  }
  return true;
}

REID_VBMI_INLINE void store_block(const Ints* sums, int bits, __mmask64 mask, uint8_t* dst) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);  // packing goes by parts of 128 bits
  __m512i whole[4];
#pragma GCC unroll 4
  for (size_t g = 0; g < 4; ++g) whole[g] = reinterpret_cast<__m512i>(sums[g] >> bits);
  const __m512i low = _mm512_packs_epi32(whole[0], whole[1]), high = _mm512_packs_epi32(whole[2], whole[3]);
  _mm512_mask_storeu_epi8(dst, mask, _mm512_maskz_permutexvar_epi32(0xFFFF, order, _mm512_packus_epi16(low, high)));
}

struct Rows {
  const uint8_t* src;
  size_t src_stride;
  uint8_t* dst;
  size_t dst_stride, count;
};

REID_VBMI_INLINE __m512i four_bytes(const int32_t* index, const uint8_t* src) {
  return _mm512_maskz_permutexvar_epi8(~__mmask64{0}, _mm512_loadu_si512(index), _mm512_loadu_si512(src));
}

// 64 bytes of each row, from `lane` on. Of one quad the sum of a digit goes on from that of the digit above.
REID_VBMI void weigh_four(const Plan& plan, size_t lane, int bits, const Rows& rows, __mmask64 mask) {
  const Quads& quads = plan.quads[0];
  const uint8_t* src[4];
  __m512i digits[kDigits][4];
#pragma GCC unroll 4
  for (size_t g = 0; g < 4; ++g) {
    src[g] = rows.src + plan.base[lane / kLanes + g];
#pragma GCC unroll 3
    for (size_t d = 0; d < kDigits; ++d) digits[d][g] = _mm512_loadu_si512(quads.digit(d) + lane + kLanes * g);
  }
  const __m512i half = _mm512_set1_epi32(1 << (bits - 17));
  for (size_t y = 0; y < rows.count; ++y) {
    Ints sums[4];
#pragma GCC unroll 4
    for (size_t g = 0; g < 4; ++g) {
      const __m512i bytes = four_bytes(quads.index() + lane + kLanes * g, src[g] + y * rows.src_stride);
      sums[g] = reinterpret_cast<Ints>(_mm512_dpbusd_epi32(half, bytes, digits[2][g])) << 8;
      sums[g] = reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums[g]), bytes, digits[1][g])) << 8;
      sums[g] = reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums[g]), bytes, digits[0][g]));
    }
    store_block(sums, bits, mask, rows.dst + y * rows.dst_stride + lane);
  }
}

REID_VBMI void weigh_many(const Plan& plan, size_t lane, int bits, const Rows& rows, __mmask64 mask) {
  for (size_t y = 0; y < rows.count; ++y) {
    Ints sums[4];
    for (size_t g = 0; g < 4; ++g) {
      const uint8_t* const src = rows.src + y * rows.src_stride + plan.base[lane / kLanes + g];
      __m512i parts[kDigits] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_set1_epi32(1 << (bits - 17))};
      for (const Quads& quads : plan.quads) {
        const size_t at = lane + kLanes * g;
        const __m512i bytes = four_bytes(quads.index() + at, src);
#pragma GCC unroll 3
        for (size_t d = 0; d < kDigits; ++d) parts[d] = _mm512_dpbusd_epi32(parts[d], bytes, _mm512_loadu_si512(quads.digit(d) + at));
      }
      sums[g] = (((reinterpret_cast<Ints>(parts[2]) << 8) + reinterpret_cast<Ints>(parts[1])) << 8) + reinterpret_cast<Ints>(parts[0]);
    }
    store_block(sums, bits, mask, rows.dst + y * rows.dst_stride + lane);
  }
}

}  // namespace

REID_VBMI bool weigh_pixels_vbmi(const Windows& windows, int bits, const uint8_t* src, size_t width, uint8_t* dst, size_t rows) {
  constexpr size_t kRows = 32;  // as many as stay in the first cache, in and out
  Plan plan;
  if (!make_plan(windows, 3 * width, plan)) return false;
  const size_t from = 3 * width, to = 3 * windows.first.size();
  const auto weigh = plan.quads.size() == 1 ? weigh_four : weigh_many;
  for (size_t y = 0; y < rows; y += kRows) {
    const Rows some{src + y * from, from, dst + y * to, to, std::min(kRows, rows - y)};
    for (size_t lane = 0; lane < to; lane += kBlock) weigh(plan, lane, bits, some, ~__mmask64{0} >> (kBlock - std::min(kBlock, to - lane)));
  }
  return true;
}

}  // namespace reid
