// From one type to another.

#include <cmath>
#include <concepts>
#include <limits>

#include "ptx/decoder.h"

namespace reid::test::ptx {

namespace {

// To nearest, ties to even; NaN becomes 0x7FFF.
uint16_t bf16_of(float x) {
  if (x != x) return 0x7FFF;
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Beyond the range the nearest there is; NaN becomes 0.
template <std::signed_integral To, std::floating_point From>
To whole(From x) {
  constexpr auto least = static_cast<double>(std::numeric_limits<To>::min());
  if (x != x) return 0;
  if (static_cast<double>(x) <= least) return std::numeric_limits<To>::min();
  if (static_cast<double>(x) >= -least) return std::numeric_limits<To>::max();
  return static_cast<To>(x);
}

template <class To, class From, auto convert, class Held = From>
void convert_each(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<To>(in.at[0]);
  const auto* from = w.registers<Held>(in.at[1]);
  each_lane(mask, [&](unsigned lane) { set_value(to, lane, static_cast<To>(convert(value_of<From>(from, lane)))); });
}
template <class To, class From>
To as(From x) {
  return static_cast<To>(x);
}

void two_to_bf16(Warp& w, const Instruction& in, uint32_t mask) {  // the first source goes to the upper half
  auto* to = w.registers<uint32_t>(in.at[0]);
  const auto *upper = w.registers<float>(in.at[1]), *lower = w.registers<float>(in.at[2]);
  each_lane(mask, [&](unsigned lane) {
    to[lane] = uint32_t{bf16_of(value_of<float>(upper, lane))} << 16 | bf16_of(value_of<float>(lower, lane));
  });
}

float saturated(float x) { return x > 1 ? 1.0f : x > 0 ? x : 0.0f; }
float nearest(float x) { return std::nearbyint(x); }
float downward(float x) { return std::floor(x); }
float toward_zero(float x) { return std::trunc(x); }

struct Entry {
  std::string_view opcode;
  unsigned to, from;  // bits
  Handler handler;
};
// Integers of the same width need none.
constexpr Entry kEntries[] = {
    {"cvt.rn.bf16.f32", 16, 32, convert_each<uint16_t, float, bf16_of>},
    {"cvt.sat.f32.f32", 32, 32, convert_each<float, float, saturated>},
    {"cvt.rni.f32.f32", 32, 32, convert_each<float, float, nearest>},
    {"cvt.rmi.f32.f32", 32, 32, convert_each<float, float, downward>},
    {"cvt.rzi.f32.f32", 32, 32, convert_each<float, float, toward_zero>},
    {"cvt.f64.f32", 64, 32, convert_each<double, float, as<double, float>>},
    {"cvt.rn.f32.f64", 32, 64, convert_each<float, double, as<float, double>>},
    {"cvt.rn.f32.s32", 32, 32, convert_each<float, int32_t, as<float, int32_t>>},
    {"cvt.rn.f32.u32", 32, 32, convert_each<float, uint32_t, as<float, uint32_t>>},
    {"cvt.rn.f32.u16", 32, 16, convert_each<float, uint16_t, as<float, uint16_t>>},
    {"cvt.rn.f32.s64", 32, 64, convert_each<float, int64_t, as<float, int64_t>>},
    {"cvt.rn.f64.s32", 64, 32, convert_each<double, int32_t, as<double, int32_t>>},
    {"cvt.rn.f64.u32", 64, 32, convert_each<double, uint32_t, as<double, uint32_t>>},
    {"cvt.rn.f64.s64", 64, 64, convert_each<double, int64_t, as<double, int64_t>>},
    {"cvt.rzi.s32.f32", 32, 32, convert_each<int32_t, float, whole<int32_t, float>>},
    {"cvt.rzi.s64.f32", 64, 32, convert_each<int64_t, float, whole<int64_t, float>>},
    {"cvt.rzi.s32.f64", 32, 64, convert_each<int32_t, double, whole<int32_t, double>>},
    {"cvt.rzi.s64.f64", 64, 64, convert_each<int64_t, double, whole<int64_t, double>>},
};

// The source may stand in a register of more bits.
template <class From>
Handler of_integer(Type to, bool wide) {
  return with_type(to, [&]<class To>() -> Handler {
    if constexpr (std::integral<To>) return wide ? convert_each<To, From, as<To, From>, uint64_t> : convert_each<To, From, as<To, From>>;
    return nullptr;
  });
}

}  // namespace

bool decode_conversion(Decoder& d) {
  if (d.name() != "cvt") return false;
  if (d.opcode() == "cvt.rn.bf16x2.f32") {
    for (size_t i = 0; i < 3; ++i) d.use(i, 32);
    d.in.run = two_to_bf16;
    return true;
  }
  for (const Entry& entry : kEntries) {
    if (entry.opcode != d.opcode()) continue;
    d.use(0, entry.to), d.use(1, entry.from);
    d.in.run = entry.handler;
    return true;
  }
  if (d.words() != 3) return false;
  const Type to = d.type(1), from = d.type();
  const bool wide = d.operand(1).kind == Operand::Kind::wide;
  d.use(0, bits_of(to)), d.use(1, wide ? 64 : bits_of(from));
  d.in.run = with_type(from, [&]<class From>() -> Handler {
    if constexpr (std::integral<From>) return of_integer<From>(to, wide);
    return nullptr;
  });
  return d.in.run != nullptr;
}

}  // namespace reid::test::ptx
