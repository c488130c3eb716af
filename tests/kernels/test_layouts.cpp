// Where tensor-core instructions find their operands and leave their sums, held against CUTLASS (tools/golden_layouts.py): whatever the
// emulator multiplies lies where CUTLASS would have put it.

#include "harness.h"
#include "planted.h"
#include "sm90/wgmma_tile.cuh"

namespace reid::emu::test {
namespace {

using Places = std::span<const int32_t>;

const reid::test::Golden& golden(const std::string& name) {
  static std::map<std::string, reid::test::Golden> found;
  return found.try_emplace(name, "layouts", name).first->second;
}
Places places(const std::string& name, const std::string& what) { return golden(name)[what].span<int32_t>(); }

// Matrices with the first axis innermost, of integers: sums are exact.
std::vector<float> matrix(const char* name, int count) {
  Rng rng = Rng(1).at(name);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = static_cast<float>(rng.below(15) - 7);
  return values;
}
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, int m, int n, int depth) {
  std::vector<float> d(static_cast<size_t>(m * n));
  for (int i = 0; i < m * n; ++i) {
    for (int k = 0; k < depth; ++k)
      d[static_cast<size_t>(i)] += a[static_cast<size_t>(i % m + k * m)] * b[static_cast<size_t>(i / m + k * n)];
  }
  return d;
}

__global__ void multiply_fragments(const float* a, const float* b, Places of_a, Places of_b, Places of_d, float* d) {
  uint32_t left[4] = {}, right[2] = {};
  const size_t lane = threadIdx.x;
  for (size_t i = 0; i < 8; ++i) left[i / 2] |= uint32_t{to_bf16(a[of_a[lane * 8 + i]]).bits} << i % 2 * 16;
  for (size_t i = 0; i < 4; ++i) right[i / 2] |= uint32_t{to_bf16(b[of_b[lane * 4 + i]]).bits} << i % 2 * 16;
  float sums[4] = {};
  mma_m16n8k16(sums, left, right);
  for (size_t i = 0; i < 4; ++i) d[of_d[lane * 4 + i]] = sums[i];
}

TEST_CASE("layouts: fragments of mma.sync are CUTLASS's") {
  const std::vector<float> a = matrix("a", 16 * 16), b = matrix("b", 8 * 16);
  std::vector<float> d(16 * 8);
  launch(multiply_fragments, 1, 32, 0, stream(), a.data(), b.data(), places("mma", "a"), places("mma", "b"), places("mma", "d"), d.data());
  CHECK(d == product(a, b, 16, 8, 16));
}

// d [64, kN] = a [64, 64] b [kN, 64]^T by a warpgroup, from tiles that are written as `of_a` and `of_b` say: [place, depth].
template <int kN, bool a_across, bool b_across>
__global__ void multiply_tiles(const float* a, const float* b, Places of_a, Places of_b, Places of_d, float* d) {
  bf16 *const left = shared_dynamic<bf16>(), *const right = left + 64 * kWgmmaDepth;
  for (size_t i = threadIdx.x; i < 64 * kWgmmaDepth; i += 128) left[of_a[i]] = to_bf16(a[i / kWgmmaDepth + i % kWgmmaDepth * 64]);
  for (size_t i = threadIdx.x; i < kN * kWgmmaDepth; i += 128) right[of_b[i]] = to_bf16(b[i / kWgmmaDepth + i % kWgmmaDepth * kN]);
  fence_proxy_async();
  __syncthreads();
  float sums[kN / 2] = {};
  wgmma_fence();
  for (int k = 0; k < kWgmmaDepth; k += 16) {
    wgmma_m64k16<kN, a_across, b_across>(sums, wgmma_part<a_across>(left, 0, k), kWgmmaLeading, wgmma_part<b_across>(right, 0, k),
                                         kWgmmaLeading);
  }
  wgmma_commit();
  wgmma_wait<0>();
  for (size_t i = 0; i < kN / 2; ++i) d[of_d[threadIdx.x * (kN / 2) + i]] = sums[i];
}

template <int kN, bool a_across, bool b_across>
void check_tiles() {
  const auto way = [](bool across) { return places("tile", across ? "across" : "along"); };
  const std::vector<float> a = matrix("a", 64 * 64), b = matrix("b", kN * 64);
  std::vector<float> d(64 * kN);
  launch(multiply_tiles<kN, a_across, b_across>, 1, 128, (64 + kN) * kWgmmaDepth * sizeof(bf16), stream(), a.data(), b.data(),
         way(a_across), way(b_across), places("wgmma", "d" + std::to_string(kN)), d.data());
  CHECK(d == product(a, b, 64, kN, kWgmmaDepth));
}

TEST_CASE_TEMPLATE("layouts: tiles and sums of wgmma are CUTLASS's", Columns, std::integral_constant<int, 64>,
                   std::integral_constant<int, 128>, std::integral_constant<int, 256>) {
  check_tiles<Columns::value, false, false>();
  check_tiles<Columns::value, false, true>();
  check_tiles<Columns::value, true, false>();
  check_tiles<Columns::value, true, true>();
}

template <bool across>
void check_descriptors(const char* name) {
  constexpr unsigned kSomewhere = 5 * 1024;
  const Places rows = places("descriptor", name);  // [4, start in elements, leading, stride, swizzle]
  static const bf16 tile[64 * kWgmmaDepth] = {};
  for (int step = 0; step < 4; ++step) {
    const Places fields = rows.subspan(static_cast<size_t>(step) * 4, 4);
    CHECK(wgmma_part<across>(tile, 0, 16 * step) - tile == fields[0]);
    const uint64_t told = matrix_descriptor(kSomewhere + static_cast<unsigned>(fields[0]) * 2, kWgmmaLeading);
    const auto field = [&](int bit) { return static_cast<int>(told >> bit & 0x3FFF) * 16; };
    CHECK(field(0) == static_cast<int>(kSomewhere) + fields[0] * 2);
    if (across) CHECK(field(16) == fields[1]);  // the swizzle leaves it unused along depth
    CHECK(field(32) == fields[2]);
    CHECK(static_cast<int>(told >> 62) == fields[3]);
    CHECK((told & ~0xC000'3FFF'3FFF'3FFFULL) == 0);
  }
}

TEST_CASE("layouts: descriptors of wgmma say what CUTLASS's do") {
  check_descriptors<false>("along");
  check_descriptors<true>("across");
}

__global__ void fetch_box(const TensorMap GRID_CONSTANT map, uint16_t* y) {
  bf16* const tile = shared_dynamic<bf16>();
  auto* const arrived = reinterpret_cast<Mbarrier*>(tile + 64 * 64);
  if (threadIdx.x == 0) {
    mbarrier_init(arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expecting(arrived, 64 * 64 * sizeof(bf16));
    load_box(tile, &map, 0, 0, 0, 0, arrived);
  }
  __syncthreads();
  mbarrier_wait(arrived, 0);
  for (unsigned i = threadIdx.x; i < 64 * 64; i += 32) y[i] = tile[i].bits;
}

TEST_CASE("layouts: boxes lie where CUTLASS's tiles have them") {
  struct alignas(16) Eight {
    bf16 v[8];
  };
  std::vector<Eight> x(64 * 64 / 8);
  for (uint16_t i = 0; i < 64 * 64; ++i) x[i / 8].v[i % 8].bits = i;
  std::vector<uint16_t> y(64 * 64);
  const TensorMap map = tensor_map(x[0].v, {{64, 64, 1, 1}, {1, 64, 64 * 64, 64 * 64}, {64, 64, 1, 1}});
  launch(fetch_box, 1, 32, 64 * 64 * sizeof(bf16) + sizeof(Mbarrier), stream(), map, y.data());
  const Places along = places("tile", "along"), across = places("tile", "across");
  int64_t wrong = 0;
  for (size_t row = 0; row < 64; ++row) {
    for (size_t e = 0; e < 64; ++e) {  // the same tile, read either way
      wrong += y[static_cast<size_t>(along[row * 64 + e])] != row * 64 + e;
      wrong += y[static_cast<size_t>(across[e * 64 + row])] != row * 64 + e;
      wrong += swizzled_place(static_cast<int>(row), static_cast<int>(e)) != along[row * 64 + e];
    }
  }
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace reid::emu::test
