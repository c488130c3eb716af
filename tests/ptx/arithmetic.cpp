// Arithmetic.

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <concepts>
#include <limits>

#include "ptx/decoder.h"

namespace reid::test::ptx {

namespace {

// Integers wrap around.
template <class T>
struct Wrapping {
  using type = T;
};
template <std::integral T>
struct Wrapping<T> {
  using type = std::make_unsigned_t<T>;
};
template <class T, class F>
T wrapped(T a, T b, F f) {
  using W = typename Wrapping<T>::type;
  return static_cast<T>(f(static_cast<W>(a), static_cast<W>(b)));
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return wrapped(a, b, [](auto x, auto y) { return x + y; });
  }
};
struct Subtract {
  template <class T>
  T operator()(T a, T b) const {
    return wrapped(a, b, [](auto x, auto y) { return x - y; });
  }
};
struct Multiply {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (sizeof(T) < 4) {
      return static_cast<T>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
    } else {
      return wrapped(a, b, [](auto x, auto y) { return x * y; });
    }
  }
};
struct Divide {  // of integers by zero, as the hardware does: all bits set
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::integral<T>) {
      if (b == 0) return static_cast<T>(-1);
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return wrapped(T{0}, a, [](auto x, auto y) { return x - y; });
    }
    return static_cast<T>(a / b);
  }
};
struct Remainder {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct Least {  // a number where the other is NaN
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::floating_point<T>) return std::fmin(a, b);
    return std::min(a, b);
  }
};
struct Greatest {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::floating_point<T>) return std::fmax(a, b);
    return std::max(a, b);
  }
};
struct And {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct Negate {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::floating_point<T>) return -a;
    return wrapped(T{0}, a, [](auto x, auto y) { return x - y; });
  }
};
struct Magnitude {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::floating_point<T>) return std::fabs(a);
    return a < 0 ? Negate()(a) : a;
  }
};
struct Copy {
  template <class T>
  T operator()(T a) const {
    return a;
  }
};
struct Left {
  template <class T>
  T operator()(T a, uint32_t by) const {
    return by < sizeof(T) * 8 ? static_cast<T>(static_cast<uint64_t>(a) << by) : T{0};
  }
};
struct Right {  // signs come in from the left
  template <class T>
  T operator()(T a, uint32_t by) const {
    const auto most = static_cast<uint32_t>(sizeof(T) * 8 - 1);
    if (by > most) return std::is_signed_v<T> ? static_cast<T>(a >> most) : T{0};
    return static_cast<T>(a >> by);
  }
};
struct MultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    if constexpr (std::floating_point<T>) return std::fma(a, b, c);
    return Add()(Multiply()(a, b), c);
  }
};
struct HighHalf {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (sizeof(T) == 8) {
      using Twice = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
      return static_cast<T>((static_cast<Twice>(a) * static_cast<Twice>(b)) >> 64);
    } else {
      using Twice = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
      return static_cast<T>((static_cast<Twice>(a) * static_cast<Twice>(b)) >> (sizeof(T) * 8));
    }
  }
};
struct Root {
  template <class T>
  T operator()(T a) const {
    return std::sqrt(a);
  }
};
struct Reciprocal {
  template <class T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct PopulationCount {
  uint32_t operator()(uint32_t a) const { return static_cast<uint32_t>(std::popcount(a)); }
};
struct Insert {  // the lower `length` bits of a at `position` of b
  template <class T>
  T operator()(T a, T b, uint32_t position, uint32_t length) const {
    const T ones = length >= sizeof(T) * 8 ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
    const T mask = Left()(ones, position);
    return static_cast<T>((b & ~mask) | (Left()(a, position) & mask));
  }
};
struct Permute {  // bytes of b:a
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t selector) const {
    const uint64_t bytes = uint64_t{b} << 32 | a;
    uint32_t result = 0;
    for (unsigned i = 0; i < 4; ++i) {
      const uint32_t which = selector >> (4 * i) & 15;
      uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (which & 7))) & 0xFF;
      if (which & 8) byte = byte & 0x80 ? 0xFF : 0;
      result |= byte << (8 * i);
    }
    return result;
  }
};
// The hardware's are within 2 ulp of these; subnormal numbers count as zero.
struct FlushedPowerOf2 {
  float operator()(float a) const {
    const float result = std::exp2(std::fpclassify(a) == FP_SUBNORMAL ? 0.0f : a);
    return std::fpclassify(result) == FP_SUBNORMAL ? 0.0f : result;
  }
};
struct FlushedReciprocal {
  float operator()(float a) const {
    const float result = 1.0f / (std::fpclassify(a) == FP_SUBNORMAL ? std::copysign(0.0f, a) : a);
    return std::fpclassify(result) == FP_SUBNORMAL ? std::copysign(0.0f, result) : result;
  }
};
template <class Op, int kMode>
struct Rounded {
  float operator()(auto... values) const {
    const int before = std::fegetround();
    std::fesetround(kMode);
    volatile float kept[] = {values...};
    volatile float result;
    if constexpr (sizeof...(values) == 3) {
      result = std::fma(kept[0], kept[1], kept[2]);
    } else {
      result = Op()(float{kept[0]}, float{kept[1]});
    }
    std::fesetround(before);
    return result;
  }
};

// d = op(a...), each of its own type.
template <class Op, class R, class... A, size_t... i>
void apply_to(Warp& w, const Instruction& in, uint32_t mask, std::index_sequence<i...>) {
  auto* to = w.registers<R>(in.at[0]);
  const auto from = std::make_tuple(w.registers<A>(in.at[i + 1])...);
  each_lane(mask, [&](unsigned lane) { set_value(to, lane, static_cast<R>(Op()(value_of<A>(std::get<i>(from), lane)...))); });
}
template <class Op, class R, class... A>
void apply(Warp& w, const Instruction& in, uint32_t mask) {
  apply_to<Op, R, A...>(w, in, mask, std::index_sequence_for<A...>());
}

// Where an operation takes other types than one for all.
enum class Takes { all, floats, integers };
template <class T>
constexpr bool takes(Takes which) {
  return which == Takes::all || std::floating_point<T> == (which == Takes::floats);
}
template <class Op, Takes which, int count>
Handler for_type(Type type) {
  return with_type(type, []<class T>() -> Handler {
    if constexpr (!takes<T>(which)) {
      return nullptr;
    } else if constexpr (count == 1) {
      return apply<Op, T, T>;
    } else if constexpr (count == 2) {
      return apply<Op, T, T, T>;
    } else {
      return apply<Op, T, T, T, T>;
    }
  });
}
template <class Op>
Handler shift_for(Type type) {
  return with_type(type, []<class T>() -> Handler {
    if constexpr (std::integral<T>) return apply<Op, T, T, uint32_t>;
    return nullptr;
  });
}

struct Entry {
  std::string_view name;
  Handler (*handler)(Type);
  size_t sources;
};
constexpr Entry kEntries[] = {
    {"add", for_type<Add, Takes::all, 2>, 2},
    {"sub", for_type<Subtract, Takes::all, 2>, 2},
    {"mul", for_type<Multiply, Takes::all, 2>, 2},
    {"div", for_type<Divide, Takes::all, 2>, 2},
    {"rem", for_type<Remainder, Takes::integers, 2>, 2},
    {"min", for_type<Least, Takes::all, 2>, 2},
    {"max", for_type<Greatest, Takes::all, 2>, 2},
    {"and", for_type<And, Takes::integers, 2>, 2},
    {"or", for_type<Or, Takes::integers, 2>, 2},
    {"xor", for_type<Xor, Takes::integers, 2>, 2},
    {"not", for_type<Not, Takes::integers, 1>, 1},
    {"neg", for_type<Negate, Takes::all, 1>, 1},
    {"abs", for_type<Magnitude, Takes::all, 1>, 1},
    {"mov", for_type<Copy, Takes::all, 1>, 1},
    {"mad", for_type<MultiplyAdd, Takes::integers, 3>, 3},
    {"fma", for_type<MultiplyAdd, Takes::floats, 3>, 3},
    {"sqrt", for_type<Root, Takes::floats, 1>, 1},
    {"rcp", for_type<Reciprocal, Takes::floats, 1>, 1},
};

// What differs from the table: operands of two types, roundings other than to nearest, approximations.
bool decode_particular(Decoder& d) {
  const std::string_view opcode = d.opcode(), name = d.name();
  if (!type_of(d.word(d.words() - 1))) return false;
  const Type type = d.type();
  const unsigned bits = bits_of(type);
  const auto uses = [&](std::initializer_list<unsigned> widths, Handler handler) {
    size_t i = 0;
    for (const unsigned width : widths) d.use(i++, width);
    d.in.run = handler;
    return handler != nullptr;
  };
  if (name == "shl") return uses({bits, bits, 32}, shift_for<Left>(type));
  if (name == "shr") return uses({bits, bits, 32}, shift_for<Right>(type));
  if (opcode == "popc.b32") return uses({32, 32}, apply<PopulationCount, uint32_t, uint32_t>);
  if (opcode == "prmt.b32") return uses({32, 32, 32, 32}, apply<Permute, uint32_t, uint32_t, uint32_t, uint32_t>);
  if (opcode == "bfi.b32") return uses({32, 32, 32, 32, 32}, apply<Insert, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>);
  if (opcode == "bfi.b64") return uses({64, 64, 64, 32, 32}, apply<Insert, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>);
  if (opcode == "ex2.approx.ftz.f32") return uses({32, 32}, apply<FlushedPowerOf2, float, float>);
  if (opcode == "rcp.approx.ftz.f32") return uses({32, 32}, apply<FlushedReciprocal, float, float>);
  if (opcode == "add.rz.f32") return uses({32, 32, 32}, apply<Rounded<Add, FE_TOWARDZERO>, float, float, float>);
  if (opcode == "fma.rm.f32") return uses({32, 32, 32, 32}, apply<Rounded<MultiplyAdd, FE_DOWNWARD>, float, float, float, float>);
  return false;
}

template <class Narrow, class Wide>
struct MultiplyWide {
  Wide operator()(Narrow a, Narrow b) const { return static_cast<Wide>(static_cast<Wide>(a) * static_cast<Wide>(b)); }
};
template <class Narrow, class Wide>
bool decode_wide_product(Decoder& d) {
  d.use(0, sizeof(Wide) * 8), d.use(1, sizeof(Narrow) * 8), d.use(2, sizeof(Narrow) * 8);
  d.in.run = apply<MultiplyWide<Narrow, Wide>, Wide, Narrow, Narrow>;
  return true;
}

}  // namespace

bool decode_arithmetic(Decoder& d) {
  const std::string_view name = d.name();
  const auto* entry = std::find_if(std::begin(kEntries), std::end(kEntries), [&](const Entry& e) { return e.name == name; });
  if (d.opcode() == "mul.wide.u32") return decode_wide_product<uint32_t, uint64_t>(d);
  if (d.opcode() == "mul.wide.s32") return decode_wide_product<int32_t, int64_t>(d);
  if (d.opcode() == "mul.wide.u16") return decode_wide_product<uint16_t, uint32_t>(d);
  if (name == "mul" && d.has("hi")) {
    for (size_t i = 0; i < 3; ++i) d.use(i, bits_of(d.type()));
    d.in.run = for_type<HighHalf, Takes::integers, 2>(d.type());
    return true;
  }
  const auto known = [](std::string_view word) { return word == "rn" || word == "lo"; };
  const bool plain = d.words() == 2 || (d.words() == 3 && known(d.word(1)));
  if (entry == std::end(kEntries) || !plain) return decode_particular(d);
  for (size_t i = 0; i <= entry->sources; ++i) d.use(i, bits_of(d.type()));
  d.in.run = entry->handler(d.type());
  return d.in.run != nullptr;
}

}  // namespace reid::test::ptx
