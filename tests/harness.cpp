#include "harness.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>

#ifdef REID_EMULATED_KERNELS
#include "emu/schedule.h"
#endif
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else  // nor is AddressSanitizer
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

namespace reid::test {

namespace {

const NamedTensors& golden_file(const std::string& name) {
  static std::map<std::string, std::unique_ptr<NamedTensors>> files;
  std::unique_ptr<NamedTensors>& file = files[name];
  if (!file) file = std::make_unique<NamedTensors>(read_safetensors(REID_SOURCE_DIR "/data/golden/" + name + ".safetensors"));
  return *file;
}

}  // namespace

Golden::Golden(const std::string& file, std::string prefix) : file_(&golden_file(file)), prefix_(std::move(prefix)) {}

const Tensor& Golden::operator[](const std::string& name) const { return file_->at(prefix_ + "/" + name); }

bool Golden::has(const std::string& name) const { return file_->find(prefix_ + "/" + name) != nullptr; }

std::vector<double> Golden::numbers(const std::string& name) const {
  const Tensor wide = (*this)[name].to(DType::f64);
  const auto values = wide.span<double>();
  return {values.begin(), values.end()};
}

std::vector<int64_t> Golden::integers(const std::string& name) const {
  const auto values = (*this)[name].span<int64_t>();
  return {values.begin(), values.end()};
}

std::vector<Golden> golden_cases(const std::string& file, const std::string& start) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : golden_file(file).tensors) {
    const std::string prefix = name.substr(0, name.find('/'));
    if (prefix.starts_with(start)) names.push_back(prefix);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  REQUIRE_MESSAGE(!names.empty(), "no case of ", file, " starts with ", start);
  std::vector<Golden> cases;
  for (const std::string& name : names) cases.emplace_back(file, name);
  return cases;
}

double largest(const Tensor& t) {
  double top = 0;
  for (const double v : detail::read(t.raw(), t.numel(), t.dtype())) top = std::max(top, std::abs(v));
  return top;
}

std::string difference(const Tensor& got, const Tensor& want, double relative, double floor) {
  if (!got.defined()) return "nothing was computed";
  if (got.shape() != want.shape() || got.dtype() != want.dtype())
    return str("got ", got.shape(), " ", got.dtype(), ", expected ", want.shape(), " ", want.dtype());
  const std::vector<double> a = detail::read(got.raw(), got.numel(), got.dtype()), b = detail::read(want.raw(), want.numel(), want.dtype());
  const double top = std::max(floor, largest(want));
  double worst = -1;
  size_t place = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = std::isfinite(a[i]) ? std::abs(a[i] - b[i]) : std::numeric_limits<double>::infinity();
    if (error > worst) worst = error, place = i;
  }
  if (a.empty() || worst <= relative * top) return "";
  std::ostringstream out;
  out.precision(17);
  out << "at " << place << " of " << got.shape() << ": got " << a[place] << ", expected " << b[place] << ", relative to the largest "
      << worst / top;
  return out.str();
}

Tensor normal_tensor(const std::string& name, Shape shape, DType dtype, double scale) {
  Tensor t = Tensor::empty(shape, DType::f64);
  Rng rng = Rng(1).at(name);
  for (double& v : t.span<double>()) v = scale * rng.normal();
  return t.to(dtype);
}

int64_t ProblemLine::at(const std::string& key) const {
  const auto found = numbers.find(key);
  REID_CHECK(found != numbers.end(), "problem line '", text, "' lacks ", key);
  return static_cast<int64_t>(found->second);
}

int64_t ProblemLine::get(const std::string& key, int64_t otherwise) const { return numbers.count(key) ? at(key) : otherwise; }

double ProblemLine::real(const std::string& key, double otherwise) const { return numbers.count(key) ? numbers.at(key) : otherwise; }

ProblemLine parse_problem(const std::string& text) {
  ProblemLine line{.text = text, .family = {}, .numbers = {}};
  std::istringstream words(text);
  words >> line.family;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    REID_CHECK(equals != std::string::npos, "problem line '", text, "': '", word, "' is not key=number");
    line.numbers[word.substr(0, equals)] = std::stod(word.substr(equals + 1));
  }
  return line;
}

std::vector<ProblemLine> read_problems(const std::string& file) {
  const std::string path = std::string(REID_SOURCE_DIR "/tests/problems/") + file;
  std::ifstream in(path);
  REID_CHECK(in, path, " cannot be read");
  std::vector<ProblemLine> lines;
  for (std::string text; std::getline(in, text);) {
    text = text.substr(0, text.find('#'));
    text.erase(text.find_last_not_of(" \t") + 1);
    if (!text.empty()) lines.push_back(parse_problem(text));
  }
  REID_CHECK(!lines.empty(), path, " holds no problem");
  return lines;
}

namespace {
constexpr uint8_t kGuardByte = 0xA5;
}

Guarded::Guarded(int64_t bytes) : size_(static_cast<size_t>(bytes)) {
  bytes_.lines.resize((size_ + 2 * kGuard + 63) / 64);
  std::memset(bytes_.data(), kGuardByte, bytes_.lines.size() * 64);
  std::memset(data(), 0xFF, size_);
}

bool Guarded::intact() const {
  const uint8_t* all = bytes_.data();
  const auto untouched = [](uint8_t b) { return b == kGuardByte; };
  return std::all_of(all, all + kGuard, untouched) && std::all_of(all + kGuard + size_, all + bytes_.lines.size() * 64, untouched);
}

// Both do nothing where AddressSanitizer is not built in.
void Guarded::forbid_guards() {
  ASAN_POISON_MEMORY_REGION(bytes_.data(), kGuard);
  ASAN_POISON_MEMORY_REGION(bytes_.data() + kGuard + size_, kGuard);
}

void Guarded::allow_guards() { ASAN_UNPOISON_MEMORY_REGION(bytes_.data(), whole().size()); }

namespace detail {

bool wanted(const std::string& id) {
  static const char* only_this = std::getenv("REID_ONLY");
  return !only_this || id.find(only_this) != std::string::npos;
}

std::string only(const std::string& op, const std::string& implementation, Fill fill, DType dtype, const ProblemLine& line) {
  return str(op, " ", implementation, " ", fill == Fill::integers ? "integers " : "normal ", dtype, " | ", line.text);
}

namespace {

double draw(Rng& rng, Content content, Fill fill) {
  if (content == Content::zero) return 0;
  if (fill == Fill::normal) return content == Content::positive ? 0.25 + std::abs(rng.normal()) : rng.normal();
  // No zero: a forgotten term must show.
  const double size = static_cast<double>(1 + rng.below(3));
  return content == Content::positive || rng.chance(0.5) ? size : -size;
}

}  // namespace

void fill(const std::string& seed, Content content, Fill fill, const Shape& shape, DType dtype, void* data) {
  Rng rng = Rng(0).at(seed);
  const int64_t count = shape.numel();
  // Long buffers repeat with a prime period: no stride of a tensor divides it.
  constexpr int64_t kPeriod = 65521;
  for (int64_t i = 0; i < count; ++i) {
    if (i >= kPeriod) {
      const int64_t size = size_of(dtype);
      std::memcpy(static_cast<uint8_t*>(data) + i * size, static_cast<uint8_t*>(data) + (i - kPeriod) * size, static_cast<size_t>(size));
      continue;
    }
    if (dtype == DType::u8) {
      static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(rng.below(3));
      continue;
    }
    if (dtype == DType::i16) {  // the squares of 64 of them stay below 2^31
      static_cast<int16_t*>(data)[i] = static_cast<int16_t>(rng.below(2 * 5792 + 1) - 5792);
      continue;
    }
    if (dtype == DType::i32) {  // indices come from an adjustment
      static_cast<int32_t*>(data)[i] = 0;
      continue;
    }
    if (dtype == DType::i64) {
      static_cast<int64_t*>(data)[i] = 0;
      continue;
    }
    const double value = draw(rng, content, fill);
    if (dtype == DType::f32) static_cast<float*>(data)[i] = static_cast<float>(value);
    if (dtype == DType::f64) static_cast<double*>(data)[i] = value;
    if (dtype == DType::bf16) static_cast<bf16*>(data)[i] = bf16(value);
    REID_CHECK(dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16, "no fill for ", dtype);
  }
}

std::vector<double> read(const void* data, int64_t count, DType dtype) {
  std::vector<double> values(static_cast<size_t>(count));
  const auto copy = [&](auto* typed) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(typed[i]);
  };
  switch (dtype) {
    case DType::f32: copy(static_cast<const float*>(data)); break;
    case DType::f64: copy(static_cast<const double*>(data)); break;
    case DType::i32: copy(static_cast<const int32_t*>(data)); break;
    case DType::i64: copy(static_cast<const int64_t*>(data)); break;
    case DType::i16: copy(static_cast<const int16_t*>(data)); break;
    case DType::u8: copy(static_cast<const uint8_t*>(data)); break;
    case DType::bf16: copy(static_cast<const bf16*>(data)); break;
  }
  return values;
}

void round_expected(std::vector<double>& want, std::vector<double>* bound) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (!bound || (*bound)[i] == 0) {
      want[i] = double{bf16(want[i])};
    } else {  // |rounded(y) - want| <= 2^-8 |y| + |y - want|, with |y| <= |want| + |y - want|
      (*bound)[i] = (*bound)[i] * (1 + 0x1p-8) + std::abs(want[i]) * 0x1p-8 * 0x1p24;
    }
  }
}

std::string compare(const std::string& output, const std::vector<double>& got, const std::vector<double>& want,
                    const std::vector<double>* bound) {
  size_t wrong = 0, zeros = 0, place = 0;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    // Numbers below the smallest normal float carry no relative accuracy.
    const double allowed = bound ? (*bound)[i] * 0x1p-24 + 0x1p-126 : 0;
    const double error = std::abs(got[i] - want[i]);
    zeros += want[i] == 0;
    if (error <= allowed) continue;  // false for NaN
    const double excess = std::isfinite(error) ? error / std::max(allowed, 0x1p-126) : std::numeric_limits<double>::infinity();
    if (wrong++ == 0 || excess > worst) worst = excess, place = i;
  }
  if (wrong == 0 && zeros * 10 > got.size() * 9 && got.size() > 4) return str(output, ": mistrusted, most of the expected values are zero");
  if (wrong == 0) return "";
  std::ostringstream out;
  out.precision(9);
  out << output << "[" << place << "]: got " << got[place] << ", expected " << want[place] << " within "
      << (bound ? (*bound)[place] * 0x1p-24 : 0.0) << "; " << wrong << " of " << got.size() << " are wrong";
  return out.str();
}

std::string in_other_ways(const char* implementation, const std::function<std::string()>& differs) {
  std::string wrong;
#ifdef REID_EMULATED_KERNELS
  if (emulated(implementation)) {
    const emu::Schedule before = emu::schedule();
    for (const emu::Schedule other : emu::kSchedules) {
      if (other == before || !wrong.empty()) continue;
      emu::set_schedule(other);
      wrong = differs();
      if (!wrong.empty()) wrong += str("under the schedule ", emu::name_of(other));
    }
    emu::set_schedule(before);
    return wrong;
  }
#endif
  static_cast<void>(implementation);
  const int before = threads();
  set_threads(before == 1 ? 2 : 1);
  wrong = differs();
  set_threads(before);
  return wrong.empty() ? wrong : wrong + "with another number of threads";
}

std::string found(const std::function<std::string()>& look) {
  try {
    return look();
  } catch (const Error& error) {
    return str("an error: ", error.what());
  }
}

void report(const std::string& id, const std::string& what) {
  FAIL_CHECK(what, "\n  rerun: REID_ONLY=\"", id, "\" reid_tests -tc=\"problems*\"");
}

}  // namespace detail

}  // namespace reid::test
