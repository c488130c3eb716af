// Four rows at a time: their bytes, interleaved, make one operand of VPDPBUSD, which adds four products of unsigned with signed bytes to
// each of 8 sums. A weight is two or three signed digits of base 256, hence as many sums; what one has below the next digit is cut off
// before they are put together, which leaves the whole sum's own bits as they are. Vectors of 512 bits are no faster (128 x 64 pixels
// become 256 x 128 in 29 us either way, Xeon at 2.3 GHz, 2026-11), and lower the clock: decoding the next image takes a tenth longer.

#include <immintrin.h>

#include <vector>

#include "people/weigh_rows.h"

namespace reid {
namespace {

#define REID_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

constexpr int kDigits = 3;
constexpr size_t kBlock = 32;

using Ints = int32_t __attribute__((vector_size(32)));  // g++ 12 warns of the plain intrinsics for shifts
using Shorts = int16_t __attribute__((vector_size(32)));

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
REID_VNNI inline __attribute__((always_inline)) void interleave(const Group& group, size_t at, __mmask32 mask, __m256i* quads) {
  const __m256i a = _mm256_maskz_loadu_epi8(mask, group.row[0] + at), b = _mm256_maskz_loadu_epi8(mask, group.row[1] + at);
  const __m256i c = _mm256_maskz_loadu_epi8(mask, group.row[2] + at), d = _mm256_maskz_loadu_epi8(mask, group.row[3] + at);
  const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
  const __m256i cd[2] = {_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)};
  quads[0] = _mm256_unpacklo_epi16(ab[0], cd[0]);
  quads[1] = _mm256_unpackhi_epi16(ab[0], cd[0]);
  quads[2] = _mm256_unpacklo_epi16(ab[1], cd[1]);
  quads[3] = _mm256_unpackhi_epi16(ab[1], cd[1]);
}

REID_VNNI inline __attribute__((always_inline)) Ints add_products(Ints sums, __m256i quads, int32_t digit) {
  return reinterpret_cast<Ints>(_mm256_dpbusd_epi32(reinterpret_cast<__m256i>(sums), quads, _mm256_set1_epi32(digit)));
}

// The highest digit's sums, `shift` bits above the results: 16 bits suffice, since what packing cuts off is beyond 255 still.
template <int shift>
REID_VNNI inline __attribute__((always_inline)) __m256i results(Ints a, Ints b) {
  const __m256i both = _mm256_packs_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
  return reinterpret_cast<__m256i>(reinterpret_cast<Shorts>(both) >> shift);
}

// 32 bytes of dst from `at` on, of which the mask has those that exist. kOne: of one group, whose digits need no sums of their own.
template <int kBits, bool kOne>
REID_VNNI inline __attribute__((always_inline)) void weigh_block(const Group* groups, size_t count, size_t at, __mmask32 mask,
                                                                 uint8_t* dst) {
  constexpr int kUsed = kBits > 15 ? 3 : 2, kShift = kBits - 8 * (kUsed - 1);
  __m256i quads[4];
  Ints sums[kUsed][4], whole[4];
#pragma GCC unroll 12
  for (int s = 0; s < 4 * kUsed; ++s) sums[s / 4][s % 4] = Ints{} + (s < 4 ? 1 << (kBits - 1) : 0);
  for (size_t g = 0; g < (kOne ? 1 : count); ++g) {
    interleave(groups[g], at, mask, quads);
#pragma GCC unroll 3
    for (int d = 0; d < kUsed; ++d) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        const Ints before = kOne && d > 0 ? sums[d - (kOne ? 1 : 0)][q] >> 8 : sums[d][q];
        sums[d][q] = add_products(before, quads[q], groups[g].digit[d]);
      }
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    whole[q] = sums[kOne ? kUsed - 1 : 0][q];
#pragma GCC unroll 2
    for (int d = 1; !kOne && d < kUsed; ++d) whole[q] = (whole[q] >> 8) + sums[d][q];
  }
  _mm256_mask_storeu_epi8(dst + at, mask, _mm256_packus_epi16(results<kShift>(whole[0], whole[1]), results<kShift>(whole[2], whole[3])));
}

template <int kBits, bool kOne>
REID_VNNI void weigh(const Group* groups, size_t count, uint8_t* dst, size_t size) {
  const Group own = groups[0];  // which dst cannot overlap: it stays in registers
  const Group* const all = kOne ? &own : groups;
  size_t at = 0;
  for (; at + kBlock <= size; at += kBlock) weigh_block<kBits, kOne>(all, count, at, ~__mmask32{0}, dst);
  if (at < size) weigh_block<kBits, kOne>(all, count, at, ~__mmask32{0} >> (kBlock - (size - at)), dst);
}

}  // namespace

REID_VNNI void weigh_rows_vnni(std::span<const Tap> taps, int bits, uint8_t* dst, size_t count) {
  constexpr size_t kFew = 16;
  Group few[kFew];
  std::vector<Group> many;  // 65 taps and more: those of a reduction to less than a sixteenth
  const size_t used = (taps.size() + 3) / 4;
  if (used > kFew) many.resize(used);
  Group* const groups = used > kFew ? many.data() : few;
  for (size_t g = 0; g < used; ++g) groups[g] = group_of(taps, 4 * g);
  const auto chosen = bits == 15 ? used == 1 ? weigh<15, true> : weigh<15, false> : used == 1 ? weigh<22, true> : weigh<22, false>;
  chosen(groups, used, dst, count);
}

}  // namespace reid
