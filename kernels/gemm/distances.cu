// What is computed like a matrix product: Euclidean distances of rows, scalar products of 16-bit codes, the core of a non-local block.
// The equations stand beside the arguments in op_args.h and op_args_rows.h.
//
// Layout: rows [M, K] and [N, K]; maps [N, L, D].
// Map: register tiles (tile.cuh) with other terms and other ends: (a - b)^2 and a root; a batch for each image of a non-local block, whose
//      D x D matrices stand in the workspace. code_products: a thread for each element, since a block of 64 codes is summed exactly in
//      integers before it is rounded.
// Flops: 3 M N K, 2 M N K, 4 N L D^2 forward and 12 backward. No version was measured yet.

#include "gemm/tile.cuh"
#include "kernels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;

// --- distances: beyond the extents there are zeros on both sides, whose difference adds nothing ---

struct DistanceProblem : MatrixProblem<float, float, true, true> {
  float* d;
  float floor;
  __device__ static float term(float sum, float x, float y) { return sum + (x - y) * (x - y); }
  __device__ void store(int64_t, int64_t i, int64_t j, float sum) const { d[i * n + j] = sqrtf(fmaxf(sum, floor)); }
};

void row_distances(const RowDistancesArgs& a, Stream& stream) {
  DistanceProblem p{};
  p.m = a.m, p.n = a.n, p.depth = a.k;
  p.left = {in<float>(a.x), 0, a.k, 1}, p.right = {in<float>(a.y), 0, a.k, 1};
  p.d = out<float>(a.d), p.floor = static_cast<float>(a.floor);
  run_register_tile<64, 64>(p, 1, stream);
}

// --- codes ---

__global__ void code_products_kernel(CodeProductsArgs p) {
  after_predecessors();
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= p.m * p.n) return;
  const int16_t *a = p.a + t / p.n * p.k, *b = p.b + t % p.n * p.k;
  float total = 0;
  for (int64_t block = 0; block < p.k; block += kCodeBlock) {
    const int64_t end = block + kCodeBlock < p.k ? block + kCodeBlock : p.k;
    int sum = 0;
    for (int64_t k = block; k < end; ++k) sum += int{a[k]} * int{b[k]};
    total += static_cast<float>(sum);
  }
  p.c[t] = total * (p.scale_a[t / p.n] * p.scale_b[t % p.n]);
}

void code_products(const CodeProductsArgs& p, Stream& stream) {
  if (p.m * p.n > 0) launch(code_products_kernel, blocks_for(p.m * p.n, kThreads), kThreads, 0, stream, p);
}

// --- non-local blocks: products with a batch for each image, scaled by 1 / L at the end; matrices D x D stay f32 ---

// C: the type of the result.
template <class A, class B, class C, bool kAlongA, bool kAlongB>
struct ImageProblem : MatrixProblem<A, B, kAlongA, kAlongB> {
  C* c;  // [images, m, n]
  float share;
  __device__ void store(int64_t batch, int64_t i, int64_t j, float sum) const {
    c[(batch * this->m + i) * this->n + j] = from_float<C>(share * sum);
  }
};

template <class T>
struct Maps {
  int64_t images, length, d;
  // c[e, f] = sum over l of a[l, e] b[l, f]
  void outer_sum(const void* a, const void* b, float* c, Stream& stream) const {
    ImageProblem<T, T, float, false, false> p{};
    p.m = d, p.n = d, p.depth = length;
    p.left = {in<T>(a), length * d, 1, d}, p.right = {in<T>(b), length * d, 1, d};
    p.c = c, p.share = 1;
    run_register_tile<64, 64>(p, images, stream);
  }
  // y[l, f] = (1 / L) sum over e of x[l, e] c[e, f], or of c[f, e]
  template <bool transposed>
  void rows_times(const void* x, const float* c, void* y, Stream& stream) const {
    ImageProblem<T, float, T, true, transposed> p{};
    p.m = length, p.n = d, p.depth = d;
    p.left = {in<T>(x), length * d, d, 1}, p.right = {c, d * d, transposed ? d : 1, transposed ? 1 : d};
    p.c = out<T>(y), p.share = 1 / static_cast<float>(length);
    run_register_tile<64, 64>(p, images, stream);
  }
  float* matrices(int count, Stream& stream) const {
    return static_cast<float*>(stream.workspace(static_cast<size_t>(count * images * d * d) * sizeof(float)));
  }
};

void non_local(const NonLocalArgs& a, Stream& stream) {
  with_type(a.dtype, [&](auto element) {
    const Maps<decltype(element)> maps{a.n, a.length, a.d};
    float* m = maps.matrices(1, stream);
    maps.outer_sum(a.phi, a.g, m, stream);
    maps.template rows_times<false>(a.theta, m, a.y, stream);
  });
}

void non_local_backward(const NonLocalBackwardArgs& a, Stream& stream) {
  with_type(a.dtype, [&](auto element) {
    const Maps<decltype(element)> maps{a.n, a.length, a.d};
    float* m = maps.matrices(2, stream);
    float* dm = m + a.n * a.d * a.d;
    maps.outer_sum(a.phi, a.g, m, stream);
    maps.outer_sum(a.theta, a.dy, dm, stream);
    maps.template rows_times<true>(a.dy, m, a.dtheta, stream);
    maps.template rows_times<true>(a.g, dm, a.dphi, stream);
    maps.template rows_times<false>(a.phi, dm, a.dg, stream);
  });
}

const char* refuse(const RowDistancesArgs& a) { return refuse_other_than_f32(a.dtype); }
template <class Args>
const char* refuse_non_local(const Args& a) {
  return refuse_other_floats(a.dtype);
}

}  // namespace

void register_distances() {
  add<RowDistances>(REID_KERNEL_NAME("register_tile"), refuse, row_distances);
  add<CodeProducts>(REID_KERNEL_NAME("element_a_thread"), nullptr, code_products);
  add<NonLocal>(REID_KERNEL_NAME("register_tile"), refuse_non_local<NonLocalArgs>, non_local);
  add<NonLocalBackward>(REID_KERNEL_NAME("register_tile"), refuse_non_local<NonLocalBackwardArgs>, non_local_backward);
}

}  // namespace reid::REID_TARGET
