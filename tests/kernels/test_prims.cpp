// The primitives that kernels are made of, in emulation, against plain computations: exact, and alike under every schedule.

#include "harness.h"
#include "planted.h"
#include "probes.cuh"

namespace reid::emu::test {
namespace {

// --- indices, votes, shuffles, atomics ---

__global__ void record_indices(unsigned* seen) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  ++seen[block * 64 + thread];
}

TEST_CASE("emulator: every thread of every block runs once") {
  under_every_schedule([] {
    std::vector<unsigned> seen(30 * 64);
    launch(record_indices, dim3(2, 3, 5), dim3(8, 4, 2), 0, stream(), seen.data());
    CHECK(std::all_of(seen.begin(), seen.end(), [](unsigned n) { return n == 1; }));
  });
}

__global__ void collectives(int* y) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* mine = y + threadIdx.x * 8;
  mine[0] = __shfl_sync(0xFFFFFFFFu, lane * 10, 7);
  mine[1] = __shfl_xor_sync(0xFFFFFFFFu, lane * 10, 5);
  mine[2] = __shfl_down_sync(0xFFFFFFFFu, lane * 10, 3);
  mine[3] = __shfl_up_sync(0xFFFFFFFFu, lane * 10, 3);
  mine[4] = static_cast<int>(__ballot_sync(0xFFFFFFFFu, lane % 3 == 0));
  mine[5] = __any_sync(0xFFFFFFFFu, lane == 31) + 2 * __all_sync(0xFFFFFFFFu, lane >= 0) + 4 * __any_sync(0xFFFFFFFFu, lane == 32);
  mine[6] = __popc(__ballot_sync(0xFFFFFFFFu, lane % 2));
  mine[7] = static_cast<int>(__shfl_sync(0xFFFFFFFFu, double(lane) + 0.5, 9) * 2);
}

TEST_CASE("emulator: shuffles and votes") {
  unsigned thirds = 0;
  for (unsigned i = 0; i < 32; i += 3) thirds |= 1u << i;
  under_every_schedule([&] {
    std::vector<int> y(96 * 8);
    launch(collectives, 1, 96, 0, stream(), y.data());
    for (int t = 0; t < 96; ++t) {
      const int* mine = y.data() + t * 8;
      const int lane = t % 32;
      CHECK(mine[0] == 70);
      CHECK(mine[1] == (lane ^ 5) * 10);
      CHECK(mine[2] == (lane + 3 < 32 ? lane + 3 : lane) * 10);
      CHECK(mine[3] == (lane >= 3 ? lane - 3 : lane) * 10);
      CHECK(static_cast<unsigned>(mine[4]) == thirds);
      CHECK(mine[5] == 3);
      CHECK(mine[6] == 16);
      CHECK(mine[7] == 19);
    }
  });
}

// Their sum would depend on who comes first.
template <class T>
concept SummedAtomically = requires(T* p) {
  atomicAdd(p, T{1});
};
static_assert(SummedAtomically<int> && SummedAtomically<uint64_t> && !SummedAtomically<float> && !SummedAtomically<double>);

__global__ void count_atomically(int* counts) {
  atomicAdd(&counts[0], 2);
  atomicMax(&counts[1], static_cast<int>(threadIdx.x));
  atomicMin(&counts[2], -static_cast<int>(threadIdx.x));
  atomicCAS(&counts[3], 0, 7);
  if (threadIdx.x == 0) atomicExch(&counts[4], 9);
}

TEST_CASE("emulator: atomic operations on integers") {
  under_every_schedule([] {
    std::vector<int> counts(5);
    launch(count_atomically, 3, 64, 0, stream(), counts.data());
    CHECK(counts == std::vector<int>{384, 63, -63, 7, 9});
  });
}

// --- reductions ---

__global__ void reductions(const float* x, float* y) {
  const float value = x[blockIdx.x * blockDim.x + threadIdx.x];
  float* mine = y + (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  mine[0] = warp_reduce(value, Add());
  mine[1] = block_reduce(value, Max());
  mine[2] = block_reduce(value, Add());
  mine[3] = block_reduce(2 * value, Add());  // at once after the other: it uses the same array
}

TEST_CASE("prims: sums and maxima over warps and blocks") {
  for (const unsigned threads : {32u, 96u, 1024u}) {
    std::vector<float> x(2 * threads);
    Rng rng(threads);
    for (float& v : x) v = static_cast<float>(rng.below(101) - 50);
    under_every_schedule([&] {
      std::vector<float> y(8 * threads);
      launch(reductions, 2, threads, 0, stream(), x.data(), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const auto warp = x.begin() + static_cast<int64_t>(i / 32 * 32), block = x.begin() + static_cast<int64_t>(i / threads * threads);
        const float sum = std::accumulate(block, block + threads, 0.0f);
        CHECK(y[4 * i] == std::accumulate(warp, warp + 32, 0.0f));
        CHECK(y[4 * i + 1] == *std::max_element(block, block + threads));
        CHECK(y[4 * i + 2] == sum);
        CHECK(y[4 * i + 3] == 2 * sum);
      }
    });
  }
}

// --- bf16 ---

TEST_CASE("prims: bf16 rounds to nearest, ties to even") {
  const auto rounded = [](float x) { return to_float(to_bf16(x)); };
  for (const float exact : {0.0f, -0.0f, 1.0f, -2.5f, 0x1.fep127f, 0x1p-126f, 0x1p-133f}) CHECK(rounded(exact) == exact);
  CHECK(std::signbit(rounded(-0.0f)));
  CHECK(rounded(1 + 0x1p-8f) == 1);                       // a tie, to even
  CHECK(rounded(1 + 3 * 0x1p-8f) == 1 + 4 * 0x1p-8f);     // a tie, to even
  CHECK(rounded(1 + 0x1p-8f + 0x1p-20f) == 1 + 0x1p-7f);  // above a tie
  CHECK(rounded(1 + 0x1p-8f - 0x1p-20f) == 1);            // below it
  CHECK(rounded(0x1.ffp127f) == std::numeric_limits<float>::infinity());
  CHECK(rounded(-std::numeric_limits<float>::infinity()) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  CHECK(to_bf16(std::numeric_limits<float>::signaling_NaN()).bits == 0x7FFF);
}

// --- tensor cores ---

TEST_CASE("mma: ldmatrix hands each lane what CUTLASS says") {
  const reid::test::Golden golden("layouts", "ldmatrix");
  under_every_schedule([&] {
    std::vector<uint32_t> y(32 * 12);
    launch(load_matrices, 1, 32, 0, stream(), y.data());
    size_t first = 0;
    for (const auto& [name, registers] : {std::pair("x4", 4U), {"x4_trans", 4U}, {"x2", 2U}, {"x2_trans", 2U}}) {
      const auto at = golden[name].span<int32_t>();
      for (size_t i = 0; i < 64 * registers; ++i) {
        const size_t lane = i / 2 / registers, half = i % (2 * registers);
        CHECK((y[lane * 12 + first + half / 2] >> half % 2 * 16 & 0xFFFF) == static_cast<uint32_t>(at[i]));
      }
      first += registers;
    }
  });
}

TEST_CASE("mma: a pipelined product of small integers is exact") {
  struct alignas(16) Eight {
    bf16 v[8];
  };
  std::vector<Eight> storage((16 * kDepth + kDepth * 8) / 8);
  bf16 *a = storage[0].v, *b = a + 16 * kDepth;
  Rng rng(1);
  for (int i = 0; i < 16 * kDepth + kDepth * 8; ++i) a[i] = to_bf16(static_cast<float>(rng.below(31) - 15));
  std::vector<float> expected(128);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      for (int k = 0; k < kDepth; ++k) expected[static_cast<size_t>(i * 8 + j)] += to_float(a[i * kDepth + k]) * to_float(b[k * 8 + j]);
    }
  }
  under_every_schedule([&] {
    std::vector<float> c(128);
    launch(product, 1, 32, 0, stream(), a, b, c.data());
    CHECK(c == expected);
  });
}

}  // namespace
}  // namespace reid::emu::test
