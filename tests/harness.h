#pragma once
// What the numeric tests share: goldens, comparison, problem lines and their memory. What runs every implementation of an op on a problem
// is problem.h.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <string_view>
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
  // Makes any access to the guards an error, also a read: in builds with AddressSanitizer, which end at it.
  void forbid_guards();
  void allow_guards();

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

}  // namespace reid::test
