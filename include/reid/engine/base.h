#pragma once
// What every file of the project may use: errors, checks, shapes, dtypes, random numbers.
//
// Design: no allocation on the hot path, no global state, nothing that knows about devices.

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace reid {

// The one exception type for anything a user or caller can get wrong. The message names the culprit and the remedy.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Concatenates anything printable: str("shape ", shape, " at ", index).
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

[[noreturn]] void fail(const std::string& message);

#define REID_CHECK(condition, ...)                            \
  do {                                                        \
    if (!(condition)) ::reid::fail(::reid::str(__VA_ARGS__)); \
  } while (false)

// Inner-loop invariants: on in debug and sanitizer builds, absent in release.
#ifdef REID_DEBUG
#define REID_DCHECK(condition, ...) REID_CHECK(condition, __VA_ARGS__)
#else
#define REID_DCHECK(condition, ...) static_cast<void>(0)
#endif

// Up to six extents, stored inline. An empty shape is a scalar with one element.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) : Shape(std::span<const int64_t>(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const int64_t> extents);  // throws on a negative extent, a rank above 6 or 2^62 elements and more

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis < 0 ? axis + rank_ : axis)]; }
  int64_t numel() const;
  std::span<const int64_t> extents() const { return {extents_.data(), static_cast<size_t>(rank_)}; }
  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};
std::ostream& operator<<(std::ostream&, const Shape&);  // "[64, 16, 8, 2048]"

// The upper half of an f32: its range with 8 bits of precision. A number that is stored, never one that is computed with: it widens to
// float by itself, and what is computed is rounded once, to nearest, ties to even.
struct bf16 {
  uint16_t bits;
  bf16() = default;
  explicit bf16(float x) : bits(rounded(std::bit_cast<uint32_t>(x))) {}
  template <class T>
  requires(std::is_arithmetic_v<T>) explicit bf16(T x) : bf16(odd(static_cast<double>(x))) {}
  operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }

 private:
  static uint16_t rounded(uint32_t x) {
    const uint32_t nearest = (x + 0x7FFF + ((x >> 16) & 1)) >> 16, quiet_nan = (x >> 16) | 0x40;
    return static_cast<uint16_t>((x & 0x7FFFFFFF) > 0x7F800000 ? quiet_nan : nearest);
  }
  // To float such that rounding again is as if it were done once: what is lost makes the last bit odd (Boldo and Melquiond, IEEE
  // Transactions on Computers 57(4), 2008).
  static float odd(double x);
};

enum class DType : uint8_t { f32, bf16, f64, i64, i32, i16, u8 };
int64_t size_of(DType);      // bytes of one element
const char* name_of(DType);  // "f32"
std::ostream& operator<<(std::ostream&, DType);

// The type of sums over activations, and of what belongs to them: statistics, weights of norms, gradients of weights.
constexpr DType wide(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, bf16>, float, T>;

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int16_t>() {
  return DType::i16;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}

// Counter-based random numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) read as a function of (key, counter).
// `at(k)` derives an independent stream, so a draw is named by its path, e.g. Rng(seed).at(epoch).at(position).at(view),
// and depends neither on threads nor on draws made elsewhere. Draws advance only this copy's counter.
// Integer and uniform draws are the same on every machine; normal() uses only + - * / and sqrt, hence is too.
class Rng {
 public:
  explicit Rng(uint64_t seed = 0) : key_(mix(seed + kGolden)) {}
  Rng at(uint64_t index) const;
  Rng at(std::string_view name) const;  // a named stream, e.g. at("init").at("layer1.0.conv1.weight")

  uint64_t bits() { return mix(key_ + kGolden * ++counter_); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  int64_t below(int64_t count);  // 0..count-1, unbiased; count >= 1
  bool chance(double probability) { return uniform() < probability; }
  double normal();  // mean 0, variance 1 (polar method)
  template <class T>
  void shuffle(std::vector<T>& items) {  // Fisher-Yates
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
  }
  uint64_t key() const { return key_; }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;
  static uint64_t mix(uint64_t z);
  uint64_t key_;
  uint64_t counter_ = 0;
};

// 64-bit FNV-1a, for content hashes in manifests (not for security).
uint64_t hash_bytes(std::span<const uint8_t> bytes, uint64_t seed = 0xcbf29ce484222325ull);
std::string hex(uint64_t value);  // 16 digits

}  // namespace reid
