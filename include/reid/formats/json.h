#pragma once
// A JSON value: what metrics files, manifests, safetensors headers and parsed TOML configs are made of.
//
// Design: a plain value type. Objects keep the order of insertion, integers stay 64-bit integers, doubles print with the
// fewest digits that read back equal. Not for huge documents.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace reid {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;  // null
  Json(bool v) : value_(v) {}
  Json(int v) : value_(int64_t{v}) {}
  Json(int64_t v) : value_(v) {}
  Json(double v) : value_(v) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(Array v) : value_(std::move(v)) {}
  Json(Object v) : value_(std::move(v)) {}
  static Json object(std::initializer_list<std::pair<std::string, Json>> members = {}) { return Json(Object(members)); }
  static Json array(std::initializer_list<Json> items = {}) { return Json(Array(items)); }

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  const char* type_name() const;  // "integer"

  // Each throws reid::Error naming the type found when it is another one; number() accepts integers.
  bool boolean() const;
  int64_t integer() const;
  double number() const;
  const std::string& string() const;
  const Array& items() const;
  Array& items();
  const Object& members() const;
  Object& members();

  const Json* find(std::string_view key) const;  // null when absent or not an object
  const Json& at(std::string_view key) const;    // throws, naming the key
  Json& operator[](std::string_view key);        // inserts null when absent; a null value becomes an object
  void push_back(Json item);                     // a null value becomes an array

  std::string dump(int indent = -1) const;  // one line, or indented; NaN and infinities are written as null
  friend bool operator==(const Json&, const Json&) = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

// `name` stands in error messages (a file name), with line and column where known.
Json parse_json(std::string_view text, const std::string& name);
// For documents too large to hold as values: calls visit(item) for each item of the array that the text is; throws when it is none.
void each_json_item(std::string_view text, const std::string& name, const std::function<void(const Json& item)>& visit);
Json parse_toml(std::string_view text, const std::string& name);  // tables become objects; dates are refused

}  // namespace reid
