#pragma once
// The innermost loop of products of 16-bit codes: a tile of C in registers.
//
// Panels: a block of codes of all rows of a tile stands together and takes 2 bytes a code, whatever their order inside.
// VNNI: [steps][rows][2], two consecutive codes of a row are consumed by one instruction (vpdpwssd: two products, added to 32 bits).
// AMX: the bytes apart, all high ones before all low ones; of A [rows][64], of B [16][columns][4].

#include <cstdint>

#include "reid/engine/device.h"
#include "reid/engine/registry.h"

namespace reid::cpu {

inline constexpr int64_t kCodeSteps = kCodeBlock / 2;

// Codes [k, k + codes) of rows [row, row + rows) of a matrix, for a panel of whole blocks; zeros where there are no codes or rows.
struct CodeRows {
  const int16_t* source;
  int64_t stride, row, rows, k, codes;
  int64_t blocks() const { return (codes + kCodeBlock - 1) / kCodeBlock; }
};

// Sums over some blocks of codes, each block exactly, the blocks in f32.
struct CodeTile {
  int64_t blocks, steps;  // steps of a block: kCodeSteps
  const int16_t* a;
  const int16_t* b;
  bool first;            // the sums begin at zero, else with what c holds
  const float* scale_a;  // of the rows and columns, for the last blocks; else null
  const float* scale_b;
  float* c;
  int64_t stride;  // of c
};

struct CodeKernel {
  int64_t rows, columns;
  void (*pack_a)(const CodeRows&, int16_t* panel);
  void (*pack_b)(const CodeRows&, int16_t* panel);
  void (*block)(FunctionRef<void()> tiles);  // runs the tiles of a block of work, with the registers set up for them
  void (*run)(const CodeTile&);
};

inline constexpr int64_t kMaxCodeRows = 16, kMaxCodeColumns = 32;

const CodeKernel& vnni_code_kernel();  // x86 only
const CodeKernel& amx_code_kernel();   // x86 only

}  // namespace reid::cpu
