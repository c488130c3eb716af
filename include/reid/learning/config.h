#pragma once
// Configurations: plain structs whose keys are named once, in a function `void visit(ConfigKeys&)`.
//
// Design: one list of keys serves reading TOML, `key=value` overrides, refusing typos, wrong types and values out of range,
// printing the resolved file, the documentation table and comparing two configurations. A default is what the struct holds
// when it is visited, so it is written down in one place. No reflection, no registration, no global state.
//
//   struct LossConfig {
//     double tau = 0.05;
//     void visit(ConfigKeys& keys) {
//       keys.section("loss", "the contrastive losses");
//       keys.key("tau", tau, Origin::inferred, "temperature", Range::above(0));
//     }
//   };
//   LossConfig config;
//   ConfigKeys keys = keys_of(config);     // points into `config`, which must outlive it
//   keys.read_file("run.toml");
//   keys.set("loss.tau=0.1");

#include "reid/formats/json.h"

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace reid {

// Where a key's default comes from: printed by the paper, reconstructed from parent code or reasoning, or ours alone.
enum class Origin : uint8_t { published, inferred, engineering };
const char* name_of(Origin);

// An interval for numbers; NaN lies in none.
struct Range {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  bool open_low = false, open_high = false;

  static Range at_least(double low) { return {.low = low}; }
  static Range above(double low) { return {.low = low, .open_low = true}; }
  static Range closed(double low, double high) { return {.low = low, .high = high}; }                        // [low, high]
  static Range half_open(double low, double high) { return {.low = low, .high = high, .open_high = true}; }  // [low, high)
  static Range unit() { return closed(0, 1); }
  bool contains(double value) const;
  std::string text() const;  // "> 0", ">= 1", "[0, 1)", "" for all numbers
};

// One declared key. `value` points into the visited struct.
struct ConfigKey {
  using Value = std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*, std::vector<double>*>;

  std::string name;  // dotted: "loss.tau"
  Value value;
  Json fallback;  // the default
  Origin origin = Origin::engineering;
  std::string doc;
  Range range;
  std::vector<std::string> allowed;  // for choices; else empty

  const char* type_name() const;  // "integer", "list of strings"
  std::string expected() const;   // "an integer >= 1", "one of cosine, jaccard"
  Json get() const;
  void assign(const Json& v, const std::string& where) const;  // checks type, range and choice; `where` starts the message
};

class ConfigKeys {
 public:
  // Declaring, inside visit(). Keys that follow a section carry its name as a prefix; "" returns to the top level.
  void section(const std::string& name, const std::string& doc);
  void key(const std::string& name, bool& value, Origin, const std::string& doc);
  void key(const std::string& name, int64_t& value, Origin, const std::string& doc, Range = {});
  void key(const std::string& name, double& value, Origin, const std::string& doc, Range = {});
  void key(const std::string& name, std::string& value, Origin, const std::string& doc);
  void key(const std::string& name, std::vector<std::string>& value, Origin, const std::string& doc);
  void key(const std::string& name, std::vector<double>& value, Origin, const std::string& doc, Range each = {});
  void choice(const std::string& name, std::string& value, std::vector<std::string> allowed, Origin, const std::string& doc);

  // Afterwards: the defaults of these keys, which a recipe replaced in shared settings, are those of its publication.
  void published(std::initializer_list<const char*> names);

  // Reading. Every error names the file (or the override), the key, the value found and what was expected; an unknown key
  // is answered with the nearest known one. Keys that are not mentioned keep their value.
  void read_file(const std::filesystem::path& toml);
  void read(const Json& table, const std::string& file);
  void set(const std::string& assignment);  // "loss.tau=0.1"; strings need no quotes

  // Writing.
  Json values() const;           // nested objects, in declaration order
  std::string toml() const;      // the resolved configuration; reading it back gives the same values, bit for bit
  std::string markdown() const;  // one table a section: key, type, default, range, meaning, origin

  // Names of the keys whose values differ, with both values: "loss.tau: 0.05 -> 0.1". `other` must have the same keys.
  std::vector<std::string> differences(const ConfigKeys& other) const;

  const std::vector<ConfigKey>& keys() const { return keys_; }
  const ConfigKey* find(std::string_view name) const;

 private:
  struct Section {
    std::string name, doc;
    size_t first_key;
  };
  void add(const std::string& name, ConfigKey::Value, Origin, const std::string& doc, Range, std::vector<std::string> allowed);
  void read_table(const Json& table, const std::string& prefix, const std::string& file);
  [[noreturn]] void unknown(const std::string& name, const std::string& where) const;

  std::vector<Section> sections_;
  std::vector<ConfigKey> keys_;
};

template <class Config>
ConfigKeys keys_of(Config& config) {
  ConfigKeys keys;
  config.visit(keys);
  return keys;
}

// The candidate with the smallest edit distance, or "" when none is close enough to be a typo of `word`.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace reid
