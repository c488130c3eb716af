#include "reid/engine/base.h"

#include <cmath>
#include <ostream>

namespace reid {

void fail(const std::string& message) { throw Error(message); }

Shape::Shape(std::span<const int64_t> extents) : rank_(static_cast<int>(extents.size())) {
  REID_CHECK(extents.size() <= kMaxRank, "[shape] rank ", extents.size(), " is above ", kMaxRank);
  int64_t total = 1;
  for (size_t i = 0; i < extents.size(); ++i) {
    REID_CHECK(extents[i] >= 0, "[shape] extent ", extents[i], " at axis ", i, " is negative");
    const bool fits = extents[i] == 0 || total < (int64_t{1} << 62) / extents[i];
    REID_CHECK(fits, "[shape] the product of the extents overflows");
    total *= extents[i];
    extents_[i] = extents[i];
  }
}

int64_t Shape::numel() const {
  int64_t total = 1;
  for (const int64_t e : extents()) total *= e;
  return total;
}

bool operator==(const Shape& a, const Shape& b) { return a.rank_ == b.rank_ && a.extents_ == b.extents_; }

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

float bf16::odd(double x) {
  const auto nearest = static_cast<float>(x);
  const auto bits = std::bit_cast<uint32_t>(nearest);
  if (double{nearest} == x || std::isnan(x) || (bits & 1) != 0) return nearest;
  // The other neighbor of x is odd. Floats of one sign are ordered as their bits are; from 0 the way is away from it.
  const bool outward = std::abs(x) > std::abs(double{nearest});
  return std::bit_cast<float>(outward ? bits + 1 : bits - 1);
}

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::i16: return 2;
    case DType::u8: return 1;
  }
  fail("[dtype] unknown dtype");
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f64: return "f64";
    case DType::i64: return "i64";
    case DType::i32: return "i32";
    case DType::i16: return "i16";
    case DType::u8: return "u8";
  }
  return "?";
}

std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

uint64_t Rng::mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

Rng Rng::at(uint64_t index) const {
  Rng child(0);
  child.key_ = mix(key_ ^ mix(index * kGolden + 0xD1B54A32D192ED03ull));
  return child;
}

Rng Rng::at(std::string_view name) const { return at(hash_bytes({reinterpret_cast<const uint8_t*>(name.data()), name.size()})); }

int64_t Rng::below(int64_t count) {
  REID_DCHECK(count >= 1, "[rng] below(", count, ")");
  const uint64_t n = static_cast<uint64_t>(count);
  const uint64_t rejected = (0 - n) % n;  // the lowest 2^64 mod n values would bias the remainder
  uint64_t value = bits();
  while (value < rejected) value = bits();
  return static_cast<int64_t>(value % n);
}

namespace {

// ln(s) for s in (0, 1): libm's log may differ in the last bit between machines, so the series is ours.
// s = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh((m-1)/(m+1)), |argument| < 0.1716: 11 terms give < 1e-17.
double portable_log(double s) {
  int exponent = 0;
  double m = std::frexp(s, &exponent);
  if (m < 0.70710678118654752) {
    m *= 2;
    --exponent;
  }
  const double t = (m - 1) / (m + 1), t2 = t * t;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * t2 + 1.0 / k;
  return 2 * t * sum + exponent * 0.69314718055994530942;
}

}  // namespace

double Rng::normal() {
  for (;;) {
    const double u = uniform(-1, 1), v = uniform(-1, 1), s = u * u + v * v;
    if (s > 0 && s < 1) return u * std::sqrt(-2 * portable_log(s) / s);
  }
}

uint64_t hash_bytes(std::span<const uint8_t> bytes, uint64_t seed) {
  uint64_t h = seed;
  for (const uint8_t b : bytes) h = (h ^ b) * 0x100000001b3ull;
  return h;
}

std::string hex(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

}  // namespace reid
