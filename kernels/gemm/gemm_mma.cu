// Matrix products of bf16 on tensor cores: c = op(a) op(b), or c += with accumulate, where a and b are bf16, sums and c f32.
//
// Layout: as in gemm.cu; a transposed operand is fetched as it lies and turned by ldmatrix.
// Versions (mma_tile.cuh tells how the tiles work):
//   mma_gather       64 x 64 sums by 4 warps, one stage, operands element by element: any extents
//   mma_async        64 x 64, four stages of cp.async: loads and products at the same time; extents along memory in eights
//   mma_async_128    128 x 128 by 8 warps: half the shared and global loads for a product
//   mma_async_split  128 x 128, k cut into chunks of 2048 that other blocks sum, added in order by a second kernel: where k is so long
//                    that c alone has too few tiles for a GPU
// Bytes: 2 (M K + K N) + 4 M N; a tile of 128 x 128 fetches 16 KB for 1 Mflop, 64 flop/byte from L2. Flops: 2 M N K. Floor on H200: 790
// Tflop/s, which wgmma reaches (sm90/); mma.sync ends at about 65 % of it (Luo et al., arXiv 2402.13499). No version was measured yet.
// Which version runs depends on the extents; the sums of a row of c do not depend on it but for chunks, which depend on k alone. (wgmma,
// sm90/, takes as many terms at a time; nobody documents whether it rounds as mma.sync does.)

#include "gemm/mma_tile.cuh"
#include "gemm/parts.cuh"
#include "gemm/problem.cuh"
#include "kernels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int64_t kChunk = 2048;  // of k
using Small = MmaShape<64, 64>;
using Large = MmaShape<128, 128>;

void gather(const GemmArgs& g, Stream& stream) {
  with_problem<bf16>(g, [&](const auto& p) { run_mma_gather<Small>(p, 1, stream); });
}
template <class Shape>
void async(const GemmArgs& g, Stream& stream) {
  with_problem<bf16>(g, [&](const auto& p) { run_mma_async<Shape>(p, 1, stream); });
}

// Batch b is the b-th chunk of k: both operands begin where it begins, and its sums go to partial [chunks, M, N].
template <class T, bool transpose_a, bool transpose_b>
struct SplitProblem : GemmProblem<T, transpose_a, transpose_b> {
  float* partial;
  __device__ int64_t depth_of(int64_t batch) const { return this->depth - batch * kChunk < kChunk ? this->depth - batch * kChunk : kChunk; }
  __device__ Depth a_depth(int64_t batch, int64_t l) const { return l < depth_of(batch) ? l * this->left.depth_step : -1; }
  __device__ Depth b_depth(int64_t batch, int64_t l) const { return l < depth_of(batch) ? l * this->right.depth_step : -1; }
  __device__ void store(int64_t batch, int64_t i, int64_t j, float sum) const { partial[(batch * this->m + i) * this->n + j] = sum; }
};

void split(const GemmArgs& g, Stream& stream) {
  const int64_t chunks = ceil_div(g.k, kChunk), count = g.m * g.n;
  if (count == 0) return;
  auto* partial = static_cast<float*>(stream.workspace(static_cast<size_t>(chunks * count) * sizeof(float)));
  with_problem<bf16, SplitProblem>(g, [&](auto p) {
    p.left.batch_step = kChunk * p.left.depth_step, p.right.batch_step = kChunk * p.right.depth_step;
    p.partial = partial;
    run_mma_async<Large>(p, chunks, stream);
  });
  add_parts(partial, chunks, count, out<float>(g.c), g.accumulate, stream);
}

const char* refuse(const GemmArgs& g) { return refuse_other_than_bf16(g.dtype); }
const char* refuse_pieces(const GemmArgs& g) {
  if ((g.transpose_a ? g.m : g.k) % 8 != 0 || (g.transpose_b ? g.k : g.n) % 8 != 0) return "takes operands whose rows are multiples of 8";
  return aligned_to_16({g.a, g.b}) ? refuse(g) : "takes arrays that start at multiples of 16 bytes";
}
const char* refuse_small(const GemmArgs& g) { return g.m < 128 || g.n < 128 ? "takes products of at least 128 x 128" : refuse_pieces(g); }
const char* refuse_short(const GemmArgs& g) { return g.k < 2 * kChunk ? "takes sums of at least 4096 terms" : refuse_pieces(g); }

}  // namespace

void register_gemm_mma() {
  add<Gemm>(REID_KERNEL_NAME("mma_async_split"), refuse_short, split);
  add<Gemm>(REID_KERNEL_NAME("mma_async_128"), refuse_small, async<Large>);
  add<Gemm>(REID_KERNEL_NAME("mma_async"), refuse_pieces, async<Small>);
  add<Gemm>(REID_KERNEL_NAME("mma_gather"), refuse, gather);
}

}  // namespace reid::REID_TARGET
