#include <algorithm>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "reid/engine/base.h"
#include "reid/formats/json.h"

namespace reid {
namespace {

Json convert(const toml::node& node, const std::string& name);

bool stands_before(const toml::node& a, const toml::node& b) {
  const toml::source_position p = a.source().begin, q = b.source().begin;
  return p.line != q.line ? p.line < q.line : p.column < q.column;
}

Json convert_table(const toml::table& table, const std::string& name) {
  std::vector<std::pair<std::string, const toml::node*>> members;  // toml++ sorts by key; the file's order is kept here
  for (const auto& [key, node] : table) members.emplace_back(std::string(key.str()), &node);
  std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return stands_before(*a.second, *b.second); });
  Json::Object object;
  for (const auto& [key, node] : members) object.emplace_back(key, convert(*node, name));
  return Json(std::move(object));
}

Json convert(const toml::node& node, const std::string& name) {
  if (const toml::table* table = node.as_table()) return convert_table(*table, name);
  if (const toml::array* array = node.as_array()) {
    Json::Array items;
    for (const toml::node& item : *array) items.push_back(convert(item, name));
    return Json(std::move(items));
  }
  if (const auto* v = node.as_string()) return Json(v->get());
  if (const auto* v = node.as_integer()) return Json(int64_t{v->get()});
  if (const auto* v = node.as_floating_point()) return Json(v->get());
  if (const auto* v = node.as_boolean()) return Json(v->get());
  const toml::source_position at = node.source().begin;
  fail(str(name, ":", at.line, ":", at.column, ": dates and times are not supported; write a string"));
}

}  // namespace

Json parse_toml(std::string_view text, const std::string& name) {
  try {
    return convert(toml::parse(text), name);
  } catch (const toml::parse_error& e) {
    const toml::source_position at = e.source().begin;
    fail(str(name, ":", at.line, ":", at.column, ": ", e.description()));
  }
}

}  // namespace reid
