#pragma once
// A problem of one op: its arguments, what they point to, how far results may be from the reference, and check_problem, which holds every
// implementation against it.
//
// Design: an op's reference in double is the oracle. Each implementation is held against it with a bound computed from the problem (see
// Bound), on outputs pre-filled with NaN between guard bytes. A line with bf16=1 is also run in bf16. The seed is a hash of the problem
// line, so a line is all it takes to repeat a failure:
//   REID_ONLY="conv_forward implicit_gemm normal f32 | conv n=2 h=5 ..." reid_tests -tc="problems*"
// Only what knows an op's types is a template: the driver (problem.cpp) sees fields and calls. Otherwise every op would compile its own.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness.h"

namespace reid::test {

// What a pointer of an op's arguments points to, and how the tests fill it.
struct FieldMemory {
  // What is wide (op_args.h) is f32 where the problem is in bf16.
  enum Kind : uint8_t { input = 1, output = 2, both = 3, wide_input = 5, wide_output = 6, wide_both = 7 };
  const char* name;
  Kind kind;
  Shape shape;
  Content content = Content::any;
  std::optional<DType> dtype = {};  // the problem's floating dtype when absent

  bool reads() const { return (kind & input) != 0; }
  bool writes() const { return (kind & output) != 0; }
  DType type(DType problem) const { return dtype.value_or((kind & 4) != 0 ? wide(problem) : problem); }
  int64_t bytes(DType problem) const { return shape.numel() * size_of(type(problem)); }
};

// Sets a pointer of the arguments: a member, or what a function does with them.
template <class Args>
class Place {
 public:
  template <class T, class Base>
  Place(T* Base::*member) : set_([member](Args& args, void* data) { args.*member = static_cast<T*>(data); }) {}
  template <class F>
  requires std::is_invocable_v<F, Args&, void*> Place(F set) : set_(set) {}
  void set(Args& args, void* data) const { set_(args, data); }

 private:
  std::function<void(Args&, void*)> set_;
};

// Both together.
template <class Args>
struct Field {
  using enum FieldMemory::Kind;
  const char* name;
  FieldMemory::Kind kind;
  Place<Args> place;
  Shape shape;
  Content content = Content::any;
  std::optional<DType> dtype = {};

  operator FieldMemory() const { return {name, kind, shape, content, dtype}; }
};

// Values of every field by name, in double: what a bound is computed from.
using Values = std::map<std::string, std::vector<double>>;
// How far each output may be from the oracle, in units of u = 2^-24 (half an ulp of 1 in f32); the rounding to bf16 is added to it.
using Bound = std::function<Values(const Values& inputs, const Values& oracle)>;

struct Run {  // one call: the memory of each field
  std::map<std::string, Guarded> memory;
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

// What a sweep over problem lines does besides checking.
struct Sweep {
  bool references = true;               // also the references in f32 and the emulator: slow on large problems
  bool runs = true;                     // else implementations that accept a problem are counted only
  std::map<std::string, int> ran = {};  // "op implementation dtype" -> problems
};

// A problem without its types. Pointers are in the order of the fields.
struct AnyProblem {
  using Pointers = std::vector<void*>;
  struct Implementation {
    const char* name;
    Device device;
    const void* impl;  // Impl<Op>
    bool reference;
  };
  const char* op;
  std::vector<FieldMemory> fields;
  Bound bound;
  bool exact_on_integers;
  std::vector<std::pair<std::string, std::string>> in_place;
  std::function<void(Run&, DType)> adjust;
  std::function<const char*(const Implementation&, DType, const Pointers&)> refuses;
  std::function<void(const Implementation&, DType, const Pointers&)> run;
  Implementation reference;
  std::vector<Implementation> tried;
};

// Memory of every field, filled where it is read.
Run prepare(const AnyProblem& p, const ProblemLine& line, Fill fill, DType dtype);
Values values_of(const AnyProblem& p, const Run& run, DType dtype);
// What is wrong with one implementation on one problem, "" when nothing is.
std::string trial(const AnyProblem& p, const AnyProblem::Implementation& impl, const Run& before, const Values& oracle,
                  const Values& bounds, bool exact, DType dtype = DType::f32);
void check_problem_in(DType dtype, const AnyProblem& p, const ProblemLine& line, Sweep& sweep);
void check_problem(const AnyProblem& p, const ProblemLine& line, Sweep& sweep);
Bound sum_bound(const AnyProblem& p, double terms);

Device tried_device();  // the CPU or, where REID_DEVICE names an accelerator, that one

template <class Op>
std::vector<std::pair<Device, Impl<Op>>> tried() {
  std::vector<std::pair<Device, Impl<Op>>> all;
  for (const Impl<Op>& impl : Registry::implementations<Op>(tried_device().type)) all.emplace_back(tried_device(), impl);
  return all;
}

template <class Op>
const Impl<Op>& reference_of() {
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    if (std::string_view(impl.name) == "reference") return impl;
  }
  fail(str(Op::name, " has no reference"));
}

template <class Op>
AnyProblem any(const Problem<Op>& p) {
  using Args = typename Op::Args;
  using Implementation = AnyProblem::Implementation;
  const auto arguments = [args = p.args, fields = p.fields](DType dtype, const AnyProblem::Pointers& pointers) {
    Args all = args;
    if constexpr (requires { all.dtype; }) all.dtype = dtype;
    for (size_t i = 0; i < fields.size(); ++i) fields[i].place.set(all, pointers[i]);
    return all;
  };
  AnyProblem erased{.op = Op::name,
                    .fields = {p.fields.begin(), p.fields.end()},
                    .bound = p.bound,
                    .exact_on_integers = p.exact_on_integers,
                    .in_place = p.in_place,
                    .adjust = p.adjust,
                    .refuses = {},
                    .run = {},
                    .reference = {},
                    .tried = {}};
  erased.refuses = [arguments](const Implementation& i, DType dtype, const AnyProblem::Pointers& pointers) {
    const auto& impl = *static_cast<const Impl<Op>*>(i.impl);
    return impl.refuses ? impl.refuses(arguments(dtype, pointers)) : nullptr;
  };
  erased.run = [arguments](const Implementation& i, DType dtype, const AnyProblem::Pointers& pointers) {
    static_cast<const Impl<Op>*>(i.impl)->run(arguments(dtype, pointers), current_stream(i.device));
  };
  return erased;
}

// The same with the registry's implementations.
template <class Op>
AnyProblem registered(const Problem<Op>& p) {
  initialize();
  AnyProblem erased = any(p);
  const Impl<Op>& reference = reference_of<Op>();
  const auto known = [&](Device device, const Impl<Op>& impl) {
    return AnyProblem::Implementation{impl.name, device, &impl, impl.run == reference.run};
  };
  erased.reference = known({}, reference);
  for (const Impl<Op>& impl : Registry::implementations<Op>(tried_device().type)) erased.tried.push_back(known(tried_device(), impl));
  return erased;
}

// Every implementation of Op that accepts the problem, on both fills, in f32 and, where the line says so, in bf16.
template <class Op>
void check_problem(const Problem<Op>& p, const ProblemLine& line, Sweep& sweep) {
  check_problem(registered(p), line, sweep);
}
template <class Op>
void check_problem_in(DType dtype, const Problem<Op>& p, const ProblemLine& line, Sweep& sweep) {
  check_problem_in(dtype, registered(p), line, sweep);
}

// The reference in double on the magnitudes of all inputs: for a sum of products, the sum of their magnitudes. A sum of K
// rounded terms in any order is within 4 sqrt(K) u of it, but for odds of about e^-8 (Higham and Mary, SIAM J. Sci. Comput. 2019).
template <class Op>
Bound sum_bound(const Problem<Op>& p, double terms) {
  return sum_bound(registered(p), terms);
}

}  // namespace reid::test
