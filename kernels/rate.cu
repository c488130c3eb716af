// How fast a device multiplies when nothing is fetched: the ceilings beside which `reid bench` shows other kernels.
//
//   c[t] = rounds a b, added one by one, for tiles t of [64, 128] sums; a [64, K], b [K, 128]
//
// Layout: row-major; a block makes one tile, all blocks the same one.
// Versions:
//   fma_registers   f32, K = 2: a thread holds 8 x 8 sums, 8 x 2 of a and 2 x 8 of b; 64 sums are more than the latency of an addition
//   mma_registers   bf16, K = 64: a warp holds 16 x 128 sums and the fragments of 16 terms, 16 products between two of one sum
//   sm90_wgmma      sm90/rate.cu: tiles in shared memory, where mma.sync ends at about 65 % of Hopper's rate (Luo et al., arXiv 2402.13499)
// Bytes: the sums once, 32 KB a block. Flops: 2 M N K a round and tile. What comes out is the rate itself: no floor.

#include "kernels.h"
#include "mma.cuh"
#include "reid/engine/op_args_rate.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kM = RepeatedProduct::kM, kN = RepeatedProduct::kN;
constexpr int kThreads = 128;

constexpr int kPlainDepth = RepeatedProduct::depth(DType::f32), kOwn = 8;  // a thread's rows and columns
static_assert(kM / kOwn * (kN / kOwn) == kThreads);

__global__ void __launch_bounds__(kThreads, 4) fma_kernel(const float* left, const float* right, float* c, int64_t rounds) {
  after_predecessors();
  const int row = static_cast<int>(threadIdx.x) / (kN / kOwn) * kOwn, column = static_cast<int>(threadIdx.x) % (kN / kOwn) * kOwn;
  float a[kPlainDepth][kOwn], b[kPlainDepth][kOwn], sums[kOwn][kOwn] = {};
  UNROLL
  for (int l = 0; l < kPlainDepth; ++l) {
    UNROLL
    for (int i = 0; i < kOwn; ++i) a[l][i] = left[(row + i) * kPlainDepth + l], b[l][i] = right[l * kN + column + i];
  }
  for (int64_t round = 0; round < rounds; ++round) {
    UNROLL
    for (int l = 0; l < kPlainDepth; ++l) {
      UNROLL
      for (int i = 0; i < kOwn; ++i) {
        UNROLL
        for (int j = 0; j < kOwn; ++j) sums[i][j] = fmaf(a[l][i], b[l][j], sums[i][j]);  // a product apart could leave the loop
      }
    }
  }
  float* tile = c + int64_t{blockIdx.x} * kM * kN;
  UNROLL
  for (int i = 0; i < kOwn; ++i) {
    UNROLL
    for (int j = 0; j < kOwn; ++j) tile[(row + i) * kN + column + j] = sums[i][j];
  }
}

constexpr int kDepth = RepeatedProduct::depth(DType::bf16), kColumns = kN / 8;
static_assert(kM / 16 * kWarpSize == kThreads);

__device__ uint32_t pair(bf16 low, bf16 high) { return uint32_t{low.bits} | uint32_t{high.bits} << 16; }

__global__ void __launch_bounds__(kThreads, 4) mma_kernel(const bf16* left, const bf16* right, float* c, int64_t rounds) {
  after_predecessors();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, g = lane / 4, t = lane % 4;
  const int row = static_cast<int>(threadIdx.x) / kWarpSize * 16 + g;
  float sums[kColumns][4] = {};
  for (int s = 0; s < kDepth; s += 16) {  // all rounds of 16 terms, then of the next: their fragments fit the registers
    uint32_t a[4], b[kColumns][2];
    UNROLL
    for (int i = 0; i < 4; ++i) {
      const bf16* two = left + (row + i % 2 * 8) * kDepth + s + i / 2 * 8 + 2 * t;
      a[i] = pair(two[0], two[1]);
    }
    UNROLL
    for (int j = 0; j < kColumns; ++j) {
      UNROLL
      for (int i = 0; i < 2; ++i) {
        const bf16* upper = right + (s + i * 8 + 2 * t) * kN + j * 8 + g;
        b[j][i] = pair(upper[0], upper[kN]);
      }
    }
    for (int64_t round = 0; round < rounds; ++round) {
      UNROLL
      for (int j = 0; j < kColumns; ++j) mma_m16n8k16(sums[j], a, b[j]);
    }
  }
  float* tile = c + int64_t{blockIdx.x} * kM * kN;
  UNROLL
  for (int j = 0; j < kColumns; ++j) {
    UNROLL
    for (int i = 0; i < 4; ++i) tile[(row + i / 2 * 8) * kN + j * 8 + 2 * t + i % 2] = sums[j][i];
  }
}

void fma_registers(const RepeatedProductArgs& p, Stream& stream) {
  launch(fma_kernel, blocks_for(p.tiles, 1), kThreads, 0, stream, in<float>(p.a), in<float>(p.b), out<float>(p.c), p.rounds);
}
void mma_registers(const RepeatedProductArgs& p, Stream& stream) {
  launch(mma_kernel, blocks_for(p.tiles, 1), kThreads, 0, stream, in<bf16>(p.a), in<bf16>(p.b), out<float>(p.c), p.rounds);
}

template <DType dtype>
const char* refuse(const RepeatedProductArgs& p) {
  const bool extents = p.tiles > 0 && p.m == kM && p.n == kN && p.k == RepeatedProduct::depth(dtype);
  if (p.dtype == dtype && !extents) return "takes tiles of 64 x 128, of 2 terms in f32 and 64 in bf16";
  return dtype == DType::f32 ? refuse_other_than_f32(p.dtype) : refuse_other_than_bf16(p.dtype);
}

}  // namespace

void register_rate() {
  add<RepeatedProduct>(REID_KERNEL_NAME("fma_registers"), refuse<DType::f32>, fma_registers);
  add<RepeatedProduct>(REID_KERNEL_NAME("mma_registers"), refuse<DType::bf16>, mma_registers);
}

}  // namespace reid::REID_TARGET
