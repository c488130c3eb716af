#pragma once
// Tensor-core products and asynchronous copies: PTX on a GPU, twins in emulation that move the same elements between the same lanes.
//
// Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"), for lane l with g = l / 4, t = l % 4;
// a register holds two bf16, the lower half first:
//   A [16, 16]  a0: row g, columns 2t, 2t+1   a1: row g+8   a2: row g, columns 2t+8, 2t+9   a3: row g+8, columns 2t+8, 2t+9
//   B [16, 8]   b0: rows 2t, 2t+1 of column g   b1: rows 2t+8, 2t+9 of column g
//   D [16, 8]   d0, d1: row g, columns 2t, 2t+1   d2, d3: row g+8
// ldmatrix fills them from 8x8 matrices in shared memory: lane l brings the address of one row of 16 bytes (of matrix l / 8, row l % 8) and
// gets, of matrix i, the elements 2t and 2t+1 of row g; transposed, of rows 2t and 2t+1 of column g.

#include "prims.cuh"
#ifndef __CUDACC__
#include "emu/tensor_core.h"
#endif

namespace reid::REID_TARGET {

// d += a b
__device__ inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
// Four 8x8 matrices of bf16. `row` is this lane's row: 16 bytes of shared memory, aligned to 16.
__device__ inline void ldmatrix_x4(uint32_t (&r)[4], const bf16* row);
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], const bf16* row);
// The same for two; the rows of lanes 0 to 15 count.
__device__ inline void ldmatrix_x2(uint32_t (&r)[2], const bf16* row);
__device__ inline void ldmatrix_x2_trans(uint32_t (&r)[2], const bf16* row);

// 16 bytes from global to shared memory, both aligned to 16, behind the thread's back. Only the first `source_bytes` are read, the
// rest is zero. Copies since the last commit are a group; wait<N> returns when all but the N youngest groups have arrived, for
// this thread: others need a barrier after it.
__device__ inline void cp_async_16(void* shared, const void* global, int source_bytes = 16);
__device__ inline void cp_async_commit();
// The thread's own eight elements, to a multiple of 16 bytes of shared memory.
__device__ inline void store_shared(bf16* shared, const Vec<bf16>& eight);
template <int groups_in_flight>
__device__ void cp_async_wait();

#ifdef __CUDACC__

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ inline void store_shared(bf16* shared, const Vec<bf16>& eight) {
  uint32_t words[4];
  memcpy(words, &eight, sizeof(words));
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(shared)), "r"(words[0]), "r"(words[1]), "r"(words[2]),
               "r"(words[3])
               : "memory");
}

__device__ inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void ldmatrix_x4(uint32_t (&r)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void ldmatrix_x2(uint32_t (&r)[2], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
__device__ inline void ldmatrix_x2_trans(uint32_t (&r)[2], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void cp_async_16(void* shared, const void* global, int source_bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(source_bytes) : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int groups_in_flight>
__device__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups_in_flight) : "memory");
}

#else

namespace detail {

inline float half_of(uint32_t word, unsigned half) { return to_float(bf16{static_cast<uint16_t>(word >> (16 * half))}); }

struct Row {
  uint16_t v[8];
};
template <size_t matrices>
void ldmatrix(const char* call, uint32_t (&r)[matrices], const bf16* row, bool transposed) {
  Row mine{};
  if (lane() < 8 * matrices) {  // the addresses of the other lanes are not used
    check_shared(call, row, 16, {__FILE__, __LINE__});
    check_aligned(row, 16);
    std::memcpy(&mine, row, sizeof(mine));
  }
  const Exchange& all = exchange(call, kFullMask, mine, {__FILE__, __LINE__});
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < matrices; ++i) {
    const auto element = [&](unsigned y, unsigned x) { return uint32_t{all.get<Row>(8 * i + y).v[x]}; };
    r[i] = transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16 : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
  }
}

}  // namespace detail

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  detail::Fragments mine;
  for (unsigned i = 0; i < 8; ++i) mine.a[i] = detail::half_of(a[i / 2], i % 2);
  for (unsigned i = 0; i < 4; ++i) mine.b[i] = detail::half_of(b[i / 2], i % 2);
  const detail::Exchange& all = detail::exchange("mma", kFullMask, mine, {__FILE__, __LINE__});
  detail::multiply_fragments(all.lanes[0], sizeof all.lanes[0], detail::lane(), d);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const bf16* row) { detail::ldmatrix("ldmatrix.x4", r, row, false); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const bf16* row) { detail::ldmatrix("ldmatrix.x4.trans", r, row, true); }
inline void ldmatrix_x2(uint32_t (&r)[2], const bf16* row) { detail::ldmatrix("ldmatrix.x2", r, row, false); }
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const bf16* row) { detail::ldmatrix("ldmatrix.x2.trans", r, row, true); }
inline void cp_async_16(void* shared, const void* global, int source_bytes) {
  detail::copy_async(shared, global, 16, static_cast<size_t>(source_bytes), {__FILE__, __LINE__});
}
inline void cp_async_commit() { detail::copy_async_commit(); }
inline void store_shared(bf16* shared, const Vec<bf16>& eight) {
  detail::check_shared("store_shared", shared, 16, {__FILE__, __LINE__});
  detail::check_aligned(shared, 16);
  *reinterpret_cast<Vec<bf16>*>(shared) = eight;
}
template <int groups_in_flight>
void cp_async_wait() {
  detail::copy_async_wait(groups_in_flight);
}

#endif

}  // namespace reid::REID_TARGET
