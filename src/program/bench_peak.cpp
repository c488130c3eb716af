// The peak: independent sums in registers, multiplied and added to without touching memory.

#include "program/bench.h"
#include "reid/engine/ops.h"

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

// flop/s of a product that is large enough to fill an accelerator.
double product_rate(Device device) {
  constexpr int64_t kExtent = 4096;
  const Tensor a = Tensor::zeros({kExtent, kExtent}, DType::f32, device);
  ops::matmul(a, a);
  current_stream(device).synchronize();
  const Stopwatch watch;
  ops::matmul(a, a);
  current_stream(device).synchronize();
  return 2.0 * kExtent * kExtent * kExtent / watch.seconds();
}

}  // namespace

// A sample takes five milliseconds: long beside the start of the threads, short beside a change of the clock. The first fifth of a second
// lets clocks and the placement of threads settle.
Peak::Peak(Device device) : device_(device), rounds_(1 << 10) {
  const Loop loop = widest_loop();
  while (device.type == DeviceType::cpu && seconds_of(loop, rounds_) < 5e-3) rounds_ *= 2;
  const Stopwatch watch;
  do sample();
  while (watch.seconds() < 0.2);
}

void Peak::sample() {
  if (device_.type != DeviceType::cpu) return samples_.push_back(product_rate(device_));
  const Loop loop = widest_loop();
  samples_.push_back(loop.flop * static_cast<double>(rounds_) * threads() / seconds_of(loop, rounds_));
}

double Peak::rate() const { return std::ranges::max(samples_); }

std::string Peak::text() const {
  char text[128];
  const bool cpu = device_.type == DeviceType::cpu;
  std::snprintf(text, sizeof text, "%s %.0f GFLOP/s f32 (the best of %zu samples; median %.0f)",
                cpu ? "peak" : "in place of the peak, a large product:", rate() / 1e9, samples_.size(), Times{samples_}.median() / 1e9);
  return text;
}

Json Peak::json() const {
  const Times t{samples_};
  return Json::object({{"gflops", rate() / 1e9},
                       {"median", t.median() / 1e9},
                       {"least", t.least() / 1e9},
                       {"samples", static_cast<int64_t>(samples_.size())}});
}

}  // namespace reid::program
