#pragma once
// What the packing of pairs and of parts share: vectors of 16 units of 4 bytes.

// g++ 12 takes the undefined operand of its own intrinsics for ours.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#define REID_LANES __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw")))

namespace reid::cpu {

inline constexpr int64_t kUnitLanes = 16;  // units of a vector

REID_LANES inline __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>((1u << std::clamp<int64_t>(count, 0, kUnitLanes)) - 1);
}

// Rows become columns: v[i] lane j and v[j] lane i change places.
REID_LANES inline __attribute__((always_inline)) void transpose(__m512i* v) {
  __m512i w[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]), b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    w[i] = _mm512_unpacklo_epi64(a, c);
    w[i + 1] = _mm512_unpackhi_epi64(a, c);
    w[i + 2] = _mm512_unpacklo_epi64(b, d);
    w[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  // Now lane 4 q + e of w[i + r] is lane 4 q + r of v[i + e]: what is left is a transposition of 4 x 4 blocks of 128 bits.
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512i a = _mm512_shuffle_i32x4(w[r], w[r + 4], 0x44), b = _mm512_shuffle_i32x4(w[r], w[r + 4], 0xEE);
    const __m512i c = _mm512_shuffle_i32x4(w[r + 8], w[r + 12], 0x44), d = _mm512_shuffle_i32x4(w[r + 8], w[r + 12], 0xEE);
    v[r] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[r + 4] = _mm512_shuffle_i32x4(a, c, 0xDD);
    v[r + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[r + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
}

}  // namespace reid::cpu
