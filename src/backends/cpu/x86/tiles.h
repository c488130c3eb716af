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

// While it lives, the thread's eight tiles are whole ones, and hold nothing defined at first. A system saves 8 KB more of a thread with
// tiles in use at every switch, so they are used for a block of work at a time.
class Tiles {
 public:
  REID_AMX Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int i = 0; i < 8; ++i) {
      shape.row_bytes[i] = kTileBytes;
      shape.rows[i] = kTileRows;
    }
    _tile_loadconfig(&shape);
  }
  REID_AMX ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

}  // namespace reid::cpu
