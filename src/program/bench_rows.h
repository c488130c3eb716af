#pragma once
// The rows of `reid bench ops` and `reid bench kernels`: an op each, called alone, beside the time that its bytes or its flop take.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>

#include "program/bench.h"

namespace reid::program {

// The rows of a measurement, and the tensors of the op that is being measured.
class BenchRows {
 public:
  // every: all implementations of each op but the reference of the CPU, one after the other.
  BenchRows(const Context& context, const BenchOptions& o, bool every)
      : context_(context), o_(o), every_(every), dtype_(dtype_named(o.dtype)), peak_(o.device, dtype_) {
    if (dtype_ != DType::f32) plain_.emplace(o.device, DType::f32);
    static_cast<void>(peak_.bandwidth());
    char heading[128];
    std::snprintf(heading, sizeof heading, "%-60s | %-8s | %-5s | %-7s | %-12s | by", "op", "ms", "GB/s", "GFLOP/s", "of the floor");
    context.say(heading);
    if (o.device.type == DeviceType::cpu) context.say("(memory is warm: what the caches hold is faster than the floor, which is memory's)");
  }

  DType dtype() const { return dtype_; }
  int64_t batch() const { return o_.batch; }
  const BenchOptions& options() const { return o_; }

  // Arguments of the next row: fresh random numbers, or memory that holds zeros. They live until release().
  void* random(const Shape& shape, DType dtype) {
    return keep(random_normal(shape, Rng(static_cast<uint64_t>(++drawn_)), dtype, o_.device));
  }
  void* zeros(const Shape& shape, DType dtype) { return keep(Tensor::zeros(shape, dtype, o_.device)); }
  void* ones(const Shape& shape) { return keep(Tensor::full(shape, 1, DType::f32, o_.device)); }
  template <class T>
  void* from(const std::vector<T>& values) {
    return keep(Tensor::from(values).to(o_.device));
  }
  void release() { kept_.clear(); }

  // also_read: bytes of outputs that are read before they are written, which arguments do not tell.
  template <class Op>
  void time(const std::string& name, const typename Op::Args& args, double flop = 0, double also_read = 0) {
    Json row = Json::object({{"name", name}, {"op", Op::name}, {"problem", problem_line(args)}});
    const double bytes = traffic(args) + also_read;
    row["bytes"] = bytes;
    row["flop"] = flop;
    DType type = DType::f32;
    if constexpr (requires { args.dtype; }) type = args.dtype;
    Json versions = Json::array();
    for (const Cell& cell : cells<Op>(args)) {
      Json version = Json::object({{"implementation", cell.implementation}});
      if (cell.refused.empty()) {
        add(version, cell.times, bytes, flop, type);
      } else {
        version["refused"] = cell.refused;
      }
      say(name, cell, bytes, flop, type);
      versions.push_back(version);
    }
    finish(row, versions);
  }

  // Several ops, one behind the other, as one row; by whatever the registry picks.
  void together(const std::string& name, double bytes, const std::function<void()>& ops) {
    if (every_ || !o_.implementation.empty()) return;
    const Cell cell{"several", "", measure(o_, ops), bytes};
    Json row = Json::object({{"name", name}, {"bytes", bytes}, {"flop", 0.0}}), version = Json::object({{"implementation", "several"}});
    add(version, cell.times, bytes, 0, dtype_);
    say(name, cell, bytes, 0, dtype_);
    finish(row, Json::array({version}));
  }

  Json json() const {
    for (const std::string& line : peak_.text()) context_.say(line);
    Json result = Json::object({{"dtype", o_.dtype}, {"batch", o_.batch}, {"rows", rows_}, {"peak", peak_.json()}});
    if (plain_) result["peak_f32"] = plain_->json();
    return result;
  }

 private:
  void* keep(const Tensor& tensor) {
    kept_.push_back(tensor);
    return tensor.raw();
  }

  template <class Op>
  std::vector<Cell> cells(const typename Op::Args& args) {
    const auto slow = [&](const char* name) { return o_.device.type == DeviceType::cpu && std::string_view(name) == "reference"; };
    if (!every_) {
      if (o_.implementation.empty() && slow(Registry::pick<Op>(o_.device.type, args).name))
        return {{"reference", "nothing else computes it", {}}};
      return {time_op<Op>(o_, args)};
    }
    std::vector<Cell> all;
    for (const Impl<Op>& impl : Registry::implementations<Op>(o_.device.type)) {
      const bool wanted = o_.implementation.empty() ? !slow(impl.name) : o_.implementation == impl.name;
      if (wanted) all.push_back(time_implementation<Op>(o_, impl, args));
    }
    return all;
  }

  const Peak& peak(DType type) const { return plain_ && type == DType::f32 ? *plain_ : peak_; }
  double floor(double bytes, double flop, DType type) const { return std::max(bytes / peak_.bandwidth(), flop / peak(type).rate()); }

  void add(Json& version, const Times& times, double bytes, double flop, DType type) const {
    const double seconds = times.median(), least = floor(bytes, flop, type);
    version["gigabytes_per_second"] = bytes / seconds / 1e9;
    version["gflops"] = flop / seconds / 1e9;
    version["floor"] = least;
    version["share_of_floor"] = least / seconds;
    version["times"] = times.json();
  }

  void say(const std::string& name, const Cell& cell, double bytes, double flop, DType type) const {
    if (!cell.refused.empty()) return context_.say(name, ": ", cell.implementation, " ", cell.refused);
    const double seconds = cell.times.median();
    char text[192];
    std::snprintf(text, sizeof text, "%-60s | %8.4f | %5.0f | %7.0f | %10.0f %% | ", name.c_str(), 1e3 * seconds, bytes / seconds / 1e9,
                  flop / seconds / 1e9, 100 * floor(bytes, flop, type) / seconds);
    context_.say(text, cell.implementation);
  }

  // A row holds its only version's keys, or all versions.
  void finish(Json& row, const Json& versions) {
    if (every_) {
      row["versions"] = versions;
    } else {
      for (const auto& [key, value] : versions.items().front().members()) row[key] = value;
    }
    rows_.push_back(row);
    peak_.follow();
    release();
  }

  const Context& context_;
  const BenchOptions& o_;
  bool every_;
  DType dtype_;
  Peak peak_;
  std::optional<Peak> plain_;
  int64_t drawn_ = 0;
  std::vector<Tensor> kept_;
  Json rows_ = Json::array();
};

void search_rows(BenchRows& rows, int64_t features);  // the steps of a search among rows of features

}  // namespace reid::program
