#pragma once
// The innermost loop of products of 16-bit codes: a tile of C in registers.
//
// Layout: two consecutive codes of a row stand together and are consumed by one instruction (vpdpwssd: two products, added to 32 bits).
// A is a packed panel [steps][rows][2], B a packed panel [steps][columns][2]; a block of codes has kCodeSteps steps.

#include <cstdint>

#include "reid/engine/registry.h"

namespace reid::cpu {

inline constexpr int64_t kCodeSteps = kCodeBlock / 2;

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
  void (*run)(const CodeTile&);
};

inline constexpr int64_t kMaxCodeRows = 14, kMaxCodeColumns = 32;

const CodeKernel& vnni_kernel();  // x86 only

}  // namespace reid::cpu
