#include "formats/pickle.h"

#include <bit>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "reid/engine/base.h"

namespace reid {

using Kind = PickleNode::Kind;

const PickleNode* PickleNode::find(const std::string& key) const {
  if (kind != Kind::dict) return nullptr;
  for (size_t i = 0; i + 1 < items.size(); i += 2)
    if (items[i]->kind == Kind::string && items[i]->text == key) return items[i + 1];
  return nullptr;
}

// The pickle virtual machine (Lib/pickletools.py documents its instructions): a stack, marks on it, and a memo.
class PickleMachine {
 public:
  PickleMachine(Cursor& in, Pickle& pickle, size_t max_values) : in_(in), pickle_(pickle), max_values_(max_values) {}
  PickleNode* run() {
    for (;;) {
      const uint8_t code = in_.byte();
      if (code == '.') return pop();
      const bool known = number(code) || text(code) || container(code) || memo(code) || object(code);
      if (!known) damaged(str("unknown instruction ", int{code}));
    }
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    fail(str(in_.name(), ": damaged pickle near byte ", in_.position(), ": ", what));
  }
  PickleNode* make(Kind kind) {
    if (pickle_.nodes_.size() >= max_values_) damaged(str("more than ", max_values_, " values"));
    pickle_.nodes_.emplace_back().kind = kind;
    return &pickle_.nodes_.back();
  }
  void push(PickleNode* node) { stack_.push_back(node); }
  PickleNode* pop() {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    PickleNode* top = stack_.back();
    stack_.pop_back();
    return top;
  }
  PickleNode* top() {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    return stack_.back();
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  std::vector<PickleNode*> pop_to_mark() {
    if (marks_.empty()) damaged("no mark on the stack");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleNode*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }

  void push_integer(int64_t value) {
    PickleNode* node = make(Kind::integer);
    node->integer = value;
    push(node);
  }
  void push_long(uint64_t count) {
    std::string bytes = in_.text(count);
    if (bytes.size() > 8) {
      push(make(Kind::integer));
      top()->text = std::move(bytes);
      return;
    }
    uint64_t value = 0;
    for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    const size_t bits = 8 * bytes.size();
    const bool negative = bits > 0 && (value >> (bits - 1) & 1) != 0;
    if (negative && bits < 64) value |= ~uint64_t{0} << bits;
    push_integer(static_cast<int64_t>(value));
  }
  void push_boolean(bool value) {
    push(make(Kind::boolean));
    top()->integer = value;
  }
  void push_text(Kind kind, std::string text) {
    push(make(kind));
    top()->text = std::move(text);
  }
  void push_real(double value) {
    push(make(Kind::real));
    top()->real = value;
  }
  void push_integer_line() {  // also how protocol 0 writes booleans
    std::string line = in_.line();
    if (line == "00" || line == "01") return push_boolean(line == "01");
    if (!line.empty() && line.back() == 'L') line.pop_back();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc() || end != line.data() + line.size()) damaged("'" + line + "' is no integer of 64 bits");
    push_integer(value);
  }
  void push_real_line() {
    const std::string line = in_.line();
    char* end = nullptr;
    push_real(std::strtod(line.c_str(), &end));
    if (line.empty() || *end != '\0') damaged("'" + line + "' is no number");
  }

  bool number(uint8_t code) {
    switch (code) {
      case 'N': push(make(Kind::none)); return true;
      case 0x88: push_boolean(true); return true;
      case 0x89: push_boolean(false); return true;
      case 'K': push_integer(in_.byte()); return true;
      case 'M': push_integer(in_.number<uint16_t>()); return true;
      case 'J': push_integer(in_.number<int32_t>()); return true;
      case 0x8a: push_long(in_.byte()); return true;
      case 0x8b: push_long(in_.number<uint32_t>()); return true;
      case 'I':
      case 'L': push_integer_line(); return true;
      case 'F': push_real_line(); return true;
      case 'G': {  // big-endian
        uint64_t bits = 0;
        for (int i = 0; i < 8; ++i) bits = bits << 8 | in_.byte();
        push_real(std::bit_cast<double>(bits));
        return true;
      }
      default: return false;
    }
  }

  bool text(uint8_t code) {
    switch (code) {
      case 'X':
      case 'T': push_text(Kind::string, in_.text(in_.number<uint32_t>())); return true;
      case 0x8c:
      case 'U': push_text(Kind::string, in_.text(in_.byte())); return true;
      case 0x8d: push_text(Kind::string, in_.text(in_.number<uint64_t>())); return true;
      case 'B': push_text(Kind::bytes, in_.text(in_.number<uint32_t>())); return true;
      case 'C': push_text(Kind::bytes, in_.text(in_.byte())); return true;
      case 0x8e:
      case 0x96: push_text(Kind::bytes, in_.text(in_.number<uint64_t>())); return true;
      case 'V': push_text(Kind::string, in_.line()); return true;
      case 'S': {
        std::string line = in_.line();
        if (line.size() < 2) damaged("a string without quotes");
        push_text(Kind::string, line.substr(1, line.size() - 2));
        return true;
      }
      default: return false;
    }
  }

  void push_tuple(size_t count) {
    std::vector<PickleNode*> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push(make(Kind::tuple));
    top()->items = std::move(items);
  }
  void push_items(Kind kind) {
    std::vector<PickleNode*> items = pop_to_mark();
    if (kind == Kind::dict && items.size() % 2 != 0) damaged("a dict with a key that has no value");
    push(make(kind));
    top()->items = std::move(items);
  }
  // Into a list or dict; objects (of list and dict subclasses) pass over what they are given.
  void extend(const std::vector<PickleNode*>& items, Kind kind) {
    PickleNode* target = top();
    if (target->kind == Kind::object) return;
    if (target->kind != kind) damaged("items for something that takes none");
    if (kind == Kind::dict && items.size() % 2 != 0) damaged("a dict with a key that has no value");
    target->items.insert(target->items.end(), items.begin(), items.end());
  }

  bool container(uint8_t code) {
    switch (code) {
      case '(': marks_.push_back(stack_.size()); return true;
      case '0': (stack_.size() > floor() || marks_.empty()) ? static_cast<void>(pop()) : marks_.pop_back(); return true;
      case '1': pop_to_mark(); return true;
      case '2': push(top()); return true;
      case ')': push_tuple(0); return true;
      case 0x85: push_tuple(1); return true;
      case 0x86: push_tuple(2); return true;
      case 0x87: push_tuple(3); return true;
      case 't': push_items(Kind::tuple); return true;
      case ']': push(make(Kind::list)); return true;
      case 'l': push_items(Kind::list); return true;
      case 0x8f: push(make(Kind::list)); return true;  // a set, as a list
      case 0x91: push_items(Kind::list); return true;  // a frozenset
      case '}': push(make(Kind::dict)); return true;
      case 'd': push_items(Kind::dict); return true;
      case 'a': {
        PickleNode* item = pop();
        extend({item}, Kind::list);
        return true;
      }
      case 0x90:
      case 'e': extend(pop_to_mark(), Kind::list); return true;
      case 's': {
        PickleNode* value = pop();
        PickleNode* key = pop();
        extend({key, value}, Kind::dict);
        return true;
      }
      case 'u': extend(pop_to_mark(), Kind::dict); return true;
      default: return false;
    }
  }

  void remember(uint64_t index) { memo_[index] = top(); }
  void recall(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) damaged(str("nothing was kept as number ", index));
    push(found->second);
  }
  uint64_t index_line() {
    const std::string line = in_.line();
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc() || end != line.data() + line.size()) damaged("'" + line + "' is no index");
    return value;
  }
  bool memo(uint8_t code) {
    switch (code) {
      case 'p': remember(index_line()); return true;
      case 'q': remember(in_.byte()); return true;
      case 'r': remember(in_.number<uint32_t>()); return true;
      case 0x94: remember(memo_.size()); return true;
      case 'g': recall(index_line()); return true;
      case 'h': recall(in_.byte()); return true;
      case 'j': recall(in_.number<uint32_t>()); return true;
      default: return false;
    }
  }

  void push_global(const std::string& module, const std::string& name) { push_text(Kind::global, module + "." + name); }
  // The only call that means something here is that of an ordered dict.
  void push_call(const PickleNode* callable, PickleNode* arguments) {
    const bool dict = callable->kind == Kind::global && callable->text == "collections.OrderedDict";
    push(make(dict ? Kind::dict : Kind::object));
    if (!dict) {
      top()->text = callable->kind == Kind::global || callable->kind == Kind::object ? callable->text : "something unnamed";
      top()->arguments = arguments;
      return;
    }
    if (arguments->kind != Kind::tuple || arguments->items.empty()) return;
    for (PickleNode* pair : arguments->items[0]->items) {  // OrderedDict([[key, value], ...]), as Python 2 wrote it
      if (pair->items.size() != 2) damaged("an ordered dict of something that is no pair");
      top()->items.insert(top()->items.end(), pair->items.begin(), pair->items.end());
    }
  }
  PickleNode* tuple_of(std::vector<PickleNode*> items) {
    PickleNode* tuple = make(Kind::tuple);
    tuple->items = std::move(items);
    return tuple;
  }
  void push_instance(bool class_on_stack) {
    std::vector<PickleNode*> items;
    PickleNode* type = nullptr;
    if (class_on_stack) {
      items = pop_to_mark();
      if (items.empty()) damaged("an object without a class");
      type = items.front();
      items.erase(items.begin());
    } else {
      const std::string module = in_.line(), name = in_.line();
      items = pop_to_mark();
      push_global(module, name);
      type = pop();
    }
    push_call(type, tuple_of(std::move(items)));
  }
  bool object(uint8_t code) {
    switch (code) {
      case 0x80: in_.byte(); return true;              // protocol
      case 0x95: in_.number<uint64_t>(); return true;  // frame
      case 'c': {
        const std::string module = in_.line(), name = in_.line();
        push_global(module, name);
        return true;
      }
      case 0x93: {
        const PickleNode *name = pop(), *module = pop();
        push_global(module->text, name->text);
        return true;
      }
      case 'R':
      case 0x81: {
        PickleNode* arguments = pop();
        push_call(pop(), arguments);
        return true;
      }
      case 0x92: {  // with keyword arguments, which nothing here needs
        pop();
        PickleNode* arguments = pop();
        push_call(pop(), arguments);
        return true;
      }
      case 'i': push_instance(false); return true;
      case 'o': push_instance(true); return true;
      case 'b': {
        PickleNode* state = pop();
        if (top()->kind == Kind::object) top()->state = state;  // attributes of dicts are of no interest
        return true;
      }
      case 'Q':
      case 'P': {
        PickleNode* id = nullptr;
        if (code == 'P') push_text(Kind::string, in_.line());
        id = pop();
        push(make(Kind::persistent));
        top()->items = {id};
        return true;
      }
      default: return false;
    }
  }

  Cursor& in_;
  Pickle& pickle_;
  size_t max_values_;
  std::vector<PickleNode*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, PickleNode*> memo_;
};

Pickle::Pickle(Cursor& in, size_t max_values) { root_ = PickleMachine(in, *this, max_values).run(); }

}  // namespace reid
