#pragma once
// How the text of an instruction becomes one of the machine's.

#include <optional>

#include "ptx/machine.h"

namespace reid::test::ptx {

struct Operand {
  enum class Kind { narrow, wide, predicate, integer, f32, f64, symbol, vector, address, none };
  Kind kind = Kind::none;
  uint32_t index = 0;               // of a register
  uint64_t value = 0;               // of a number, of a symbol: its place
  int64_t offset = 0;               // of an address
  std::vector<Operand> parts = {};  // of a vector; of an address: what it stands on; of "a|b": both
};

enum class Type { u8, u16, u32, u64, s8, s16, s32, s64, f32, f64, pred };
std::optional<Type> type_of(std::string_view text);  // b32 as u32
inline unsigned bits_of(Type t) {
  constexpr unsigned kBits[] = {8, 16, 32, 64, 8, 16, 32, 64, 32, 64, 1};
  return kBits[static_cast<int>(t)];
}

// Calls f.template operator()<T>() for the C++ type.
template <class F>
Handler with_type(Type type, F f) {
  switch (type) {
    case Type::u8: return f.template operator()<uint8_t>();
    case Type::u16: return f.template operator()<uint16_t>();
    case Type::u32: return f.template operator()<uint32_t>();
    case Type::u64: return f.template operator()<uint64_t>();
    case Type::s8: return f.template operator()<int8_t>();
    case Type::s16: return f.template operator()<int16_t>();
    case Type::s32: return f.template operator()<int32_t>();
    case Type::s64: return f.template operator()<int64_t>();
    case Type::f32: return f.template operator()<float>();
    case Type::f64: return f.template operator()<double>();
    case Type::pred: break;
  }
  return nullptr;
}

class Decoder {
 public:
  Decoder(Kernel& kernel, std::string_view opcode, std::vector<Operand> operands, Instruction& in);

  std::string_view name() const { return words_[0]; }
  std::string_view opcode() const { return opcode_; }
  bool has(std::string_view word) const;
  size_t words() const { return words_.size(); }
  std::string_view word(size_t i) const { return words_[i]; }
  Type type(size_t from_end = 0) const;  // the last word, or one before
  const std::vector<Operand>& operands() const { return operands_; }
  const Operand& operand(size_t i) const;

  // Registers of an operand, in the instruction's list. Numbers become constants.
  void use(size_t i, unsigned bits) { in.at.push_back(source(operand(i), bits)); }
  void use(const Operand& o, unsigned bits) { in.at.push_back(source(o, bits)); }
  uint32_t source(const Operand& o, unsigned bits);
  uint32_t predicate(const Operand& o);

  Instruction& in;

 private:
  uint32_t constant(uint64_t value, unsigned bits);

  Kernel& kernel_;
  std::string_view opcode_;
  std::vector<std::string_view> words_;
  std::vector<Operand> operands_;
};

// Each answers whether the instruction is one of its own, and then has set d.in.
bool decode_arithmetic(Decoder& d);
bool decode_choice(Decoder& d);
bool decode_conversion(Decoder& d);
bool decode_memory(Decoder& d);
bool decode_warp(Decoder& d);
bool decode_tensor(Decoder& d);
bool decode_hopper(Decoder& d);

// The kernels of a module's text, by name; each is decoded when it is asked for.
class Module {
 public:
  explicit Module(std::string text);
  const Kernel& kernel(const std::string& name);
  bool has(const std::string& name) const { return entries_.contains(name); }

 private:
  std::string text_;
  std::map<std::string, size_t, std::less<>> entries_;  // where they begin
  std::map<std::string, Kernel, std::less<>> decoded_;
};

}  // namespace reid::test::ptx
