#pragma once
// Tiles of products of bf16 matrices for Hopper: the copy engine fetches, warpgroups multiply, nobody waits for addresses.
//
// Map: a block makes kM x kN sums, 64 or 128 each, or 128 x 256. A warpgroup for every 64 rows holds 64 x kN of them in registers; one
// thread of one more warp tells the copy engine which boxes to bring into three stages (64 steps of depth of both operands, 32 KB where a
// block makes 128 x 128). A stage has two barriers: `full` ends its phase when the boxes' bytes have arrived, `empty` when all warps that
// read them have multiplied what was there. A warpgroup keeps one group of four products running while it issues the next; the stage before
// is released when that group's predecessors are done.
//
// Two to four blocks share a processor, as many as three stages leave room for: while one stores or waits for its first boxes, another
// multiplies. Convolutions of 1 x 1 have one to eight steps of depth, so that most of a block's life is its beginning and its end. A tile
// of 128 x 256 has a processor for itself, and four stages. Of products its block stays for tile after tile (wgmma_bands.cuh): while one's
// sums are stored, the boxes of the next are on their way. Of convolutions nothing hides a tile's end, and only long sums have such tiles.
//
// Shared memory reads of wgmma go once for 64 x 128 x 16 products, where mma.sync reads fragments for 64 x 32 x 16: the tensor core is fed
// by tiles, not by registers, which is what lifts the 65 % that mma.sync reaches. 64 x 64 x 16 products, 4 KB of operands in 32 cycles,
// take all 128 bytes a cycle that shared memory gives: narrow tiles are for results that are narrow, and for blocks that have much else to
// keep in registers. Lanes trade results until each stores 16 neighboring bytes: a warp then writes whole sectors of 32 bytes, not halves.
//
// A Problem says where boxes lie and sums go:
//   kM, kN                               sums of a tile
//   int64_t n                            columns of the sums, for the launch
//   kAcrossA, kAcrossB                   whether an operand lies across depth (hopper.cuh)
//   steps(place)                         how many times 64 steps of depth
//   load_a(tile, place, step, barrier), load_b(tile, place, step, barrier)      kM or kN times 128 bytes
//   Result                               float or bf16
//   line(place, row)                     the result's row, 0 to kM - 1 of the block; null beyond the extents
//   store(line, column j, vector)        for any j that is a multiple of the vector's length: it leaves out what is beyond n
// It may be made by pairs of blocks, clusters of two with neighboring rows of tiles and the same columns, of which each fetches half of b
// for both. Then it has
//   kPaired = true; load_b brings half place.rank of the columns, by load_columns
// It may ask for the moments of its columns (gemm/moments.cuh), of bf16 results, where every row of a tile is one of the result:
//   moments, store_moments(place, column j, moments)      a member of that name; for j < n
// It may have a part's sums made by the blocks of a cluster, each of some of the depth, which add them up (results of float). Then it has
//   cluster                              a member: how many
//   place(place, row, column j), store(place, vector)      in the place of line and store; null where nothing is stored
// It may have extras, boxes of bf16 for what becomes of the sums: more steps of the copy engine's, which arrive while products run.
//   kExtras, load_extra(which, tile, place, barrier)      each kM rows of 64 columns, then those of the next 64
// The first is added to the sums; it is the residual where the Problem has results of bf16 finished by a norm (norm.cuh):
//   finish                               a member of that name; for j < n
// With two it asks for the sums of a norm's gradients (NormSumsArgs) in tiles of 64 columns; the second is x:
//   positive(place, row)                 the bits of the tile's row: where the norm made more than 0; none beyond the extents
//   mean, store_gradient_sums(place, column j, sums)      a member of that name, for all columns; for j < n, products with x - mean

#include <algorithm>

#include "gemm/moments.cuh"
#include "norm.cuh"
#include "sm90/device.cuh"
#include "sm90/wgmma_results.cuh"

namespace reid::REID_TARGET {

inline constexpr int kWgmmaDepth = 64;
inline constexpr int kTile = 128, kWide = 256;  // extents of tiles

template <class Problem>
struct WgmmaBlock {
  static constexpr int kM = Problem::kM, kN = Problem::kN;
  static_assert((kM == 64 || kM == 128) && (kN == 64 || kN == 128 || (kM == 128 && kN == 256)));
  static constexpr int kConsumers = kM / 64 * 128, kWarps = kConsumers / kWarpSize, kThreads = kConsumers + kWarpSize;
  static constexpr int kElementsA = kM * kWgmmaDepth, kStage = kElementsA + kN * kWgmmaDepth;  // in elements
  static constexpr unsigned kStageBytes = kStage * sizeof(bf16);
  static constexpr int kShare = kM + kN == 384 ? 1 : kM + kN == 256 ? 2 : kM + kN == 192 ? 3 : 4;  // meant to share a processor
  static constexpr int kStages = kShare == 1 ? 4 : 3;
  static constexpr int kTable = kFinishes<Problem> ? 3 * kN : 0;  // mean, scale and beta of each column
  static constexpr size_t kBytes = kStages * size_t{kStageBytes} + kTable * sizeof(float) + (2 * kStages + 1) * sizeof(Mbarrier);
  static_assert(kShare * (kBytes + 1024) <= 228 * 1024, "a processor of sm_90 has 228 KB, and keeps 1 KB of it for each block");
};

// Which sums a block makes. part: what the Problem cuts its work into beside tiles, such as chunks of depth.
struct WgmmaPlace {
  int part, row, column;  // row, column: of tiles
  int rank = 0;           // in the cluster, where its blocks make one part, or a pair
};

// Where an operand's rows or columns from `place`, 16 steps from `depth`, begin in its tile.
template <bool across>
__device__ const bf16* wgmma_part(const bf16* tile, int place, int depth) {
  return across ? tile + place / 64 * (64 * kWgmmaDepth) + depth * 64 : tile + place * kWgmmaDepth + depth;
}
inline constexpr unsigned kWgmmaLeading = 64 * kWgmmaDepth * sizeof(bf16);  // from 64 places to the next, across depth

template <class Problem>
inline constexpr int kExtrasOf = [] {
  if constexpr (requires { Problem::kExtras; }) return Problem::kExtras;
  return 0;
}();
template <class Problem>
inline constexpr bool kTakesSums = kExtrasOf<Problem> == 2;
template <class Problem>
inline constexpr bool kInClusters = requires(const Problem& p) {
  p.cluster;
};
template <class Problem>
inline constexpr bool kInPairs = [] {
  if constexpr (requires { Problem::kPaired; }) return Problem::kPaired;
  return false;
}();
template <class Problem>
inline constexpr unsigned kTogether = kInPairs<Problem> ? 2 : 1;  // blocks that share boxes

// A box of columns for all blocks that share them.
template <class Problem>
__device__ void load_columns(bf16* tile, const TensorMap* map, int x0, int x1, int x2, int x3, Mbarrier* barrier) {
  if constexpr (kInPairs<Problem>) {
    load_box_for_all(tile, map, x0, x1, x2, x3, barrier, kTogether<Problem>);
  } else {
    load_box(tile, map, x0, x1, x2, x3, barrier);
  }
}

// A block's stages. A step of the work of all its tiles, the first is 0, has the stages in turn.
template <class Problem>
struct WgmmaRing {
  using Block = WgmmaBlock<Problem>;
  static constexpr unsigned kStages = Block::kStages;
  bf16* stages;            // [kStages, a and b]
  float* table;            // [3, kN], where results are finished
  Mbarrier *full, *empty;  // [kStages]
  Mbarrier* met;           // of the consumers' warps, see wgmma_meet

  __device__ static int stage(int step) { return static_cast<int>(static_cast<unsigned>(step) % kStages); }
  __device__ static unsigned round(int step) { return static_cast<unsigned>(step) / kStages; }
  __device__ bf16* tile(int step) const { return stages + stage(step) * Block::kStage; }
  __device__ void wait_full(int step) const { mbarrier_wait(&full[stage(step)], round(step) % 2); }
  // By a thread of each warp for each block that fills the stage.
  __device__ void release(int step, unsigned block) const {
    if constexpr (kInPairs<Problem>) {
      mbarrier_arrive_in(&empty[stage(step)], block);
    } else {
      mbarrier_arrive(&empty[stage(step)]);
    }
  }
  __device__ void wait_empty(int step) const {  // for the round before to be released
    if (round(step) > 0) mbarrier_wait(&empty[stage(step)], (round(step) - 1) % 2);
  }

  // By all threads of the block.
  __device__ WgmmaRing() : stages(shared_dynamic<bf16>()) {  // ordered by the barriers behind it
    table = reinterpret_cast<float*>(stages + kStages * Block::kStage);
    full = reinterpret_cast<Mbarrier*>(table + Block::kTable), empty = full + kStages, met = empty + kStages;
    if (threadIdx.x == 0) {
      for (unsigned s = 0; s < kStages; ++s) mbarrier_init(&full[s], 1), mbarrier_init(&empty[s], kTogether<Problem> * Block::kWarps);
      mbarrier_init(met, Block::kWarps);
      mbarrier_fence_init();
    }
    if constexpr (kInPairs<Problem>) {
      cluster_meet();
    } else {
      __syncthreads();
    }
  }
};

// begin: the first step of this tile.
template <class Problem>
__device__ void wgmma_produce(const Problem& problem, const WgmmaRing<Problem>& ring, const WgmmaPlace& at, int begin) {
  using Block = WgmmaBlock<Problem>;
  const int steps = problem.steps(at);
  const auto expect = [&](int step, unsigned bytes) {
    Mbarrier* const full = &ring.full[ring.stage(step)];
    ring.wait_empty(step);
    mbarrier_arrive_expecting(full, bytes);
    return full;
  };
  for (int step = 0; step < steps; ++step) {
    Mbarrier* const full = expect(begin + step, Block::kStageBytes);
    bf16* const tile = ring.tile(begin + step);
    problem.load_a(tile, at, step, full);
    problem.load_b(tile + Block::kElementsA, at, step, full);
  }
  if constexpr (kExtrasOf<Problem> != 0) {
    static_assert(Block::kM * Block::kN <= Block::kStage && kExtrasOf<Problem> <= Block::kStages);
    for (int extra = 0; extra < kExtrasOf<Problem>; ++extra) {
      Mbarrier* const full = expect(begin + steps + extra, Block::kM * Block::kN * sizeof(bf16));
      problem.load_extra(extra, ring.tile(begin + steps + extra), at, full);
    }
  }
}

// end: of all that the block's stages take. What is filled no more is not released: each arrival is waited for, so that none comes to a
// block that has returned.
template <class Problem>
__device__ void wgmma_consume(const WgmmaRing<Problem>& ring, int begin, int steps, int end, float (&sums)[Problem::kN / 2]) {
  using Block = WgmmaBlock<Problem>;
  const int first_row = static_cast<int>(threadIdx.x) / 128 * 64;
  const unsigned lane = threadIdx.x % kWarpSize;
  const bool speaks = lane < kTogether<Problem>;  // for its warp, to a block
  const int refilled = end - Block::kStages;
  for (int step = begin; step < begin + steps; ++step) {
    ring.wait_full(step);
    const bf16 *a = ring.tile(step), *b = a + Block::kElementsA;
    wgmma_fence();
    UNROLL
    for (int k = 0; k < kWgmmaDepth; k += 16) {
      wgmma_m64k16<Block::kN, Problem::kAcrossA, Problem::kAcrossB>(sums, wgmma_part<Problem::kAcrossA>(a, first_row, k), kWgmmaLeading,
                                                                    wgmma_part<Problem::kAcrossB>(b, 0, k), kWgmmaLeading);
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (step > begin && speaks && step - 1 < refilled) ring.release(step - 1, lane);
  }
  wgmma_wait<0>();
  if (steps > 0 && speaks && begin + steps - 1 < refilled) ring.release(begin + steps - 1, lane);
}

// The thread's pairs of an extra. The swizzle spreads a warp's over the banks.
template <class Problem>
class WgmmaExtra {
 public:
  using Block = WgmmaBlock<Problem>;
  __device__ WgmmaExtra(int step, const WgmmaRing<Problem>& ring) : tile_(ring.tile(step)) {  // waits for it
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    own_ = swizzled_place(static_cast<int>(threadIdx.x) / kWarpSize * 16 + lane / 4, lane % 4 * 2);
    ring.wait_full(step);
  }
  __device__ Vec<bf16> eight(int row, int column) const {  // of the tile; column: a multiple of 8
    return load_vec(tile_ + column / 64 * (Block::kM * kWgmmaDepth) + swizzled_place(row, column % 64));
  }
  __device__ uint32_t pair(int block, int half) const {  // numbers as in WgmmaResults
    const bf16* place = tile_ + block / 8 * (Block::kM * kWgmmaDepth) + (own_ ^ block % 8 * 8);
    return *reinterpret_cast<const uint32_t*>(place + half * 8 * kWgmmaDepth);
  }

 private:
  const bf16* tile_;
  int own_;
};

template <class Problem>
__device__ void wgmma_add(const WgmmaExtra<Problem>& addend, float (&sums)[Problem::kN / 2]) {
  UNROLL
  for (int pair = 0; pair < Problem::kN / 4; ++pair) {
    const uint32_t two = addend.pair(pair / 2, pair % 2);
    UNROLL
    for (int i = 0; i < 2; ++i) sums[2 * pair + i] += of_bf16_pair(two, i);
  }
}

template <class Problem>
using ResultsOf = WgmmaResults<typename Problem::Result, Problem::kN / 2>;

// change(vector, row, column): what is stored of the results from a column on; row and column of the tile.
template <class Problem, class Change>
__device__ void wgmma_store(const Problem& problem, const WgmmaPlace& at, const ResultsOf<Problem>& results, Change change) {
  using T = typename Problem::Result;
  constexpr int kTraders = ResultsOf<Problem>::kTraders;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, row = static_cast<int>(threadIdx.x) / kWarpSize * 16 + lane / 4;
  const int own = lane % kTraders * 8 + lane % 4 / kTraders * Vec<T>::kCount;
  const int64_t first = int64_t{at.column} * Problem::kN;
  UNROLL
  for (int half = 0; half < 2; ++half) {
    T* const line = problem.line(at, row + 8 * half);
    UNROLL
    for (int block = 0; block < Problem::kN / 8; block += kTraders) {
      const Vec<T> vector = results.vector(block, half);
      if (line) problem.store(line, first + own + block * 8, change(vector, row + 8 * half, own + block * 8));
    }
  }
}
template <class Problem>
__device__ void wgmma_store(const Problem& problem, const WgmmaPlace& at, const ResultsOf<Problem>& results) {
  wgmma_store(problem, at, results, [](const auto& vector, int, int) { return vector; });
}

// What the blocks of a cluster made, added in their order: each lays its own down where boxes were, and adds up a share of all.
template <class Problem>
__device__ void wgmma_end_in_cluster(const Problem& problem, const WgmmaPlace& at, const WgmmaRing<Problem>& ring,
                                     const float (&sums)[Problem::kN / 2]) {
  using Block = WgmmaBlock<Problem>;
  constexpr int kLine = Problem::kN + 8, kFours = Problem::kN / 4;  // 8 more: the rows of four pairs' lanes fall on other banks
  static_assert(Problem::kM * kLine * sizeof(float) <= Block::kStages * Block::kStageBytes);
  wgmma_meet(ring.met, 0);  // nobody multiplies any more
  auto* const own = reinterpret_cast<float*>(ring.stages);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarpSize, row = thread / kWarpSize * 16 + lane / 4;
  UNROLL
  for (int pair = 0; pair < Problem::kN / 4; ++pair) {
    float* const place = own + (row + pair % 2 * 8) * kLine + pair / 2 * 8 + lane % 4 * 2;
    place[0] = sums[2 * pair], place[1] = sums[2 * pair + 1];
  }
  cluster_sync();
  const int blocks = problem.cluster;
  for (int v = at.rank * Block::kConsumers + thread; v < Problem::kM * kFours; v += blocks * Block::kConsumers) {
    float* const to = problem.place(at, v / kFours, int64_t{at.column} * Problem::kN + v % kFours * 4);
    if (!to) continue;  // before anything is read that nobody would wait for
    const float* const place = own + v / kFours * kLine + v % kFours * 4;
    Vec<float> all = cluster_load(place, 0);
    for (int block = 1; block < blocks; ++block) {
      const Vec<float> part = cluster_load(place, static_cast<unsigned>(block));
      UNROLL
      for (int e = 0; e < 4; ++e) all[e] += part[e];
    }
    problem.store(to, all);
  }
  cluster_meet();
}

// The moments of the tile's columns over a warp's 16 rows go to columns [kN]. 32 at a time: all would not fit into registers.
template <class T, int kSums>
__device__ void wgmma_moments(const WgmmaResults<T, kSums>& results, Moments* columns) {
  UNROLL
  for (int block = 0; block < kSums / 4; block += 4) {
    Moments own[8];
    UNROLL
    for (int c = 0; c < 8; ++c) {
      own[c] = merge_all<2>([&](int half) { return Moments{results.value(2 * (block + c / 2) + half, c % 2), 0}; }, 1);
    }
    merge_lanes(own, 2, columns + 8 * block);
  }
}

// Which of the thread's sums reach a norm through its ReLU: a bit each.
template <class Problem>
__device__ uint32_t wgmma_through(const Problem& problem, const WgmmaPlace& at) {
  static_assert(Problem::kN == 64);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, row = static_cast<int>(threadIdx.x) / kWarpSize * 16 + lane / 4;
  uint32_t through = 0;
  UNROLL
  for (int half = 0; half < 2; ++half) {
    const uint64_t own = problem.positive(at, row + 8 * half) >> lane % 4 * 2;
    UNROLL
    for (int block = 0; block < 8; ++block) through |= (static_cast<uint32_t>(own >> 8 * block) & 3) << (4 * block + 2 * half);
  }
  return through;
}
template <class Problem>
__device__ void wgmma_mask(uint32_t through, float (&sums)[Problem::kN / 2]) {
  UNROLL
  for (int i = 0; i < Problem::kN / 2; ++i) sums[i] = through >> i & 1 ? sums[i] : 0;
}
// The norm's sums over a warp's 16 rows, and those of the products with x - mean, go to columns [kN].
template <class Problem>
__device__ void wgmma_sums(const Problem& problem, const WgmmaPlace& at, const ResultsOf<Problem>& results, const WgmmaExtra<Problem>& x,
                           GradientSums* columns) {
  const int64_t first = int64_t{at.column} * Problem::kN + threadIdx.x % 4 * 2;
  UNROLL
  for (int block = 0; block < Problem::kN / 8; block += 4) {
    GradientSums own[8];
    UNROLL
    for (int c = 0; c < 8; ++c) {
      const int of = block + c / 2;
      const int64_t j = first + of * 8 + c % 2;
      const float mean = j < problem.n ? problem.mean[j] : 0;
      own[c] = merge_all<2>(
          [&](int half) {
            const float d = results.value(2 * of + half, c % 2);
            return GradientSums{d, d * (of_bf16_pair(x.pair(of, half), c % 2) - mean)};
          },
          1);
    }
    merge_lanes(own, 2, columns + 8 * block);
  }
}

// A barrier of the consumers' warps alone: its phases end when all have come.
__device__ inline void wgmma_meet(Mbarrier* met, unsigned phase) {
  __syncwarp();
  if (threadIdx.x % kWarpSize == 0) mbarrier_arrive(met);
  mbarrier_wait(met, phase % 2);
}

// The table of the norm that finishes the results, a column a thread: while the first boxes are on their way.
template <class Problem>
__device__ void wgmma_tabulate(const Problem& problem, const WgmmaPlace& at, float* table) {
  const int column = static_cast<int>(threadIdx.x);
  if (column >= Problem::kN) return;
  const int64_t j = int64_t{at.column} * Problem::kN + column;
  const bool there = j < problem.n;
  table[column] = there ? problem.finish.mean[j] : 0;
  table[Problem::kN + column] = there ? problem.finish.scale(j) : 0;
  table[2 * Problem::kN + column] = there ? problem.finish.beta[j] : 0;
}
// residual(row, column): eight of it; null where there is none.
template <class Problem, class Residual>
__device__ void wgmma_finish(const Problem& problem, const WgmmaPlace& at, const ResultsOf<Problem>& results, const float* table,
                             Residual residual) {
  wgmma_store(problem, at, results, [&](const Vec<bf16>& vector, int row, int column) {
    const ChannelNorms<8> norms{load<8>(table + column), load<8>(table + Problem::kN + column), load<8>(table + 2 * Problem::kN + column)};
    if constexpr (std::is_null_pointer_v<Residual>) {
      return problem.finish(vector, norms, nullptr);
    } else {
      const Vec<bf16> more = residual(row, column);
      return problem.finish(vector, norms, &more);
    }
  });
}

// Blocks that share boxes are given a place together.
template <class Problem>
__device__ WgmmaPlace wgmma_row(WgmmaPlace at) {
  if constexpr (kInPairs<Problem>) at.row = at.row * static_cast<int>(kTogether<Problem>) + at.rank;
  return at;
}

template <class Problem>
__device__ WgmmaPlace wgmma_place(const Problem& problem, const Divisor& tiles_m, const Divisor& tiles_n) {
  int block = static_cast<int>(blockIdx.x), rank = 0;
  if constexpr (kInClusters<Problem>) rank = block % problem.cluster, block /= problem.cluster;
  if constexpr (kInPairs<Problem>) rank = block % kTogether<Problem>, block /= kTogether<Problem>;
  const int tile_row = tiles_n.quotient(block), part = tiles_m.quotient(tile_row);
  return wgmma_row<Problem>({part, tiles_m.remainder(tile_row, part), tiles_n.remainder(block, tile_row), rank});
}

// What becomes of the sums, and is stored. steps: that the ring has made.
template <class Problem>
__device__ void wgmma_end(const Problem& problem, const WgmmaPlace& at, const WgmmaRing<Problem>& ring, int steps,
                          float (&sums)[Problem::kN / 2]) {
  using Block = WgmmaBlock<Problem>;
  static_assert(kFinishes<Problem> + kTakesSums<Problem> + kTakesMoments<Problem> <= 1, "`met` has two phases");
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const auto extra = [&](int which) { return WgmmaExtra<Problem>(steps + which, ring); };
  [[maybe_unused]] uint32_t through = 0;
  if constexpr (kTakesSums<Problem>) through = wgmma_through(problem, at);  // under way while the addend is waited for
  if constexpr (kExtrasOf<Problem> != 0 && !kFinishes<Problem>) wgmma_add<Problem>(extra(0), sums);
  if constexpr (kTakesSums<Problem>) wgmma_mask<Problem>(through, sums);
  const ResultsOf<Problem> results(sums);
  if constexpr (!kFinishes<Problem>) {
    wgmma_store(problem, at, results);
  } else {
    wgmma_meet(ring.met, 0);
    if constexpr (kExtrasOf<Problem> != 0) {
      wgmma_finish(problem, at, results, ring.table, [residual = extra(0)](int row, int column) { return residual.eight(row, column); });
    } else {
      wgmma_finish(problem, at, results, ring.table, nullptr);
    }
  }
  if constexpr (kTakesSums<Problem>) {
    auto* const parts = reinterpret_cast<GradientSums*>(ring.tile(steps));  // [warps, kN]; where the addend was
    wgmma_meet(ring.met, 0);
    wgmma_sums<Problem>(problem, at, results, extra(1), parts + warp * Block::kN);
    wgmma_meet(ring.met, 1);
    merge_warps<Block::kWarps, Block::kN>(parts, 16, [&](int column, const GradientSums& all) {
      const int64_t j = int64_t{at.column} * Block::kN + column;
      if (j < problem.n) problem.store_gradient_sums(at, j, all);
    });
  }
  if constexpr (kTakesMoments<Problem>) {
    auto* const parts = reinterpret_cast<Moments*>(ring.stages);  // [warps, kN]; where nobody multiplies any more
    wgmma_meet(ring.met, 0);
    wgmma_moments(results, parts + warp * Block::kN);
    wgmma_meet(ring.met, 1);
    merge_warps<Block::kWarps, Block::kN>(parts, 16, [&](int column, const Moments& all) {
      const int64_t j = int64_t{at.column} * Block::kN + column;
      if (j < problem.n) problem.store_moments(at, j, all);
    });
  }
}

// Producer and consumers part for good: ptxas keeps products in flight only where no path joins the one that issues them.
template <class Problem>
__global__ void __launch_bounds__(WgmmaBlock<Problem>::kThreads, WgmmaBlock<Problem>::kShare)
    wgmma_kernel(const Problem GRID_CONSTANT problem, Divisor tiles_m, Divisor tiles_n) {
  after_predecessors();
  using Block = WgmmaBlock<Problem>;
  const WgmmaRing<Problem> ring;
  const WgmmaPlace at = wgmma_place(problem, tiles_m, tiles_n);
  if (threadIdx.x >= Block::kConsumers) {
    if (threadIdx.x == Block::kConsumers) wgmma_produce(problem, ring, at, 0);
    return;  // no barrier of the block follows
  }
  float sums[Problem::kN / 2] = {};
  const int steps = problem.steps(at);
  if constexpr (kFinishes<Problem>) wgmma_tabulate(problem, at, ring.table);
  wgmma_consume<Problem>(ring, 0, steps, steps + kExtrasOf<Problem>, sums);
  if constexpr (kInClusters<Problem>) {
    wgmma_end_in_cluster(problem, at, ring, sums);
  } else {
    wgmma_end(problem, at, ring, steps, sums);
  }
}

template <class Problem>
void run_wgmma(const Problem& problem, int64_t parts, int64_t tiles_m, Stream& stream) {
  static_assert(!(kInPairs<Problem> && kInClusters<Problem>));
  using Block = WgmmaBlock<Problem>;
  unsigned cluster = kTogether<Problem>;
  const int64_t tiles_n = ceil_div(problem.n, Block::kN), rows = ceil_div(tiles_m, cluster), places = parts * rows * tiles_n;
  if (places == 0) return;
  if constexpr (kInClusters<Problem>) cluster = static_cast<unsigned>(problem.cluster);
  launch_clusters(cluster, wgmma_kernel<Problem>, blocks_for(places * cluster, 1), Block::kThreads, Block::kBytes, stream, problem,
                  Divisor(rows), Divisor(tiles_n));
}

}  // namespace reid::REID_TARGET
