#pragma once
// What the measurements of reid bench share: options, times, the machine's peak, the list of convolutions.
//
// Design: each measurement is a function from options to Json that says its table as it goes. Times are those of whole calls on warm
// memory; rates are of the median, and shares are of the best peak seen between the calls, so that both had the same machine.

#include <chrono>
#include <string>
#include <vector>

#include "program/verb.h"
#include "reid/engine/nn.h"
#include "reid/learning/settings.h"

namespace reid::program {

struct BenchOptions {
  std::string what = "network", dtype = "f32", implementation, images;
  std::vector<std::string> sizes;
  ModelSettings model;
  int64_t height = 256, width = 128, batch = 32, steps = 5, warmup = 2;
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

// Waits for an accelerator, and leaves nothing of use in its caches.
void settle(Device device);

// On an accelerator a time is that of the call and of all its work, with the host's part: some microseconds.
template <class Call>
Times measure(const BenchOptions& o, Call&& call) {
  for (int64_t i = 0; i < o.warmup; ++i) call();
  Times times;
  for (int64_t i = 0; i < o.steps; ++i) {
    settle(o.device);
    const Stopwatch watch;
    call();
    current_stream(o.device).synchronize();
    times.seconds.push_back(watch.seconds());
  }
  return times;
}

// The rate of f32 multiply-adds in registers, on all threads, in the widest vectors of this machine: what no kernel can exceed. Of an
// accelerator only the rate of our product of large f32 matrices, until its true peak is measured.
class Peak {
 public:
  explicit Peak(Device device);  // samples of a fifth of a second
  void sample();                 // another: some milliseconds
  double rate() const;           // flop/s, the best sample: neighbors only take away
  std::string text() const;
  Json json() const;

 private:
  Device device_;
  int64_t rounds_;
  std::vector<double> samples_;
};

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
Tensor random_normal(const Shape& shape, Rng rng, DType dtype = DType::f32);
DType dtype_named(const std::string& name);

// In which dtypes each measurement exists: there is an implementation besides the reference.
std::vector<std::string> network_dtypes();
std::vector<std::string> conv_dtypes();
std::vector<std::string> gemm_dtypes();

Json bench_network(const Context& context, const BenchOptions& o);
Json bench_layers(const Context& context, const BenchOptions& o);
Json bench_gemm(const Context& context, const BenchOptions& o);
Json bench_loader(const Context& context, const BenchOptions& o);

}  // namespace reid::program
