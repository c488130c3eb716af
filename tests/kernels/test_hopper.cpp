// The emulated means of Hopper are tested before they test anything: each bug that they are for is planted in a pipeline, and must be
// reported with its launch, block and thread.

#include <set>

#include "factors.h"
#include "probes_hopper.cuh"
#include "sm90/wgmma_bands.cuh"

namespace reid::emu::test {
namespace {

enum class Plant {
  none,
  // barriers
  not_initialized,
  initialized_twice,
  init_not_fenced,
  no_block_barrier,
  overwritten,
  arrival_missing,
  one_arrival_announced,
  five_arrivals_announced,
  bytes_too_few,
  bytes_too_many,
  full_of_wrong_parity,
  full_of_same_parity,
  full_not_waited_for,
  full_not_waited_for_by_a_warp,
  empty_not_waited_for,
  last_step_left_out,
  // boxes
  misaligned_stage,
  stage_outside,
  two_boxes_in_a_place,
  released_too_early,
  // products
  no_fence,
  no_commit,
  no_wait,
  sums_read_early,
  sums_written_early,
  operand_overwritten,
  operand_overwritten_and_fenced,
  half_a_warpgroup,
  operand_in_row_1,
  operand_outside,
};

constexpr int kSteps = 5, kStages = 2, kStageA = 64 * 64, kStageB = 128 * 64, kStage = kStageA + kStageB;
constexpr size_t kPipelineBytes = kStages * kStage * sizeof(bf16) + 2 * kStages * sizeof(Mbarrier);

void produce(const TensorMap& a, const TensorMap& b, bf16* stages, Mbarrier* full, Mbarrier* empty, Plant bug) {
  for (int step = 0; step < kSteps; ++step) {
    const int s = step % kStages, round = step / kStages;
    if (round > 0 && bug != Plant::empty_not_waited_for) mbarrier_wait(&empty[s], static_cast<unsigned>(round - 1) % 2);
    const int off = bug == Plant::bytes_too_few ? -kStageB * 2 : bug == Plant::bytes_too_many ? 16 : 0;
    if (bug != Plant::arrival_missing) mbarrier_arrive_expecting(&full[s], static_cast<unsigned>(kStage * 2 + off));
    bf16* tile = stages + s * kStage + (bug == Plant::misaligned_stage ? 64 : 0);
    load_box(tile, &a, step * 64, 0, 0, 0, &full[s]);
    bf16* second = tile + (bug == Plant::two_boxes_in_a_place ? 0 : kStageA);
    if (bug == Plant::stage_outside && s == 1) second += kStageA / 2;
    load_box(second, &b, step * 64, 0, 0, 0, &full[s]);
  }
}

void consume(bf16* stages, Mbarrier* full, Mbarrier* empty, float (&sums)[64], float& seen, Plant bug) {
  for (int step = 0; step < (bug == Plant::last_step_left_out ? kSteps - 1 : kSteps); ++step) {
    const int s = step % kStages, right = step / kStages % 2;
    const bool last = step == kSteps - 1;
    const bool deaf = bug == Plant::full_not_waited_for || (bug == Plant::full_not_waited_for_by_a_warp && threadIdx.x / 32 == 2);
    const int parity = bug == Plant::full_of_wrong_parity ? 1 - right : bug == Plant::full_of_same_parity ? 0 : right;
    if (!deaf) mbarrier_wait(&full[s], static_cast<unsigned>(parity));
    if (bug != Plant::no_fence) wgmma_fence();
    const bf16* a = stages + s * kStage + (bug == Plant::operand_in_row_1 ? 64 : 0);
    const bf16* b = stages + s * kStage + kStageA + (bug == Plant::operand_outside ? 2 * kStage : 0);
    if (bug != Plant::half_a_warpgroup || threadIdx.x < 64) wgmma_m64k16<128, false, false>(sums, a, 0, b, 0);
    if (bug != Plant::no_commit || !last) wgmma_commit();
    if (bug == Plant::released_too_early && threadIdx.x % 32 == 0) mbarrier_arrive(&empty[s]);
    if (bug == Plant::sums_written_early) sums[5] = 0;
    if (bug == Plant::operand_overwritten || bug == Plant::operand_overwritten_and_fenced) {
      if (threadIdx.x == 40) stages[s * kStage + 3] = to_bf16(8);  // no factor is as large
      if (bug == Plant::operand_overwritten_and_fenced) fence_proxy_async();
    }
    seen = sums[0];
    if (bug == Plant::released_too_early ? last : bug != Plant::no_wait || !last) wgmma_wait<0>();
    if (bug != Plant::released_too_early && threadIdx.x % 32 == 0) mbarrier_arrive(&empty[s]);
  }
}

// c [64, 128] = the first 16 of every 64 columns of a [64, 64 kSteps] times those of b [128, 64 kSteps]
__global__ void pipeline(const TensorMap GRID_CONSTANT a, const TensorMap GRID_CONSTANT b, float* c, Plant bug) {
  bf16* const stages = shared_dynamic<bf16>();
  auto* const full = reinterpret_cast<Mbarrier*>(stages + kStages * kStage);
  Mbarrier* const empty = full + kStages;
  if (threadIdx.x == 0 && bug != Plant::not_initialized) {
    const unsigned warps = bug == Plant::one_arrival_announced ? 1 : bug == Plant::five_arrivals_announced ? 5 : 4;
    for (int s = 0; s < kStages; ++s) mbarrier_init(&full[s], 1), mbarrier_init(&empty[s], warps);
    if (bug == Plant::initialized_twice) mbarrier_init(&empty[0], warps);
    if (bug != Plant::init_not_fenced) mbarrier_fence_init();
  }
  if (bug != Plant::no_block_barrier) __syncthreads();
  if (bug == Plant::overwritten && threadIdx.x == 0) empty[0].state = 0;
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128) produce(a, b, stages, full, empty, bug);
    return;
  }
  float sums[64] = {}, seen = 0;
  consume(stages, full, empty, sums, seen, bug);
  if (bug == Plant::sums_read_early) sums[0] = seen;
  const unsigned row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (unsigned i = 0; i < 64; ++i) c[(row + i % 4 / 2 * 8) * 128 + i / 4 * 8 + column + i % 2] = sums[i];
}

constexpr int kLaunchLine = __LINE__ + 5;
// The error, or "NaN", "other sums" or "right".
std::string outcome(const Factors& f, Plant bug) {
  std::vector<float> c(64 * 128, -1.0f);
  const TensorMap a = rows_of(f.a, 64, f.width), b = rows_of(f.b, 128, f.width);
  const std::string message = error_of([&] { launch(pipeline, 2, 160, kPipelineBytes, stream(), a, b, c.data(), bug); });
  return message.empty() ? verdict_of(c, f.product) : message;
}

struct Report {
  Plant bug;
  const char* under[3];  // each schedule; null: as under the first
};
constexpr Report kReports[] = {
    {Plant::none, {"right"}},
    {Plant::not_initialized, {"the barrier was never initialized, or not yet"}},
    {Plant::initialized_twice, {"the barrier is initialized a second time"}},
    {Plant::init_not_fenced, {"mbarrier_fence_init is missing"}},
    {Plant::no_block_barrier, {"right", "right", "the barrier was never initialized, or not yet"}},
    {Plant::overwritten, {"something was written over the barrier"}},
    {Plant::arrival_missing, {"phase 0 lacks 1 of 1 arrivals and -24576 bytes"}},
    {Plant::one_arrival_announced, {"the thread last saw phase -1 end: the barrier ran on without it"}},
    {Plant::five_arrivals_announced, {"phase 0 lacks 1 of 5 arrivals and 0 bytes"}},
    {Plant::bytes_too_few, {"ends with 16384 bytes on their way: fewer were expected"}},
    {Plant::bytes_too_many, {"phase 0 lacks 0 of 1 arrivals and 16 bytes"}},
    {Plant::full_of_wrong_parity, {"the thread did not wait for the box", "one arrival more than were announced"}},
    {Plant::full_of_same_parity, {"the thread waits a second time for the end of phase 0: the parity stayed"}},
    {Plant::full_not_waited_for, {"the thread did not wait for the box", "the barrier ran on without it"}},
    {Plant::full_not_waited_for_by_a_warp, {"the thread did not wait for the box", "NaN"}},
    {Plant::empty_not_waited_for, {"one arrival more than were announced"}},
    {Plant::last_step_left_out, {"the block ends with 2 boxes on their way: no thread waited for barrier 0"}},
    {Plant::misaligned_stage, {"accesses 1024 bytes at an address"}},
    {Plant::stage_outside, {"16384 bytes outside of the block's shared memory"}},
    {Plant::two_boxes_in_a_place, {"another box is on its way to the same place"}},
    {Plant::released_too_early, {"the box would replace what a wgmma of thread 0 still reads"}},
    {Plant::no_fence, {"no wgmma_fence stands before the first product of its group"}},
    {Plant::no_commit, {"the thread returns with 1 wgmma that it never waited for"}},
    {Plant::no_wait, {"the thread returns with 1 wgmma that it never waited for"}},
    {Plant::sums_read_early, {"NaN"}},
    {Plant::sums_written_early, {"the thread wrote to sums that wgmma was still adding to"}},
    {Plant::operand_overwritten, {"a thread wrote over an operand that wgmma reads"}},
    {Plant::operand_overwritten_and_fenced, {"a thread wrote over an operand that wgmma reads"}},
    {Plant::half_a_warpgroup, {"thread 64 took part in 0 wgmma, the first thread of its warpgroup in 5"}},
    {Plant::operand_in_row_1, {"an operand begins in row 1 of eight"}},
    {Plant::operand_outside, {"bytes outside of the block's shared memory"}},
};
static_assert(std::size(kReports) == static_cast<size_t>(Plant::operand_outside) + 1);

TEST_CASE("emulator: what goes wrong with barriers, boxes and products of warpgroups is reported") {
  const Factors f(64 * kSteps);
  for (const Report& report : kReports) {
    int index = 0;
    under_every_schedule([&] {
      const char* expected = report.under[index] ? report.under[index] : report.under[0];
      const std::string message = outcome(f, report.bug);
      INFO("bug ", static_cast<int>(report.bug));
      check_says(message, {expected});
      if (message.starts_with("[emulator]")) {
        const char* block = schedule() == Schedule::greedy_down ? "block (1, 0, 0): " : "block (0, 0, 0): ";
        check_says(message, {str("launch at ", __FILE__, ":", kLaunchLine).c_str(), block, "thread"});
      }
      ++index;
    });
  }
}

TEST_CASE("emulator: wgmma sees what threads wrote to shared memory behind a fence only") {
  const Factors f(16);
  const bf16 *a = f.a[0].v, *b = f.b[0].v;
  under_every_schedule([&] {
    std::vector<float> c(64 * 128);
    const auto run = [&](bool fenced) {
      launch(written_product, 1, 128, (kStageA + kStageB) * sizeof(bf16), stream(), a, b, c.data(), fenced);
    };
    run(true);
    CHECK(c == f.product);
    run(false);
    CHECK(std::all_of(c.begin(), c.end(), [](float v) { return std::isnan(v); }));
  });
}

TEST_CASE("bands of tiles: every tile has its turn, and neighbors in turn share rows and columns") {
  for (const auto& [m, n] : {std::pair{1, 1}, {16, 3}, {17, 5}, {40, 7}, {5, 40}, {64, 32}}) {
    for (const int band : {8, 16}) {
      const WgmmaBands bands{m, n, band};
      std::set<std::pair<int, int>> seen;
      for (int tile = 0; tile < bands.places(); ++tile) {
        const WgmmaPlace at = bands.place(tile, 1);
        CHECK((at.part == 0 && at.row >= 0 && at.row < m && at.column >= 0 && at.column < n && at.rank == 1));
        seen.insert({at.row, at.column});
      }
      CHECK(static_cast<int>(seen.size()) == m * n);
    }
  }
  std::set<int> rows, columns;  // of the tiles that an H200's processors begin with
  for (int tile = 0; tile < 132; ++tile) {
    const WgmmaPlace at = WgmmaBands{64, 32, 16}.place(tile, 0);
    rows.insert(at.row), columns.insert(at.column);
  }
  CHECK(rows.size() == 16);
  CHECK(columns.size() == 9);
}

__global__ void operand_of(uint64_t descriptor) { detail::Operand(descriptor, nullptr, false); }

// The fields put together by hand from the table of the PTX manual; results of products through them are tested everywhere else.
TEST_CASE("emulator: descriptors of operands are those of the manual, and read as such") {
  CHECK(matrix_descriptor(0x1C400, 8192) == 0x4000'0040'0200'1C40);
  CHECK(matrix_descriptor(0x7FFE'0001'0000 & 0xFFFF'FFFF, 16) == 0x4000'0040'0001'1000);  // the lowest 18 bits of an address
  alignas(1024) static bf16 tile[2 * 64 * 64];
  const detail::Operand operand(matrix_descriptor(static_cast<unsigned>(reinterpret_cast<uintptr_t>(tile)), 8192), tile, true);
  CHECK(operand.start == reinterpret_cast<uintptr_t>(tile));
  CHECK(operand.leading == 8192);
  CHECK(operand.stride == 1024);
  const uint64_t swizzle_of_64_bytes = uint64_t{2} << 62, base_offset = uint64_t{1} << 62 | uint64_t{1} << 49;
  for (const uint64_t other : {uint64_t{0}, swizzle_of_64_bytes, base_offset})
    check_says(error_of([&] { launch(operand_of, 1, 32, 0, stream(), other); }), {"another swizzle"});
}

TEST_CASE("emulator: arrays that the copy engine cannot take are refused") {
  const std::vector<Factors::Eight> rows(64 * 8);
  const auto refusal = [&](const TensorShape& shape, int off = 0) { return error_of([&] { tensor_map(rows[0].v + off, shape); }); };
  CHECK(refusal({{64, 64, 1, 1}, {1, 64, 4096, 4096}, {64, 64, 1, 1}}) == "");
  check_says(refusal({{64, 64, 1, 1}, {1, 64, 4096, 4096}, {64, 64, 1, 1}}, 4), {"16 bytes at an address"});
  check_says(refusal({{64, 0, 1, 1}, {1, 64, 4096, 4096}, {64, 64, 1, 1}}), {"tensor_map", "extents of 1 to 2^32"});
  check_says(refusal({{64, 64, 1, 1}, {1, 60, 4096, 4096}, {64, 64, 1, 1}}), {"multiples of 8"});
  check_says(refusal({{64, 64, 1, 1}, {1, 64, int64_t{1} << 39, 4096}, {64, 64, 1, 1}}), {"less than 2^40 bytes"});
  check_says(refusal({{64, 64, 1, 1}, {1, 64, 4096, 4096}, {64, 257, 1, 1}}), {"at most 256"});
  check_says(refusal({{64, 64, 1, 1}, {1, 64, 4096, 4096}, {32, 64, 1, 1}}), {"rows of 64"});
  CHECK(refusal({{64, 64, 1, 1}, {1, 64, 4096, 4096}, {64, 64, 1, 1}, {1, 4, 1, 1}}) == "");
  check_says(refusal({{64, 64, 1, 1}, {1, 64, 4096, 4096}, {64, 64, 1, 1}, {1, 5, 1, 1}}), {"those between them included"});
}

#ifdef REID_TEST_ASAN
TEST_CASE("emulator: a map that promises more rows than there are is AddressSanitizer's to report") {
  const Factors f(64 * kSteps);
  const TensorMap a = rows_of(f.a, 64, f.width), b = rows_of(f.b, 128, f.width);
  const auto run = [&](const TensorMap& map) {
    std::vector<float> c(64 * 128);
    launch(pipeline, 1, 160, kPipelineBytes, stream(), map, b, c.data(), Plant::none);
  };
  run(a);
  TensorMap late = a;
  late.data += f.width;  // its last row lies behind the array
  check_says(last_words([&] { run(late); }), {"heap-buffer-overflow", "copy_box"});
}
#endif

}  // namespace
}  // namespace reid::emu::test
