// The text of PTX, as nvcc writes it.

#include <algorithm>
#include <charconv>

#include "ptx/decoder.h"

namespace reid::test::ptx {

namespace {

constexpr std::string_view kBlank = " \t\n\r";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

template <class T>
T number_of(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) throw Fault("no number: " + std::string(text));
  return value;
}
uint64_t integer_of(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.ends_with('U')) text.remove_suffix(1);
  const uint64_t value = text.starts_with("0x") ? number_of<uint64_t>(text.substr(2), 16) : number_of<uint64_t>(text);
  return negative ? ~value + 1 : value;
}

// ".align 8 .b8 name[96]", ".u32 name"
struct Declared {
  std::string_view name;
  size_t bytes = 0, alignment = 0;
};
Declared declared(std::string_view text) {
  Declared d;
  size_t element = 0, count = 1;
  for (text = trimmed(text); !text.empty(); text = trimmed(text)) {
    const size_t end = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end);
    if (word == ".align") {
      text = trimmed(text);
      const size_t last = std::min(text.find_first_of(" \t"), text.size());
      d.alignment = number_of<size_t>(text.substr(0, last));
      text.remove_prefix(last);
    } else if (const auto type = word.starts_with('.') ? type_of(word.substr(1)) : std::nullopt) {
      element = bits_of(*type) / 8;
    } else if (!word.starts_with('.')) {
      const size_t bracket = std::min(word.find('['), word.size());
      d.name = word.substr(0, bracket);
      if (bracket < word.size())
        count = word.substr(bracket) == "[]" ? 0 : number_of<size_t>(word.substr(bracket + 1, word.size() - bracket - 2));
    }
  }
  d.bytes = element * count;
  d.alignment = std::max(d.alignment, element);
  return d;
}

size_t rounded_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// One kernel's body.
class Reader {
 public:
  Reader(Kernel& kernel, std::string_view shared_declarations) : kernel_(kernel) {
    for (unsigned i = 0; i < kSpecials; ++i) {
      constexpr std::string_view kNames[] = {"%tid", "%ntid", "%ctaid", "%nctaid"};
      names_.emplace_back(
          std::string(kNames[i / 3]) + '.' + "xyz" [i % 3], Operand { .kind = Operand::Kind::narrow, .index = i });
    }
    shared_declarations_ = shared_declarations;
  }

  void read(std::string_view parameters, std::string_view body, int line);

 private:
  using Symbols = std::map<std::string, uint64_t, std::less<>>;
  struct Bank {  // "%r<10>": registers that differ by a number
    std::string prefix;
    Operand first;
    uint32_t count;
  };

  void declare_parameters(std::string_view text);
  void declare_registers(std::string_view text);
  void declare_shared(std::string_view text);
  void place_shared(std::string_view body);
  void statement(std::string_view text);
  void instruction(std::string_view text);
  void finish();
  std::vector<Operand> operands(std::string_view text) const;
  Operand operand(std::string_view text) const;
  Operand named(std::string_view text) const;
  void define(std::string name, Operand o) { names_.emplace_back(std::move(name), std::move(o)); }
  std::string label(std::string_view name, size_t depth) const;

  Kernel& kernel_;
  std::string_view shared_declarations_;
  Symbols symbols_;  // parameters and shared arrays, by their places
  std::vector<Bank> banks_;
  std::vector<std::pair<std::string, Operand>> names_;  // the youngest last
  std::vector<std::pair<size_t, size_t>> scopes_;       // their numbers, and how many names there were before
  size_t scopes_seen_ = 0;
  std::map<std::string, uint32_t, std::less<>> labels_;
  std::vector<std::pair<size_t, std::vector<std::string>>> branches_;  // instruction, label as each scope around it would call it
  int line_ = 0;
};

void Reader::declare_parameters(std::string_view text) {
  for (size_t begin = text.find(".param"); begin != std::string_view::npos;) {
    const size_t next = text.find(".param", begin + 1);
    std::string_view one = trimmed(text.substr(begin + 6, next == std::string_view::npos ? next : next - begin - 6));
    if (one.ends_with(',')) one.remove_suffix(1);
    const Declared d = declared(one);
    kernel_.parameter_bytes = rounded_up(kernel_.parameter_bytes, d.alignment);
    symbols_[std::string(d.name)] = kernel_.parameter_bytes;
    kernel_.parameters.push_back({kernel_.parameter_bytes, d.bytes});
    kernel_.parameter_bytes += d.bytes;
    begin = next;
  }
}

void Reader::declare_registers(std::string_view text) {
  const size_t blank = text.find_first_of(" \t");
  const std::optional<Type> type = type_of(text.substr(1, blank - 1));
  if (!type) throw Fault("registers of an unknown type: " + std::string(text));
  const auto kind = *type == Type::pred ? Operand::Kind::predicate : bits_of(*type) == 64 ? Operand::Kind::wide : Operand::Kind::narrow;
  uint32_t& used = *type == Type::pred ? kernel_.predicates : bits_of(*type) == 64 ? kernel_.wide : kernel_.narrow;
  const std::string_view name = trimmed(text.substr(blank));
  const size_t bracket = name.find('<');
  const uint32_t count = bracket == std::string_view::npos ? 1 : number_of<uint32_t>(name.substr(bracket + 1, name.size() - bracket - 2));
  const Operand first{.kind = kind, .index = used};
  if (bracket == std::string_view::npos) {
    define(std::string(name), first);
  } else {
    banks_.push_back({std::string(name.substr(0, bracket)), first, count});
  }
  used += count;
}

void Reader::declare_shared(std::string_view text) {
  const Declared d = declared(text);
  kernel_.static_shared = rounded_up(kernel_.static_shared, d.alignment);
  symbols_[std::string(d.name)] = kernel_.static_shared;
  kernel_.static_shared += d.bytes;
}

// The module's arrays that the kernel names; the dynamic one, which has no size, comes last.
void Reader::place_shared(std::string_view body) {
  std::vector<std::string_view> last;
  std::string_view left = shared_declarations_;
  while (!left.empty()) {
    const size_t end = left.find(';');
    std::string_view one = trimmed(left.substr(0, end));
    left = end == std::string_view::npos ? std::string_view() : left.substr(end + 1);
    if (one.empty() || body.find(declared(one).name) == std::string_view::npos) continue;
    if (declared(one).bytes == 0) {
      last.push_back(one);
    } else {
      declare_shared(one);
    }
  }
  for (size_t at = body.find(".shared .align"); at != std::string_view::npos; at = body.find(".shared .align", at + 1)) {
    declare_shared(body.substr(at + 7, body.find(';', at) - at - 7));
  }
  for (const std::string_view one : last) declare_shared(one);
}

std::string Reader::label(std::string_view name, size_t depth) const {
  return std::string(name) + '@' + std::to_string(depth == 0 ? 0 : scopes_[depth - 1].first);
}

void Reader::read(std::string_view parameters, std::string_view body, int line) {
  line_ = line;
  declare_parameters(parameters);
  place_shared(body);
  size_t at = 0;
  while (at < body.size()) {
    if (body[at] == '\n') ++line_;
    if (kBlank.find(body[at]) != std::string_view::npos) {
      ++at;
    } else if (body.substr(at, 2) == "//") {
      at = std::min(body.find('\n', at), body.size());
    } else if (body[at] == '{') {
      scopes_.emplace_back(++scopes_seen_, names_.size());
      ++at;
    } else if (body[at] == '}') {
      if (scopes_.empty()) throw Fault("a brace too many");
      names_.resize(scopes_.back().second, {std::string(), Operand()});
      scopes_.pop_back();
      ++at;
    } else {
      const size_t end =
          std::min(body.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$", at), body.size());
      if (end > at && end < body.size() && body[end] == ':' && body.substr(end, 2) != "::") {
        labels_[label(body.substr(at, end - at), scopes_.size())] = static_cast<uint32_t>(kernel_.code.size());
        at = end + 1;
        continue;
      }
      const size_t semicolon = body.find(';', at);
      if (semicolon == std::string_view::npos) throw Fault("a statement without an end");
      const std::string_view text = body.substr(at, semicolon - at);
      statement(trimmed(text));
      line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
      at = semicolon + 1;
    }
  }
  finish();
}

void Reader::statement(std::string_view text) {
  if (text.starts_with(".reg")) return declare_registers(trimmed(text.substr(4)));
  if (text.starts_with(".shared") || text.starts_with(".pragma")) return;  // place_shared; advice
  if (text.starts_with('.')) throw Fault("line " + std::to_string(line_) + ": unknown: " + std::string(text));
  try {
    instruction(text);
  } catch (const Fault& fault) {
    throw Fault("line " + std::to_string(line_) + ": " + std::string(text) + ": " + fault.what());
  }
}

void Reader::instruction(std::string_view text) {
  Instruction in;
  in.line = line_;
  if (text.starts_with('@')) {
    const size_t blank = text.find_first_of(" \t");
    std::string_view guard = text.substr(1, blank - 1);
    in.guarded = true;
    in.negated = guard.starts_with('!');
    if (in.negated) guard.remove_prefix(1);
    const Operand o = named(guard);
    if (o.kind != Operand::Kind::predicate) throw Fault("a predicate was expected");
    in.guard = o.index;
    text = trimmed(text.substr(blank));
  }
  const size_t blank = std::min(text.find_first_of(" \t\n"), text.size());
  const std::string_view opcode = text.substr(0, blank), rest = trimmed(text.substr(blank));
  if (opcode == "bra" || opcode == "bra.uni") {
    in.flow = Flow::branch;
    std::vector<std::string> names;
    for (size_t depth = scopes_.size() + 1; depth-- > 0;) names.push_back(label(rest, depth));
    branches_.emplace_back(kernel_.code.size(), std::move(names));
  } else if (opcode == "ret" || opcode == "exit") {
    in.flow = Flow::exit;
  } else {
    Decoder d(kernel_, opcode, operands(rest), in);
    if (!decode_hopper(d) && !decode_warp(d) && !decode_memory(d) && !decode_conversion(d) && !decode_choice(d) && !decode_arithmetic(d)) {
      throw Fault("an instruction that this machine does not know");
    }
    in.moves = d.name() == "mov";
  }
  kernel_.code.push_back(std::move(in));
}

void Reader::finish() {
  for (const auto& [place, names] : branches_) {
    const auto known = std::find_if(names.begin(), names.end(), [&](const std::string& name) { return labels_.contains(name); });
    if (known == names.end()) throw Fault("a branch to an unknown label " + names[0]);
    kernel_.code[place].target = labels_[*known];
  }
}

std::vector<Operand> Reader::operands(std::string_view text) const {
  std::vector<Operand> all;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ',';
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (c != ',' || depth > 0) continue;
    if (const std::string_view one = trimmed(text.substr(begin, i - begin)); !one.empty()) all.push_back(operand(one));
    begin = i + 1;
  }
  return all;
}

Operand Reader::operand(std::string_view text) const {
  if (text.starts_with('{')) return {.kind = Operand::Kind::vector, .parts = operands(text.substr(1, text.size() - 2))};
  if (text.starts_with('[')) {
    text = text.substr(1, text.size() - 2);
    const size_t plus = text.find('+');
    if (plus == std::string_view::npos) return {.kind = Operand::Kind::address, .parts = operands(text)};
    const auto offset = static_cast<int64_t>(integer_of(trimmed(text.substr(plus + 1))));
    return {.kind = Operand::Kind::address, .offset = offset, .parts = {named(trimmed(text.substr(0, plus)))}};
  }
  if (const size_t bar = text.find('|'); bar != std::string_view::npos) {
    return {.kind = Operand::Kind::vector, .parts = {named(text.substr(0, bar)), named(text.substr(bar + 1))}};
  }
  if (text.starts_with("0f") || text.starts_with("0F"))
    return {.kind = Operand::Kind::f32, .value = number_of<uint64_t>(text.substr(2), 16)};
  if (text.starts_with("0d") || text.starts_with("0D"))
    return {.kind = Operand::Kind::f64, .value = number_of<uint64_t>(text.substr(2), 16)};
  if (text.starts_with('-') || std::isdigit(static_cast<unsigned char>(text[0]))) {
    return {.kind = Operand::Kind::integer, .value = integer_of(text)};
  }
  if (text == "_") return {};
  return named(text);
}

Operand Reader::named(std::string_view text) const {
  for (auto known = names_.rbegin(); known != names_.rend(); ++known) {
    if (known->first == text) return known->second;
  }
  const size_t digits = text.find_first_of("0123456789");
  for (const Bank& bank : banks_) {
    if (digits == std::string_view::npos || text.substr(0, digits) != bank.prefix) continue;
    const uint32_t number = number_of<uint32_t>(text.substr(digits));
    if (number >= bank.count) throw Fault("a register beyond those declared: " + std::string(text));
    Operand o = bank.first;
    o.index += number;
    return o;
  }
  if (const auto symbol = symbols_.find(text); symbol != symbols_.end()) return {.kind = Operand::Kind::symbol, .value = symbol->second};
  throw Fault("an unknown name: " + std::string(text));
}

}  // namespace

Module::Module(std::string text) : text_(std::move(text)) {
  constexpr std::string_view kEntry = ".entry ";
  for (size_t at = text_.find(kEntry); at != std::string::npos; at = text_.find(kEntry, at + 1)) {
    const size_t name = at + kEntry.size();
    entries_.emplace(text_.substr(name, text_.find('(', name) - name), at);
  }
}

const Kernel& Module::kernel(const std::string& name) {
  if (const auto known = decoded_.find(name); known != decoded_.end()) return known->second;
  const std::string_view text = text_;
  const size_t entry = entries_.at(name), open = text.find('(', entry), close = text.find(')', open), body = text.find("\n{", close);
  size_t end = body + 1;
  for (int depth = 0; end < text.size(); ++end) {
    depth += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
    if (depth == 0) break;
  }
  const auto line = static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(body), '\n')) + 2;
  std::string shared;
  for (size_t at = 0, next; (next = text.find("\n.", at)) != std::string_view::npos; at = next + 1) {
    const std::string_view declaration = text.substr(next + 1, text.find('\n', next + 1) - next - 1);
    for (const std::string_view start : {".extern .shared ", ".shared "}) {
      if (declaration.starts_with(start)) shared += declaration.substr(start.size());
    }
  }
  Kernel kernel;
  kernel.name = name;
  if (const size_t bound = text.find(".maxntid ", close); bound < body) {
    kernel.most_threads = 1;
    std::string_view sizes = text.substr(bound + 9, text.find('\n', bound) - bound - 9);
    for (size_t comma = 0; comma != std::string_view::npos; sizes.remove_prefix(std::min(comma + 1, sizes.size()))) {
      comma = sizes.find(',');
      kernel.most_threads *= number_of<unsigned>(trimmed(sizes.substr(0, comma)));
    }
  }
  Reader(kernel, shared).read(text.substr(open, close - open), text.substr(body + 2, end - body - 2), line);
  return decoded_.emplace(name, std::move(kernel)).first->second;
}

}  // namespace reid::test::ptx
