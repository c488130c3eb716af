#pragma once
// What a tensor core computes of the fragments that a warp's lanes lay down: apart from the kernels, for most of the time of their tests
// passes here, and the build may optimize it where all else is slowed by sanitizers. It touches nothing that belongs to a kernel.

#include <cstddef>

namespace reid::emu::detail {

// One lane's part of mma.m16n8k16 in float: A's registers, then B's, the lower half of each first (mma.cuh shows where they stand).
struct Fragments {
  float a[8], b[4];
};

// Adds a lane's four sums of A [16, 16] times B [16, 8], term by term in f32. `stride`: bytes from one lane's fragments to the next.
void multiply_fragments(const unsigned char* lanes, size_t stride, unsigned lane, float (&d)[4]);

}  // namespace reid::emu::detail
