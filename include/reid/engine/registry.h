#pragma once
// The ordered lists of functions that can compute an op. What each op takes: op_args.h, op_args_rows.h, op_args_vision.h.
//
// Design: an op is a name and a struct of plain pointers and sizes that describes itself. An implementation is a function and
// a condition. The first implementation of the device's list that accepts the arguments runs; the reference, which accepts
// everything of its dtypes, stands last. Kernels and backends include this header and device.h, never the tensor class.
// Letters: N,H,W,C activations; K,R,S,C filters; P,Q output rows and columns; B rows, D features.

#include <string>
#include <string_view>
#include <vector>

#include "reid/engine/accelerator.h"
#include "reid/engine/op_args_rows.h"
#include "reid/engine/op_args_vision.h"

namespace reid {

template <class Op>
struct Impl {
  const char* name;                                  // "reference", "packed_gemm"
  const char* (*refuses)(const typename Op::Args&);  // null = accepts, else the reason; the reference accepts every shape
  void (*run)(const typename Op::Args&, Stream&);
};

struct OpInfo {
  const char* name;
  std::vector<std::string> implementations;  // in order of preference on the CPU
};

// Filled once by initialize(); reading is safe from several threads.
class Registry {
 public:
  // Order of calls = order of preference.
  template <class Op>
  static void add(DeviceType device, Impl<Op> impl) {
    if (left_out(impl.name)) return;
    list<Op>(device).push_back(impl);
    note(Op::name, device, impl.name);
  }
  static bool left_out(const char* implementation);  // by REID_WITHOUT=name,name: as if this build had none of that name
  template <class Op>
  static const std::vector<Impl<Op>>& implementations(DeviceType device) {
    return list<Op>(device);
  }
  // The one forced by REID_IMPL=op=name or force(); else a preferred one that accepts, in the order of REID_IMPL=name or prefer(); else
  // the first that accepts. Throws when none does, with all the reasons. (REID_IMPL is a list, of both kinds: a,conv_forward=b.)
  template <class Op>
  static const Impl<Op>& pick(DeviceType device, const typename Op::Args& args);
  // Whether what would compute `args` can compute `fuller` as well.
  template <class Op>
  static bool accepts_more(DeviceType device, const typename Op::Args& args, const typename Op::Args& fuller) {
    const Impl<Op>& impl = pick<Op>(device, args);
    return !impl.refuses || !impl.refuses(fuller);
  }
  static void force(std::string op, std::string implementation);  // empty implementation: no longer forced
  static void prefer(std::vector<std::string> implementations);   // of every op that has them; replaces what was preferred before
  static std::vector<OpInfo> ops();

 private:
  template <class Op>
  static std::vector<Impl<Op>>& list(DeviceType device) {
    static std::vector<Impl<Op>> lists[kDeviceTypes];
    return lists[static_cast<size_t>(device)];
  }
  static void note(const char* op, DeviceType device, const char* implementation);
  struct Wishes {
    std::string forced;  // empty: none
    std::vector<std::string> preferred;
  };
  static Wishes wishes(const char* op);
};

void initialize();  // fills the registry; safe to call often and from several threads

bool trace_enabled();  // REID_LOG=dispatch
void trace_line(const char* op, const char* implementation, const std::string& problem);
void trace_to(std::vector<std::string>* lines);  // collects trace lines of this thread; null stops

// The arguments as one line: "x[2,8,4,64] w[128,3,3,64] stride_h=1 ... f32".
template <class Args>
std::string problem_line(const Args& args);
class LineVisitor final : public Visitor {
 public:
  void input(const char* name, const void* data, const Shape& shape, DType dtype) override;
  void output(const char*, void*, const Shape&, DType) override {}
  void attribute(const char* name, double value) override;
  std::string line;
};
template <class Args>
std::string problem_line(const Args& args) {
  LineVisitor visitor;
  args.describe(visitor);
  return visitor.line;
}

template <class Op>
const Impl<Op>& Registry::pick(DeviceType device, const typename Op::Args& args) {
  initialize();
  const Wishes wishes = Registry::wishes(Op::name);
  const std::string& wanted = wishes.forced;
  for (size_t i = 0; wanted.empty() && i < wishes.preferred.size(); ++i) {
    for (const Impl<Op>& impl : list<Op>(device)) {
      if (wishes.preferred[i] == impl.name && !(impl.refuses && impl.refuses(args))) return impl;
    }
  }
  std::string reasons;
  for (const Impl<Op>& impl : list<Op>(device)) {
    if (!wanted.empty() && wanted != impl.name) continue;
    const char* reason = impl.refuses ? impl.refuses(args) : nullptr;
    if (!reason) return impl;
    reasons += str(reasons.empty() ? "" : "; ", impl.name, ": ", reason);
  }
  if (reasons.empty()) reasons = wanted.empty() ? "none is registered" : "no implementation is named " + wanted;
  fail(str("[", Op::name, "] no implementation takes ", problem_line(args), " (", reasons, ")"));
}

// Throws when an argument lies elsewhere than on `device`, naming it.
class PlaceVisitor final : public Visitor {
 public:
  PlaceVisitor(const char* op, Device device) : op_(op), device_(device) {}
  void input(const char* name, const void* data, const Shape& shape, DType) override { check(name, data, shape); }
  void output(const char* name, void* data, const Shape& shape, DType) override { check(name, data, shape); }
  void attribute(const char*, double) override {}

 private:
  void check(const char* name, const void* data, const Shape& shape) const;
  const char* op_;
  Device device_;
};

// All that tells an op's call from another.
class KeyVisitor final : public Visitor {
 public:
  explicit KeyVisitor(const void* implementation) : words{key_word(implementation)} {}
  void input(const char*, const void* data, const Shape& shape, DType dtype) override { add(data, shape, dtype); }
  void output(const char*, void* data, const Shape& shape, DType dtype) override { add(data, shape, dtype); }
  void attribute(const char*, double value) override { words.push_back(key_word(value)); }
  Recorder::Key words;

 private:
  void add(const void* data, const Shape& shape, DType dtype);
};

// An op whose attributes change from step to step: learning rates and counts.
template <class Op>
concept VariesByStep = requires {
  Op::varies_by_step;
};

template <class Op>
void dispatch(Device device, const typename Op::Args& args) {
  if (accelerators_in_use()) {
    PlaceVisitor places(Op::name, device);
    args.describe(places);
  }
  const Impl<Op>& impl = Registry::pick<Op>(device.type, args);
  if (trace_enabled()) trace_line(Op::name, impl.name, problem_line(args));
  if (Recorder* r = recorder(device)) {
    KeyVisitor key(&impl);
    args.describe(key);
    const auto run = [&impl, args](Stream& stream) { impl.run(args, stream); };
    if constexpr (VariesByStep<Op>) {
      r->varies(std::move(key.words), run);
    } else {
      r->repeats(std::move(key.words), run);
    }
    return;
  }
  impl.run(args, current_stream(device));
}

// Defined by the backends, called by initialize().
void register_cpu();
void register_cuda();  // adds nothing in a build without CUDA

}  // namespace reid
