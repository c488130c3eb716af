// The allocator, what is kept of weights, the stream's workspace, the thread pool.

#include "harness.h"

#include <malloc.h>
#include <sys/resource.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "reid/engine/nn.h"
#include "reid/engine/weight_cache.h"

namespace reid::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // the sanitizer's own memory grows
#else
constexpr bool kSanitized = false;
#endif

// Restores the number of threads.
struct Threads {
  int before = threads();
  ~Threads() { set_threads(before); }
};

TEST_CASE("allocator: a freed block is used again, memory is aligned and counted") {
  release_cached_memory({});
  const AllocatorStats start = allocator_stats({});
  void* first = nullptr;
  {
    Storage a(1000, {});
    first = a.data();
    CHECK(reinterpret_cast<uintptr_t>(first) % 64 == 0);
    CHECK(a.bytes() == 1000);
    CHECK(allocator_stats({}).bytes_in_use >= start.bytes_in_use + 1000);
  }
  CHECK(allocator_stats({}).bytes_in_use == start.bytes_in_use);
  CHECK(allocator_stats({}).bytes_cached > 0);
  {
    Storage again(1010, {});  // same size class
    CHECK(again.data() == first);
  }
  CHECK(allocator_stats({}).system_allocations == start.system_allocations + 1);
  release_cached_memory({});
  CHECK(allocator_stats({}).bytes_cached == 0);
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{255}, int64_t{16385}, int64_t{3} << 20}) {
    Storage s(bytes, {});
    CHECK(s.data() != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(s.data()) % 64 == 0);
    std::memset(s.data(), 1, static_cast<size_t>(bytes));
  }
}

TEST_CASE("allocator: a warmed-up training step asks the system for nothing") {
  Encoder encoder({.backbone = {.depth = 18, .ibn = "a", .width = 4}}, DType::f32, Rng(0));
  const Tensor images = normal_tensor("step images", {4, 32, 16, 3}, DType::f32);
  const auto step = [&] {
    Tape tape;
    const Var y = encoder(Var(images), training_pass(tape));
    tape.backward(y, Tensor::full(y.shape(), 1, DType::f32));
  };
#if defined(__GLIBC__)
  mallopt(M_TRIM_THRESHOLD, 64 << 20);  // as the program does: what lists and names of a step give back stays
#endif
  const auto page_faults = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
  };
  for (int i = 0; i < 3; ++i) step();
  const int64_t allocations = allocator_stats({}).system_allocations;
  // Once in a while a worker meets its first task of a kind, and grows what it keeps from call to call: some steps may fault, not all.
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < 10; ++i) {
    const int64_t before = page_faults();
    step();
    least = std::min(least, page_faults() - before);
  }
  CHECK(allocator_stats({}).system_allocations == allocations);
  if (!kSanitized) CHECK(least == 0);
}

TEST_CASE("allocator: of blocks of one size, the one given back last is taken first") {
  const int64_t bytes = 54'321;
  void* last = nullptr;
  {
    const Storage kept(bytes, {});
    {
      const Storage given_back_last(bytes, {}), given_back_first(bytes, {});
      last = given_back_last.data();
    }
    const Storage taken(bytes, {});
    CHECK(taken.data() == last);
  }
}

TEST_CASE("allocator: several threads at once") {
  std::vector<std::thread> workers;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    workers.emplace_back([&, t] {
      Rng rng = Rng(9).at(static_cast<uint64_t>(t));
      for (int i = 0; i < 300; ++i) {
        const int64_t bytes = 1 + rng.below(5000);
        Storage s(bytes, {});
        auto* data = static_cast<uint8_t*>(s.data());
        std::memset(data, t, static_cast<size_t>(bytes));
        std::this_thread::yield();
        if (data[0] != t || data[bytes - 1] != t) ++wrong;
      }
    });
  }
  for (std::thread& w : workers) w.join();
  CHECK(wrong == 0);
}

TEST_CASE("workspace: grows, stays, one a thread") {
  Stream& stream = current_stream({});
  void* small = stream.workspace(100);
  CHECK(stream.workspace(50) == small);
  auto* large = static_cast<uint8_t*>(stream.workspace(1 << 20));
  std::memset(large, 1, 1 << 20);
  CHECK(stream.workspace(1 << 19) == large);
  Stream* other = nullptr;
  std::thread([&] { other = &current_stream({}); }).join();
  CHECK(other != &stream);
}

TEST_CASE("weight cache: a form of weights is made once; a fill that fails leaves nothing, another size is an error") {
  WeightCache cache;
  const float one = 1, other = 2;
  int fills = 0;
  const auto twice = [&](const float* weights, const char* form, int64_t count) {
    return cache.floats(weights, form, count, [&](float* to) {
      ++fills;
      std::fill_n(to, count, 2 * *weights);
    });
  };
  CHECK_THROWS_WITH_AS(cache.floats(&one, "twice", 5, [](float*) { fail("no panels today"); }), "no panels today", Error);
  CHECK(cache.bytes() == 0);
  const float* made = twice(&one, "twice", 5);
  CHECK(made[4] == 2);
  CHECK(twice(&one, "twice", 5) == made);
  CHECK(fills == 1);
  CHECK(twice(&other, "twice", 5)[4] == 4);
  CHECK(twice(&one, "twice again", 7)[6] == 2);
  CHECK(fills == 3);
  CHECK(cache.bytes() == 4 * (5 + 5 + 7));
  CHECK_THROWS_WITH_AS(twice(&one, "twice", 6), "[weights] the form twice has 20 bytes, asked for as 24", Error);
  cache.clear();
  CHECK(cache.bytes() == 0);
  CHECK(twice(&one, "twice", 6)[5] == 2);
}

TEST_CASE("devices: names") {
  CHECK(parse_device("cpu") == Device{});
  CHECK(str(Device{}) == "cpu");
  CHECK_THROWS_AS(parse_device("gpu"), Error);
  CHECK(!describe_cpu().empty());
}

TEST_CASE("parallel_for: every index once, the chunks never depend on the threads") {
  const Threads restore;
  std::set<std::pair<int64_t, int64_t>> chunks[3];
  const int counts[3] = {1, 2, 5};
  for (int i = 0; i < 3; ++i) {
    set_threads(counts[i]);
    CHECK(threads() == counts[i]);
    std::vector<std::atomic<int>> seen(1003);
    std::mutex mutex;
    parallel_for(1003, 10, [&](int64_t begin, int64_t end, int worker) {
      if (worker < 0 || worker >= counts[i]) seen[0] += 1000;
      for (int64_t j = begin; j < end; ++j) ++seen[static_cast<size_t>(j)];
      const std::scoped_lock lock(mutex);
      chunks[i].insert({begin, end});
    });
    for (const std::atomic<int>& s : seen) CHECK(s == 1);
  }
  CHECK(chunks[0] == chunks[1]);
  CHECK(chunks[0] == chunks[2]);
  CHECK(chunks[0].size() == 101);
  CHECK(chunks[0].count({1000, 1003}) == 1);
}

TEST_CASE("parallel_for: nothing, less than a chunk, no grain") {
  int calls = 0;
  parallel_for(0, 4, [&](int64_t, int64_t, int) { ++calls; });
  parallel_for(-3, 4, [&](int64_t, int64_t, int) { ++calls; });
  CHECK(calls == 0);
  parallel_for(3, 4, [&](int64_t begin, int64_t end, int worker) { calls += begin == 0 && end == 3 && worker == 0; });
  CHECK(calls == 1);
  std::atomic<int> ones{0};
  parallel_for(3, 0, [&](int64_t begin, int64_t end, int) { ones += end - begin == 1; });
  CHECK(ones == 3);
}

TEST_CASE("parallel_for: an exception reaches the caller and the pool goes on") {
  const Threads restore;
  for (const int count : {1, 3}) {
    set_threads(count);
    const auto fails = [] { parallel_for(100, 1, [](int64_t begin, int64_t, int) { REID_CHECK(begin != 37, "chunk ", begin); }); };
    for (int round = 0; round < 20; ++round) CHECK_THROWS_WITH_AS(fails(), "chunk 37", Error);
    std::atomic<int64_t> sum{0};
    parallel_for(100, 7, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    CHECK(sum == 100);
  }
  CHECK_THROWS_AS(set_threads(0), Error);
}

TEST_CASE("parallel_for: loops inside loops run inline, as worker 0") {
  const Threads restore;
  set_threads(3);
  std::atomic<int64_t> sum{0};
  std::atomic<int> wrong{0};
  parallel_for(20, 1, [&](int64_t, int64_t, int) {
    const std::thread::id outer = std::this_thread::get_id();
    parallel_for(50, 5, [&](int64_t begin, int64_t end, int worker) {
      wrong += worker != 0 || std::this_thread::get_id() != outer;
      sum += end - begin;
    });
  });
  CHECK(sum == 1000);
  CHECK(wrong == 0);
}

TEST_CASE("parallel_for: several callers at once, numbers of threads in between") {
  const Threads restore;
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) parallel_for(64, 4, [&](int64_t begin, int64_t end, int) { total += end - begin; });
    });
  }
  for (int i = 1; i <= 6; ++i) set_threads(1 + i % 3);
  for (std::thread& c : callers) c.join();
  CHECK(total == 3 * 50 * 64);
}

}  // namespace
}  // namespace reid::test
