#pragma once
// The recipes by name, and the one that a configuration file asks for (run.method).

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "reid/learning/method.h"

namespace reid {

// A recipe before it runs: its configuration, and how it becomes a method.
class Recipe {
 public:
  virtual ~Recipe() = default;
  virtual RunConfig& common() = 0;
  virtual ConfigKeys keys() = 0;                                // of this recipe's configuration, which they point into
  virtual void check() const = 0;                               // throws what no single key's range can say
  virtual std::unique_ptr<Method> prepare(Run& run) const = 0;  // reads the training data
};

template <class M>
class RecipeOf final : public Recipe {
 public:
  typename M::Config config;
  RunConfig& common() override { return config.common; }
  ConfigKeys keys() override { return keys_of(config); }
  void check() const override { config.check(); }
  std::unique_ptr<Method> prepare(Run& run) const override { return M::prepare(config, run); }
};

std::vector<std::string> recipe_names();
std::unique_ptr<Recipe> make_recipe(const std::string& name);  // with its defaults; throws, listing the names

// The recipe of a TOML file with `key=value` overrides, read into its configuration.
struct ConfiguredRecipe {
  std::unique_ptr<Recipe> recipe;
  ConfigKeys keys;
};
ConfiguredRecipe read_recipe(const std::filesystem::path& toml, std::span<const std::string> overrides);

}  // namespace reid
