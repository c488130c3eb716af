#pragma once
// What the numeric tests share: goldens, comparison, problem lines, and running every implementation of an op on a problem.
//
// Design: an op's reference in double is the oracle. Each implementation is held against it with a bound computed from the
// problem (see Bound), on outputs pre-filled with NaN between guard bytes. A line with bf16=1 is also run in bf16. The seed is a hash of
// the problem line, so a line is all it takes to repeat a failure:
//   REID_ONLY="conv_forward implicit_gemm normal f32 | conv n=2 h=5 ..." reid_tests -tc="problems*"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "reid/engine/autograd.h"
#include "reid/engine/ops.h"
#include "reid/formats/safetensors.h"

namespace reid::test {

// --- goldens ---

// One case of data/golden/<file>.safetensors.
class Golden {
 public:
  Golden(const std::string& file, std::string prefix);
  const Tensor& operator[](const std::string& name) const;  // throws when absent
  bool has(const std::string& name) const;
  double number(const std::string& name) const { return (*this)[name].to(DType::f64).item(); }
  bool flag(const std::string& name) const { return number(name) != 0; }
  int64_t integer(const std::string& name) const { return static_cast<int64_t>(number(name)); }
  std::vector<double> numbers(const std::string& name) const;
  std::vector<int64_t> integers(const std::string& name) const;
  const std::string& prefix() const { return prefix_; }

 private:
  const NamedTensors* file_;
  std::string prefix_;
};

// The cases of a file whose name starts with `start`, in the file's order.
std::vector<Golden> golden_cases(const std::string& file, const std::string& start = "");

// "" when shape and dtype agree and max |got - want| <= relative * max(floor, max |want|); else what differs. NaN never agrees.
// The floor is for tensors that are zero but for rounding, such as the gradient of a bias before a norm.
std::string difference(const Tensor& got, const Tensor& want, double relative, double floor = 0);
double largest(const Tensor& t);  // max |t|

// Normal numbers from a stream of the name's own.
Tensor normal_tensor(const std::string& name, Shape shape, DType dtype = DType::f64, double scale = 1);

// --- problems ---

// "conv n=2 h=5 w=5 c=8 k=4 r=3 s=3 pad=1": a family and its numbers.
struct ProblemLine {
  std::string text, family;
  std::map<std::string, double> numbers;
  int64_t at(const std::string& key) const;  // throws when absent
  int64_t get(const std::string& key, int64_t otherwise) const;
  double real(const std::string& key, double otherwise) const;
};
ProblemLine parse_problem(const std::string& text);
std::vector<ProblemLine> read_problems(const std::string& file);  // tests/problems/<file>; '#' starts a comment

enum class Fill : uint8_t { integers, normal };
enum class Content : uint8_t { any, positive, zero };  // any and positive follow the Fill; u8 is a mask of 0, 1, 2

// Memory between guard bytes, aligned as tensors are.
class Guarded {
 public:
  explicit Guarded(int64_t bytes);  // contents 0xFF: NaN
  void* data() { return bytes_.data() + kGuard; }
  const void* data() const { return bytes_.data() + kGuard; }
  bool intact() const;
  static constexpr size_t kGuard = 256;
  std::span<uint8_t> whole() { return {bytes_.data(), kGuard + size_ + kGuard}; }  // the guards too

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  struct Bytes {
    std::vector<Line> lines;
    uint8_t* data() { return lines[0].bytes; }
    const uint8_t* data() const { return lines[0].bytes; }
  } bytes_;
  size_t size_;
};

// A pointer of an op's arguments: what it points to and how the tests fill it. Where it is no member, a function sets it.
template <class Args>
struct Field {
  // What is wide (op_args.h) is f32 where the problem is in bf16.
  enum Kind : uint8_t { input = 1, output = 2, both = 3, wide_input = 5, wide_output = 6, wide_both = 7 };
  using Place = std::variant<const void * Args::*, void * Args::*, const uint8_t * Args::*, uint8_t * Args::*, const int32_t * Args::*,
                             int32_t * Args::*, const int64_t * Args::*, int64_t * Args::*, const int16_t * Args::*, const float * Args::*,
                             float * Args::*, const double * Args::*, double * Args::*, std::function<void(Args&, void*)>>;
  const char* name;
  Kind kind;
  Place place;
  Shape shape;
  Content content = Content::any;
  std::optional<DType> dtype = {};  // the problem's floating dtype when absent

  bool reads() const { return (kind & input) != 0; }
  bool writes() const { return (kind & output) != 0; }
  DType type(DType problem) const { return dtype.value_or((kind & 4) != 0 ? wide(problem) : problem); }

  void set(Args& args, void* data) const {
    std::visit(
        [&](const auto& member) {
          if constexpr (std::is_member_pointer_v<std::decay_t<decltype(member)>>) {
            args.*member = static_cast<std::remove_reference_t<decltype(args.*member)>>(data);
          } else {
            member(args, data);
          }
        },
        place);
  }
};

// Values of every field by name, in double: what a bound is computed from.
using Values = std::map<std::string, std::vector<double>>;
// How far each output may be from the oracle, in units of u = 2^-24 (half an ulp of 1 in f32); the rounding to bf16 is added to it.
using Bound = std::function<Values(const Values& inputs, const Values& oracle)>;

struct Run {  // one call: the memory of each field, and where it is copied to for the call
  std::map<std::string, Guarded> memory;
  Device device = {};
};

template <class Op>
struct Problem {
  using Args = typename Op::Args;
  Args args;  // everything but pointers and dtype
  std::vector<Field<Args>> fields;
  Bound bound;
  bool exact_on_integers = false;                                  // sums of small integers have no rounding: demand equality
  std::vector<std::pair<std::string, std::string>> in_place = {};  // (output, input) that may be the same memory
  std::function<void(Run&, DType)> adjust = {};                    // makes inputs that belong together consistent
};

namespace detail {
bool wanted(const std::string& id);  // by REID_ONLY
void fill(const std::string& seed, Content content, Fill fill, const Shape& shape, DType dtype, void* data);
std::vector<double> read(const void* data, int64_t count, DType dtype);
// Makes of what is expected of an f32 output what is expected of the same rounded to bf16: where nothing may differ (no bound, or 0)
// the rounded numbers, elsewhere bounds with one rounding more, half an ulp of 2^-7.
void round_expected(std::vector<double>& want, std::vector<double>* bound);
// "" or the worst element of an output.
std::string compare(const std::string& output, const std::vector<double>& got, const std::vector<double>& want,
                    const std::vector<double>* bound);
std::string found(const std::function<std::string()>& look);  // or the error that it ends with: the sweep goes on
void report(const std::string& id, const std::string& what);  // a failed check that prints the line to rerun
std::string only(const std::string& op, const std::string& implementation, Fill fill, DType dtype, const ProblemLine& line);
// Calls `differs` in other ways that may not change a bit of an implementation's results: another number of threads, or the other
// schedules of the emulator. Returns what it found first, and how.
std::string in_other_ways(const char* implementation, const std::function<std::string()>& differs);
}  // namespace detail

// Kernels for a GPU, run by the emulator, follow the reference in the CPU's lists.
inline bool emulated(const char* implementation) { return std::string_view(implementation).starts_with("emu:"); }

template <class Op>
const Impl<Op>& reference_of() {
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    if (std::string_view(impl.name) == "reference") return impl;
  }
  fail(str(Op::name, " has no reference"));
}

template <class Op>
Run prepare(const Problem<Op>& p, const ProblemLine& line, Fill fill, DType dtype) {
  Run run;
  for (const auto& f : p.fields) {
    const DType type = f.type(dtype);
    Guarded memory(f.shape.numel() * size_of(type));
    if (f.reads()) detail::fill(line.text + f.name, f.content, fill, f.shape, type, memory.data());
    run.memory.emplace(f.name, std::move(memory));
  }
  if (p.adjust) p.adjust(run, dtype);
  return run;
}

// Calls one implementation; `shared` maps an output to the input whose memory it uses.
template <class Op>
void call(const Problem<Op>& p, const Impl<Op>& impl, Run& run, DType dtype, const std::pair<std::string, std::string>& shared = {}) {
  typename Op::Args args = p.args;
  if constexpr (requires { args.dtype; }) args.dtype = dtype;
  std::map<std::string, Tensor> there;  // an accelerator's memory, guards included
  const auto place = [&](const std::string& name) -> void* {
    Guarded& memory = run.memory.at(name);
    if (run.device == Device{}) return memory.data();
    const std::span<const uint8_t> bytes = memory.whole();
    if (!there.contains(name)) there[name] = Tensor::from(bytes, {static_cast<int64_t>(bytes.size())}, run.device);
    return static_cast<uint8_t*>(there.at(name).raw()) + Guarded::kGuard;
  };
  for (const auto& f : p.fields) f.set(args, place(shared.first == f.name ? shared.second : f.name));
  impl.run(args, current_stream(run.device));
  for (const auto& [name, tensor] : there)
    std::ranges::copy(tensor.to(Device{}).template span<uint8_t>(), run.memory.at(name).whole().begin());
}

template <class Op>
Values values_of(const Problem<Op>& p, const Run& run, DType dtype) {
  Values values;
  for (const auto& f : p.fields) values[f.name] = detail::read(run.memory.at(f.name).data(), f.shape.numel(), f.type(dtype));
  return values;
}

// The same inputs in double: what the oracle reads.
template <class Op>
Run widened(const Problem<Op>& p, const Run& narrow, DType dtype) {
  Run wide;
  for (const auto& f : p.fields) {
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

// What is wrong with one implementation on one problem, "" when nothing is.
template <class Op>
std::string trial(const Problem<Op>& p, const Impl<Op>& impl, const Run& before, const Values& oracle, const Values& bounds, bool exact,
                  DType dtype = DType::f32) {
  using F = Field<typename Op::Args>;
  const auto bytes_of = [dtype](const F& f) { return static_cast<size_t>(f.shape.numel() * size_of(f.type(dtype))); };
  Run run = before;
  call(p, impl, run, dtype);
  const Values got = values_of(p, run, dtype);
  for (const auto& f : p.fields) {
    if (!run.memory.at(f.name).intact()) return str(f.name, ": wrote outside of its memory");
    if (!f.writes() && std::memcmp(run.memory.at(f.name).data(), before.memory.at(f.name).data(), bytes_of(f)) != 0)
      return str(f.name, ": an input was written to");
    if (!f.writes()) continue;
    const std::vector<double>* bound = exact || f.dtype ? nullptr : &bounds.at(f.name);
    const std::string wrong = detail::compare(f.name, got.at(f.name), oracle.at(f.name), bound);
    if (!wrong.empty()) return wrong;
  }
  // The same bits again, in other ways, and in place where that is allowed.
  const auto repeats = [&](const std::pair<std::string, std::string>& shared) {
    Run again = before;
    call(p, impl, again, dtype, shared);
    for (const auto& f : p.fields) {
      if (!f.writes()) continue;
      const std::string& name = shared.first == f.name ? shared.second : f.name;
      if (std::memcmp(run.memory.at(f.name).data(), again.memory.at(name).data(), bytes_of(f)) != 0) return str(f.name, ": other bits ");
    }
    return std::string();
  };
  // (Where integers left no room for an error, the emulator's time is kept for the other fill, which meets every schedule.)
  std::string wrong = exact && emulated(impl.name) ? "" : detail::in_other_ways(impl.name, [&] { return repeats({}); });
  if (!wrong.empty()) return wrong;
  for (const auto& shared : p.in_place) {
    wrong = repeats(shared);
    if (!wrong.empty()) return str(wrong, "when ", shared.first, " is ", shared.second);
  }
  return "";
}

// What a sweep over problem lines does besides checking.
struct Sweep {
  bool references = true;               // also the references in f32 and the emulator: slow on large problems
  bool runs = true;                     // else implementations that accept a problem are counted only
  std::map<std::string, int> ran = {};  // "op implementation dtype" -> problems
};

// The reference in double on the magnitudes of all inputs: for a sum of products, the sum of their magnitudes. A sum of K
// rounded terms in any order is within 4 sqrt(K) u of it, but for odds of about e^-8 (Higham and Mary, SIAM J. Sci. Comput. 2019).
template <class Op>
Bound sum_bound(Problem<Op> p, double terms) {
  return [p, terms](const Values& inputs, const Values&) {
    Run run;
    for (const auto& f : p.fields) {
      Guarded memory(f.shape.numel() * int64_t{8});
      auto* data = static_cast<double*>(memory.data());
      const std::vector<double>& values = inputs.at(f.name);
      if (f.reads())
        for (size_t i = 0; i < values.size(); ++i) data[i] = std::abs(values[i]);
      run.memory.emplace(f.name, std::move(memory));
    }
    call(p, reference_of<Op>(), run, DType::f64);
    Values bounds = values_of(p, run, DType::f64);
    for (auto& [name, values] : bounds)
      for (double& v : values) v *= 4 * std::sqrt(terms) + 4;
    return bounds;
  };
}

// The CPU's implementations or, where REID_DEVICE names an accelerator, that one's.
template <class Op>
std::vector<std::pair<Device, Impl<Op>>> tried() {
  std::vector<std::pair<Device, Impl<Op>>> all;
  const char* name = std::getenv("REID_DEVICE");
  const Device device = name ? parse_device(name) : Device{};
  for (const Impl<Op>& impl : Registry::implementations<Op>(device.type)) all.emplace_back(device, impl);
  return all;
}

// Every implementation of Op that accepts the problem in a dtype, on both fills.
template <class Op>
void check_problem_in(DType dtype, const Problem<Op>& p, const ProblemLine& line, Sweep& sweep) {
  const Impl<Op>& reference = reference_of<Op>();
  for (const Fill fill : {Fill::integers, Fill::normal}) {
    const auto kernels = tried<Op>();
    const auto asked_for = [&](const auto& k) { return detail::wanted(detail::only(Op::name, k.second.name, fill, dtype, line)); };
    if (std::ranges::none_of(kernels, asked_for)) continue;  // what is expected of them may take long to compute
    Run narrow = prepare(p, line, fill, dtype);
    const bool exact = fill == Fill::integers && p.exact_on_integers;
    Values oracle, bounds;
    if (sweep.runs) {
      Run wide = widened(p, narrow, dtype);
      call(p, reference, wide, DType::f64);
      oracle = values_of(p, wide, DType::f64);
      if (!exact) bounds = p.bound(values_of(p, narrow, dtype), oracle);
    }
    for (const auto& f : p.fields) {
      const bool rounded = sweep.runs && f.writes() && !f.dtype && f.type(dtype) == DType::bf16;
      if (rounded) detail::round_expected(oracle.at(f.name), exact ? nullptr : &bounds.at(f.name));
    }
    for (const auto& [place, implementation] : kernels) {
      const Device device = place;
      const auto& impl = implementation;  // clang 14 captures no structured bindings
      narrow.device = device;
      const std::string id = detail::only(Op::name, impl.name, fill, dtype, line);
      if (!detail::wanted(id)) continue;
      typename Op::Args probe = p.args;
      if constexpr (requires { probe.dtype; }) probe.dtype = dtype;
      for (const auto& f : p.fields) f.set(probe, narrow.memory.at(f.name).data());
      const std::string refusal = detail::found([&] {
        const char* reason = impl.refuses ? impl.refuses(probe) : nullptr;
        return std::string(reason ? reason : "");
      });
      if (refusal.starts_with("an error")) detail::report(id, refusal);
      if (!refusal.empty()) continue;
      const bool slow = impl.run == reference.run || emulated(impl.name);
      if (!sweep.references && slow && device == Device{}) continue;
      ++sweep.ran[str(Op::name, " ", impl.name, " ", dtype)];
      if (!sweep.runs) continue;
      const std::string wrong = detail::found([&] { return trial(p, impl, narrow, oracle, bounds, exact, dtype); });
      if (!wrong.empty()) detail::report(id, wrong);
    }
  }
}

template <class Op>
void check_problem(const Problem<Op>& p, const ProblemLine& line, Sweep& sweep) {
  initialize();
  if (line.get("f32", 1) != 0) check_problem_in(DType::f32, p, line, sweep);
  if (line.get("bf16", 0) != 0) check_problem_in(DType::bf16, p, line, sweep);
}

}  // namespace reid::test
