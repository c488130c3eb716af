#pragma once
// The tile registers of AMX: eight, of up to 16 rows of 64 bytes.
//
// An instruction multiplies a tile of A, rows of 64 bytes of k, with a tile of B, whose row holds, for each of 16 columns, 4 bytes of k:
// C[i, j] += sum_k A[i, k] B[k, j], 16 x 16 sums of 32 bits, from 32 values of bf16 or 64 of 8 bits in each of the 32 rows.

#include <immintrin.h>

#include <cstdint>

#define REID_AMX __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512vl,avx512dq,avx512bw")))

namespace reid::cpu {

inline constexpr int64_t kTileRows = 16, kTileBytes = 64;

// What the instruction that configures tiles reads: eight whole ones. In static memory, because compilers are told of 8 of its bytes only.
struct alignas(64) TileShapes {
  uint8_t palette, start, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
inline constexpr TileShapes kTileShapes{
    .palette = 1, .start = 0, .reserved = {}, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

// From here to leave_tiles() the thread's eight tiles are whole ones, and hold nothing defined at first. A system saves 8 KB more of a
// thread with tiles in use at every switch, so they are used for a block of work at a time.
REID_AMX inline void use_tiles() { _tile_loadconfig(&kTileShapes); }
REID_AMX inline void leave_tiles() { _tile_release(); }

// Tiles 0 to 3 are sums of 32 x 32: rows of `c`, equally far apart, from `column` on.
REID_AMX inline __attribute__((always_inline)) void begin_sums(float* const* c, int64_t column, bool add) {
  const float* out = c[0] + column;
  const int64_t stride = c[1] - c[0], bytes = 4 * stride;
  if (add) {
    _tile_loadd(0, out, bytes);
    _tile_loadd(1, out + 16, bytes);
    _tile_loadd(2, out + 16 * stride, bytes);
    _tile_loadd(3, out + 16 * stride + 16, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
}
REID_AMX inline __attribute__((always_inline)) void end_sums(float* const* c, int64_t column) {
  float* out = c[0] + column;
  const int64_t stride = c[1] - c[0], bytes = 4 * stride;
  _tile_stored(0, out, bytes);
  _tile_stored(1, out + 16, bytes);
  _tile_stored(2, out + 16 * stride, bytes);
  _tile_stored(3, out + 16 * stride + 16, bytes);
}

// In use while it lives.
class Tiles {
 public:
  REID_AMX Tiles() { use_tiles(); }
  REID_AMX ~Tiles() { leave_tiles(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

}  // namespace reid::cpu
