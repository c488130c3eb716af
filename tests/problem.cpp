#include "problem.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace reid::test {
namespace {

using Implementation = AnyProblem::Implementation;
using Shared = std::pair<std::string, std::string>;  // an output, and the input whose memory it uses

// While an op runs, its guards are out of bounds to it.
class ForbiddenGuards {
 public:
  explicit ForbiddenGuards(Run& run) : run_(run) {
    for (auto& [name, memory] : run_.memory) memory.forbid_guards();
  }
  ~ForbiddenGuards() {
    for (auto& [name, memory] : run_.memory) memory.allow_guards();
  }
  ForbiddenGuards(const ForbiddenGuards&) = delete;
  ForbiddenGuards& operator=(const ForbiddenGuards&) = delete;

 private:
  Run& run_;
};

void call(const AnyProblem& p, const Implementation& impl, Run& run, DType dtype, const Shared& shared = {}) {
  std::map<std::string, Tensor> there;  // an accelerator's memory, guards included
  const auto place = [&](const std::string& name) -> void* {
    Guarded& memory = run.memory.at(name);
    if (impl.device == Device{}) return memory.data();
    const std::span<const uint8_t> bytes = memory.whole();
    if (!there.contains(name)) there[name] = Tensor::from(bytes, {static_cast<int64_t>(bytes.size())}, impl.device);
    return static_cast<uint8_t*>(there.at(name).raw()) + Guarded::kGuard;
  };
  AnyProblem::Pointers pointers;
  for (const FieldMemory& f : p.fields) pointers.push_back(place(shared.first == f.name ? shared.second : f.name));
  {
    const ForbiddenGuards forbidden(run);
    p.run(impl, dtype, pointers);
  }
  for (const auto& [name, tensor] : there) std::ranges::copy(tensor.to(Device{}).span<uint8_t>(), run.memory.at(name).whole().begin());
}

// The same inputs in double: what the oracle reads.
Run widened(const AnyProblem& p, const Run& narrow, DType dtype) {
  Run wide;
  for (const FieldMemory& f : p.fields) {
    const Guarded& source = narrow.memory.at(f.name);
    Guarded memory = f.dtype ? source : Guarded(f.shape.numel() * int64_t{8});
    if (!f.dtype && f.reads()) {
      const std::vector<double> values = detail::read(source.data(), f.shape.numel(), f.type(dtype));
      std::copy(values.begin(), values.end(), static_cast<double*>(memory.data()));
    }
    wide.memory.emplace(f.name, std::move(memory));
  }
  return wide;
}

bool same_bits(const Guarded& a, const Guarded& b, const FieldMemory& f, DType dtype) {
  return std::memcmp(a.data(), b.data(), static_cast<size_t>(f.bytes(dtype))) == 0;
}

// The first output, if any, that has other bits when the call is made again.
std::string repeats(const AnyProblem& p, const Implementation& impl, const Run& before, const Run& first, DType dtype,
                    const Shared& shared = {}) {
  Run again = before;
  call(p, impl, again, dtype, shared);
  for (const FieldMemory& f : p.fields) {
    const std::string name = shared.first == f.name ? shared.second : f.name;
    if (f.writes() && !same_bits(first.memory.at(f.name), again.memory.at(name), f, dtype)) return str(f.name, ": other bits ");
  }
  return "";
}

struct Expected {
  Values oracle, bounds;  // no bounds where nothing may differ
};

Expected expected_of(const AnyProblem& p, const Run& narrow, bool exact, DType dtype) {
  Run wide = widened(p, narrow, dtype);
  call(p, p.reference, wide, DType::f64);
  Expected e{values_of(p, wide, DType::f64), {}};
  if (!exact) e.bounds = p.bound(values_of(p, narrow, dtype), e.oracle);
  for (const FieldMemory& f : p.fields) {
    const bool rounded = f.writes() && !f.dtype && f.type(dtype) == DType::bf16;
    if (rounded) detail::round_expected(e.oracle.at(f.name), exact ? nullptr : &e.bounds.at(f.name));
  }
  return e;
}

// Whether an implementation takes the problem; an error is reported.
bool takes(const AnyProblem& p, const Implementation& impl, Run& run, DType dtype, const std::string& id) {
  AnyProblem::Pointers pointers;
  for (const FieldMemory& f : p.fields) pointers.push_back(run.memory.at(f.name).data());
  const std::string refusal = detail::found([&] {
    const char* reason = p.refuses(impl, dtype, pointers);
    return std::string(reason ? reason : "");
  });
  if (refusal.starts_with("an error")) detail::report(id, refusal);
  return refusal.empty();
}

}  // namespace

Device tried_device() {
  const char* name = std::getenv("REID_DEVICE");
  return name ? parse_device(name) : Device{};
}

Run prepare(const AnyProblem& p, const ProblemLine& line, Fill fill, DType dtype) {
  Run run;
  for (const FieldMemory& f : p.fields) {
    Guarded memory(f.bytes(dtype));
    if (f.reads()) detail::fill(line.text + f.name, f.content, fill, f.shape, f.type(dtype), memory.data());
    run.memory.emplace(f.name, std::move(memory));
  }
  if (p.adjust) p.adjust(run, dtype);
  return run;
}

Values values_of(const AnyProblem& p, const Run& run, DType dtype) {
  Values values;
  for (const FieldMemory& f : p.fields) values[f.name] = detail::read(run.memory.at(f.name).data(), f.shape.numel(), f.type(dtype));
  return values;
}

std::string trial(const AnyProblem& p, const Implementation& impl, const Run& before, const Values& oracle, const Values& bounds,
                  bool exact, DType dtype) {
  Run run = before;
  call(p, impl, run, dtype);
  const Values got = values_of(p, run, dtype);
  for (const FieldMemory& f : p.fields) {
    if (!run.memory.at(f.name).intact()) return str(f.name, ": wrote outside of its memory");
    if (!f.writes() && !same_bits(run.memory.at(f.name), before.memory.at(f.name), f, dtype))
      return str(f.name, ": an input was written to");
    if (!f.writes()) continue;
    const std::vector<double>* bound = exact || f.dtype ? nullptr : &bounds.at(f.name);
    const std::string wrong = detail::compare(f.name, got.at(f.name), oracle.at(f.name), bound);
    if (!wrong.empty()) return wrong;
  }
  // The same bits again, in other ways, and in place where that is allowed. (Where integers left no room for an error, the emulator's time
  // is kept for the other fill, which meets every schedule.)
  const bool once = exact && emulated(impl.name);
  std::string wrong = once ? "" : detail::in_other_ways(impl.name, [&] { return repeats(p, impl, before, run, dtype); });
  if (!wrong.empty()) return wrong;
  for (const Shared& shared : p.in_place) {
    wrong = repeats(p, impl, before, run, dtype, shared);
    if (!wrong.empty()) return str(wrong, "when ", shared.first, " is ", shared.second);
  }
  return "";
}

void check_problem_in(DType dtype, const AnyProblem& p, const ProblemLine& line, Sweep& sweep) {
  for (const Fill fill : {Fill::integers, Fill::normal}) {
    const auto id_of = [&](const Implementation& impl) { return detail::only(p.op, impl.name, fill, dtype, line); };
    const auto asked_for = [&](const Implementation& impl) { return detail::wanted(id_of(impl)); };
    if (std::ranges::none_of(p.tried, asked_for)) continue;  // what is expected of them may take long to compute
    Run run = prepare(p, line, fill, dtype);
    const bool exact = fill == Fill::integers && p.exact_on_integers;
    const Expected expected = sweep.runs ? expected_of(p, run, exact, dtype) : Expected{};
    for (const Implementation& impl : p.tried) {
      if (!asked_for(impl) || !takes(p, impl, run, dtype, id_of(impl))) continue;
      const bool slow = impl.reference || emulated(impl.name);
      if (!sweep.references && slow && impl.device == Device{}) continue;
      ++sweep.ran[str(p.op, " ", impl.name, " ", dtype)];
      if (!sweep.runs) continue;
      const std::string wrong = detail::found([&] { return trial(p, impl, run, expected.oracle, expected.bounds, exact, dtype); });
      if (!wrong.empty()) detail::report(id_of(impl), wrong);
    }
  }
}

void check_problem(const AnyProblem& p, const ProblemLine& line, Sweep& sweep) {
  if (line.get("f32", 1) != 0) check_problem_in(DType::f32, p, line, sweep);
  if (line.get("bf16", 0) != 0) check_problem_in(DType::bf16, p, line, sweep);
}

Bound sum_bound(const AnyProblem& p, double terms) {
  return [p, terms](const Values& inputs, const Values&) {
    Run run;
    for (const FieldMemory& f : p.fields) {
      Guarded memory(f.shape.numel() * int64_t{8});
      auto* data = static_cast<double*>(memory.data());
      auto* bits = static_cast<uint8_t*>(memory.data());
      const std::vector<double>& values = inputs.at(f.name);
      for (size_t i = 0; f.reads() && i < values.size(); ++i) {
        if (f.type(DType::f64) == DType::u8) {
          bits[i] = static_cast<uint8_t>(values[i]);
        } else {
          data[i] = std::abs(values[i]);
        }
      }
      run.memory.emplace(f.name, std::move(memory));
    }
    call(p, p.reference, run, DType::f64);
    Values bounds = values_of(p, run, DType::f64);
    for (auto& [name, values] : bounds)
      for (double& v : values) v *= 4 * std::sqrt(terms) + 4;
    return bounds;
  };
}

}  // namespace reid::test
