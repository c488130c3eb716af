#pragma once
// A kernel that uses what no registered kernel uses of sm90/hopper.cuh: the emulator runs it (test_hopper.cpp), nvcc assembles it
// (probes.cu).

#include "sm90/hopper.cuh"

namespace reid::REID_TARGET {

// c [64, 128] = a [64, 16] b [128, 16]^T by one warpgroup, from tiles that the threads write themselves.
__global__ void written_product(const bf16* a, const bf16* b, float* c, bool fenced) {
  bf16* const tiles = shared_dynamic<bf16>();  // rows of 64 elements, of which 16 are used: 64 of a, 128 of b
  for (int e = static_cast<int>(threadIdx.x); e < 192 * 16; e += 128) {
    const int row = e / 16, column = e % 16;
    tiles[row * 64 + (column / 8 ^ row % 8) * 8 + column % 8] = row < 64 ? a[e] : b[e - 64 * 16];
  }
  if (fenced) fence_proxy_async();
  __syncthreads();
  float sums[64] = {};
  wgmma_fence();
  wgmma_m64k16<128, false, false>(sums, tiles, 0, tiles + 64 * 64, 0);
  wgmma_commit();
  wgmma_wait<0>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, row = static_cast<int>(threadIdx.x) / kWarpSize * 16 + lane / 4;
  UNROLL
  for (int i = 0; i < 64; ++i) c[(row + i % 4 / 2 * 8) * 128 + i / 4 * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

}  // namespace reid::REID_TARGET
