// Clusters of blocks: what the emulator reports of them, and the weights' gradients that they add up.

#include <map>

#include "harness.h"
#include "planted.h"
#include "reid/engine/ops.h"
#include "sm90/device.cuh"

namespace reid::emu::test {
namespace {

enum class Plant {
  none,
  no_first_sync,
  no_last_sync,
  own_barrier_first,  // of the block, where the cluster's belongs
  own_barrier_between,
  a_warp_stays_away,
  half_a_warp,
  beyond_the_cluster,
  outside,
  misaligned
};

// y [blocks, 64, 4] = what the next block of the cluster laid down: its number and the places. Then all lay down something else.
__global__ void neighbors(float* y, const float* elsewhere, unsigned cluster, Plant bug) {
  SHARED_ARRAY(float, own, 256);
  const unsigned first = blockIdx.x / cluster * cluster, next = (blockIdx.x - first + 1) % cluster, thread = threadIdx.x;
  for (unsigned e = 0; e < 4; ++e) own[thread * 4 + e] = static_cast<float>(blockIdx.x * 1000 + thread * 4 + e);
  const bool away = bug == Plant::a_warp_stays_away ? thread / 32 == 1 : bug == Plant::half_a_warp ? thread < 16 : false;
  if (!away) {
    if (bug == Plant::own_barrier_first) __syncthreads();
    if (bug != Plant::no_first_sync && bug != Plant::own_barrier_first) cluster_sync();
    const float* const place = bug == Plant::outside ? elsewhere : own + thread * 4 + (bug == Plant::misaligned ? 1 : 0);
    store_vec(y + (blockIdx.x * 64 + thread) * 4, cluster_load(place, bug == Plant::beyond_the_cluster ? cluster : next));
  }
  if (bug == Plant::no_last_sync) return;
  bug == Plant::own_barrier_between ? __syncthreads() : cluster_sync();
  for (unsigned e = 0; e < 4; ++e) own[thread * 4 + e] = -2;
  cluster_meet();
}

std::vector<float> neighbors_of(unsigned blocks, unsigned cluster, Plant bug) {
  Tensor y = Tensor::full({blocks, 64, 4}, -1, DType::f32), elsewhere = Tensor::zeros({256}, DType::f32);
  launch_clusters(cluster, neighbors, blocks, 64, 0, stream(), y.data<float>(), elsewhere.data<float>(), cluster, bug);
  const auto all = y.span<float>();
  return {all.begin(), all.end()};
}

// Whether everyone saw the next block of the cluster as it was before.
bool right(const std::vector<float>& seen, size_t cluster) {
  for (size_t i = 0; i < seen.size(); ++i) {
    const size_t block = i / 256, next = block / cluster * cluster + (block + 1) % cluster;
    if (seen[i] != static_cast<float>(next * 1000 + i % 256)) return false;
  }
  return true;
}

TEST_CASE("emulator: blocks of a cluster see what each laid down before all met") {
  under_every_schedule([] {
    for (const unsigned cluster : {1u, 3u, 8u}) CHECK(right(neighbors_of(cluster * 2, cluster, Plant::none), cluster));
  });
}

TEST_CASE("emulator: where a barrier of blocks stands for one of the cluster, some schedule shows it") {
  for (const Schedule s : {Schedule::greedy_up, Schedule::greedy_down}) {
    const WithSchedule with(s);
    check_says(error_of([] { neighbors_of(4, 2, Plant::own_barrier_first); }), {"of the cluster has not begun"});
    CHECK_FALSE(right(neighbors_of(4, 2, Plant::own_barrier_between), 2));
  }
}

TEST_CASE("emulator: what goes wrong in a cluster is reported with its place") {
  const std::map<Plant, const char*> reports = {
      {Plant::no_first_sync, "of the cluster has not begun"},
      {Plant::no_last_sync, "of the cluster, which has returned"},
      {Plant::a_warp_stays_away, "threads of one cluster wait at different barriers"},
      {Plant::half_a_warp, "lanes of warp 0 diverge"},
      {Plant::beyond_the_cluster, "block 2 is asked for at"},
      {Plant::outside, "outside of the block's shared memory"},
      {Plant::misaligned, "accesses 16 bytes at an address that they do not divide"},
  };
  under_every_schedule([&] {
    for (const auto& [bug, report] : reports) {
      check_says(error_of([bug = bug] { neighbors_of(4, 2, bug); }), {"[emulator] launch at ", "test_cluster.cpp", "block (", report});
    }
  });
  check_says(error_of([] { neighbors_of(5, 2, Plant::none); }), {"clusters of 2: 1 to 8 blocks that divide the grid"});
  check_says(error_of([] { neighbors_of(9, 9, Plant::none); }), {"clusters of 9"});
}

// Small integers, whose sums are exact. -> dw, or what is added to it.
Tensor weight_gradient(const ConvShape& s, const Impl<ConvBackwardWeight>& impl, bool accumulate) {
  Rng rng(7);
  const auto integers = [&](const Shape& shape) {
    Tensor t = Tensor::empty(shape, DType::f32);
    for (float& v : t.span<float>()) v = static_cast<float>(rng.below(3)) - 1;
    return t.to(DType::bf16);
  };
  const Tensor x = integers({s.n, s.h, s.w, s.c}), dy = integers({s.n, s.p(), s.q(), s.k});
  Tensor dw = Tensor::full({s.k, s.r, s.s, s.c}, accumulate ? 0.5 : std::numeric_limits<double>::quiet_NaN(), DType::f32);
  const ConvBackwardWeightArgs args{
      .x = x.raw(), .dy = dy.raw(), .dw = dw.raw(), .shape = s, .dtype = DType::bf16, .accumulate = accumulate};
  REQUIRE((!impl.refuses || !impl.refuses(args)));
  impl.run(args, stream());
  return dw;
}

TEST_CASE("weights' gradient on Hopper: clusters leave processors idle that are too few in a GPC") {
  const Pretending device(kPretendedH200);
  CHECK(processors_for(1, 1) == 132);
  CHECK(processors_for(2, 1) == 132);
  CHECK(processors_for(8, 1) == 120);
  CHECK(processors_for(7, 1) == 112);
  CHECK(processors_for(8, 2) == 124);  // two blocks a processor
  const Pretending slice({.processors = 7});
  CHECK(processors_for(8, 1) == 7);
}

// Where an H200's 132 processors are to have work, the six boxes of each of 41 images are cut into 40 parts of seven, in five clusters:
// the last four have none.
TEST_CASE("weights' gradient on Hopper: parts of a cluster, of several, and parts without work") {
  initialize();
  const auto& all = Registry::implementations<ConvBackwardWeight>(DeviceType::cpu);
  const auto named = [&](std::string_view name) { return *std::ranges::find(all, name, &Impl<ConvBackwardWeight>::name); };
  const auto check = [&](const char* implementation, const ConvShape& s) {
    for (const bool accumulate : {false, true}) {
      const Tensor got = weight_gradient(s, named(implementation), accumulate), right = weight_gradient(s, named("reference"), accumulate);
      CHECK_MESSAGE(reid::test::difference(got, right, 0) == "", implementation, ", ", s.n, " images", accumulate ? ", added" : "");
    }
  };
  const auto check_images = [&](int processors, std::initializer_list<int64_t> images) {
    const Pretending device({.processors = processors});
    for (const int64_t n : images) check("emu:sm90_clusters", {.n = n, .h = 9, .w = 17, .c = 72, .k = 64, .r = 1, .s = 3, .pad = {0, 1}});
  };
  check_images(2, {1, 3});
  check_images(7, {1, 3});
  check_images(132, {1, 3, 41});
  const Pretending device({.processors = 8});
  check("emu:sm90_clusters_256", {.n = 8, .h = 9, .w = 17, .c = 248, .k = 72, .r = 1, .s = 1});
}

}  // namespace
}  // namespace reid::emu::test
