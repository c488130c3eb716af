#pragma once
// What the measurements of reid bench share: options, times, the machine's peak, the list of convolutions.
//
// Design: each measurement is a function from options to Json that says its table as it goes. Times are those of whole calls, on the CPU on
// warm memory, on an accelerator by its own clock and with nothing in its caches; rates are of the median, and shares are of the best
// ceilings seen between the calls, so that both had the same machine.

#include <array>
#include <chrono>
#include <string>
#include <vector>

#include "program/verb.h"
#include "reid/engine/nn.h"
#include "reid/engine/registry.h"
#include "reid/learning/settings.h"

namespace reid::program {

struct BenchOptions {
  std::string what = "network", dtype = "f32", implementation, images, scale = "small";
  std::vector<std::string> sizes;
  ModelSettings model;
  int64_t height = 256, width = 128, batch = 32, steps = 5, warmup = 2;
  double patience = 10;  // seconds after which a measurement has calls enough; one at least
  Device device;
};

// Seconds of calls, in their order.
struct Times {
  std::vector<double> seconds;
  double median() const;
  double least() const;
  double most() const;
  Json json() const;
};

// What an accelerator finds in its caches when a call begins.
enum class Caches : uint8_t { cleared, as_left };

// Seconds of a call: on the CPU of the call itself, on an accelerator of its work, by two events of the device around it.
class CallClock {
 public:
  explicit CallClock(Device device);
  ~CallClock();
  CallClock(const CallClock&) = delete;
  CallClock& operator=(const CallClock&) = delete;
  void start(Caches caches);  // clearing them keeps the device busy for as long as a host needs to queue an op: no launch is waited for
  double stop();              // waits for the work

 private:
  Device device_;
  Stopwatch watch_;
  void *begin_ = nullptr, *end_ = nullptr;  // events
};

template <class Call>
Times measure(const BenchOptions& o, Call&& call, Caches caches = Caches::cleared) {
  CallClock clock(o.device);
  const Stopwatch all;
  for (int64_t i = 0; i < o.warmup && (i == 0 || all.seconds() < o.patience); ++i) {
    call();
    current_stream(o.device).synchronize();
  }
  Times times;
  do {
    clock.start(caches);
    call();
    times.seconds.push_back(clock.stop());
  } while (static_cast<int64_t>(times.seconds.size()) < o.steps && all.seconds() < o.patience);
  return times;
}

// Seconds from a step's end to the next one's, where steps follow one another without a pause. On an accelerator the host queues a step
// while the device is at the one before, as in training, and no further ahead.
class StepClock {
 public:
  explicit StepClock(Device device);
  ~StepClock();
  StepClock(const StepClock&) = delete;
  StepClock& operator=(const StepClock&) = delete;
  void lap();      // behind a step; the first one begins the first step
  Times finish();  // waits for the last

 private:
  void wait_for(size_t lap);
  Device device_;
  Stopwatch watch_;
  std::array<void*, 3> events_ = {};
  size_t laps_ = 0;
  Times times_;
};

template <class Step>
Times measure_following(const BenchOptions& o, Step&& step) {
  StepClock clock(o.device);
  const Stopwatch all;
  clock.lap();
  int64_t steps = 0;
  do {
    step();
    clock.lap();
  } while (++steps < o.steps && all.seconds() < o.patience);
  return clock.finish();
}

// What no kernel can exceed, measured here:
//   rate        of the CPU f32 multiply-adds in registers, on all threads, in the widest vectors; of an accelerator products that stay in
//               registers or shared memory, in f32 or by its tensor cores in bf16 (RepeatedProduct), by the fastest of its implementations
//   bandwidth   a copy of far more than caches hold, bytes read and bytes written
class Peak {
 public:
  explicit Peak(Device device, DType dtype = DType::f32);  // samples of a fifth of a second
  void sample();                                           // another: some milliseconds
  // Between rows of a table: another sample on the CPU, whose clock changes with the work. An accelerator's ceilings stay as they are, so
  // that all rows stand beside the same.
  void follow();
  double rate() const;       // flop/s, the best sample: neighbors only take away
  double bandwidth() const;  // bytes/s, the best sample; measured when it is first asked for
  // Seconds that so much work takes at least: all bytes at that bandwidth, all flop at that rate, whichever is longer.
  double floor(double bytes, double flop) const;
  // How much of what is possible was reached: on the CPU of the rate alone, whose kernels' arithmetic is other than what is counted; on an
  // accelerator of the floor.
  double share(double bytes, double flop, double seconds) const;
  const char* whole() const { return device_.type == DeviceType::cpu ? "peak" : "floor"; }  // what that is a share of
  // To a row of a table: "floor" in seconds and "share_of_floor" on an accelerator, nothing on the CPU.
  void add_floor(Json& row, double bytes, double flop, double seconds) const;
  std::vector<std::string> text() const;  // a line each for the rate and, where it was measured, the bandwidth
  Json json() const;                      // with the bandwidth where it was measured

 private:
  Device device_;
  DType dtype_;
  int64_t rounds_;
  std::vector<double> samples_;
  const char* fastest_ = "";  // the implementation of an accelerator's best sample
  mutable std::vector<double> bandwidths_;
};

// Bytes that an op must move at least: each input read once and each output written once. What an output is read for before it is written
// (weights that are updated) is not known here.
template <class Args>
double traffic(const Args& args) {
  struct Count final : Visitor {
    double bytes = 0;
    void add(const void* data, const Shape& shape, DType dtype) {
      if (data) bytes += static_cast<double>(shape.numel() * size_of(dtype));
    }
    void input(const char*, const void* data, const Shape& shape, DType dtype) override { add(data, shape, dtype); }
    void output(const char*, void* data, const Shape& shape, DType dtype) override { add(data, shape, dtype); }
    void attribute(const char*, double) override {}
  } count;
  args.describe(count);
  return count.bytes;
}

// An implementation's calls: timed, or the reason why it was not.
struct Cell {
  std::string implementation, refused;
  Times times;
  double bytes = 0;  // traffic
};

std::vector<std::string>& failures();  // of implementations: reid bench ends with them, behind what it could measure

template <class Op>
Cell time_implementation(const BenchOptions& o, const Impl<Op>& impl, const typename Op::Args& args) {
  try {
    if (const char* reason = impl.refuses ? impl.refuses(args) : nullptr) return {impl.name, reason, {}};
    return {impl.name, "", measure(o, [&] { impl.run(args, current_stream(o.device)); }), traffic(args)};
  } catch (const Error& error) {  // of a library's engine, say: the other rows are worth having
    failures().push_back(str(impl.name, ": ", error.what()));
    return {impl.name, str("failed: ", error.what()), {}};
  }
}

// The implementation that --impl names, else the one that the registry prefers.
template <class Op>
Cell time_op(const BenchOptions& o, const typename Op::Args& args) {
  if (o.implementation.empty()) return time_implementation<Op>(o, Registry::pick<Op>(o.device.type, args), args);
  for (const Impl<Op>& impl : Registry::implementations<Op>(o.device.type)) {
    if (o.implementation == impl.name) return time_implementation<Op>(o, impl, args);
  }
  return {o.implementation, "not there", {}};
}

// A convolution of the network, and how many there are of its shape.
struct ConvLayer {
  std::string name;  // of the first: "layer1.0.conv1"
  int64_t count;
  bool first;  // reads the image, which wants no gradient
  ConvShape shape;
  double flop() const;                              // of each of forward, data and weight gradient
  std::string kind() const;                         // "3x3/2": kernel and stride
  int64_t passes() const { return first ? 2 : 3; }  // of a training step
};
std::vector<ConvLayer> conv_layers(const BenchOptions& o);

// Normal numbers that repeat after 65537: drawing a whole batch of maps would take longer than convolving it.
Tensor random_normal(const Shape& shape, Rng rng, DType dtype = DType::f32, Device device = {});
DType dtype_named(const std::string& name);
using MatrixSize = std::array<int64_t, 3>;              // m, n, k
MatrixSize parse_size(const std::string& m_by_n_by_k);  // throws UsageError

// In which dtypes each measurement exists: there is an implementation besides the reference.
std::vector<std::string> network_dtypes();
std::vector<std::string> conv_dtypes();
std::vector<std::string> gemm_dtypes();

Json bench_network(const Context& context, const BenchOptions& o);
Json bench_layers(const Context& context, const BenchOptions& o);
Json bench_gemm(const Context& context, const BenchOptions& o);
Json bench_ops(const Context& context, const BenchOptions& o);      // what passes over memory: norms, pools, losses, optimizers
Json bench_kernels(const Context& context, const BenchOptions& o);  // those, products and convolutions, by every implementation there is
Json bench_loader(const Context& context, const BenchOptions& o);
std::vector<std::string> search_scales();  // what --scale takes
Json bench_search(const Context& context, const BenchOptions& o);

}  // namespace reid::program
