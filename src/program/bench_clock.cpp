// How reid bench takes time, and what it computes on.

#include "program/bench.h"

#include <algorithm>

namespace reid::program {

double Times::median() const {
  std::vector<double> sorted = seconds;
  std::ranges::sort(sorted);
  return (sorted[sorted.size() / 2] + sorted[(sorted.size() - 1) / 2]) / 2;
}
double Times::least() const { return std::ranges::min(seconds); }
double Times::most() const { return std::ranges::max(seconds); }

Json Times::json() const {
  Json all = Json::array();
  for (const double s : seconds) all.push_back(s);
  return Json::object({{"median", median()}, {"least", least()}, {"most", most()}, {"seconds", all}});
}

// Where the tensor is going to be, so that no host writes gigabytes: what there is of it is copied behind itself until it is full.
Tensor random_normal(const Shape& shape, Rng rng, DType dtype, Device device) {
  constexpr int64_t kPeriod = 65537;  // a prime: rows and channels see different runs of it
  const int64_t count = shape.numel(), drawn = std::min(count, kPeriod);
  Tensor period = Tensor::empty({drawn}, DType::f32);
  for (float& value : period.span<float>()) value = static_cast<float>(rng.normal());
  const Tensor flat = Tensor::empty({count}, dtype, device);
  flat.rows(0, drawn).copy_from(period.to(dtype));
  for (int64_t full = drawn; full < count; full *= 2) {
    const int64_t more = std::min(full, count - full);
    flat.rows(full, full + more).copy_from(flat.rows(0, more));
  }
  return flat.reshape(shape);
}

CallClock::CallClock(Device device) : device_(device) {
  if (device.type == DeviceType::cpu) return;
  begin_ = accelerator(device).open_event(device.index, true);
  end_ = accelerator(device).open_event(device.index, true);
}
namespace {

// Behind an error work may still be queued that marks them.
void close_events(Device device, std::span<void* const> events) {
  if (device.type == DeviceType::cpu) return;
  try {
    current_stream(device).synchronize();
  } catch (const Error&) {  // of that work, which has reached the caller
  }
  for (void* event : events) accelerator(device).close_event(event);
}

}  // namespace

CallClock::~CallClock() { close_events(device_, std::array{begin_, end_}); }

void CallClock::start(Caches caches) {
  if (begin_) {
    // Several times the largest second-level cache; filling it takes a GPU a tenth of a millisecond.
    const int64_t bytes = int64_t{device_.type == DeviceType::cuda ? 512 : 1} << 20;
    if (caches == Caches::cleared) Tensor::zeros({bytes}, DType::u8, device_);
    accelerator(device_).record(begin_, current_stream(device_).native());
  }
  watch_ = {};
}

double CallClock::stop() {
  if (!begin_) return watch_.seconds();
  Accelerator& a = accelerator(device_);
  a.record(end_, current_stream(device_).native());
  a.synchronize_event(end_);
  return a.seconds_between(begin_, end_);
}

StepClock::StepClock(Device device) : device_(device) {
  if (device.type == DeviceType::cpu) return;
  for (void*& event : events_) event = accelerator(device).open_event(device.index, true);
}
StepClock::~StepClock() { close_events(device_, events_); }

// A time is that between a lap's event and the one before; the third event is recorded meanwhile.
void StepClock::wait_for(size_t lap) {
  Accelerator& a = accelerator(device_);
  a.synchronize_event(events_[lap % 3]);
  if (lap > 0) times_.seconds.push_back(a.seconds_between(events_[(lap - 1) % 3], events_[lap % 3]));
}

void StepClock::lap() {
  if (device_.type == DeviceType::cpu) {
    if (laps_ > 0) times_.seconds.push_back(watch_.seconds());
    watch_ = {};
  } else {
    accelerator(device_).record(events_[laps_ % 3], current_stream(device_).native());
    if (laps_ > 0) wait_for(laps_ - 1);
  }
  ++laps_;
}

Times StepClock::finish() {
  if (device_.type != DeviceType::cpu && laps_ > 0) wait_for(laps_ - 1);
  return std::move(times_);
}

std::vector<std::string>& failures() {
  static std::vector<std::string> all;
  return all;
}

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw UsageError("there is no measurement in " + name);
}

}  // namespace reid::program
