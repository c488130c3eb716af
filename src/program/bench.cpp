// reid bench: images a second of a whole training step, and of inference, on random images.

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "program/verb.h"
#include "reid/engine/optim.h"
#include "reid/learning/losses.h"
#include "reid/learning/settings.h"

namespace reid::program {
namespace {

struct Options {
  ModelSettings model;
  int64_t height = 256, width = 128, batch = 64, steps = 5, warmup = 2;
};

constexpr int64_t kCentroids = 1000;

void declare(Flags& f, Options& o) {
  f.option("--depth", o.model.depth, "ResNet depth");
  f.choice("--ibn", o.model.ibn, {"none", "a", "b"}, "instance-batch norm variant");
  f.option("--last-stride", o.model.last_stride, "stride of the fourth stage", Range::closed(1, 2));
  f.option("--channels", o.model.width, "channels of the first stage", Range::closed(2, 1024));
  f.option("--height", o.height, "rows of an image", Range::closed(16, 4096));
  f.option("--width", o.width, "columns of an image", Range::closed(16, 4096));
  f.option("--batch", o.batch, "images in a step", Range::at_least(2));
  f.option("--steps", o.steps, "steps measured", Range::at_least(1));
  f.option("--warmup", o.warmup, "steps before", Range::at_least(0));
}

Tensor random_normal(const Shape& shape, Rng rng) {
  Tensor t = Tensor::empty(shape, DType::f32);
  for (float& v : t.span<float>()) v = static_cast<float>(rng.normal());
  return t;
}

// Of the measured steps; what they asked of the system is of all of them together.
struct Measured {
  double median = 0, least = 0, most = 0;  // seconds
  int64_t allocations = 0, page_faults = 0;
};

int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

template <class F>
Measured measure(const Options& o, F&& step) {
  for (int64_t i = 0; i < o.warmup; ++i) step();
  const int64_t allocations = allocator_stats({}).system_allocations, faults = page_faults();
  std::vector<double> seconds;
  for (int64_t i = 0; i < o.steps; ++i) {
    const auto start = std::chrono::steady_clock::now();
    step();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const int64_t asked = allocator_stats({}).system_allocations - allocations, faulted = page_faults() - faults;
  std::ranges::sort(seconds);
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back(), asked, faulted};
}

Json report(const Context& context, const Options& o, const char* what, const Measured& s) {
  const double rate = static_cast<double>(o.batch) / s.median;
  char text[128];
  std::snprintf(text, sizeof text, "%-10s %8.2f images/s   %.3f s a step (%.3f to %.3f)", what, rate, s.median, s.least, s.most);
  context.say(text, "   ", s.allocations, " allocations, ", s.page_faults, " page faults");
  return Json::object({{"images_per_second", rate},
                       {"median_seconds", s.median},
                       {"least_seconds", s.least},
                       {"most_seconds", s.most},
                       {"allocations", s.allocations},
                       {"page_faults", s.page_faults}});
}

// Forward, softmax over 1,000 centroids, backward, Adam.
void run(const Context& context, const Options& o) {
  Encoder encoder(o.model.encoder(), DType::f32, Rng(1));
  ParameterStore store(encoder);
  Optimizer optimizer(store, {});
  const Tensor images = random_normal({o.batch, o.height, o.width, 3}, Rng(2));
  const Tensor centroids = ops::l2_normalize(random_normal({kCentroids, encoder.features()}, Rng(3))).y;
  BatchPeople people;
  for (int64_t i = 0; i < o.batch; ++i) people.labels.push_back(i % kCentroids);
  people.cameras.assign(static_cast<size_t>(o.batch), 0);
  people.single.assign(static_cast<size_t>(o.batch), 0);
  const auto train = [&] {
    Tape tape;
    const Var f = l2_normalize(encoder(Var(images), training_pass(tape)));
    const Var loss = centroid_loss(f, centroids, kCentroids, people, {.tau_multi = 0.05, .tau_single = 0.05});
    store.zero_grad();
    tape.backward(loss);
    optimizer.step(store, 3.5e-4);
  };
  const auto infer = [&] { encoder(Var(images), inference_pass()); };
  context.say(describe_cpu(), ", ", context.threads, " threads, ResNet-", o.model.depth, " IBN ", o.model.ibn, ", ", o.height, "x", o.width,
              ", batch ", o.batch, ", f32");
  const Json training = report(context, o, "training", measure(o, train));
  const Json inference = report(context, o, "inference", measure(o, infer));
  const int64_t peak = allocator_stats({}).peak_bytes;
  context.say("peak memory ", peak / (o.batch << 20), " MiB an image");
  context.write_json(Json::object({{"device", describe_cpu()},
                                   {"threads", static_cast<int64_t>(context.threads)},
                                   {"batch", o.batch},
                                   {"training", training},
                                   {"inference", inference},
                                   {"peak_bytes", peak}}));
}

}  // namespace

Verb bench_verb() {
  auto o = std::make_shared<Options>();
  return {"bench", "images a second of a training step and of inference", "reid bench --batch 64 --steps 5 --json speed.json",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
