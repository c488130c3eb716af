#pragma once
// What sm_90a adds: products of warpgroups (wgmma), tiles fetched by the copy engine (TMA), barriers that count bytes (mbarrier). PTX on a
// GPU, twins in emulation. Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate", "Tensors", "mbarrier".
//
// Tiles in shared memory have rows of 128 bytes (64 bf16) and start at multiples of 1024 bytes; the 16-byte piece p of row r lies where p ^
// (r % 8) would (128-byte swizzle: bits 4 to 6 of an address are xored with bits 7 to 9). The copy engine writes them so, wgmma reads
// them so:
//   along depth    row = place (i or j), 64 steps of depth in it; 8 rows are 1024 bytes, the stride of the descriptor
//   across depth   row = step of depth, 64 places in it; 8 rows are the stride; the next 64 places begin `leading` bytes further on
// D of wgmma m64k16, for thread t of the warpgroup, warp w = t / 32, g = t % 32 / 4, c = t % 4:
//   d[4 j], d[4 j + 1]: row 16 w + g, columns 8 j + 2 c and the next;   d[4 j + 2], d[4 j + 3]: row 16 w + g + 8
// Compiled for other architectures these functions trap: launchers refuse devices other than 9.0 (refuse_other_than_hopper).

#include "mma.cuh"

// In emulation a last parameter says where the call stands.
#ifdef __CUDACC__
#include <cuda.h>
#define REID_CALLED
#define REID_AND_CALLED
#else
#include "emu/hopper.h"
#define REID_CALLED REID_SITE
#define REID_AND_CALLED , REID_SITE
#endif

namespace reid::REID_TARGET {

// --- barriers: a phase ends when `arrivals` threads have arrived and all bytes that they expect have ---

struct alignas(8) Mbarrier {
  uint64_t state;
};
__device__ inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals REID_AND_CALLED);
__device__ inline void mbarrier_fence_init();  // by the thread that initialized, before the block's barrier: the copy engine sees them
__device__ inline void mbarrier_arrive(Mbarrier* barrier REID_AND_CALLED);
__device__ inline void mbarrier_arrive_expecting(Mbarrier* barrier, unsigned bytes REID_AND_CALLED);
// Returns when the phase of this parity has ended: 0 for the first, 1 for the second, ...
__device__ inline void mbarrier_wait(Mbarrier* barrier, unsigned parity REID_AND_CALLED);
// By every thread that wrote to shared memory, before the barrier behind which wgmma or the copy engine reads it.
__device__ inline void fence_proxy_async(REID_CALLED);

// --- the copy engine: boxes of arrays of up to four axes, innermost first; what lies beyond the array is zero ---

inline constexpr int kTensorAxes = 4;
struct TensorShape {
  int64_t extent[kTensorAxes];
  int64_t step[kTensorAxes];              // elements between neighbors; step[0] is 1, others are multiples of 8
  int box[kTensorAxes];                   // box[0] is 64
  int every[kTensorAxes] = {1, 1, 1, 1};  // of the array's elements, one is in the box; every[0] is 1
};

#ifdef __CUDACC__
struct TensorMap {
  CUtensorMap map;
};
#else
struct TensorMap {
  const bf16* data;
  TensorShape shape;
};
#endif
TensorMap tensor_map(const bf16* data, const TensorShape& shape);  // data: a multiple of 16 bytes

// The box whose first element has the coordinates x; its bytes count for the barrier's phase.
__device__ inline void load_box(bf16* shared, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier REID_AND_CALLED);

// Where a tile has the element of a row and one of its 64 columns. The place of column c ^ 8 b is that of c, ^ 8 b.
__device__ inline int swizzled_place(int row, int column) { return row * 64 + (column / 8 ^ row % 8) * 8 + column % 8; }

// --- products of a warpgroup, 4 neighboring warps of which the first is a multiple of 4 ---

// What wgmma is told of an operand (PTX ISA, "Matrix Descriptor Format"). Bits 0 to 13: where it begins in shared memory; 16 to 29 and 32
// to 45: the leading and the stride offset; all three in units of 16 bytes. Bits 62 and 63: the swizzle, 1 for that of 128 bytes. The
// others are zero: tiles start where the swizzle begins.
__host__ __device__ constexpr uint64_t matrix_descriptor(unsigned address, unsigned leading) {
  return uint64_t{(address & 0x3FFFF) >> 4} | uint64_t{leading >> 4} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// d += a b with a [64, 16], b [16, kN], kN 64, 128 or 256; `across`: the operand lies across depth. Tiles and sums are untouched until
// wgmma_wait.
template <int kN, bool a_across, bool b_across>
__device__ void wgmma_m64k16(float (&d)[kN / 2], const bf16* a, unsigned a_leading, const bf16* b, unsigned b_leading REID_AND_CALLED);
__device__ inline void wgmma_fence(REID_CALLED);   // before a group's first product: it may use registers that other instructions wrote
__device__ inline void wgmma_commit(REID_CALLED);  // the products since the last one are a group
template <int groups_in_flight>
__device__ void wgmma_wait(REID_CALLED);

// --- clusters: blocks that run at the same time and reach each other's shared memory (launch_clusters) ---

inline constexpr int kMostCluster = 8;  // blocks, on every device
// By all threads of all blocks that have not returned: what each wrote to shared memory before is there for all.
__device__ inline void cluster_sync(REID_CALLED);
// The same, but nothing of that is ordered: for blocks that others may still read (what was read must have been made use of before), and
// behind mbarrier_fence_init. What mbarrier_arrive_in sent may be on its way still.
__device__ inline void cluster_meet(REID_CALLED);
// What block `rank` has where this one has `shared`, 16 bytes. It must be there already, and not have returned yet.
__device__ inline Vec<float> cluster_load(const float* shared, unsigned rank REID_AND_CALLED);
// A box for each of the cluster's first `blocks` blocks, fetched once: it lies there, and counts for the barrier there, that are where
// `shared` and `barrier` are here. Its bytes may arrive before they are expected, not before the phase before has ended.
__device__ inline void load_box_for_all(bf16* shared, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier,
                                        unsigned blocks REID_AND_CALLED);
// Arrives at what block `rank` has where this one has the barrier. As cluster_meet it orders nothing that threads wrote: that would
// be a fence for the whole device at each arrival.
__device__ inline void mbarrier_arrive_in(Mbarrier* barrier, unsigned rank REID_AND_CALLED);

#ifdef __CUDACC__

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define REID_HOPPER(...) asm volatile(__VA_ARGS__)
#else
#define REID_HOPPER(...) __trap()
#endif

__device__ inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals) {
  REID_HOPPER("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ inline void mbarrier_fence_init() { REID_HOPPER("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void mbarrier_arrive(Mbarrier* barrier) {
  REID_HOPPER("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ inline void mbarrier_arrive_expecting(Mbarrier* barrier, unsigned bytes) {
  REID_HOPPER("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ inline void mbarrier_wait(Mbarrier* barrier, unsigned parity) {
  REID_HOPPER("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
                  shared_address(barrier)),
              "r"(parity)
              : "memory");
}
__device__ inline void mbarrier_arrive_in(Mbarrier* barrier, unsigned rank) {
  REID_HOPPER("{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(
                  shared_address(barrier)),
              "r"(rank)
              : "memory");
}
__device__ inline void fence_proxy_async() { REID_HOPPER("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void load_box(bf16* shared, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier) {
  REID_HOPPER("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
                  shared_address(shared)),
              "l"(map), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(shared_address(barrier))
              : "memory");
}
__device__ inline void load_box_for_all(bf16* shared, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier,
                                        unsigned blocks) {
  REID_HOPPER(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3, %4, %5}], "
      "[%6], %7;" ::"r"(shared_address(shared)),
      "l"(map), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(shared_address(barrier)), "h"(static_cast<unsigned short>((1u << blocks) - 1))
      : "memory");
}
#define REID_SUMS(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define REID_SUMS_64(i)                                                                                                          \
  REID_SUMS(i), REID_SUMS(i + 8), REID_SUMS(i + 16), REID_SUMS(i + 24), REID_SUMS(i + 32), REID_SUMS(i + 40), REID_SUMS(i + 48), \
      REID_SUMS(i + 56)
template <int kN, bool a_across, bool b_across>
__device__ void wgmma_m64k16(float (&d)[kN / 2], const bf16* a, unsigned a_leading, const bf16* b, unsigned b_leading) {
  static_assert(kN == 64 || kN == 128 || kN == 256);
  const uint64_t left = matrix_descriptor(shared_address(a), a_leading), right = matrix_descriptor(shared_address(b), b_leading);
  if constexpr (kN == 64) {
    REID_HOPPER(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
        "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1, %34, %35;"
        : REID_SUMS(0), REID_SUMS(8), REID_SUMS(16), REID_SUMS(24)
        : "l"(left), "l"(right), "n"(int{a_across}), "n"(int{b_across}));
  } else if constexpr (kN == 128) {
    REID_HOPPER(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
        "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, "
        "%43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, 1, 1, 1, %66, "
        "%67;"
        : REID_SUMS_64(0)
        : "l"(left), "l"(right), "n"(int{a_across}), "n"(int{b_across}));
  } else {
    REID_HOPPER(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, "
        "%15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, "
        "%39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, "
        "%63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, "
        "%87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, "
        "%109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, %128, "
        "%129, 1, 1, 1, %130, %131;"
        : REID_SUMS_64(0), REID_SUMS_64(64)
        : "l"(left), "l"(right), "n"(int{a_across}), "n"(int{b_across}));
  }
}
#undef REID_SUMS_64
#undef REID_SUMS
__device__ inline void wgmma_fence() { REID_HOPPER("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { REID_HOPPER("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int groups_in_flight>
__device__ void wgmma_wait() {
  REID_HOPPER("wgmma.wait_group.sync.aligned %0;" ::"n"(groups_in_flight) : "memory");
}
__device__ inline void cluster_sync() {
  REID_HOPPER("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline void cluster_meet() {
  REID_HOPPER("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
__device__ inline Vec<float> cluster_load(const float* shared, unsigned rank) {
  Vec<float> four = {};
  REID_HOPPER("{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %4, %5;\nld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n}"
              : "=f"(four[0]), "=f"(four[1]), "=f"(four[2]), "=f"(four[3])
              : "r"(shared_address(shared)), "r"(rank));
  return four;
}
#undef REID_HOPPER

#else

namespace detail {

// Where the hardware finds a byte of a tile.
inline uintptr_t swizzled(uintptr_t address) { return address ^ ((address >> 7 & 7) << 4); }

// An operand as its descriptor tells. Shared memory has less than 256 KB, so that the lowest 18 bits of `near` tell its addresses apart.
struct Operand {
  uintptr_t start;
  unsigned leading, stride;
  bool across;
  Operand(uint64_t descriptor, const bf16* near, bool lies_across) : across(lies_across) {
    const auto field = [&](int bit) { return static_cast<unsigned>(descriptor >> bit & 0x3FFF) << 4; };
    start = (reinterpret_cast<uintptr_t>(near) & ~uintptr_t{0x3FFFF}) | field(0);
    leading = field(16), stride = field(32);
    if ((descriptor & ~0x3FFF'3FFF'3FFFULL) != uint64_t{1} << 62) stop_kernel("wgmma: a descriptor of another swizzle than 128 bytes");
  }
  // `distance`: from the address to where the tensor core sees it.
  float element(unsigned place, unsigned depth, uintptr_t distance) const {
    const unsigned at = across ? place / 64 * leading + depth / 8 * stride + depth % 8 * 128 + place % 64 * 2
                               : place / 8 * stride + place % 8 * 128 + depth * 2;
    return to_float(*reinterpret_cast<const bf16*>(swizzled(start + at) + distance));
  }
  // What 16 steps of depth of so many places touch: whole rows of 128 bytes.
  SharedRange range(unsigned places) const {
    const auto* row = reinterpret_cast<const unsigned char*>(start - start % 128);
    return {row, 1024 + (across ? (places / 64 - 1) * size_t{leading} + stride : (places / 8 - 1) * size_t{stride})};
  }
};

// The box, row by row; a row is 128 bytes.
inline void copy_box(bf16* shared, const TensorMap& map, const int (&x)[kTensorAxes]) {
  const TensorShape& s = map.shape;
  int64_t row = 0;
  for (int a3 = 0; a3 < s.box[3]; ++a3) {
    for (int a2 = 0; a2 < s.box[2]; ++a2) {
      for (int a1 = 0; a1 < s.box[1]; ++a1, ++row) {
        const int64_t at[] = {0, x[1] + int64_t{a1} * s.every[1], x[2] + int64_t{a2} * s.every[2], x[3] + int64_t{a3} * s.every[3]};
        bool inside = true;
        for (int axis = 1; axis < kTensorAxes; ++axis) inside = inside && at[axis] >= 0 && at[axis] < s.extent[axis];
        const bf16* line = map.data + (inside ? at[1] * s.step[1] + at[2] * s.step[2] + at[3] * s.step[3] : 0);
        for (int e = 0; e < s.box[0]; ++e) {
          const int64_t place = int64_t{x[0]} + e;
          const uintptr_t target = swizzled(reinterpret_cast<uintptr_t>(shared + row * 64 + e));
          *reinterpret_cast<bf16*>(target) = inside && place >= 0 && place < s.extent[0] ? line[place] : bf16{0};
        }
      }
    }
  }
}

inline SharedRange place_of_box(const bf16* shared, const TensorMap& map) {
  const size_t rows = static_cast<size_t>(map.shape.box[1] * map.shape.box[2] * map.shape.box[3]);
  return {reinterpret_cast<const unsigned char*>(shared), rows * 128};
}
// The thread that issues may have returned when the box arrives, and its parameters with it.
inline HopperUnits::Write box_of(const TensorMap& map, const int (&x)[kTensorAxes]) {
  return [=](unsigned char* to) { copy_box(reinterpret_cast<bf16*>(to), map, x); };
}

}  // namespace detail

inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals, const char* file, int line) {
  detail::hopper_units("mbarrier_init").init(barrier, arrivals, {file, line});
}
inline void mbarrier_fence_init() { detail::hopper_units("mbarrier_fence_init").fence_init(); }
inline void mbarrier_arrive(Mbarrier* barrier, const char* file, int line) { mbarrier_arrive_expecting(barrier, 0, file, line); }
inline void mbarrier_arrive_expecting(Mbarrier* barrier, unsigned bytes, const char* file, int line) {
  detail::hopper_units("mbarrier_arrive").arrive(barrier, bytes, {file, line});
}
inline void mbarrier_wait(Mbarrier* barrier, unsigned parity, const char* file, int line) {
  detail::hopper_units("mbarrier_wait").wait(barrier, parity, {file, line});
}
inline void fence_proxy_async(const char* file, int line) { detail::hopper_units("fence_proxy_async").fence_view({file, line}); }
inline void load_box(bf16* shared, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier, const char* file, int line) {
  detail::hopper_units("load_box").load(detail::place_of_box(shared, *map), barrier, detail::box_of(*map, {x0, x1, x2, x3}), {file, line});
}
inline void load_box_for_all(bf16* shared, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier, unsigned blocks,
                             const char* file, int line) {
  const SharedRange place = detail::place_of_box(shared, *map);
  const HopperUnits::Write write = detail::box_of(*map, {x0, x1, x2, x3});
  for (unsigned rank = 0; rank < blocks; ++rank) {
    const auto* there =
        static_cast<const unsigned char*>(detail::of_cluster("load_box_for_all", place.start, place.bytes, rank, {file, line}));
    void* const its = const_cast<void*>(detail::of_cluster("load_box_for_all", barrier, sizeof(*barrier), rank, {file, line}));
    detail::in_block(rank, [&] { detail::hopper_units("load_box_for_all").load({there, place.bytes}, its, write, {file, line}); });
  }
}
inline void mbarrier_arrive_in(Mbarrier* barrier, unsigned rank, const char* file, int line) {
  void* const its = const_cast<void*>(detail::of_cluster("mbarrier_arrive_in", barrier, sizeof(*barrier), rank, {file, line}));
  detail::in_block(rank, [&] { detail::hopper_units("mbarrier_arrive_in").arrive(its, 0, {file, line}); });
}

// A thread makes its own sums, when it waits for them.
template <int kN, bool a_across, bool b_across>
void wgmma_m64k16(float (&d)[kN / 2], const bf16* a, unsigned a_leading, const bf16* b, unsigned b_leading, const char* file, int line) {
  detail::exchange("wgmma", kFullMask, 0, {file, line});
  detail::check_aligned(a, 16), detail::check_aligned(b, 16);
  const auto operand = [](const bf16* start, unsigned leading, bool across) {
    return detail::Operand(matrix_descriptor(static_cast<unsigned>(reinterpret_cast<uintptr_t>(start)), leading), start, across);
  };
  const detail::Operand left = operand(a, a_leading, a_across), right = operand(b, b_leading, b_across);
  const unsigned thread = detail::linear_thread() % 128, row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  const auto run = [=](float* sums, uintptr_t to_a, uintptr_t to_b) {
    for (unsigned k = 0; k < 16; ++k) {
      const float upper = left.element(row, k, to_a), lower = left.element(row + 8, k, to_a);
      for (unsigned j = 0; j < kN / 4; ++j) {
        const float factor = right.element(j / 2 * 8 + column + j % 2, k, to_b);
        sums[j / 2 * 4 + j % 2] += upper * factor;
        sums[j / 2 * 4 + 2 + j % 2] += lower * factor;
      }
    }
  };
  detail::hopper_units("wgmma").multiply(d, kN / 2, left.range(64), right.range(kN), run, {file, line});
}
inline void wgmma_fence(const char* file, int line) {
  detail::exchange("wgmma_fence", kFullMask, 0, {file, line});
  detail::hopper_units("wgmma_fence").multiply_fence();
}
inline void wgmma_commit(const char* file, int line) {
  detail::exchange("wgmma_commit", kFullMask, 0, {file, line});
  detail::hopper_units("wgmma_commit").multiply_commit();
}
template <int groups_in_flight>
void wgmma_wait(const char* file, int line) {
  detail::hopper_units("wgmma_wait").multiply_wait(groups_in_flight, {file, line});
  detail::exchange("wgmma_wait", kFullMask, 0, {file, line});
}

inline void cluster_sync(const char* file, int line) {
  detail::exchange("cluster_sync", kFullMask, 0, {file, line});
  detail::cluster_barrier({file, line});
}
inline void cluster_meet(const char* file, int line) { cluster_sync(file, line); }
inline Vec<float> cluster_load(const float* shared, unsigned rank, const char* file, int line) {
  detail::check_aligned(shared, sizeof(Vec<float>));
  Vec<float> four;
  std::memcpy(&four, detail::of_cluster("cluster_load", shared, sizeof(four), rank, {file, line}), sizeof(four));
  return four;
}

#endif
#undef REID_CALLED
#undef REID_AND_CALLED

}  // namespace reid::REID_TARGET
