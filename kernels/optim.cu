// Optimizer steps and the moving average over flat parameter buffers. The equations stand beside the arguments in op_args_rows.h.
//
// Layout: weights, gradients and moments as one array each; segments of it share settings. The list of segments is read by the launcher, so
// it lies in the host's memory. Map: neighboring segments with equal settings become one run, so that a network needs a few runs only; the
// table of runs travels in the
//      kernel's arguments, kMostRuns to a launch. A block works on 1024 neighboring elements of one run, four to a thread.
// Bytes an element: sgd 12 read, 8 written; adam 16 and 12; moving average 8 and 4. Floors on H200 (4.3 TB/s): 4.7, 6.5 and 2.8 ps; for the
//      24 million of a ResNet-50: 0.11, 0.16 and 0.07 ms. What a step makes behind its update costs what it writes (average 4, rounded
//      copies 2 each, cleared gradient 4) and the old average's 4: adam with all of it 44, 0.24 ms, instead of 64 in five passes, 0.36 ms.
//      No version was measured yet.
// In place by nature: a thread touches its own elements only.

#include <cmath>
#include <vector>

#include "kernels.h"
#include "prims.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int kEach = 4;  // elements of a thread, kThreads apart: neighbors read neighboring floats
constexpr int kMostRuns = 80;

// What differs between segments, ready for the kernel.
struct Settings {
  float lr, decay, factor1, factor2;  // adam: lr / correction1, 1 / correction2
  bool moves;                         // else only what stands behind a step is written
  bool operator==(const Settings&) const = default;
};
struct Run {
  int64_t begin, end;
  Settings settings;
  unsigned first_block;
};
struct Runs {
  Run run[kMostRuns];
  int count;
};
// The run that this block belongs to.
template <class Runs>
__device__ auto& own_run(const Runs& runs) {
  int low = 0, high = runs.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (runs.run[middle].first_block <= blockIdx.x) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return runs.run[low];
}

// What a block of add_pairs works on: see AddPair.
struct PairRuns {
  struct Run {
    float* to;
    const float* from;
    int64_t count;
    unsigned first_block;
  } run[AddPairsArgs::kMost];
  int count;
};

// See StepBehind.
struct Behind {
  const float* w;
  float *average, *g;  // g: to clear, or null
  bf16 *rounded, *average_rounded;
  float momentum, rest;  // rest = 1 - momentum, rounded once
  __device__ void at(int64_t i) const {
    const float weight = w[i];
    if (rounded) rounded[i] = to_bf16(weight);
    if (average) {
      const float moved = momentum * average[i] + rest * weight;
      average[i] = moved;
      if (average_rounded) average_rounded[i] = to_bf16(moved);
    }
    if (g) g[i] = 0;
  }
};

template <class Update>
__global__ void update_kernel(Runs runs, Update update, Behind behind) {
  after_predecessors();
  const Run& run = own_run(runs);
  const int64_t begin = run.begin + int64_t{blockIdx.x - run.first_block} * kThreads * kEach + threadIdx.x;
  for (int64_t i = begin; i < run.end && i < begin + kThreads * kEach; i += kThreads) {
    if (run.settings.moves) update.at(i, run.settings);
    behind.at(i);
  }
}

struct Sgd {
  float* w;
  const float* g;
  float* v;
  float momentum;
  bool nesterov;
  __device__ void at(int64_t i, const Settings& s) const {
    const float gradient = g[i] + s.decay * w[i];
    const float velocity = momentum * v[i] + gradient;
    v[i] = velocity;
    w[i] -= s.lr * (nesterov ? gradient + momentum * velocity : velocity);
  }
};

struct Adam {
  float* w;
  const float* g;
  float* m;
  float* v;
  float beta1, rest1, beta2, rest2, eps;  // rest = 1 - beta, rounded once
  bool decoupled;
  __device__ void at(int64_t i, const Settings& s) const {
    float weight = w[i], gradient = g[i];
    if (decoupled) {
      weight -= s.lr * s.decay * weight;
    } else {
      gradient += s.decay * weight;
    }
    const float first = beta1 * m[i] + rest1 * gradient, second = beta2 * v[i] + rest2 * gradient * gradient;
    m[i] = first, v[i] = second;
    w[i] = weight - s.factor1 * first / (sqrtf(second) * s.factor2 + eps);
  }
};

// Hands the segments that are to be written to the kernel in as few runs and launches as their settings allow.
template <class Args, class Update, class SettingsOf>
void run_update(const Args& a, const Update& update, Stream& stream, SettingsOf&& settings_of) {
  std::vector<Run> runs;
  for (int64_t i = 0; i < a.segment_count; ++i) {
    const Segment& s = a.segments[i];
    if ((!s.trainable && !a.behind.any()) || s.count == 0) continue;
    const Settings settings = s.trainable ? settings_of(s) : Settings{};
    if (!runs.empty() && runs.back().end == s.offset && runs.back().settings == settings) {
      runs.back().end += s.count;
    } else {
      runs.push_back({s.offset, s.offset + s.count, settings, 0});
    }
  }
  const StepBehind& b = a.behind;
  const Behind behind{in<float>(a.w),
                      out<float>(b.average),
                      b.clear ? out<float>(a.g) : nullptr,
                      out<bf16>(b.rounded),
                      out<bf16>(b.average_rounded),
                      static_cast<float>(b.momentum),
                      static_cast<float>(1 - b.momentum)};
  for (size_t first = 0; first < runs.size(); first += kMostRuns) {
    Runs table{};
    int64_t blocks = 0;
    for (size_t i = first; i < runs.size() && i < first + kMostRuns; ++i) {
      Run& run = table.run[table.count++] = runs[i];
      run.first_block = static_cast<unsigned>(blocks);
      blocks += ceil_div(run.end - run.begin, kThreads * kEach);
    }
    launch(update_kernel<Update>, blocks_for(blocks, 1), kThreads, 0, stream, table, update, behind);
  }
}

void sgd(const SgdArgs& a, Stream& stream) {
  const Sgd update{out<float>(a.w), in<float>(a.g), out<float>(a.v), static_cast<float>(a.momentum), a.nesterov};
  run_update(a, update, stream, [&](const Segment& s) {
    return Settings{static_cast<float>(a.lr * s.lr_factor), static_cast<float>(a.decay * s.decay_factor), 0, 0, true};
  });
}

void adam(const AdamArgs& a, Stream& stream) {
  const Adam update{out<float>(a.w),
                    in<float>(a.g),
                    out<float>(a.m),
                    out<float>(a.v),
                    static_cast<float>(a.beta1),
                    static_cast<float>(1 - a.beta1),
                    static_cast<float>(a.beta2),
                    static_cast<float>(1 - a.beta2),
                    static_cast<float>(a.eps),
                    a.decoupled};
  run_update(a, update, stream, [&](const Segment& s) {
    const double step = static_cast<double>(s.step), lr = a.lr * s.lr_factor;
    return Settings{static_cast<float>(lr), static_cast<float>(a.decay * s.decay_factor),
                    static_cast<float>(lr / (1 - std::pow(a.beta1, step))), static_cast<float>(1 / std::sqrt(1 - std::pow(a.beta2, step))),
                    true};
  });
}

__global__ void add_pairs_kernel(PairRuns runs) {
  after_predecessors();
  const auto& run = own_run(runs);
  const int64_t begin = int64_t{blockIdx.x - run.first_block} * kThreads * kEach + threadIdx.x;
  for (int64_t i = begin; i < run.count && i < begin + kThreads * kEach; i += kThreads) run.to[i] += run.from[i];
}

void add_pairs(const AddPairsArgs& a, Stream& stream) {
  PairRuns table{};
  int64_t blocks = 0;
  for (int i = 0; i < a.number; ++i) {
    const AddPair& pair = a.pairs[i];
    if (pair.count == 0) continue;
    table.run[table.count++] = {out<float>(pair.to), in<float>(pair.from), pair.count, static_cast<unsigned>(blocks)};
    blocks += ceil_div(pair.count, kThreads * kEach);
  }
  if (blocks > 0) launch(add_pairs_kernel, blocks_for(blocks, 1), kThreads, 0, stream, table);
}

__global__ void ema_kernel(float* average, const float* w, float momentum, float rest, int64_t count) {
  after_predecessors();
  const int64_t begin = int64_t{blockIdx.x} * kThreads * kEach + threadIdx.x;
  for (int64_t i = begin; i < count && i < begin + kThreads * kEach; i += kThreads) average[i] = momentum * average[i] + rest * w[i];
}

void ema(const EmaArgs& a, Stream& stream) {
  if (a.count == 0) return;
  launch(ema_kernel, blocks_for(a.count, kThreads * kEach), kThreads, 0, stream, out<float>(a.average), in<float>(a.w),
         static_cast<float>(a.momentum), static_cast<float>(1 - a.momentum), a.count);
}

}  // namespace

void register_optim() {
  add<SgdStep>(
      REID_KERNEL_NAME("runs"), [](const SgdArgs& a) { return refuse_other_than_f32(a.dtype); }, sgd);
  add<AdamStep>(
      REID_KERNEL_NAME("runs"), [](const AdamArgs& a) { return refuse_other_than_f32(a.dtype); }, adam);
  add<AddPairs>(
      REID_KERNEL_NAME("runs"), [](const AddPairsArgs& a) { return refuse_other_than_f32(a.dtype); }, add_pairs);
  add<EmaUpdate>(
      REID_KERNEL_NAME("flat"), [](const EmaArgs& a) { return refuse_other_than_f32(a.dtype); }, ema);
}

}  // namespace reid::REID_TARGET
