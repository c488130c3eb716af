#include "ptx/decoder.h"

#include <algorithm>

namespace reid::test::ptx {

std::optional<Type> type_of(std::string_view text) {
  constexpr std::pair<std::string_view, Type> kTypes[] = {{"u8", Type::u8},   {"u16", Type::u16}, {"u32", Type::u32},  {"u64", Type::u64},
                                                          {"s8", Type::s8},   {"s16", Type::s16}, {"s32", Type::s32},  {"s64", Type::s64},
                                                          {"b8", Type::u8},   {"b16", Type::u16}, {"b32", Type::u32},  {"b64", Type::u64},
                                                          {"f32", Type::f32}, {"f64", Type::f64}, {"pred", Type::pred}};
  for (const auto& [name, type] : kTypes) {
    if (name == text) return type;
  }
  return {};
}

Decoder::Decoder(Kernel& kernel, std::string_view opcode, std::vector<Operand> operands, Instruction& instruction)
    : in(instruction), kernel_(kernel), opcode_(opcode), operands_(std::move(operands)) {
  for (size_t begin = 0; begin <= opcode.size();) {
    const size_t end = std::min(opcode.find('.', begin), opcode.size());
    words_.push_back(opcode.substr(begin, end - begin));
    begin = end + 1;
  }
}

bool Decoder::has(std::string_view word) const { return std::find(words_.begin(), words_.end(), word) != words_.end(); }

Type Decoder::type(size_t from_end) const {
  const std::optional<Type> found = type_of(words_.at(words_.size() - 1 - from_end));
  if (!found) throw Fault("a type was expected in " + std::string(opcode_));
  return *found;
}

const Operand& Decoder::operand(size_t i) const {
  if (i >= operands_.size()) throw Fault("an operand is missing");
  return operands_[i];
}

uint32_t Decoder::constant(uint64_t value, unsigned bits) {
  if (bits == 64) {
    for (const auto& [index, known] : kernel_.wide_constants) {
      if (known == value) return index;
    }
    kernel_.wide_constants.emplace_back(kernel_.wide, value);
    return kernel_.wide++;
  }
  const auto cut = static_cast<uint32_t>(bits == 32 ? value : value & ((uint64_t{1} << bits) - 1));
  for (const auto& [index, known] : kernel_.narrow_constants) {
    if (known == cut) return index;
  }
  kernel_.narrow_constants.emplace_back(kernel_.narrow, cut);
  return kernel_.narrow++;
}

uint32_t Decoder::source(const Operand& o, unsigned bits) {
  const bool wide = bits == 64;
  switch (o.kind) {
    case Operand::Kind::narrow:
    case Operand::Kind::wide:
      if (wide != (o.kind == Operand::Kind::wide)) throw Fault("a register of another width was expected");
      return o.index;
    case Operand::Kind::integer:
    case Operand::Kind::symbol: return constant(o.value, bits);
    case Operand::Kind::f32:
      if (bits != 32) break;
      return constant(o.value, bits);
    case Operand::Kind::f64:
      if (bits != 64) break;
      return constant(o.value, bits);
    default: break;
  }
  throw Fault("a register or a number was expected");
}

uint32_t Decoder::predicate(const Operand& o) {
  if (o.kind != Operand::Kind::predicate) throw Fault("a predicate was expected");
  return o.index;
}

}  // namespace reid::test::ptx
