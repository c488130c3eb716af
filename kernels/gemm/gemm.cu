// Matrix products in f32 on the plain cores, without tensor cores: c = op(a) op(b), or c += with accumulate.
//
// Layout: row-major; transposed operands are stored [K, M] and [N, K].
// Versions, each one idea further:
//   naive            a thread for each c[i, j], neighbors in different rows: every load of a warp is its own memory transaction
//   coalesced        neighbors in one row: a's element is shared by the warp, b's are 128 neighboring bytes. 8 bytes for 2 flops
//   shared_tile      blocks of 16 x 16 fetch tiles of both operands to shared memory: 16 times fewer bytes from global memory
//   register_tile    64 x 64 sums a block, 4 x 4 a thread: 2 shared loads of 16 bytes for 32 flops; see tile.cuh
//   register_tile_128  128 x 128 and 8 x 8: 4 loads for 128 flops, for products that fill such tiles
// Flops: 2 M N K. Floor on H200: 67 Tflop/s of f32 FMA; bytes count for thin products (4 (M K + K N + M N) / 4.3 TB/s). No version was
// measured yet. bf16 operands: gemm_mma.cu.

#include "gemm/problem.cuh"
#include "kernels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int kTile = 16;

struct Product {
  GemmArgs g;
  __device__ float a(int64_t i, int64_t l) const { return in<float>(g.a)[g.transpose_a ? l * g.m + i : i * g.k + l]; }
  __device__ float b(int64_t l, int64_t j) const { return in<float>(g.b)[g.transpose_b ? j * g.k + l : l * g.n + j]; }
  __device__ void store(int64_t i, int64_t j, float sum) const {
    float* c = out<float>(g.c) + i * g.n + j;
    *c = g.accumulate ? *c + sum : sum;
  }
};

// One thread an element; `along_rows`: neighbors differ in the column.
template <bool along_rows>
__global__ void element_kernel(Product p) {
  after_predecessors();
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= p.g.m * p.g.n) return;
  const int64_t i = along_rows ? t / p.g.n : t % p.g.m, j = along_rows ? t % p.g.n : t / p.g.m;
  float sum = 0;
  for (int64_t l = 0; l < p.g.k; ++l) sum += p.a(i, l) * p.b(l, j);
  p.store(i, j, sum);
}

__global__ void shared_tile_kernel(Product p, int64_t tiles_n) {
  after_predecessors();
  // Written before the first barrier of a step, read before the second.
  SHARED_ARRAY(float, a_tile, kTile* kTile);  // [i, l]
  SHARED_ARRAY(float, b_tile, kTile* kTile);  // [l, j]
  const int x = static_cast<int>(threadIdx.x) % kTile, y = static_cast<int>(threadIdx.x) / kTile;
  const int64_t i = blockIdx.x / tiles_n * kTile + y, j = blockIdx.x % tiles_n * kTile + x;
  float sum = 0;
  for (int64_t l0 = 0; l0 < p.g.k; l0 += kTile) {
    a_tile[y * kTile + x] = i < p.g.m && l0 + x < p.g.k ? p.a(i, l0 + x) : 0;
    b_tile[y * kTile + x] = l0 + y < p.g.k && j < p.g.n ? p.b(l0 + y, j) : 0;
    __syncthreads();
    for (int l = 0; l < kTile; ++l) sum += a_tile[y * kTile + l] * b_tile[l * kTile + x];
    __syncthreads();
  }
  if (i < p.g.m && j < p.g.n) p.store(i, j, sum);
}

template <bool along_rows>
void element_a_thread(const GemmArgs& g, Stream& stream) {
  if (g.m * g.n > 0) launch(element_kernel<along_rows>, blocks_for(g.m * g.n, kThreads), kThreads, 0, stream, Product{g});
}

void shared_tile(const GemmArgs& g, Stream& stream) {
  const int64_t tiles_n = ceil_div(g.n, kTile), blocks = ceil_div(g.m, kTile) * tiles_n;
  if (blocks > 0) launch(shared_tile_kernel, blocks_for(blocks, 1), kTile * kTile, 0, stream, Product{g}, tiles_n);
}

template <int kM, int kN>
void register_tile(const GemmArgs& g, Stream& stream) {
  with_problem<float>(g, [&](auto p) { run_register_tile<kM, kN>(p, 1, stream); });
}

const char* refuse(const GemmArgs& g) { return refuse_other_than_f32(g.dtype); }
const char* refuse_small(const GemmArgs& g) {
  return g.m < 128 || g.n < 128 ? "takes products of at least 128 x 128" : refuse_other_than_f32(g.dtype);
}

}  // namespace

void register_gemm() {
  add<Gemm>(REID_KERNEL_NAME("register_tile_128"), refuse_small, register_tile<128, 128>);
  add<Gemm>(REID_KERNEL_NAME("register_tile"), refuse, register_tile<64, 64>);
  add<Gemm>(REID_KERNEL_NAME("shared_tile"), refuse, shared_tile);
  add<Gemm>(REID_KERNEL_NAME("coalesced"), refuse, element_a_thread<true>);
  add<Gemm>(REID_KERNEL_NAME("naive"), refuse, element_a_thread<false>);
}

}  // namespace reid::REID_TARGET
