#include "reid/formats/json.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "reid/engine/base.h"

namespace reid {
namespace {

using Foreign = nlohmann::json;

constexpr size_t kMaxDepth = 256;  // values are destroyed and printed by recursion

// Builds a Json from parser events. Members keep their order; a key given twice is an error.
class Builder : public nlohmann::json_sax<Foreign> {
 public:
  using Visit = std::function<void(const Json&)>;
  // With `visit`: the items of the outermost array go there instead of into the result.
  explicit Builder(const std::string& name, const Visit* visit = nullptr) : name_(name), visit_(visit) {}
  Json result;

  bool null() override { return put(Json()); }
  bool boolean(bool v) override { return put(Json(v)); }
  bool number_integer(number_integer_t v) override { return put(Json(int64_t{v})); }
  bool number_unsigned(number_unsigned_t v) override {
    REID_CHECK(v <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), name_, ": the integer ", v, " is above 2^63 - 1");
    return put(Json(static_cast<int64_t>(v)));
  }
  bool number_float(number_float_t v, const string_t&) override { return put(Json(v)); }
  bool string(string_t& v) override { return put(Json(std::move(v))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json(Json::Object())); }
  bool start_array(std::size_t) override { return open(Json(Json::Array())); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& v) override {
    REID_CHECK(stack_.back().keys.insert(v).second, name_, ": the key \"", v, "\" stands twice in one object");
    stack_.back().key = v;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    std::string text = e.what();
    const size_t prefix = text.find("] ");
    if (prefix != std::string::npos) text.erase(0, prefix + 2);
    fail(name_ + ": " + text);
  }

 private:
  struct Level {
    Json value;
    std::string key;  // under which the next value goes
    std::unordered_set<std::string> keys;
  };

  bool put(Json value) {
    if (stack_.empty()) {
      result = std::move(value);
    } else if (stack_.back().value.is_array()) {
      if (visit_ != nullptr && stack_.size() == 1) {
        (*visit_)(value);
      } else {
        stack_.back().value.items().push_back(std::move(value));
      }
    } else {
      stack_.back().value.members().emplace_back(stack_.back().key, std::move(value));
    }
    return true;
  }
  bool open(Json container) {
    REID_CHECK(stack_.size() < kMaxDepth, name_, ": nested deeper than ", kMaxDepth, " levels");
    stack_.push_back({std::move(container), {}, {}});
    return true;
  }
  bool close() {
    Json finished = std::move(stack_.back().value);
    stack_.pop_back();
    return put(std::move(finished));
  }

  const std::string& name_;
  const Visit* visit_;
  std::vector<Level> stack_;
};

std::string quoted(const std::string& text) {
  return Foreign(text).dump(-1, ' ', false, Foreign::error_handler_t::replace);  // a file name need not be UTF-8
}

std::string shortest(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, end.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";  // stays a double when read back
  return text;
}

void newline(std::string& out, int indent, int depth) {
  if (indent < 0) return;
  out += '\n';
  out.append(static_cast<size_t>(indent) * static_cast<size_t>(depth), ' ');
}

void print(const Json& json, std::string& out, int indent, int depth) {
  const char* const separator = indent < 0 ? ", " : ",";
  if (json.is_null()) {
    out += "null";
  } else if (json.is_bool()) {
    out += json.boolean() ? "true" : "false";
  } else if (json.is_integer()) {
    out += std::to_string(json.integer());
  } else if (json.is_number()) {
    out += shortest(json.number());
  } else if (json.is_string()) {
    out += quoted(json.string());
  } else if (json.is_array()) {
    out += '[';
    for (const Json& item : json.items()) {
      if (&item != &json.items().front()) out += separator;
      newline(out, indent, depth + 1);
      print(item, out, indent, depth + 1);
    }
    if (!json.items().empty()) newline(out, indent, depth);
    out += ']';
  } else {
    out += '{';
    for (const auto& member : json.members()) {
      if (&member != &json.members().front()) out += separator;
      newline(out, indent, depth + 1);
      out += quoted(member.first) + ": ";
      print(member.second, out, indent, depth + 1);
    }
    if (!json.members().empty()) newline(out, indent, depth);
    out += '}';
  }
}

template <class T>
const T& expect(const T* value, const char* wanted, const Json& json) {
  REID_CHECK(value != nullptr, "expected ", wanted, ", found ", json.type_name());
  return *value;
}

}  // namespace

const char* Json::type_name() const {
  constexpr const char* kNames[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
  return kNames[value_.index()];
}

bool Json::boolean() const { return expect(std::get_if<bool>(&value_), "a boolean", *this); }
int64_t Json::integer() const { return expect(std::get_if<int64_t>(&value_), "an integer", *this); }
double Json::number() const {
  if (const int64_t* whole = std::get_if<int64_t>(&value_)) return static_cast<double>(*whole);
  return expect(std::get_if<double>(&value_), "a number", *this);
}
const std::string& Json::string() const { return expect(std::get_if<std::string>(&value_), "a string", *this); }
const Json::Array& Json::items() const { return expect(std::get_if<Array>(&value_), "an array", *this); }
Json::Array& Json::items() { return const_cast<Array&>(std::as_const(*this).items()); }
const Json::Object& Json::members() const { return expect(std::get_if<Object>(&value_), "an object", *this); }
Json::Object& Json::members() { return const_cast<Object&>(std::as_const(*this).members()); }

const Json* Json::find(std::string_view key) const {
  const Object* object = std::get_if<Object>(&value_);
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : *object)
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  REID_CHECK(is_object(), "looking for the key \"", key, "\": expected an object, found ", type_name());
  const Json* value = find(key);
  REID_CHECK(value != nullptr, "the key \"", key, "\" is missing");
  return *value;
}

Json& Json::operator[](std::string_view key) {
  if (is_null()) value_ = Object();
  REID_CHECK(is_object(), "setting the key \"", key, "\": expected an object, found ", type_name());
  if (const Json* value = find(key)) return const_cast<Json&>(*value);
  return members().emplace_back(std::string(key), Json()).second;
}

void Json::push_back(Json item) {
  if (is_null()) value_ = Array();
  items().push_back(std::move(item));
}

std::string Json::dump(int indent) const {
  std::string out;
  print(*this, out, indent, 0);
  return out;
}

Json parse_json(std::string_view text, const std::string& name) {
  Builder builder(name);
  const bool ok = Foreign::sax_parse(text.begin(), text.end(), &builder);
  REID_CHECK(ok, name, ": not valid JSON");
  return std::move(builder.result);
}

void each_json_item(std::string_view text, const std::string& name, const std::function<void(const Json&)>& visit) {
  Builder builder(name, &visit);
  const bool ok = Foreign::sax_parse(text.begin(), text.end(), &builder);
  REID_CHECK(ok, name, ": not valid JSON");
  REID_CHECK(builder.result.is_array(), name, ": expected an array, found ", builder.result.type_name());
}

}  // namespace reid
