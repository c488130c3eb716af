// Matrix products of bf16 on Hopper's tensor cores: c = op(a) op(b), or c += with accumulate, with sums and c in f32.
//
// Layout: as in gemm/gemm.cu. A transposed operand is fetched as it lies; wgmma reads tiles along or across depth.
// Map: tiles of 128 x 128 by two warpgroups, fed by the copy engine, two blocks a processor: wgmma_tile.cuh. What is beyond the extents
// arrives as zeros.
// Bytes: 2 (M K + K N) + 4 M N; a tile fetches 32 KB for 2.1 Mflop. Flops: 2 M N K. Floor on H200: 790 Tflop/s. No version was measured
// yet. Sibling for other devices: gemm/gemm_mma.cu. Next: tiles of 128 x 256, clusters that share boxes.

#include "kernels.h"
#include "sm90/wgmma_tile.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kTile = 128;

template <bool transpose_a, bool transpose_b>
struct WgmmaProduct {
  static constexpr int kM = kTile, kN = kTile;
  static constexpr bool kAcrossA = transpose_a, kAcrossB = !transpose_b;
  TensorMap a, b;
  int64_t m, n, k;
  float* c;
  bool accumulate, aligned;  // aligned: lines of c begin at multiples of 16 bytes

  using Result = float;
  __device__ int steps(const WgmmaPlace&) const { return static_cast<int>((k + kWgmmaDepth - 1) / kWgmmaDepth); }
  // 128 places by 64 steps of depth: one box along depth, two boxes of 64 places across it.
  template <bool across>
  __device__ static void load(bf16* tile, const TensorMap* map, int place, int depth, Mbarrier* barrier) {
    if constexpr (across) {
      load_box(tile, map, place, depth, 0, 0, barrier);
      load_box(tile + 64 * kWgmmaDepth, map, place + 64, depth, 0, 0, barrier);
    } else {
      load_box(tile, map, depth, place, 0, 0, barrier);
    }
  }
  __device__ void load_a(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    load<kAcrossA>(tile, &a, at.row * kTile, step * kWgmmaDepth, barrier);
  }
  __device__ void load_b(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    load<kAcrossB>(tile, &b, at.column * kTile, step * kWgmmaDepth, barrier);
  }
  __device__ float* line(const WgmmaPlace& at, int row) const {
    const int64_t i = int64_t{at.row} * kTile + row;
    return i < m ? c + i * n : nullptr;
  }
  __device__ void store(float* line, int64_t j, Vec<float> sums) const {
    if (aligned) {
      if (j >= n) return;
      if (accumulate) {
        const Vec<float> before = load_vec(line + j);
        UNROLL
        for (int e = 0; e < 4; ++e) sums[e] = before[e] + sums[e];
      }
      return store_vec(line + j, sums);
    }
    UNROLL
    for (int e = 0; e < 4; ++e) {
      if (j + e < n) line[j + e] = accumulate ? line[j + e] + sums[e] : sums[e];
    }
  }
};

TensorMap matrix_map(const void* data, int64_t rows, int64_t columns, bool across) {
  const int64_t all = rows * columns;
  return tensor_map(in<bf16>(data), {{columns, rows, 1, 1}, {1, columns, all, all}, {64, across ? kWgmmaDepth : kTile, 1, 1}});
}

template <bool transpose_a, bool transpose_b>
void run(const GemmArgs& g, Stream& stream) {
  use_device_of(stream);
  WgmmaProduct<transpose_a, transpose_b> p{};
  p.a = matrix_map(g.a, transpose_a ? g.k : g.m, transpose_a ? g.m : g.k, transpose_a);
  p.b = matrix_map(g.b, transpose_b ? g.n : g.k, transpose_b ? g.k : g.n, !transpose_b);
  p.m = g.m, p.n = g.n, p.k = g.k, p.c = out<float>(g.c), p.accumulate = g.accumulate;
  p.aligned = g.n % 4 == 0 && aligned_to_16({g.c});
  run_wgmma(p, 1, ceil_div(g.m, kTile), stream);
}

void wgmma(const GemmArgs& g, Stream& stream) {
  if (g.transpose_a) {
    g.transpose_b ? run<true, true>(g, stream) : run<true, false>(g, stream);
  } else {
    g.transpose_b ? run<false, true>(g, stream) : run<false, false>(g, stream);
  }
}

const char* refuse(const GemmArgs& g) {
  constexpr int64_t kMost = int64_t{1} << 31;  // coordinates are 32-bit integers
  if (const char* reason = refuse_other_than_bf16(g.dtype)) return reason;
  if (g.m < 128 || g.n < 128 || g.k < 64) return "takes products of at least 128 x 128, of 64 terms";
  if ((g.transpose_a ? g.m : g.k) % 8 != 0 || (g.transpose_b ? g.k : g.n) % 8 != 0) return "takes operands whose rows are multiples of 8";
  if (g.m >= kMost || g.n >= kMost || g.k >= kMost) return "takes extents below 2^31";
  if (!aligned_to_16({g.a, g.b})) return "takes arrays that start at multiples of 16 bytes";
  return refuse_other_than_hopper();
}

}  // namespace

void register_sm90_gemm() { add<Gemm>(REID_KERNEL_NAME("sm90_wgmma"), refuse, wgmma); }

}  // namespace reid::REID_TARGET
