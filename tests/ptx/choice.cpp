// Comparisons, what is done with their results, and moves between registers of several widths.

#include <algorithm>
#include <functional>

#include "ptx/decoder.h"

namespace reid::test::ptx {

namespace {

// Whether a comparison of this name holds, as it is written in PTX: its order, and what it says where a NaN is among the two.
template <class T>
bool holds(int which, T a, T b) {
  const bool unordered = a != a || b != b;
  switch (which) {
    case 0: return a == b;
    case 1: return !unordered && a != b;
    case 2: return a < b;
    case 3: return a <= b;
    case 4: return a > b;
    case 5: return a >= b;
    case 6: return unordered || a == b;
    case 7: return unordered || a != b;
    case 8: return unordered || a < b;
    case 9: return unordered || a <= b;
    case 10: return unordered || a > b;
    case 11: return unordered || a >= b;
    case 12: return !unordered;
    default: return unordered;
  }
}
constexpr std::string_view kComparisons[] = {"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};

template <class T, int which>
void compare(Warp& w, const Instruction& in, uint32_t mask) {
  const auto* a = w.registers<T>(in.at[1]);
  const auto* b = w.registers<T>(in.at[2]);
  uint32_t bits = 0;
  each_lane(mask, [&](unsigned lane) { bits |= uint32_t{holds(which, value_of<T>(a, lane), value_of<T>(b, lane))} << lane; });
  uint32_t& to = w.predicates[in.at[0]];
  to = (to & ~mask) | bits;
}
template <int... which>
Handler comparison(int wanted, Type type, std::integer_sequence<int, which...>) {
  return with_type(type, [&]<class T>() -> Handler {
    Handler found = nullptr;
    ((wanted == which ? void(found = compare<T, which>) : void()), ...);
    return found;
  });
}

template <class T>
void select(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<T>(in.at[0]);
  const auto *a = w.registers<T>(in.at[1]), *b = w.registers<T>(in.at[2]);
  const uint32_t chosen = w.predicates[in.at[3]];
  each_lane(mask, [&](unsigned lane) { to[lane] = chosen >> lane & 1 ? a[lane] : b[lane]; });
}

template <class Op>
void of_predicates(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t& to = w.predicates[in.at[0]];
  const uint32_t a = w.predicates[in.at[1]];
  uint32_t result;
  if constexpr (std::is_invocable_v<Op, uint32_t>) {
    result = Op()(a);
  } else {
    result = Op()(a, w.predicates[in.at[2]]);
  }
  to = (to & ~mask) | (result & mask);
}
void set_predicate_to(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t& to = w.predicates[in.at[0]];
  to = in.number != 0 ? to | mask : to & ~mask;
}

// 64 bits of two registers, and back; 32 bits of two halves.
void join_64(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint64_t>(in.at[0]);
  const auto *low = w.registers<uint32_t>(in.at[1]), *high = w.registers<uint32_t>(in.at[2]);
  each_lane(mask, [&](unsigned lane) { to[lane] = uint64_t{high[lane]} << 32 | low[lane]; });
}
void split_64(Warp& w, const Instruction& in, uint32_t mask) {
  auto *low = w.registers<uint32_t>(in.at[0]), *high = w.registers<uint32_t>(in.at[1]);
  const auto* from = w.registers<uint64_t>(in.at[2]);
  each_lane(mask,
            [&](unsigned lane) { low[lane] = static_cast<uint32_t>(from[lane]), high[lane] = static_cast<uint32_t>(from[lane] >> 32); });
}
void join_32(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint32_t>(in.at[0]);
  const auto *low = w.registers<uint16_t>(in.at[1]), *high = w.registers<uint16_t>(in.at[2]);
  each_lane(mask, [&](unsigned lane) { to[lane] = high[lane] << 16 | (low[lane] & 0xFFFF); });
}
void split_32(Warp& w, const Instruction& in, uint32_t mask) {
  auto *low = w.registers<uint16_t>(in.at[0]), *high = w.registers<uint16_t>(in.at[1]);
  const auto* from = w.registers<uint32_t>(in.at[2]);
  each_lane(mask, [&](unsigned lane) {
    const uint32_t both = from[lane];
    low[lane] = both & 0xFFFF, high[lane] = both >> 16;
  });
}

bool decode_move(Decoder& d) {
  const Operand &to = d.operand(0), &from = d.operand(1);
  const bool joins = from.kind == Operand::Kind::vector, splits = to.kind == Operand::Kind::vector;
  if (!joins && !splits) return false;
  const unsigned bits = bits_of(d.type());
  for (const Operand* o : {&to, &from}) {
    if (o->kind != Operand::Kind::vector) d.use(*o, bits);
    for (const Operand& part : o->parts) d.use(part, bits / 2);
  }
  d.in.run = bits == 64 ? (joins ? join_64 : split_64) : (joins ? join_32 : split_32);
  return d.in.at.size() == 3;
}

bool decode_predicates(Decoder& d) {
  d.in.at.push_back(d.predicate(d.operand(0)));
  if (d.name() == "mov" && d.operand(1).kind == Operand::Kind::integer) {
    d.in.number = static_cast<int64_t>(d.operand(1).value);
    d.in.run = set_predicate_to;
    return true;
  }
  for (size_t i = 1; i < d.operands().size(); ++i) d.in.at.push_back(d.predicate(d.operand(i)));
  const std::string_view name = d.name();
  d.in.run = name == "and"   ? of_predicates<std::bit_and<uint32_t>>
             : name == "or"  ? of_predicates<std::bit_or<uint32_t>>
             : name == "xor" ? of_predicates<std::bit_xor<uint32_t>>
             : name == "not" ? of_predicates<std::bit_not<uint32_t>>
             : name == "mov" ? of_predicates<std::identity>
                             : nullptr;
  return d.in.run != nullptr;
}

bool decode_comparison(Decoder& d) {
  const auto* found = std::find(std::begin(kComparisons), std::end(kComparisons), d.word(1));
  if (d.words() != 3 || found == std::end(kComparisons)) return false;
  d.in.at.push_back(d.predicate(d.operand(0)));
  for (size_t i = 1; i < 3; ++i) d.use(i, bits_of(d.type()));
  d.in.run = comparison(static_cast<int>(found - kComparisons), d.type(), std::make_integer_sequence<int, 14>());
  return true;
}

bool decode_selection(Decoder& d) {
  const unsigned bits = bits_of(d.type());
  for (size_t i = 0; i < 3; ++i) d.use(i, bits);
  d.in.at.push_back(d.predicate(d.operand(3)));
  d.in.run = bits == 64 ? select<uint64_t> : select<uint32_t>;
  return true;
}

}  // namespace

bool decode_choice(Decoder& d) {
  if (d.name() == "setp") return decode_comparison(d);
  if (d.name() == "selp") return decode_selection(d);
  if (type_of(d.word(d.words() - 1)) == Type::pred) return decode_predicates(d);
  return d.name() == "mov" && decode_move(d);
}

}  // namespace reid::test::ptx
