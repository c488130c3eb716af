// 16 x 16 tile from products of bytes: a = 256 a' + a" with a' in [-128, 127], a" in [0, 255], likewise b, so that a block's sum is
//
//   sum a b = 2^16 sum a' b' + 2^8 sum (a' b" + a" b') + sum a" b"
//
// Each of the three has magnitude at most 64 * 2 * 128 * 255 < 2^23. Put together modulo 2^32 they give what fits 32 bits by the promise
// of CodeProductsArgs, exactly. 4 instructions of 16,384 products, where VNNI needs 512.
//
// What limits is not they (16 cycles each, a quarter of the time above what the loads of tiles leave) but that every block leaves the tile
// registers, to be rounded to f32. So three tiles are summed while the three of the block before are stored, and the block before that,
// by then in the first-level cache, is added to sums that stay in registers. Sapphire Rapids at 2.3 GHz, a core: 0.30e12 products a
// second; storing a block at once 0.23e12; never leaving the tiles, as sums of another definition could, 0.42e12.

#include <cstring>

#include "backends/cpu/code_kernel.h"
#include "backends/cpu/x86/tiles.h"

namespace reid::cpu {
namespace {

constexpr int64_t kTileCodes = kTileRows * kCodeBlock;  // of a block in a panel; as many high bytes, then as many low ones
static_assert(kCodeBlock == kTileBytes && kTileBytes == 4 * kTileRows);

struct Bytes {
  alignas(64) uint8_t high[kCodeBlock], low[kCodeBlock];
};

// The bytes of `count` codes, zeros behind them. Masks of all lanes: g++ 12 warns of the plain forms.
REID_AMX inline __attribute__((always_inline)) void split(const int16_t* codes, int64_t count, Bytes& bytes) {
  for (int64_t k = 0; k < kCodeBlock; k += 32) {
    const int64_t here = count - k < 0 ? 0 : count - k < 32 ? count - k : 32;
    const auto mask = static_cast<__mmask32>((uint64_t{1} << here) - 1);
    const __m512i some = here == 32 ? _mm512_loadu_si512(codes + k) : _mm512_maskz_loadu_epi16(mask, codes + (here > 0 ? k : 0));
    _mm256_store_si256(reinterpret_cast<__m256i*>(bytes.high + k), _mm512_maskz_cvtepi16_epi8(~__mmask32{0}, _mm512_srli_epi16(some, 8)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(bytes.low + k), _mm512_maskz_cvtepi16_epi8(~__mmask32{0}, some));
  }
}

// Calls put(block of the panel, row, bytes) for every row of every block.
template <class Put>
REID_AMX inline __attribute__((always_inline)) void pack(const CodeRows& from, int16_t* panel, Put&& put) {
  auto* out = reinterpret_cast<uint8_t*>(panel);
  const int64_t blocks = from.blocks();
  if (from.rows < kTileRows) std::memset(out, 0, static_cast<size_t>(2 * kTileCodes * blocks));
  for (int64_t block = 0; block < blocks; ++block, out += 2 * kTileCodes) {
    for (int64_t i = 0; i < from.rows; ++i) {
      const int64_t k = block * kCodeBlock;
      Bytes bytes;
      split(from.source + (from.row + i) * from.stride + from.k + k, from.codes - k, bytes);
      put(out, i, bytes);
    }
  }
}

REID_AMX void pack_a(const CodeRows& from, int16_t* panel) {
  pack(from, panel, [](uint8_t* out, int64_t i, const Bytes& bytes) {
    std::memcpy(out + i * kTileBytes, bytes.high, kTileBytes);
    std::memcpy(out + kTileCodes + i * kTileBytes, bytes.low, kTileBytes);
  });
}

REID_AMX void pack_b(const CodeRows& from, int16_t* panel) {
  pack(from, panel, [](uint8_t* out, int64_t j, const Bytes& bytes) {
    for (int64_t k = 0; k < kTileRows; ++k) {
      std::memcpy(out + k * kTileBytes + 4 * j, bytes.high + 4 * k, 4);
      std::memcpy(out + kTileCodes + k * kTileBytes + 4 * j, bytes.low + 4 * k, 4);
    }
  });
}

// The three sums of a block.
struct Sums {
  alignas(64) int32_t high[256], middle[256], low[256];
};

#define REID_STORE(high_tile, middle_tile, low_tile, to) \
  _tile_stored(high_tile, (to).high, kTileBytes);        \
  _tile_stored(middle_tile, (to).middle, kTileBytes);    \
  _tile_stored(low_tile, (to).low, kTileBytes)

// Sums a block in three tiles. The stores between the instructions are those of the block before, from three others.
#define REID_SUM_BLOCK(high_tile, middle_tile, low_tile, a, b, stored_high, stored_middle, stored_low, to) \
  _tile_zero(high_tile);                                                                                   \
  _tile_zero(middle_tile);                                                                                 \
  _tile_zero(low_tile);                                                                                    \
  _tile_loadd(6, a, kTileBytes);                                                                           \
  _tile_loadd(7, (b) + kTileCodes, kTileBytes);                                                            \
  _tile_dpbsud(middle_tile, 6, 7);                                                                         \
  _tile_stored(stored_high, (to).high, kTileBytes);                                                        \
  _tile_loadd(7, b, kTileBytes);                                                                           \
  _tile_dpbssd(high_tile, 6, 7);                                                                           \
  _tile_stored(stored_low, (to).low, kTileBytes);                                                          \
  _tile_loadd(6, (a) + kTileCodes, kTileBytes);                                                            \
  _tile_dpbusd(middle_tile, 6, 7);                                                                         \
  _tile_stored(stored_middle, (to).middle, kTileBytes);                                                    \
  _tile_loadd(7, (b) + kTileCodes, kTileBytes);                                                            \
  _tile_dpbuud(low_tile, 6, 7)

// c += the block's sums, each rounded once.
REID_AMX inline __attribute__((always_inline)) void add(const Sums& sums, __m512* c) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    __m512i sum = _mm512_load_si512(sums.high + 16 * i);
    sum = _mm512_add_epi32(_mm512_maskz_slli_epi32(0xFFFF, sum, 8), _mm512_load_si512(sums.middle + 16 * i));
    sum = _mm512_add_epi32(_mm512_maskz_slli_epi32(0xFFFF, sum, 8), _mm512_load_si512(sums.low + 16 * i));
    c[i] = _mm512_add_ps(c[i], _mm512_maskz_cvtepi32_ps(0xFFFF, sum));
  }
}

// Even blocks are summed in tiles 0 to 2, odd ones in 3 to 5. The first stores what the odd ones happen to hold; it is not added.
REID_AMX inline __attribute__((always_inline)) void sum_blocks(const CodeTile& t, __m512* c) {
  Sums even, odd;
  const auto* a = reinterpret_cast<const uint8_t*>(t.a);
  const auto* b = reinterpret_cast<const uint8_t*>(t.b);
  for (int64_t left = t.blocks; left > 0; left -= 2) {
    REID_SUM_BLOCK(0, 1, 2, a, b, 3, 4, 5, odd);
    if (left < t.blocks) add(even, c);
    if (left == 1) {
      if (left < t.blocks) add(odd, c);
      REID_STORE(0, 1, 2, even);
      add(even, c);
      return;
    }
    REID_SUM_BLOCK(3, 4, 5, a + 2 * kTileCodes, b + 2 * kTileCodes, 0, 1, 2, even);
    if (left < t.blocks) add(odd, c);
    a += 4 * kTileCodes;
    b += 4 * kTileCodes;
  }
  add(even, c);
  REID_STORE(3, 4, 5, odd);
  add(odd, c);
}

REID_AMX void tile(const CodeTile& t) {
  __m512 c[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) c[i] = t.first ? _mm512_setzero_ps() : _mm512_loadu_ps(t.c + i * t.stride);
  sum_blocks(t, c);
  if (t.scale_a != nullptr) {
    const __m512 scale = _mm512_loadu_ps(t.scale_b);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) c[i] = _mm512_mul_ps(c[i], _mm512_mul_ps(_mm512_set1_ps(t.scale_a[i]), scale));
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(t.c + i * t.stride, c[i]);
}

REID_AMX void block(FunctionRef<void()> tiles) {
  const Tiles whole;
  tiles();
}

}  // namespace

const CodeKernel& amx_code_kernel() {
  static const CodeKernel kernel{kTileRows, kTileRows, pack_a, pack_b, block, tile};
  return kernel;
}

}  // namespace reid::cpu
