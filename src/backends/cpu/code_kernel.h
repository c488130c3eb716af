#pragma once
// The innermost loop of products of 8-bit codes: a tile of C in registers.
//
//   C[i, j] (+)= sum_{k < 4 depth} A[i, k] * B[k, j],   A unsigned, B signed
//
// Layout: four consecutive codes of a row stand together and are consumed by one instruction (vpdpbusd: four products of an unsigned
// and a signed byte, added to 32 bits). A is a packed panel [depth][rows][4], B a packed panel [depth][columns][4].

#include <cstdint>

namespace reid::cpu {

struct CodeKernel {
  // start: one value a column that the sums begin with, instead of what C holds; null: add to C. c is `stride` integers a row.
  using Run = void (*)(int64_t depth, const uint8_t* a, const int8_t* b, const int32_t* start, int32_t* c, int64_t stride);
  int64_t rows, columns;
  Run run;
};

inline constexpr int64_t kMaxCodeTile = 14 * 32;

const CodeKernel& vnni_kernel();  // x86 only

}  // namespace reid::cpu
