#pragma once
// A matrix product as a Problem of the tiles, and the choice among its four transpositions.

#include "gemm/tile.cuh"

namespace reid::REID_TARGET {

template <class T, bool transpose_a, bool transpose_b>
struct GemmProblem : MatrixProblem<T, T, !transpose_a, transpose_b> {
  float* c;
  bool accumulate;
  __device__ void store(int64_t, int64_t i, int64_t j, float sum) const {
    float* target = c + i * this->n + j;
    *target = accumulate ? *target + sum : sum;
  }
};

template <class Problem>
Problem gemm_problem(const GemmArgs& g) {
  using T = typename Problem::Element;
  Problem p{};
  p.m = g.m, p.n = g.n, p.depth = g.k;
  p.left = {in<T>(g.a), 0, g.transpose_a ? 1 : g.k, g.transpose_a ? g.m : 1};
  p.right = {in<T>(g.b), 0, g.transpose_b ? g.k : 1, g.transpose_b ? 1 : g.n};
  p.c = out<float>(g.c), p.accumulate = g.accumulate;
  return p;
}

// Calls run(problem) with the type that g's transpositions ask for.
template <class T, template <class, bool, bool> class Problem = GemmProblem, class F>
void with_problem(const GemmArgs& g, F run) {
  if (g.transpose_a) {
    g.transpose_b ? run(gemm_problem<Problem<T, true, true>>(g)) : run(gemm_problem<Problem<T, true, false>>(g));
  } else {
    g.transpose_b ? run(gemm_problem<Problem<T, false, true>>(g)) : run(gemm_problem<Problem<T, false, false>>(g));
  }
}

}  // namespace reid::REID_TARGET
