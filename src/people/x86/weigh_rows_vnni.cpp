// Four rows at a time: their bytes, interleaved, make one operand of VPDPBUSD, which adds four products of unsigned with signed bytes to
// each of 16 sums. A weight is three signed digits of base 256, hence three sums, put together at the end.

#include <immintrin.h>

#include <vector>

#include "people/weigh_rows.h"

namespace reid {
namespace {

#define REID_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

constexpr int kDigits = 3;

using Ints = int32_t __attribute__((vector_size(64)));  // g++ 12 warns of the plain intrinsics for shifts

// A group's weights: digit d of all four in the bytes of digit[d].
struct Group {
  const uint8_t* row[4];
  int32_t digit[kDigits];
};

REID_VNNI Group group_of(std::span<const Tap> taps, size_t t) {
  const FourTaps four = four_taps(taps, t);
  Group group{{four.row[0], four.row[1], four.row[2], four.row[3]}, {}};
  __m128i rest = _mm_loadu_si128(reinterpret_cast<const __m128i*>(four.weight));
  for (int32_t& digit : group.digit) {
    digit = _mm_cvtsi128_si32(_mm_maskz_cvtepi32_epi8(0xF, rest));
    rest = _mm_srai_epi32(_mm_add_epi32(rest, _mm_set1_epi32(128)), 8);  // the digit taken away, the next one in the last byte
  }
  return group;
}

// Four bytes, one of each row, in every lane. The lanes' order is that of the instructions which pack lanes again.
REID_VNNI inline __attribute__((always_inline)) void interleave(const Group& group, size_t at, __mmask64 mask, __m512i* quads) {
  const __m512i a = _mm512_maskz_loadu_epi8(mask, group.row[0] + at), b = _mm512_maskz_loadu_epi8(mask, group.row[1] + at);
  const __m512i c = _mm512_maskz_loadu_epi8(mask, group.row[2] + at), d = _mm512_maskz_loadu_epi8(mask, group.row[3] + at);
  const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
  const __m512i cd[2] = {_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)};
  quads[0] = _mm512_unpacklo_epi16(ab[0], cd[0]);
  quads[1] = _mm512_unpackhi_epi16(ab[0], cd[0]);
  quads[2] = _mm512_unpacklo_epi16(ab[1], cd[1]);
  quads[3] = _mm512_unpackhi_epi16(ab[1], cd[1]);
}

REID_VNNI inline __attribute__((always_inline)) void store_block(const Ints* sums, int bits, __mmask64 mask, uint8_t* dst) {
  __m512i whole[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) whole[q] = reinterpret_cast<__m512i>(sums[q] >> bits);
  const __m512i low = _mm512_packs_epi32(whole[0], whole[1]), high = _mm512_packs_epi32(whole[2], whole[3]);
  _mm512_mask_storeu_epi8(dst, mask, _mm512_packus_epi16(low, high));
}

// 64 bytes of dst from `at` on, of which the mask has those that exist. kOne: of one group, whose digits need no sums of their own.
template <int kUsed, bool kOne>
REID_VNNI inline __attribute__((always_inline)) void weigh_block(const Group* groups, size_t count, int bits, size_t at, __mmask64 mask,
                                                                 uint8_t* dst) {
  constexpr int kTop = kUsed - 1;
  __m512i quads[4], sums[kUsed][4];
  Ints whole[4];
  const __m512i half = _mm512_set1_epi32(1 << (bits - 1 - 8 * kTop));
#pragma GCC unroll 12
  for (int s = 0; s < 4 * kUsed; ++s) sums[s / 4][s % 4] = s / 4 == kTop ? half : _mm512_setzero_si512();
  for (size_t g = 0; g < (kOne ? 1 : count); ++g) {
    interleave(groups[g], at, mask, quads);
#pragma GCC unroll 3
    for (int d = kTop; d >= 0; --d) {
      const __m512i digit = _mm512_set1_epi32(groups[g].digit[d]);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        if (kOne && d < kTop) sums[d][q] = reinterpret_cast<__m512i>(reinterpret_cast<Ints>(sums[d + 1][q]) << 8);
        sums[d][q] = _mm512_dpbusd_epi32(sums[d][q], quads[q], digit);
      }
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    whole[q] = reinterpret_cast<Ints>(sums[kOne ? 0 : kTop][q]);
#pragma GCC unroll 2
    for (int d = kTop - 1; !kOne && d >= 0; --d) whole[q] = (whole[q] << 8) + reinterpret_cast<Ints>(sums[d][q]);
  }
  store_block(whole, bits, mask, dst + at);
}

template <int kUsed, bool kOne>
REID_VNNI void weigh(const Group* groups, size_t count, int bits, uint8_t* dst, size_t size) {
  size_t at = 0;
  for (; at + 64 <= size; at += 64) weigh_block<kUsed, kOne>(groups, count, bits, at, ~__mmask64{0}, dst);
  if (at < size) weigh_block<kUsed, kOne>(groups, count, bits, at, ~__mmask64{0} >> (64 - (size - at)), dst);
}

}  // namespace

REID_VNNI void weigh_rows_vnni(std::span<const Tap> taps, int bits, uint8_t* dst, size_t count) {
  constexpr size_t kFew = 16;
  Group few[kFew];
  std::vector<Group> many;  // 65 taps and more: those of a reduction to less than a sixteenth
  const size_t used = (taps.size() + 3) / 4;
  if (used > kFew) many.resize(used);
  Group* const groups = used > kFew ? many.data() : few;
  bool small = true;
  for (size_t g = 0; g < used; ++g) {
    groups[g] = group_of(taps, 4 * g);
    small = small && groups[g].digit[2] == 0;
  }
  const auto chosen = used == 1 ? small ? weigh<2, true> : weigh<3, true> : small ? weigh<2, false> : weigh<3, false>;
  chosen(groups, used, bits, dst, count);
}

}  // namespace reid
