// What a run writes down as it goes: metrics, a line for each step and epoch, and times.

#include <cmath>
#include <utility>

#include "reid/formats/files.h"
#include "reid/learning/method.h"
#include "run_files.h"

namespace reid {

namespace {

namespace fs = std::filesystem;

size_t readback_of(int64_t step) { return static_cast<size_t>(step % 2); }

void require_finite(std::string_view name, double value, int64_t step) {
  REID_CHECK(name != "loss" || std::isfinite(value), "the loss became ", value, " at step ", step,
             ": lower schedule.lr, or look at the temperatures and scales of the losses");
}

}  // namespace

void Run::log(const char* name, double value) { logged_[name] = value; }

void Run::log(const char* name, const Tensor& scalar) {
  if (scalar.device().type == DeviceType::cpu) {
    require_finite(name, scalar.item(), step_);
    return log(name, scalar.item());
  }
  log(name, 0);  // keeps the place in the line
  late_.emplace_back(name, scalar);
}

// The line of the step that has just been queued. Where an accelerator still owes numbers to it, the one before is written.
void Run::end_line() {
  Line line{std::exchange(logged_, Json::object()), {}, epoch_, step_, readback_of(step_ - 1)};
  for (auto& [name, scalar] : late_) {
    readbacks_[line.readback].add(scalar);
    line.late.push_back(std::move(name));
  }
  late_.clear();
  finish_line();
  waiting_ = std::move(line);
  if (waiting_->late.empty()) finish_line();
}

void Run::finish_line() {
  if (!waiting_) return;
  Line line = std::move(*waiting_);
  waiting_.reset();
  const std::vector<double> values = readbacks_[line.readback].take();
  for (size_t i = 0; i < values.size(); ++i) {
    require_finite(line.late[i], values[i], line.step - 1);
    line.values[line.late[i]] = values[i];
  }
  append_metrics("step", line.epoch, line.step, line.values);
  logged_ = std::move(line.values);
}

void Run::append_metrics(const char* kind, int64_t epoch, int64_t step, Json values) {
  Json line = Json::object({{"kind", kind}, {"epoch", epoch}, {"step", step}});
  for (auto& [name, value] : values.members()) line[name] = std::move(value);
  metrics_bytes_ += append_lines(file("metrics.jsonl"), {line.dump()});
}

namespace {

constexpr std::pair<const char*, double PhaseSeconds::*> kPhases[] = {
    {"extraction", &PhaseSeconds::extraction}, {"clustering", &PhaseSeconds::clustering},   {"training", &PhaseSeconds::training},
    {"evaluation", &PhaseSeconds::evaluation}, {"checkpoints", &PhaseSeconds::checkpoints}, {"images", &PhaseSeconds::images}};

}  // namespace

// Those of the processes before this one, up to the checkpoint that it continues.
void Run::read_times() {
  if (!fs::exists(file("times.json"))) return;
  const Json times = parse_json(read_text(file("times.json")), file("times.json").string());
  for (const auto& [name, seconds] : kPhases) {
    if (const Json* known = times.find(name)) spent_.*seconds = known->number();
  }
  if (const Json* epochs = times.find("epochs")) epoch_times_ = *epochs;
}

// What was spent and belongs to no epoch yet is of the one that has ended: an evaluation behind it, too, and the checkpoint before it.
void Run::end_times() {
  Json epoch = Json::object();
  for (const auto& [name, seconds] : kPhases) {
    double rest = spent_.*seconds;
    for (const Json& before : epoch_times_.items()) rest -= before.at(name).number();
    epoch[name] = rest;
  }
  epoch_times_.push_back(std::move(epoch));
}

std::string Run::times_text() const {
  Json times = Json::object();
  for (const auto& [name, seconds] : kPhases) times[name] = spent_.*seconds;
  times["epochs"] = epoch_times_;
  if (config_.device.type != DeviceType::cpu) {
    const Replay::Counts& steps = replay_.counts();
    times["steps"] = Json::object({{"replayed", steps.replayed}, {"graphs", steps.graphs}});
  }
  return times.dump(2) + "\n";
}

}  // namespace reid
