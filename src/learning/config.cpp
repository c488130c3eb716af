#include "reid/learning/config.h"

#include "reid/engine/base.h"
#include "reid/formats/files.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace reid {
namespace {

// The fewest digits that read back equal; TOML wants a dot or an exponent in a float.
std::string float_text(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
  std::string text(buffer, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

// Bounds read better without a trailing ".0".
std::string bound_text(double v) {
  const std::string text = float_text(v);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          const char* digits = "0123456789ABCDEF";
          const auto u = static_cast<unsigned char>(c);
          out += std::string("\\u00") + digits[u >> 4] + digits[u & 15];
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

std::string toml_text(const Json& v) {
  if (v.is_bool()) return v.boolean() ? "true" : "false";
  if (v.is_integer()) return std::to_string(v.integer());
  if (v.is_number()) return float_text(v.number());
  if (v.is_string()) return quoted(v.string());
  if (v.is_array()) {
    std::string out = "[";
    for (size_t i = 0; i < v.items().size(); ++i) out += (i ? ", " : "") + toml_text(v.items()[i]);
    return out + "]";
  }
  return v.dump();
}

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

std::string escaped_cell(std::string text) {  // '|' would end a markdown cell
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

// Levenshtein distance with adjacent transpositions.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

const char* name_of(Origin origin) {
  switch (origin) {
    case Origin::published: return "published";
    case Origin::inferred: return "inferred";
    case Origin::engineering: return "engineering";
  }
  return "?";
}

bool Range::contains(double v) const {
  const bool above_low = open_low ? v > low : v >= low;
  const bool below_high = open_high ? v < high : v <= high;
  return above_low && below_high;
}

std::string Range::text() const {
  const bool has_low = std::isfinite(low), has_high = std::isfinite(high);
  if (has_low && has_high) return std::string(open_low ? "(" : "[") + bound_text(low) + ", " + bound_text(high) + (open_high ? ")" : "]");
  if (has_low) return std::string(open_low ? "> " : ">= ") + bound_text(low);
  if (has_high) return std::string(open_high ? "< " : "<= ") + bound_text(high);
  return "";
}

const char* ConfigKey::type_name() const {
  if (!allowed.empty()) return "choice";
  static constexpr const char* kNames[] = {"boolean", "integer", "float", "string", "list of strings", "list of numbers"};
  return kNames[value.index()];
}

std::string ConfigKey::expected() const {
  if (!allowed.empty()) return "one of " + join(allowed);
  static constexpr const char* kPhrases[] = {"true or false", "an integer",        "a number",
                                             "a string",      "a list of strings", "a list of numbers"};
  const std::string limits = range.text();
  return kPhrases[value.index()] + (limits.empty() ? "" : (limits[0] == '[' || limits[0] == '(' ? " in " : " ") + limits);
}

Json ConfigKey::get() const {
  return std::visit(Overloaded{[]<class T>(const std::vector<T>* list) {
                                 Json out = Json::array();
                                 for (const T& item : *list) out.push_back(item);
                                 return out;
                               },
                               [](const auto* scalar) { return Json(*scalar); }},
                    value);
}

void ConfigKey::assign(const Json& v, const std::string& where) const {
  const auto check = [&](bool ok) {
    REID_CHECK(ok, where, "key '", name, "' is ", toml_text(v), " (", v.type_name(), "); expected ", expected());
  };
  std::visit(Overloaded{[&](bool* out) {
                          check(v.is_bool());
                          *out = v.boolean();
                        },
                        [&](int64_t* out) {
                          check(v.is_integer() && range.contains(static_cast<double>(v.integer())));
                          *out = v.integer();
                        },
                        [&](double* out) {
                          check(v.is_number() && std::isfinite(v.number()) && range.contains(v.number()));
                          *out = v.number();
                        },
                        [&](std::string* out) {
                          check(v.is_string());
                          check(allowed.empty() || std::find(allowed.begin(), allowed.end(), v.string()) != allowed.end());
                          *out = v.string();
                        },
                        [&](std::vector<std::string>* out) {
                          check(v.is_array());
                          std::vector<std::string> list;
                          for (const Json& item : v.items()) {
                            check(item.is_string());
                            list.push_back(item.string());
                          }
                          *out = std::move(list);
                        },
                        [&](std::vector<double>* out) {
                          check(v.is_array());
                          std::vector<double> list;
                          for (const Json& item : v.items()) {
                            check(item.is_number() && std::isfinite(item.number()) && range.contains(item.number()));
                            list.push_back(item.number());
                          }
                          *out = std::move(list);
                        }},
             value);
}

void ConfigKeys::section(const std::string& name, const std::string& doc) { sections_.push_back({name, doc, keys_.size()}); }

void ConfigKeys::add(const std::string& name, ConfigKey::Value value, Origin origin, const std::string& doc, Range range,
                     std::vector<std::string> allowed) {
  const std::string prefix = sections_.empty() || sections_.back().name.empty() ? "" : sections_.back().name + ".";
  ConfigKey key{prefix + name, value, {}, origin, doc, range, std::move(allowed)};
  REID_CHECK(find(key.name) == nullptr, "[config] key '", key.name, "' is declared twice");
  key.fallback = key.get();
  keys_.push_back(std::move(key));
}

void ConfigKeys::published(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = std::ranges::find(keys_, name, &ConfigKey::name);
    REID_CHECK(found != keys_.end(), "[config] there is no key '", name, "' to call published");
    found->origin = Origin::published;
  }
}

void ConfigKeys::key(const std::string& name, bool& v, Origin origin, const std::string& doc) { add(name, &v, origin, doc, {}, {}); }
void ConfigKeys::key(const std::string& name, int64_t& v, Origin origin, const std::string& doc, Range range) {
  add(name, &v, origin, doc, range, {});
}
void ConfigKeys::key(const std::string& name, double& v, Origin origin, const std::string& doc, Range range) {
  add(name, &v, origin, doc, range, {});
}
void ConfigKeys::key(const std::string& name, std::string& v, Origin origin, const std::string& doc) { add(name, &v, origin, doc, {}, {}); }
void ConfigKeys::key(const std::string& name, std::vector<std::string>& v, Origin origin, const std::string& doc) {
  add(name, &v, origin, doc, {}, {});
}
void ConfigKeys::key(const std::string& name, std::vector<double>& v, Origin origin, const std::string& doc, Range range) {
  add(name, &v, origin, doc, range, {});
}
void ConfigKeys::choice(const std::string& name, std::string& v, std::vector<std::string> allowed, Origin origin, const std::string& doc) {
  add(name, &v, origin, doc, {}, std::move(allowed));
}

const ConfigKey* ConfigKeys::find(std::string_view name) const {
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const ConfigKey& k) { return k.name == name; });
  return found == keys_.end() ? nullptr : &*found;
}

void ConfigKeys::unknown(const std::string& name, const std::string& where) const {
  std::vector<std::string> names;
  for (const ConfigKey& k : keys_) names.push_back(k.name);
  std::string guess = nearest(name, names);
  if (guess.empty()) {  // a right name under a wrong section is the other common slip
    const std::string leaf = name.substr(name.rfind('.') + 1);
    for (const std::string& n : names) {
      if (n.substr(n.rfind('.') + 1) == leaf) guess = n;
    }
  }
  fail(str(where, "unknown key '", name, "'", guess.empty() ? "" : "; did you mean '" + guess + "'?"));
}

void ConfigKeys::read_file(const std::filesystem::path& toml) { read(parse_toml(read_text(toml), toml.string()), toml.string()); }

void ConfigKeys::read(const Json& table, const std::string& file) { read_table(table, "", file); }

void ConfigKeys::read_table(const Json& table, const std::string& prefix, const std::string& file) {
  for (const auto& [name, value] : table.members()) {
    const std::string full = prefix + name;
    const ConfigKey* key = find(full);
    const bool is_section = std::any_of(keys_.begin(), keys_.end(), [&](const ConfigKey& k) { return k.name.starts_with(full + "."); });
    if (key != nullptr) {
      key->assign(value, file + ": ");
    } else if (value.is_object() && is_section) {
      read_table(value, full + ".", file);
    } else {
      REID_CHECK(!is_section, file, ": '", full, "' is a section, not a key; write [", full, "] or ", full, ".KEY = VALUE");
      unknown(full, file + ": ");
    }
  }
}

void ConfigKeys::set(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  REID_CHECK(equals != std::string::npos && equals > 0, "override '", assignment, "' is not of the form key=value");
  const std::string name = assignment.substr(0, equals), text = assignment.substr(equals + 1);
  const std::string where = "override '" + assignment + "': ";
  const ConfigKey* key = find(name);
  if (key == nullptr) unknown(name, where);

  // A string key takes the text as it stands unless it is quoted: names like 2024 or true need no quotes on a command line.
  const bool is_quoted = !text.empty() && (text[0] == '"' || text[0] == '\'');
  const bool is_list =
      std::holds_alternative<std::vector<std::string>*>(key->value) || std::holds_alternative<std::vector<double>*>(key->value);
  Json value(text);
  if (is_quoted || (is_list ? text.starts_with("[") : !std::holds_alternative<std::string*>(key->value))) {
    try {
      const Json parsed = parse_toml("value = " + text, "override");
      if (parsed.members().size() == 1) value = parsed.at("value");  // a line break would smuggle in further keys
    } catch (const Error&) {
      REID_CHECK(!is_quoted && !is_list, where, "cannot read ", text, " as a TOML value; expected ", key->expected());
    }
  }
  if (is_list && value.is_string()) value = Json::array({value});
  key->assign(value, where);
}

Json ConfigKeys::values() const {
  Json out = Json::object();
  for (const ConfigKey& k : keys_) {
    Json* table = &out;
    std::string_view rest = k.name;
    for (size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      table = &(*table)[rest.substr(0, dot)];
      rest.remove_prefix(dot + 1);
    }
    (*table)[rest] = k.get();
  }
  return out;
}

std::string ConfigKeys::toml() const {
  std::string top, tables;
  for (size_t s = 0; s <= sections_.size(); ++s) {  // s == 0: keys before the first section
    const std::string name = s == 0 ? "" : sections_[s - 1].name;
    const size_t begin = s == 0 ? 0 : sections_[s - 1].first_key, end = s < sections_.size() ? sections_[s].first_key : keys_.size();
    std::string& out = name.empty() ? top : tables;
    if (begin < end && !name.empty()) out += "\n[" + name + "]\n";
    for (size_t i = begin; i < end; ++i) {
      const std::string leaf = name.empty() ? keys_[i].name : keys_[i].name.substr(name.size() + 1);
      out += leaf + " = " + toml_text(keys_[i].get()) + "\n";
    }
  }
  const std::string all = top + tables;
  return all.starts_with("\n") ? all.substr(1) : all;
}

std::string ConfigKeys::markdown() const {
  std::string out;
  const auto table = [&](const std::string& name, const std::string& doc, size_t begin, size_t end) {
    if (begin == end) return;
    if (!name.empty()) out += (out.empty() ? "### `" : "\n### `") + name + "`\n\n" + (doc.empty() ? "" : doc + "\n\n");
    out += "| key | type | default | range | meaning | origin |\n|---|---|---|---|---|---|\n";
    for (size_t i = begin; i < end; ++i) {
      const ConfigKey& k = keys_[i];
      const std::string limits = k.allowed.empty() ? k.range.text() : join(k.allowed);
      out += "| `" + k.name + "` | " + k.type_name() + " | `" + escaped_cell(toml_text(k.fallback)) + "` | " + escaped_cell(limits) +
             " | " + escaped_cell(k.doc) + " | " + name_of(k.origin) + " |\n";
    }
  };
  table("", "", 0, sections_.empty() ? keys_.size() : sections_[0].first_key);
  for (size_t s = 0; s < sections_.size(); ++s)
    table(sections_[s].name, sections_[s].doc, sections_[s].first_key,
          s + 1 < sections_.size() ? sections_[s + 1].first_key : keys_.size());
  return out;
}

std::vector<std::string> ConfigKeys::differences(const ConfigKeys& other) const {
  std::vector<std::string> out;
  for (const ConfigKey& k : keys_) {
    const ConfigKey* twin = other.find(k.name);
    REID_CHECK(twin != nullptr, "[config] key '", k.name, "' is missing from the other configuration");
    const Json mine = k.get(), theirs = twin->get();
    if (!(mine == theirs)) out.push_back(k.name + ": " + toml_text(mine) + " -> " + toml_text(theirs));
  }
  return out;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;  // farther than a third of the word is no typo
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace reid
