#pragma once
// What kernels are made of: 16-byte vectors, bf16, quick divisions, reductions over warps and blocks in a fixed order, argument casts.

#include "launch.cuh"

namespace reid::REID_TARGET {

inline constexpr int kWarpSize = 32;

// --- the first statement of every kernel (tools/check_repo.py sees to it) ---

// A kernel may be let in while the one before still ends (launches_overlap). It waits here until all that was written before can be read,
// then lets in the next, whose blocks begin when all of its own have: one that asks for it, as a library's kernels may, too.
__device__ inline void after_predecessors() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// --- pointers of an op's arguments ---

template <class T>
__host__ __device__ const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
__host__ __device__ T* out(void* p) {
  return static_cast<T*>(p);
}

inline const char* refuse_other_than_f32(DType dtype) { return dtype == DType::f32 ? nullptr : "takes f32 only"; }
inline const char* refuse_other_than_bf16(DType dtype) { return dtype == DType::bf16 ? nullptr : "takes bf16 only"; }
inline bool aligned_to_16(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return true;
}

// --- 16-byte vectors: a warp that loads them moves 512 bytes with one instruction ---

template <class T>
struct alignas(16) Vec {
  static constexpr int kCount = 16 / sizeof(T);
  T v[kCount];
  __host__ __device__ T& operator[](int i) { return v[i]; }
  __host__ __device__ const T& operator[](int i) const { return v[i]; }
};

// The pointer must be a multiple of 16 bytes.
template <class T>
__device__ Vec<T> load_vec(const T* p) {
#ifndef __CUDACC__
  detail::check_aligned(p, 16);
#endif
  return *reinterpret_cast<const Vec<T>*>(p);
}
// To global memory. In assembly: nvcc takes an assignment apart, and left it as eight stores where stores depend on a condition.
template <class T>
__device__ void store_vec(T* p, const Vec<T>& value) {
#ifndef __CUDACC__
  detail::check_aligned(p, 16);
  detail::check_global("store_vec", p, 16);
  *reinterpret_cast<Vec<T>*>(p) = value;
#else
  uint32_t words[4];
  memcpy(words, &value, sizeof(words));
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(words[0]), "r"(words[1]), "r"(words[2]),
               "r"(words[3])
               : "memory");
#endif
}

// --- bf16: the upper half of an f32; arithmetic happens in float ---

struct bf16 {
  uint16_t bits;
};

__device__ inline float to_float(bf16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// To nearest, ties to even; NaN becomes 0x7FFF, as the instruction makes it.
__device__ inline bf16 to_bf16(float x) {
#ifdef __CUDA_ARCH__
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
  return result;
#else
  if (x != x) return {0x7FFF};
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  bits += 0x7FFF + ((bits >> 16) & 1);
  return {static_cast<uint16_t>(bits >> 16)};
#endif
}

// Two neighbors in a word, the first in its lower half.
__device__ inline uint32_t to_bf16_pair(float first, float second) {
#ifdef __CUDA_ARCH__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return to_bf16(first).bits | uint32_t{to_bf16(second).bits} << 16;
#endif
}

// The first (0) or second (1) of such a pair.
__device__ inline float of_bf16_pair(uint32_t pair, int which) {
  const uint32_t bits = which == 0 ? pair << 16 : pair & 0xFFFF0000u;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Kernels that are written for both types read with to_float and write with from_float.
__device__ inline float to_float(float x) { return x; }
template <class T>
__device__ T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else {
    return to_bf16(x);
  }
}

inline const char* refuse_other_floats(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 ? nullptr : "takes f32 and bf16 only";
}
// Calls f(T()) with float or bf16.
template <class F>
void with_type(DType dtype, F f) {
  dtype == DType::bf16 ? f(bf16()) : f(float());
}

// --- division by a number that the launch knows: a product and a shift (Granlund and Montgomery, PLDI 1994) ---

// For 0 <= n < 2^31 and 1 <= divisor < 2^31, with s = ceil(log2 divisor) and m = floor(2^32 (2^s - divisor) / divisor) + 1:
//   n / divisor = (m n / 2^32 + n) / 2^s, all rounded down
struct Divisor {
  uint32_t divisor = 1, multiplier = 1, shift = 0;
  Divisor() = default;
  __host__ explicit Divisor(int64_t d) : divisor(static_cast<uint32_t>(d)) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>((((uint64_t{1} << shift) - divisor) << 32) / divisor + 1);
  }
  __host__ __device__ int quotient(int n) const {
    const uint32_t high = static_cast<uint32_t>((uint64_t{static_cast<uint32_t>(n)} * multiplier) >> 32);
    return static_cast<int>((high + static_cast<uint32_t>(n)) >> shift);
  }
  __host__ __device__ int remainder(int n, int quotient_of_n) const { return n - quotient_of_n * static_cast<int>(divisor); }
};

// --- reductions ---

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {  // NaN wins over numbers
  __device__ float operator()(float a, float b) const { return a != a || a > b ? a : b; }
  __device__ int operator()(int a, int b) const { return a > b ? a : b; }
};

// Over the 32 lanes, as a tree whose shape is fixed; every lane gets the result. All lanes of the warp must call it.
template <class T, class Op>
__device__ T warp_reduce(T value, Op op) {
  for (int bits = kWarpSize / 2; bits > 0; bits /= 2) value = op(value, __shfl_xor_sync(0xFFFFFFFFu, value, bits));
  return value;
}

// Over a block of at most 1024 threads along x; every thread gets the result. All threads of the block must call it. The two
// barriers make it safe to call again at once: the first before the partial results are read, the second before they are replaced.
template <class T, class Op>
__device__ T block_reduce(T value, Op op) {
  SHARED_ARRAY(T, partial, kWarpSize);
  const unsigned warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  value = warp_reduce(value, op);
  if (threadIdx.x % kWarpSize == 0) partial[warp] = value;
  __syncthreads();
  T result = partial[0];
  for (unsigned w = 1; w < warps; ++w) result = op(result, partial[w]);
  __syncthreads();
  return result;
}

}  // namespace reid::REID_TARGET
