// Boxes that two blocks share: each bug of a pipeline of pairs is planted, and must be reported by one schedule or another.

#include <algorithm>

#include "factors.h"
#include "harness.h"
#include "reid/engine/ops.h"

namespace reid::emu::test {
namespace {

enum class Plant {
  none,
  own_barrier_first,     // of the block, where the pair's belongs
  released_to_nobody,    // what is filled no more, too
  empties_of_own_warps,  // and released to the own block
  released_to_itself,
  bytes_of_own_half,
  the_same_half,
  beyond_the_pair
};

constexpr int kSteps = 5, kStages = 2, kStageA = 64 * 64, kStageB = 128 * 64, kStage = kStageA + kStageB;
constexpr size_t kBytes = kStages * kStage * sizeof(bf16) + 2 * kStages * sizeof(Mbarrier);

// c [2, 64, 128]: block r has the first 16 of every 64 columns of a_r [64, 64 kSteps] times those of b [128, 64 kSteps], of which it
// fetches half of the rows for both.
__global__ void pair_pipeline(const TensorMap GRID_CONSTANT a0, const TensorMap GRID_CONSTANT a1, const TensorMap GRID_CONSTANT b, float* c,
                              Plant bug) {
  bf16* const stages = shared_dynamic<bf16>();
  auto* const full = reinterpret_cast<Mbarrier*>(stages + kStages * kStage);
  Mbarrier* const empty = full + kStages;
  const int rank = static_cast<int>(blockIdx.x) % 2;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) mbarrier_init(&full[s], 1), mbarrier_init(&empty[s], bug == Plant::empties_of_own_warps ? 4 : 8);
    mbarrier_fence_init();
  }
  bug == Plant::own_barrier_first ? __syncthreads() : cluster_meet();
  if (threadIdx.x >= 128) {
    if (threadIdx.x > 128) return;
    const int half = bug == Plant::the_same_half ? 0 : rank * 64;
    for (int step = 0; step < kSteps; ++step) {
      const int s = step % kStages, round = step / kStages;
      if (round > 0) mbarrier_wait(&empty[s], static_cast<unsigned>(round - 1) % 2);
      mbarrier_arrive_expecting(&full[s], static_cast<unsigned>(bug == Plant::bytes_of_own_half ? 2 * kStageA + kStageB : 2 * kStage));
      bf16* const tile = stages + s * kStage;
      load_box(tile, rank == 0 ? &a0 : &a1, step * 64, 0, 0, 0, &full[s]);
      load_box_for_all(tile + kStageA + half * 64, &b, step * 64, half, 0, 0, &full[s], bug == Plant::beyond_the_pair ? 3 : 2);
    }
    return;
  }
  float sums[64] = {};
  const unsigned lane = threadIdx.x % 32;
  for (int step = 0; step < kSteps; ++step) {
    const int s = step % kStages;
    mbarrier_wait(&full[s], static_cast<unsigned>(step / kStages) % 2);
    wgmma_fence();
    wgmma_m64k16<128, false, false>(sums, stages + s * kStage, 0, stages + s * kStage + kStageA, 0);
    wgmma_commit();
    wgmma_wait<0>();
    const bool own = bug == Plant::empties_of_own_warps || bug == Plant::released_to_itself;
    if (step + kStages >= kSteps && bug != Plant::released_to_nobody) continue;  // it is filled no more
    if (own && lane == 0) mbarrier_arrive(&empty[s]);
    if (!own && lane < 2) mbarrier_arrive_in(&empty[s], lane);
  }
  const unsigned row = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
  for (unsigned i = 0; i < 64; ++i) c[rank * 64 * 128 + (row + i % 4 / 2 * 8) * 128 + i / 4 * 8 + column + i % 2] = sums[i];
}

// The error, or what became of the sums.
std::string outcome(const Factors& f, Plant bug) {
  std::vector<float> c(2 * 64 * 128, -1.0f), right = f.product;
  for (int i = 0; i < 64; ++i) {  // the second block's a is the first half of b
    for (int j = 0; j < 128; ++j) {
      float sum = 0;
      for (int k = 0; k < f.width; ++k) sum += k % 64 < 16 ? f.at(f.b, i, k) * f.at(f.b, j, k) : 0;
      right.push_back(sum);
    }
  }
  const TensorMap a0 = rows_of(f.a, 64, f.width), a1 = rows_of(f.b, 64, f.width);
  TensorMap b = rows_of(f.b, 128, f.width);
  b.shape.box[1] = 64;
  const std::string message = error_of([&] { launch_clusters(2, pair_pipeline, 2, 160, kBytes, stream(), a0, a1, b, c.data(), bug); });
  return message.empty() ? verdict_of(c, right) : message;
}

struct Report {
  Plant bug;
  const char* under[3];  // each schedule; null: as under the first
};
constexpr Report kReports[] = {
    {Plant::none, {"right"}},
    {Plant::own_barrier_first, {"right", "of the cluster has not begun", "of the cluster has not begun"}},
    {Plant::released_to_nobody, {"of the cluster, which has returned"}},
    {Plant::empties_of_own_warps, {"right", "another box is on its way to the same place", "another box is on its way to the same place"}},
    {Plant::released_to_itself, {"lacks 4 of 8 arrivals"}},
    {Plant::bytes_of_own_half, {"ends with 8192 bytes on their way: fewer were expected"}},
    {Plant::the_same_half, {"another box is on its way to the same place"}},
    {Plant::beyond_the_pair, {"block 2 is asked for at"}},
};

TEST_CASE("emulator: what goes wrong with boxes that blocks share is reported") {
  const Factors f(64 * kSteps);
  for (const Report& report : kReports) {
    int index = 0;
    under_every_schedule([&] {
      const char* expected = report.under[index] ? report.under[index] : report.under[0];
      INFO("bug ", static_cast<int>(report.bug));
      check_says(outcome(f, report.bug), {expected});
      ++index;
    });
  }
}

template <class Op>
const Impl<Op>& named(std::string_view name) {
  const auto& all = Registry::implementations<Op>(DeviceType::cpu);
  const auto found = std::ranges::find(all, name, &Impl<Op>::name);
  REQUIRE_MESSAGE(found != all.end(), name);
  return *found;
}
// Not under sanitizers, where it takes a minute: the edges look at the same memory.
#ifndef REID_DEBUG

template <class Op>
void run_named(const char* name, const typename Op::Args& args) {
  REQUIRE_MESSAGE(named<Op>(name).refuses(args) == nullptr, name);
  named<Op>(name).run(args, stream());
}

Tensor normal(const Shape& shape, uint64_t seed) {
  Tensor t = Tensor::empty(shape, DType::f32);
  Rng rng(seed);
  for (float& v : t.span<float>()) v = static_cast<float>(rng.normal());
  return t.to(DType::bf16);
}

// More steps of depth than stages, so that each stage is filled again by both; as many tiles as let a block stay for several.
TEST_CASE("pairs of blocks: the sums of single blocks, bit for bit") {
  initialize();
  const ConvShape s{.n = 3, .h = 8, .w = 9, .c = 136, .k = 248, .r = 1, .s = 3, .pad = {0, 1}};
  const Tensor x = normal({s.n, s.h, s.w, s.c}, 1), w = normal({s.k, s.r, s.s, s.c}, 2), dy = normal({s.n, s.p(), s.q(), s.k}, 3);
  const auto forward = [&](const char* name) {
    Tensor y = Tensor::empty(dy.shape(), DType::bf16);
    run_named<ConvForward>(name, {.x = x.raw(), .w = w.raw(), .y = y.raw(), .shape = s, .dtype = DType::bf16});
    return y;
  };
  const auto backward = [&](const char* name) {
    Tensor dx = Tensor::empty(x.shape(), DType::bf16);
    run_named<ConvBackwardData>(name, {.dy = dy.raw(), .w = w.raw(), .dx = dx.raw(), .shape = s, .dtype = DType::bf16});
    return dx;
  };
  const Tensor y = forward("emu:sm90_wgmma"), dx = backward("emu:sm90_wgmma");
  under_every_schedule([&] {
    for (const char* name : {"emu:sm90_pairs", "emu:sm90_pairs_256"}) {
      CHECK_MESSAGE(reid::test::difference(forward(name), y, 0) == "", name);
      CHECK_MESSAGE(reid::test::difference(backward(name), dx, 0) == "", name);
    }
  });
  const Tensor a = normal({512, 200}, 4), b = normal({200, 504}, 5);
  const auto product = [&](const char* name) {
    Tensor c = Tensor::empty({512, 504}, DType::f32);
    run_named<Gemm>(name, {.a = a.raw(), .b = b.raw(), .c = c.raw(), .m = 512, .n = 504, .k = 200, .dtype = DType::bf16});
    return c;
  };
  const Tensor c = product("emu:sm90_wgmma");
  under_every_schedule([&] { CHECK(reid::test::difference(product("emu:sm90_pairs_256"), c, 0) == ""); });
}

#endif

// The second block of the last pair would have moments of nothing to store.
TEST_CASE("pairs of blocks: rows of tiles that do not come in pairs are refused") {
  initialize();
  const Tensor some = Tensor::zeros({512 * 512}, DType::bf16), sums = Tensor::zeros({512 * 512}, DType::f32);
  const auto refusals = [&](int64_t boxes) {
    const ConvShape s{.n = boxes, .h = 16, .w = 8, .c = 72, .k = 248, .r = 1, .s = 1},
        turned{.n = boxes, .h = 16, .w = 8, .c = 248, .k = 72, .r = 1, .s = 1};
    const ConvForwardArgs forward{.x = some.raw(), .w = some.raw(), .y = some.raw(), .shape = s, .dtype = DType::bf16};
    const ConvBackwardDataArgs data{.dy = some.raw(), .w = some.raw(), .dx = some.raw(), .shape = turned, .dtype = DType::bf16};
    const GemmArgs product{.a = some.raw(), .b = some.raw(), .c = sums.raw(), .m = boxes * 128, .n = 504, .k = 72, .dtype = DType::bf16};
    std::string all;
    const auto note = [&](const char* reason) { all += str(all.empty() ? "" : "; ", reason ? reason : "none"); };
    for (const char* name : {"emu:sm90_pairs", "emu:sm90_pairs_256"}) {
      note(named<ConvForward>(name).refuses(forward)), note(named<ConvBackwardData>(name).refuses(data));
    }
    note(named<Gemm>("emu:sm90_pairs_256").refuses(product));
    return all;
  };
  const std::string boxes = "takes boxes that come in pairs";
  CHECK(refusals(4) == "none; none; none; none; none");
  CHECK(refusals(3) == str(boxes, "; ", boxes, "; ", boxes, "; ", boxes, "; takes tiles whose rows come in pairs"));
}

}  // namespace
}  // namespace reid::emu::test
