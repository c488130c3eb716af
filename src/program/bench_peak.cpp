// What no kernel can exceed: independent sums in registers, multiplied and added to without touching memory; a copy that touches nothing
// else.

#include "program/bench.h"
#include "reid/engine/op_args_rate.h"

#include <algorithm>
#include <cstdio>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace reid::program {
namespace {

// Two multiply-add ports with a latency of 4 or 5 cycles want 10 sums in flight; 12 and the two factors fit the 16 registers of AVX2. The
// sums tend to 1: neither zeros nor denormal numbers, which some processors treat differently.
constexpr int kSums = 12;
constexpr float kDecay = 0.75f, kGain = 0.25f;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) float sum_avx512(int64_t rounds) {
  const __m512 decay = _mm512_set1_ps(kDecay), gain = _mm512_set1_ps(kGain);
  __m512 sums[kSums];
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm512_fmadd_ps(sums[i], decay, gain);
  }
  __m512 total = sums[0];
  for (int i = 1; i < kSums; ++i) total = _mm512_add_ps(total, sums[i]);
  return _mm512_cvtss_f32(total);
}

__attribute__((target("avx2,fma"))) float sum_avx2(int64_t rounds) {
  const __m256 decay = _mm256_set1_ps(kDecay), gain = _mm256_set1_ps(kGain);
  __m256 sums[kSums];
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm256_fmadd_ps(sums[i], decay, gain);
  }
  __m256 total = sums[0];
  for (int i = 1; i < kSums; ++i) total = _mm256_add_ps(total, sums[i]);
  return _mm256_cvtss_f32(total);
}
#endif

float sum_portable(int64_t rounds) {
  constexpr int kLanes = 4;
  float sums[kSums][kLanes] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    for (auto& sum : sums) {
      for (float& lane : sum) lane = lane * kDecay + kGain;
    }
  }
  float total = 0;
  for (const auto& sum : sums) total += sum[0];
  return total;
}

struct Loop {
  float (*run)(int64_t rounds);
  double flop;  // of a round
};

Loop widest_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {sum_avx512, 2.0 * 16 * kSums};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {sum_avx2, 2.0 * 8 * kSums};
#endif
  return {sum_portable, 2.0 * 4 * kSums};
}

// Seconds that all threads need for as many rounds each.
double seconds_of(const Loop& loop, int64_t rounds) {
  std::vector<float> results(static_cast<size_t>(threads()));  // wanted, so that the compiler keeps the loops
  const Stopwatch watch;
  parallel_for(threads(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) results[static_cast<size_t>(i)] = loop.run(rounds);
  });
  const double seconds = watch.seconds();
  REID_CHECK(std::ranges::all_of(results, [](float v) { return v > 0; }), "[bench] the peak's loop computed nothing");
  return seconds;
}

// Seconds of a copy of as many bytes as no cache holds, from the CPU's clock or the device's.
double seconds_of_copy(Device device, const Tensor& from, const Tensor& to) {
  CallClock clock(device);
  clock.start(Caches::as_left);
  if (device.type == DeviceType::cpu) {
    constexpr int64_t kChunk = int64_t{1} << 18;
    parallel_for(from.numel(), kChunk, [&](int64_t begin, int64_t end, int) {
      std::copy(from.data<float>() + begin, from.data<float>() + end, to.data<float>() + begin);
    });
  } else {
    to.copy_from(from);
  }
  return clock.stop();
}

// Enough tiles that those of the last, unfinished turn of a GPU's processors do not show; of an emulated one a few.
int64_t tiles_for(Device device) { return device.type == DeviceType::cuda ? 8192 : 2; }

struct Rate {
  double flops, seconds;  // flop/s; of the call
  const char* implementation;
};

// The fastest implementation of the same products again and again.
Rate product_rate(Device device, DType dtype, int64_t rounds) {
  using Op = RepeatedProduct;
  const int64_t depth = Op::depth(dtype), tiles = tiles_for(device);
  const Tensor a = random_normal({Op::kM, depth}, Rng(1), dtype, device), b = random_normal({depth, Op::kN}, Rng(2), dtype, device);
  const Tensor c = Tensor::empty({tiles, Op::kM, Op::kN}, wide(dtype), device);
  const RepeatedProductArgs args{a.raw(), b.raw(), c.raw(), tiles, Op::kM, Op::kN, depth, rounds, dtype};
  const double flop = 2.0 * Op::kM * Op::kN * static_cast<double>(depth * tiles * rounds);
  Rate best{};
  CallClock clock(device);
  initialize();
  for (const Impl<Op>& impl : Registry::implementations<Op>(device.type)) {
    if (impl.refuses && impl.refuses(args)) continue;
    clock.start(Caches::as_left);
    impl.run(args, current_stream(device));
    const double seconds = clock.stop();
    if (flop / seconds > best.flops) best = {flop / seconds, seconds, impl.name};
  }
  REID_CHECK(best.flops > 0, "[bench] no kernel measures the rate of ", dtype, " on ", device);
  return best;
}

constexpr double kSampleSeconds = 5e-3;

}  // namespace

// A sample takes five milliseconds: long beside the start of the threads or of a kernel, short beside a change of the clock. The first
// fifth of a second lets clocks and the placement of threads settle.
Peak::Peak(Device device, DType dtype) : device_(device), dtype_(device.type == DeviceType::cpu ? DType::f32 : dtype), rounds_(1) {
  const Loop loop = widest_loop();
  const auto seconds = [&] {
    return device.type == DeviceType::cpu ? seconds_of(loop, rounds_) : product_rate(device, dtype_, rounds_).seconds;
  };
  seconds();  // the first call loads the kernel
  while (seconds() < kSampleSeconds) rounds_ *= 2;
  const Stopwatch watch;
  do sample();
  while (watch.seconds() < 0.2);
}

void Peak::sample() {
  if (device_.type == DeviceType::cpu) {
    const Loop loop = widest_loop();
    return samples_.push_back(loop.flop * static_cast<double>(rounds_) * threads() / seconds_of(loop, rounds_));
  }
  const Rate found = product_rate(device_, dtype_, rounds_);
  if (samples_.empty() || found.flops > rate()) fastest_ = found.implementation;
  samples_.push_back(found.flops);
}

void Peak::follow() {
  if (device_.type == DeviceType::cpu) sample();
}

double Peak::rate() const { return std::ranges::max(samples_); }

// Buffers of 1 GiB on a GPU, of 128 MiB on the CPU: two of them are more than any cache holds.
double Peak::bandwidth() const {
  if (bandwidths_.empty()) {
    const int64_t bytes = device_.type == DeviceType::cuda ? int64_t{1} << 30 : device_.type == DeviceType::cpu ? 128 << 20 : 4 << 20;
    const Tensor from = random_normal({bytes / 4}, Rng(3), DType::f32, device_), to = Tensor::zeros({bytes / 4}, DType::f32, device_);
    for (int i = 0; i < 10; ++i) bandwidths_.push_back(2.0 * static_cast<double>(bytes) / seconds_of_copy(device_, from, to));
  }
  return std::ranges::max(bandwidths_);
}

double Peak::floor(double bytes, double flop) const { return std::max(bytes / bandwidth(), flop / rate()); }

double Peak::share(double bytes, double flop, double seconds) const {
  if (seconds <= 0) return 0;
  return device_.type == DeviceType::cpu ? flop / seconds / rate() : floor(bytes, flop) / seconds;
}

void Peak::add_floor(Json& row, double bytes, double flop, double seconds) const {
  if (device_.type == DeviceType::cpu) return;
  row["floor"] = floor(bytes, flop);
  row["share_of_floor"] = floor(bytes, flop) / seconds;
}

std::vector<std::string> Peak::text() const {
  char text[160];
  const bool cpu = device_.type == DeviceType::cpu;
  std::snprintf(text, sizeof text, "peak %.0f GFLOP/s %s%s%s (the best of %zu samples; median %.0f)", rate() / 1e9, name_of(dtype_),
                cpu ? "" : " by ", fastest_, samples_.size(), Times{samples_}.median() / 1e9);
  std::vector<std::string> lines{text};
  if (!bandwidths_.empty()) {
    std::snprintf(text, sizeof text, "copy %.0f GB/s, read and written (the best of %zu; median %.0f)", bandwidth() / 1e9,
                  bandwidths_.size(), Times{bandwidths_}.median() / 1e9);
    lines.emplace_back(text);
  }
  return lines;
}

Json Peak::json() const {
  const Times t{samples_};
  Json json = Json::object({{"gflops", rate() / 1e9},
                            {"median", t.median() / 1e9},
                            {"least", t.least() / 1e9},
                            {"samples", static_cast<int64_t>(samples_.size())}});
  if (device_.type != DeviceType::cpu) json["dtype"] = name_of(dtype_), json["implementation"] = fastest_;
  if (!bandwidths_.empty()) {
    const Times b{bandwidths_};
    json["copy"] = Json::object(
        {{"gigabytes_per_second", bandwidth() / 1e9}, {"median", b.median() / 1e9}, {"samples", static_cast<int64_t>(bandwidths_.size())}});
  }
  return json;
}

}  // namespace reid::program
