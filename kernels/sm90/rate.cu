// How fast Hopper's tensor cores multiply tiles that stay in shared memory: the third version of rate.cu.
//
// Layout: a [64, 64] along depth, b [64, 128] across it, swizzled as the copy engine would (hopper.cuh).
// Map: a block is one warpgroup with 64 x 128 sums in registers. It keeps one group of four products running while it issues the next,
//      as the kernels of wgmma_tile.cuh do; several blocks share a processor.
// Flops: 2 M N K a round and tile. Bytes: none but the sums at the end; from shared memory 24 KB for 1 Mflop. Never measured yet.

#include "kernels.h"
#include "reid/engine/op_args_rate.h"
#include "sm90/wgmma_tile.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kM = RepeatedProduct::kM, kN = RepeatedProduct::kN, kDepth = RepeatedProduct::depth(DType::bf16);
static_assert(kDepth == kWgmmaDepth, "rows of 128 bytes");
constexpr int kThreads = 128, kPieces = kDepth / 8;
constexpr size_t kBytes = size_t{kDepth} * (kM + kN) * sizeof(bf16);

// Piece p of row r of a tile of rows of 64 elements.
__device__ void store_piece(bf16* tile, int r, int p, const bf16* source) {
  *reinterpret_cast<Vec<bf16>*>(tile + r * 64 + (p ^ r % 8) * 8) = load_vec(source);
}

__global__ void __launch_bounds__(kThreads, 4) rate_kernel(const bf16* left, const bf16* right, float* c, int64_t rounds) {
  after_predecessors();
  bf16* const a = shared_dynamic<bf16>();  // written here, read by wgmma behind the fence and the barrier
  bf16* const b = a + kM * kDepth;         // columns 0 to 63, then 64 to 127
  for (int e = static_cast<int>(threadIdx.x); e < kM * kPieces; e += kThreads) {
    const int r = e / kPieces, p = e % kPieces;
    store_piece(a, r, p, left + r * kDepth + p * 8);
    store_piece(b, r, p, right + r * kN + p * 8);
    store_piece(b + 64 * kDepth, r, p, right + r * kN + 64 + p * 8);
  }
  fence_proxy_async();
  __syncthreads();
  float sums[64] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    wgmma_fence();
    UNROLL
    for (int k = 0; k < kDepth; k += 16) {
      wgmma_m64k16<kN, false, true>(sums, wgmma_part<false>(a, 0, k), kWgmmaLeading, wgmma_part<true>(b, 0, k), kWgmmaLeading);
    }
    wgmma_commit();
    wgmma_wait<1>();
  }
  wgmma_wait<0>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, row = static_cast<int>(threadIdx.x) / kWarpSize * 16 + lane / 4;
  float* line = c + (int64_t{blockIdx.x} * kM + row) * kN + lane % 4 * 2;
  UNROLL
  for (int i = 0; i < 64; ++i) line[i % 4 / 2 * 8 * kN + i / 4 * 8 + i % 2] = sums[i];
}

void wgmma(const RepeatedProductArgs& p, Stream& stream) {
  launch(rate_kernel, blocks_for(p.tiles, 1), kThreads, kBytes, stream, in<bf16>(p.a), in<bf16>(p.b), out<float>(p.c), p.rounds);
}

const char* refuse(const RepeatedProductArgs& p) {
  if (const char* reason = refuse_other_than_bf16(p.dtype)) return reason;
  if (p.tiles < 1 || p.m != kM || p.n != kN || p.k != kDepth) return "takes tiles of 64 x 128, of 64 terms";
  if (!aligned_to_16({p.a, p.b})) return "takes arrays that start at multiples of 16 bytes";
  return refuse_other_than_hopper();
}

}  // namespace

void register_sm90_rate() { add<RepeatedProduct>(REID_KERNEL_NAME("sm90_wgmma"), refuse, wgmma); }

}  // namespace reid::REID_TARGET
