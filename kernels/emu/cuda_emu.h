#pragma once
// The part of CUDA that the kernels of this project use, for compilers that know no CUDA: the same .cu files run on a CPU.
//
// Design: the threads of a block are fibers on one thread of the machine, blocks (or clusters of them) run one after another. A thread
// runs until it waits, at a barrier or in a warp collective; whose turn is next is the Schedule's choice. Everything a GPU would leave
// undefined is made visible: barriers and collectives that not all threads reach, partial masks, launches beyond the limits of sm_80 and
// sm_90 are errors that name the place; shared memory is a heap block of exact size, filled with NaN, for each array and block, so that
// AddressSanitizer sees its ends. No name of CUDA is a macro but the attributes: the rest are ordinary names in reid::emu.
// What a copy engine or a tensor core does behind a thread's back happens as late as it may.
// Not here: speed, the memory model between blocks, grid-wide synchronization, streams that run at the same time.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "emu/schedule.h"
#include "reid/engine/device.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

namespace reid::emu {

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// The scheduler sets them whenever it changes to another thread.
extern constinit thread_local uint3 threadIdx, blockIdx;
extern constinit thread_local dim3 blockDim, gridDim;

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kFullMask = 0xFFFFFFFFu;
inline constexpr size_t kStaticShared = 48 << 10;   // bytes a block may declare
inline constexpr size_t kOptInShared = 227 << 10;   // bytes a block may have in all (sm_90; sm_80: 163 KB)
inline constexpr size_t kParameterBytes = 4 << 10;  // of a kernel's arguments

struct Site {
  const char* file;
  int line;
};

namespace detail {

struct LaunchShape {
  dim3 grid, block;
  size_t shared;  // dynamic bytes
  Site site;
  unsigned cluster = 1;  // neighboring blocks that run at the same time
};
void check_shape(const LaunchShape& shape);  // throws what a GPU would refuse
void run_grid(const LaunchShape& shape, FunctionRef<void()> thread);

void block_barrier(Site site);

// What the lanes of a warp laid down in one collective.
struct Exchange {
  static constexpr size_t kBytes = 48;
  alignas(16) unsigned char lanes[kWarp][kBytes];
  template <class T>
  T get(unsigned lane) const {
    static_assert(sizeof(T) <= kBytes && std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, lanes[lane], sizeof(T));
    return value;
  }
};
// Waits until all lanes of the warp made the same call; the result lasts until this lane's next collective.
const Exchange& exchange(const char* call, unsigned mask, const void* mine, size_t bytes, Site site);
template <class T>
const Exchange& exchange(const char* call, unsigned mask, const T& mine, Site site) {
  return exchange(call, mask, &mine, sizeof(T), site);
}

// The block's array of this declaration; `declaration` is an address that no other declaration has.
void* shared_array(const void* declaration, size_t bytes, Site site);
void* shared_dynamic(Site site);

// cp.async: what is copied arrives at the wait. Until then the destination holds NaN.
void copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, Site site);
void copy_async_commit();
void copy_async_wait(unsigned groups_in_flight);

inline unsigned linear_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
inline unsigned lane() { return linear_thread() % kWarp; }

// A pointer for vector loads must be aligned to the vector: a GPU stops the kernel, so does this.
[[noreturn]] void misaligned(const void* pointer, size_t alignment);
inline void check_aligned(const void* pointer, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) misaligned(pointer, alignment);
}
// Some instructions take addresses in the block's shared memory only.
void check_shared(const char* call, const void* pointer, size_t bytes, Site site);
void check_global(const char* call, const void* pointer, size_t bytes);  // that it is no shared memory

}  // namespace detail

// Default arguments are evaluated where the call stands: reports name the kernel's line.
#define REID_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(REID_SITE) { detail::block_barrier({file, line}); }
inline void __syncwarp(unsigned mask = kFullMask, REID_SITE) { detail::exchange("__syncwarp", mask, 0, {file, line}); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, REID_SITE) {
  return detail::exchange("__shfl_sync", mask, value, {file, line}).template get<T>(static_cast<unsigned>(source) % kWarp);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, REID_SITE) {
  return detail::exchange("__shfl_xor_sync", mask, value, {file, line})
      .template get<T>((detail::lane() ^ static_cast<unsigned>(bits)) % kWarp);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, REID_SITE) {
  const detail::Exchange& all = detail::exchange("__shfl_down_sync", mask, value, {file, line});
  const unsigned source = detail::lane() + delta;
  return all.template get<T>(source < kWarp ? source : detail::lane());
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, REID_SITE) {
  const detail::Exchange& all = detail::exchange("__shfl_up_sync", mask, value, {file, line});
  return all.template get<T>(detail::lane() >= delta ? detail::lane() - delta : detail::lane());
}
inline unsigned __ballot_sync(unsigned mask, int predicate, REID_SITE) {
  const detail::Exchange& all = detail::exchange("__ballot_sync", mask, predicate, {file, line});
  unsigned bits = 0;
  for (unsigned i = 0; i < kWarp; ++i) bits |= (all.get<int>(i) != 0 ? 1u : 0u) << i;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate, REID_SITE) { return __ballot_sync(mask, predicate, file, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, REID_SITE) { return __ballot_sync(mask, predicate, file, line) == kFullMask; }
inline int __popc(unsigned bits) { return std::popcount(bits); }

// Rounded each by itself: nvcc fuses a * b + c where they are written as operators.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __ddiv_rn(double a, double b) { return a / b; }

// Threads change places at barriers and collectives only, so plain reads and writes are atomic. Each returns the old value.
template <class T, class F>
T atomic_update(T* address, F&& next) {
  const T old = *address;
  *address = next(old);
  return old;
}
template <class T>
requires std::is_integral_v<T> T atomicAdd(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return static_cast<T>(old + value); });
}
// A sum of floats would depend on the order in which threads arrive.
float atomicAdd(float* address, float value) = delete;
double atomicAdd(double* address, double value) = delete;
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> desired) {
  return atomic_update(address, [&](T old) { return old == expected ? desired : old; });
}

}  // namespace reid::emu
