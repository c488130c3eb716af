#pragma once
// Kernels that use the instructions of mma.cuh: the emulator runs them (test_prims.cpp), nvcc assembles them (probes.cu).

#include "mma.cuh"

namespace reid::REID_TARGET {

// ldmatrix hands lane l the elements (l / 4, 2 (l % 4)) and the next; transposed, those of the transposed matrix.
__global__ void load_matrices(uint32_t* y) {
  SHARED_ARRAY(bf16, tile, 4 * 64);
  for (unsigned i = threadIdx.x; i < 256; i += 32) tile[i].bits = static_cast<uint16_t>(i);  // matrix i / 64, row i / 8 % 8, column i % 8
  __syncthreads();
  uint32_t four[4], turned[4], two[2], two_turned[2];
  const unsigned lane = threadIdx.x;
  ldmatrix_x4(four, tile + lane * 8);
  ldmatrix_x4_trans(turned, tile + lane * 8);
  const bf16* row = lane < 16 ? tile + lane * 8 : nullptr;  // the addresses of the upper lanes do not count
  ldmatrix_x2(two, row);
  ldmatrix_x2_trans(two_turned, row);
  for (unsigned i = 0; i < 4; ++i) y[lane * 12 + i] = four[i], y[lane * 12 + 4 + i] = turned[i];
  for (unsigned i = 0; i < 2; ++i) y[lane * 12 + 8 + i] = two[i], y[lane * 12 + 10 + i] = two_turned[i];
}

// c [16, 8] = a [16, K] b [K, 8] by one warp: two stages of cp.async, fragments through ldmatrix, the sums in registers.
constexpr int kDepth = 80;

__device__ void fetch_stage(const bf16* a, const bf16* b, bf16* stage, int k) {
  const int lane = static_cast<int>(threadIdx.x);
  cp_async_16(stage + lane * 8, a + lane / 2 * kDepth + k + lane % 2 * 8);  // [16, 16]
  if (lane < 16) cp_async_16(stage + 256 + lane * 8, b + (k + lane) * 8);   // [16, 8]
  cp_async_commit();
}

__global__ void product(const bf16* a, const bf16* b, float* c) {
  SHARED_ARRAY(bf16, stages, 2 * 384);
  const int lane = static_cast<int>(threadIdx.x);
  float sums[4] = {};
  fetch_stage(a, b, stages, 0);
  for (int k = 0, s = 0; k < kDepth; k += 16, s ^= 1) {
    if (k + 16 < kDepth) {
      fetch_stage(a, b, stages + (s ^ 1) * 384, k + 16);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    uint32_t fa[4], fb[2];
    ldmatrix_x4(fa, stages + s * 384 + lane % 16 * 16 + lane / 16 * 8);
    ldmatrix_x2_trans(fb, stages + s * 384 + 256 + lane % 16 * 8);
    mma_m16n8k16(sums, fa, fb);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

}  // namespace reid::REID_TARGET
