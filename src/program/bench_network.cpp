// Images a second of a whole training step and of inference, on random images, and their share of the machine's peak.

#include <sys/resource.h>

#include <cstdio>
#include <utility>

#include "program/bench.h"
#include "reid/engine/optim.h"
#include "reid/engine/replay.h"
#include "reid/engine/weight_cache.h"
#include "reid/learning/losses.h"

namespace reid::program {
namespace {

constexpr int64_t kCentroids = 1000;

// What the system has done for this process so far.
struct Usage {
  int64_t page_faults;
  double processor_seconds;  // of all threads
};
Usage usage_now() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return {usage.ru_minflt + usage.ru_majflt, seconds(usage.ru_utime) + seconds(usage.ru_stime)};
}

// Times of a step, and what all the measured steps together asked of the system.
struct Measured {
  Times times;
  int64_t allocations, page_faults;
  double processors;  // that the host kept busy, on average
};

template <class Step>
Measured measure_counting(const BenchOptions& o, Step&& step) {
  for (int64_t i = 0; i < o.warmup; ++i) step();
  const int64_t allocations = allocator_stats(o.device).system_allocations;
  const Usage before = usage_now();
  const Stopwatch all;
  const Times times = measure_following(o, step);
  const double wall = all.seconds();
  const Usage after = usage_now();
  return {times, allocator_stats(o.device).system_allocations - allocations, after.page_faults - before.page_faults,
          (after.processor_seconds - before.processor_seconds) / wall};
}

Json report(const Context& context, const char* what, int64_t images, double flop, const Measured& m, const Peak& peak) {
  const double median = m.times.median(), rate = static_cast<double>(images) / median, share = flop / median / peak.rate();
  char text[160];
  std::snprintf(text, sizeof text, "%-10s %8.2f images/s  %3.0f %% of the peak  %.4f s (%.4f to %.4f)", what, rate, 100 * share, median,
                m.times.least(), m.times.most());
  char processors[40];
  std::snprintf(processors, sizeof processors, "%.1f processors", m.processors);
  context.say(text, "  ", processors, ", ", m.allocations, " allocations, ", m.page_faults, " page faults");
  return Json::object({{"images", images},
                       {"images_per_second", rate},
                       {"share_of_peak", share},
                       {"gflop", flop / 1e9},
                       {"times", m.times.json()},
                       {"processors", m.processors},
                       {"allocations", m.allocations},
                       {"page_faults", m.page_faults}});
}

int64_t peak_memory(Device device) {
  const AllocatorStats memory = allocator_stats(device);
  return device.type == DeviceType::cpu ? memory.peak_bytes : memory.peak_device_bytes;
}

std::string in_words(double first_step) {
  char text[48];
  std::snprintf(text, sizeof text, "the first step was done after %.2f s", first_step);
  return text;
}

// Of the convolutions, forward and in a whole step; norms, pooling and the optimizer are under a percent.
std::pair<double, double> flop_of(const BenchOptions& o) {
  double forward = 0, all = 0;
  for (const ConvLayer& layer : conv_layers(o)) {
    forward += layer.flop() * static_cast<double>(layer.count);
    all += layer.flop() * static_cast<double>(layer.count * layer.passes());
  }
  return {forward, all};
}

BatchPeople people_of(int64_t batch) {
  BatchPeople people;
  for (int64_t i = 0; i < batch; ++i) people.labels.push_back(i % kCentroids);
  people.cameras.assign(static_cast<size_t>(batch), 0);
  people.single.assign(static_cast<size_t>(batch), 0);
  return people;
}

}  // namespace

std::vector<std::string> network_dtypes() { return {"f32", "bf16"}; }

// Training: forward, softmax over 1,000 centroids, backward, Adam.
Json bench_network(const Context& context, const BenchOptions& o) {
  const Stopwatch since_start;
  EncoderConfig config = o.model.encoder();
  config.precision = o.dtype;
  Encoder encoder(config, DType::f32, Rng(1));
  move_to(o.device, inventory(encoder));
  ParameterStore store(encoder, o.dtype == "bf16");
  Optimizer optimizer(store, {});
  const Tensor images = random_normal({o.batch, o.height, o.width, 3}, Rng(2)).to(o.device), one = images.rows(0, 1);
  const Tensor centroids = ops::l2_normalize(random_normal({kCentroids, encoder.features()}, Rng(3)).to(o.device)).y;
  const BatchPeople people = people_of(o.batch);
  const auto step = [&] {
    Tape tape;
    const Var f = l2_normalize(encoder(Var(images), o.model.training(&tape)));
    const Var loss = centroid_loss(f, centroids, kCentroids, people, {.tau_multi = 0.05, .tau_single = 0.05});
    tape.backward(loss);
    optimizer.step(store, 3.5e-4, {.clear_gradients = true});
  };

  Replay replay(o.device);
  const auto [forward, all] = flop_of(o);
  context.say("ResNet-", o.model.depth, " IBN ", o.model.ibn, ", ", o.height, "x", o.width, ", last stride ", o.model.last_stride,
              ", batch ", o.batch, ", ", o.dtype, ", ", o.model.numerics, " numerics");
  const auto train = [&] { replay.run(step); };
  train();
  current_stream(o.device).synchronize();
  const double first_step = since_start.seconds();
  Peak peak(o.device, dtype_named(o.dtype));
  const Measured training = measure_counting(o, train);
  const Replay::Counts& steps = replay.counts();
  if (o.device.type != DeviceType::cpu)
    context.say(steps.replayed, " steps were replayed, as ", steps.graphs, " graphs each", replay.reason().empty() ? "" : ": ",
                replay.reason());
  peak.follow();
  WeightCache cache;
  Pass embedding = o.model.inference();
  embedding.cache = &cache;
  const auto embed = [&](const Tensor& x) { l2_normalize(encoder(Var(x), embedding)); };
  const Measured inference = measure_counting(o, [&] { embed(images); });
  peak.follow();
  const Measured single = measure_counting(o, [&] { embed(one); });
  peak.follow();
  const Json training_json = report(context, "training", o.batch, all, training, peak);
  const Json inference_json = report(context, "inference", o.batch, forward, inference, peak);
  const Json single_json = report(context, "one image", 1, forward / static_cast<double>(o.batch), single, peak);
  const int64_t bytes = peak_memory(o.device);
  context.say(peak.text().front(), "; memory ", bytes / (o.batch << 20), " MiB an image; ", in_words(first_step));
  return Json::object({{"dtype", o.dtype},
                       {"numerics", o.model.numerics},
                       {"batch", o.batch},
                       {"first_step_seconds", first_step},
                       {"replayed_steps", steps.replayed},
                       {"graphs", steps.graphs},
                       {"not_replayed", replay.reason()},
                       {"training", training_json},
                       {"inference", inference_json},
                       {"single", single_json},
                       {"peak", peak.json()},
                       {"peak_bytes", bytes}});
}

}  // namespace reid::program
