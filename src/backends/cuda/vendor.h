#pragma once
// cuDNN and cuBLASLt as implementations of the registry's ops, behind the handwritten kernels: who asks for them by name (REID_IMPL) gets
// them. What each takes and promises: cudnn_conv.h, cublaslt.h.
//
// Design: the libraries are opened when the first op asks, never linked, so that one program runs with and without them. What a library
// offers for a problem (a plan) is chosen once and kept: by fixed rules the first acceptable offer or, with REID_VENDOR_TRY=N, the fastest
// of the first N that are acceptable, measured on the operands at hand. Then other runs may choose other offers, and other bits. An
// implementation refuses what the library has no acceptable plan for: the condition makes the plan, the run finds it. So plans exist before
// a step is captured; offers that would have to be tried while it is are an error, since nothing runs then.
//
// Offers are tried into memory of their own, for which inputs are only read: the op may add to its output, and the condition may be asked
// while earlier work of a replayed step, which uses the memory of the output for something else, is still to be queued. Where a caller only
// asks, with addresses that are not the device's, the answer is about the first acceptable offer.

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "reid/engine/registry.h"

namespace reid::cuda {

// What plans may do beyond the ops' definitions. Nothing by default.
struct VendorAllows {
  bool tf32 = false;               // round the factors of f32 products to 10 bits
  bool nondeterministic = false;   // other bits from call to call
  bool rounded_gradients = false;  // round the gradients of bf16 filters to bf16, as mixed precision elsewhere does
  bool loose_statistics = false;   // take variances from sums of squares in f32, perhaps of what was not rounded yet
};
// "tf32,nondeterministic,rounded-gradients,loose-statistics"; throws on other words.
VendorAllows parse_vendor_allows(std::string_view text);
VendorAllows vendor_allows();  // of the environment, REID_VENDOR_ALLOW, read once

// How many acceptable offers are tried.
inline constexpr int kMostTries = 64;
int parse_vendor_tries(std::string_view text);  // "1" to "64", "" is 1; throws on other words
int vendor_tries();                             // of the environment, REID_VENDOR_TRY, read once

// Seconds of the work that a call queues, by the clock of the stream's accelerator, with nothing in its caches: as reid bench takes them.
// Throws while a graph is captured on the stream.
double device_seconds(Stream& stream, FunctionRef<void()> work);

// Where a library computes. Tests let libraries of their own compute on the CPU.
struct VendorPlace {
  DeviceType type = DeviceType::cuda;
  cudaStream_t (*native)(Stream&) = nullptr;  // makes the stream's device the thread's, and returns its handle
  std::vector<std::string> files;             // of the library, the first that is there is taken
  VendorAllows allows = {};
  int tries = 1;
  std::function<double(Stream&, FunctionRef<void()>)> seconds = device_seconds;

  int tries_on(std::initializer_list<const void*> operands) const;  // 1 where they are not memory of this place
};

// Which of the offers 0 to count - 1 is the fastest by the least of three runs, the earlier one of equals. Each runs once before: what a
// library makes or loads then is not its time. What fails is left out; where all do, the first error is thrown. A single one is not run.
struct Choice {
  size_t offer = 0;
  std::string how;  // ", the fastest of 4 offers: 12.5 us", for the line about the plan; empty where nothing was tried
};
Choice fastest_offer(const VendorPlace& place, Stream& stream, size_t count, FunctionRef<void(size_t offer)> run);

struct PlanStatistics {
  int64_t made = 0, refused = 0;  // problems for which there is a plan, and for which there is none
  int64_t found = 0;              // calls that had been answered before
};

// Plans by everything they depend on. Safe from several threads; plans stay where they are.
template <class Plan>
class PlanCache {
 public:
  using Key = std::vector<int64_t>;
  // The plan of this key, made by make() where there is none yet. A plan says by `refusal` (not empty) that there is none to be had.
  template <class Make>
  const Plan& get(const Key& key, Make&& make) {
    const std::scoped_lock lock(mutex_);
    std::unique_ptr<Plan>& plan = plans_[key];
    if (plan) {
      ++statistics_.found;
      return *plan;
    }
    try {
      plan = std::make_unique<Plan>(make());
    } catch (...) {
      plans_.erase(key);
      throw;
    }
    ++(plan->refusal.empty() ? statistics_.made : statistics_.refused);
    return *plan;
  }
  PlanStatistics statistics() const {
    const std::scoped_lock lock(mutex_);
    return statistics_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  PlanStatistics statistics_;
};

// The alignment of an address that plans rely on: 16 bytes, or the largest power of two below that divides it. Null counts as aligned.
int64_t plan_alignment(const void* address);

// Calls and passes on what the call gives; errors get the op's name and its arguments.
template <class Op, class Call>
auto naming_op(const typename Op::Args& args, Call&& call) {
  try {
    return call();
  } catch (const OutOfMemory&) {
    throw;  // it says more than its message
  } catch (const Error& e) {
    fail(str("[", Op::name, "] ", e.what(), ", for ", problem_line(args)));
  }
}

// Adds what this build has of the two libraries to the lists of DeviceType::cuda.
void register_vendor(cudaStream_t (*native)(Stream&));

}  // namespace reid::cuda
