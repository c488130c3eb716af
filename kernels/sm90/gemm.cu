// Matrix products of bf16 on Hopper's tensor cores: c = op(a) op(b), or c += with accumulate, with sums and c in f32.
//
// Layout: as in gemm/gemm.cu. A transposed operand is fetched as it lies; wgmma reads tiles along or across depth.
// Map: tiles by two warpgroups, fed by the copy engine: wgmma_tile.cuh, wgmma_bands.cuh. What is beyond the extents arrives as zeros.
//   sm90_wgmma        tiles of 128 x 128, two blocks a processor
//   sm90_wgmma_bands  tiles of 128 x 256, where there are enough for all processors: a block a processor, tile after tile
//   sm90_pairs_256    the same by pairs of blocks, of which each fetches half of b's boxes, for both
// Bytes: 2 (M K + K N) + 4 M N; a tile of 128 x 128 takes in 32 KB for 2.1 Mflop, one of 128 x 256 48 KB for 4.2: 64 and 48 bytes a cycle
// and processor at full rate. L2 reads as much, but 32 for a block of a pair. From shared memory wgmma reads 96 and 80. Flops: 2 M N K.
// Floor on H200: 790 Tflop/s. No version was measured yet; predicted of pairs: 1.04 times the rate of bands at 4096 x 4096 x 4096, which is
// what clusters of two gained elsewhere (704 -> 734 Tflop/s, cudaforfun.substack.com/p/outperforming-cublas-on-h100-a-worklog). Sibling for
// other devices: gemm/gemm_mma.cu.

#include "kernels.h"
#include "sm90/wgmma_bands.cuh"

namespace reid::REID_TARGET {

namespace {

template <int kColumns, bool paired, bool transpose_a, bool transpose_b>
struct WgmmaProduct {
  static constexpr int kM = kTile, kN = kColumns;
  static constexpr bool kPaired = paired;
  static constexpr int kOwn = paired ? kN / 2 : kN;  // columns of b that a block fetches
  static constexpr bool kAcrossA = transpose_a, kAcrossB = !transpose_b;
  TensorMap a, b;
  int64_t m, n, k;
  float* c;
  bool accumulate, aligned;  // aligned: lines of c begin at multiples of 16 bytes

  using Result = float;
  __device__ int steps(const WgmmaPlace&) const { return static_cast<int>((k + kWgmmaDepth - 1) / kWgmmaDepth); }
  // Places by 64 steps of depth: one box along depth, boxes of 64 places across it.
  template <int kPlaces, bool across, class LoadBox>
  __device__ static void load(bf16* tile, const TensorMap* map, int place, int depth, Mbarrier* barrier, LoadBox box) {
    if constexpr (across) {
      UNROLL
      for (int first = 0; first < kPlaces; first += 64) box(tile + first * kWgmmaDepth, map, place + first, depth, 0, 0, barrier);
    } else {
      box(tile, map, depth, place, 0, 0, barrier);
    }
  }
  __device__ void load_a(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    load<kM, kAcrossA>(tile, &a, at.row * kM, step * kWgmmaDepth, barrier, [](auto... box) { load_box(box...); });
  }
  __device__ void load_b(bf16* tile, const WgmmaPlace& at, int step, Mbarrier* barrier) const {
    const int own = paired ? at.rank * kOwn : 0;
    load<kOwn, kAcrossB>(tile + own * kWgmmaDepth, &b, at.column * kN + own, step * kWgmmaDepth, barrier,
                         [](auto... box) { load_columns<WgmmaProduct>(box...); });
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

// places: of a tile.
TensorMap matrix_map(const void* data, int64_t rows, int64_t columns, int places, bool across) {
  const int64_t all = rows * columns;
  return tensor_map(in<bf16>(data), {{columns, rows, 1, 1}, {1, columns, all, all}, {64, across ? kWgmmaDepth : places, 1, 1}});
}

template <int kColumns, bool paired, bool transpose_a, bool transpose_b>
void run(const GemmArgs& g, Stream& stream) {
  use_device_of(stream);
  WgmmaProduct<kColumns, paired, transpose_a, transpose_b> p{};
  p.a = matrix_map(g.a, transpose_a ? g.k : g.m, transpose_a ? g.m : g.k, p.kM, transpose_a);
  p.b = matrix_map(g.b, transpose_b ? g.n : g.k, transpose_b ? g.k : g.n, p.kOwn, !transpose_b);
  p.m = g.m, p.n = g.n, p.k = g.k, p.c = out<float>(g.c), p.accumulate = g.accumulate;
  p.aligned = g.n % 4 == 0 && aligned_to_16({g.c});
  if constexpr (kColumns == kWide) {
    run_wgmma_bands(p, ceil_div(g.m, kTile), stream);
  } else {
    run_wgmma(p, 1, ceil_div(g.m, kTile), stream);
  }
}

template <int kColumns, bool paired>
void wgmma(const GemmArgs& g, Stream& stream) {
  if (g.transpose_a) {
    g.transpose_b ? run<kColumns, paired, true, true>(g, stream) : run<kColumns, paired, true, false>(g, stream);
  } else {
    g.transpose_b ? run<kColumns, paired, false, true>(g, stream) : run<kColumns, paired, false, false>(g, stream);
  }
}

constexpr int64_t kMost = int64_t{1} << 31;  // coordinates are 32-bit integers
const char* refuse(const GemmArgs& g) {
  if (const char* reason = refuse_other_than_bf16(g.dtype)) return reason;
  if (g.m < 128 || g.n < 128 || g.k < 64) return "takes products of at least 128 x 128, of 64 terms";
  if ((g.transpose_a ? g.m : g.k) % 8 != 0 || (g.transpose_b ? g.k : g.n) % 8 != 0) return "takes operands whose rows are multiples of 8";
  if (g.m >= kMost || g.n >= kMost || g.k >= kMost) return "takes extents below 2^31";
  if (!aligned_to_16({g.a, g.b})) return "takes arrays that start at multiples of 16 bytes";
  return refuse_other_than_hopper();
}

// Of fewer tiles some processors would have one more than the others, which is much of so few.
const char* refuse_bands(const GemmArgs& g) {
  if (const char* reason = refuse(g)) return reason;
  const int64_t columns = ceil_div(g.n, kWide), tiles = ceil_div(g.m, kTile) * columns, narrow = ceil_div(g.n, kTile) * kTile;
  if ((columns * kWide - narrow) * 8 > narrow) return "takes results that fill seven eighths of its tiles";
  if (tiles < 2 * processors()) return "takes two tiles of 128 x 256 for each processor, or more";
  return tiles < kMost ? nullptr : "takes less than 2^31 tiles";
}
const char* refuse_pairs(const GemmArgs& g) {
  const char* reason = refuse_bands(g);
  return reason || ceil_div(g.m, kTile) % 2 == 0 ? reason : "takes tiles whose rows come in pairs";
}

}  // namespace

void register_sm90_gemm() {
  add<Gemm>(REID_KERNEL_NAME("sm90_pairs_256"), refuse_pairs, wgmma<kWide, true>);
  add<Gemm>(REID_KERNEL_NAME("sm90_wgmma_bands"), refuse_bands, wgmma<kWide, false>);
  add<Gemm>(REID_KERNEL_NAME("sm90_wgmma"), refuse, wgmma<kTile, false>);
}

}  // namespace reid::REID_TARGET
