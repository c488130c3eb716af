#include "vendor.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <limits>

#ifdef REID_CUDNN_FILES
#include "cudnn_conv.h"
#endif
#ifdef REID_CUBLASLT_FILES
#include "cublaslt.h"
#endif

namespace reid::cuda {

VendorAllows parse_vendor_allows(std::string_view text) {
  VendorAllows allows;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(word.size() == text.size() ? word.size() : word.size() + 1);
    bool* known = word == "tf32"                ? &allows.tf32
                  : word == "nondeterministic"  ? &allows.nondeterministic
                  : word == "rounded-gradients" ? &allows.rounded_gradients
                  : word == "loose-statistics"  ? &allows.loose_statistics
                                                : nullptr;
    REID_CHECK(known, "REID_VENDOR_ALLOW: '", word, "' is not tf32, nondeterministic, rounded-gradients or loose-statistics");
    *known = true;
  }
  return allows;
}

VendorAllows vendor_allows() {
  static const VendorAllows allows = [] {
    const char* text = std::getenv("REID_VENDOR_ALLOW");
    return parse_vendor_allows(text ? text : "");
  }();
  return allows;
}

int parse_vendor_tries(std::string_view text) {
  int tries = text.empty() ? 1 : 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), tries);
  REID_CHECK(text.empty() || (error == std::errc{} && end == text.data() + text.size() && tries >= 1 && tries <= kMostTries),
             "REID_VENDOR_TRY: '", text, "' is not a whole number from 1 to ", kMostTries);
  return tries;
}

int vendor_tries() {
  static const int tries = [] {
    const char* text = std::getenv("REID_VENDOR_TRY");
    return parse_vendor_tries(text ? text : "");
  }();
  return tries;
}

int VendorPlace::tries_on(std::initializer_list<const void*> operands) const {
  const auto here = [&](const void* p) { return p && device_of(p).type == type; };
  return std::all_of(operands.begin(), operands.end(), here) ? tries : 1;
}

namespace {

// Two events around work.
class Events {
 public:
  explicit Events(Stream& stream) : stream_(stream), device_(accelerator(stream.device())) {
    for (void*& event : events_) event = device_.open_event(stream.device().index, true);
  }
  // Behind an error work may still be queued that marks the events; where the device itself has failed, nothing can be closed.
  ~Events() {
    try {
      stream_.synchronize();
      for (void* event : events_) device_.close_event(event);
    } catch (const Error&) {
    }
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  void begin() { device_.record(events_[0], stream_.native()); }
  double end() {
    device_.record(events_[1], stream_.native());
    device_.synchronize_event(events_[1]);
    return device_.seconds_between(events_[0], events_[1]);
  }

 private:
  Stream& stream_;
  Accelerator& device_;
  std::array<void*, 2> events_ = {};
};

}  // namespace

// Filling memory takes a GPU a tenth of a millisecond: the work is queued by then, and no launch is waited for.
double device_seconds(Stream& stream, FunctionRef<void()> work) {
  const Device device = stream.device();
  REID_CHECK(!accelerator(device).capturing(stream.native()),
             "REID_VENDOR_TRY: an offer cannot be timed while a graph is captured: run the op once before");
  const Storage filled(int64_t{device.type == DeviceType::cuda ? 512 : 1} << 20, device, Storage::Use::workspace);
  Events events(stream);
  accelerator(device).fill(filled.data(), 0, static_cast<size_t>(filled.bytes()), stream.native());
  events.begin();
  work();
  return events.end();
}

Choice fastest_offer(const VendorPlace& place, Stream& stream, size_t count, FunctionRef<void(size_t)> run) {
  constexpr int kRuns = 3;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  if (count == 1) return {};
  Choice choice;
  double best = kNever;
  size_t failed = 0;
  std::exception_ptr first_error;
  std::string words;  // of that error
  for (size_t i = 0; i < count; ++i) {
    try {
      double least = kNever;
      for (int r = 0; r <= kRuns; ++r) {
        const double seconds = place.seconds(stream, [&] { run(i); });
        if (r > 0) least = std::min(least, seconds);
      }
      if (least < best) best = least, choice.offer = i;
    } catch (const Error& e) {
      if (failed++ == 0) first_error = std::current_exception(), words = e.what();
    }
    release_cached_memory(stream.device());  // the offer's blocks, of sizes that nothing else may ask for
  }
  if (failed == count) std::rethrow_exception(first_error);
  choice.how =
      str(", the fastest of ", count, " offers: ", 1e6 * best, " us", failed > 0 ? str(" (", failed, " failed, first: ", words, ")") : "");
  return choice;
}

int64_t plan_alignment(const void* address) {
  const auto bits = reinterpret_cast<uintptr_t>(address) | 16;
  return static_cast<int64_t>(bits & (~bits + 1));
}

void register_vendor([[maybe_unused]] cudaStream_t (*native)(Stream&)) {
#ifdef REID_CUDNN_FILES
  register_cudnn("cudnn", {DeviceType::cuda, native, {REID_CUDNN_FILES}, vendor_allows(), vendor_tries()});
#endif
#ifdef REID_CUBLASLT_FILES
  register_cublaslt("cublaslt", {DeviceType::cuda, native, {REID_CUBLASLT_FILES}, vendor_allows(), vendor_tries()});
#endif
}

}  // namespace reid::cuda
