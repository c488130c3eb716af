#include "reid/learning/recipe.h"

#include "reid/formats/files.h"
#include "reid/learning/cluster_contrast.h"
#include "reid/learning/pplr.h"
#include "reid/learning/remix.h"
#include "reid/learning/supervised.h"

namespace reid {

namespace {

struct Entry {
  const char* name;
  std::unique_ptr<Recipe> (*make)();
};

template <class M>
std::unique_ptr<Recipe> make() {
  return std::make_unique<RecipeOf<M>>();
}

constexpr Entry kRecipes[] = {
    {"remix", make<ReMix>}, {"supervised", make<Supervised>}, {"cluster-contrast", make<ClusterContrast>}, {"pplr", make<PPLR>}};

// run.method of a file and its overrides, before it is known which keys there are.
std::string method_of(const std::filesystem::path& toml, std::span<const std::string> overrides) {
  const Json table = parse_toml(read_text(toml), toml.string());
  const Json* run = table.find("run");
  const Json* named = run && run->is_object() ? run->find("method") : nullptr;
  std::string method = named && named->is_string() ? named->string() : RunSettings().method;
  const std::string key = "run.method=";
  for (const std::string& text : overrides) {
    if (!text.starts_with(key)) continue;
    std::string wanted = text.substr(key.size());
    if (wanted.size() >= 2 && wanted.front() == '"' && wanted.back() == '"') wanted = wanted.substr(1, wanted.size() - 2);
    REID_CHECK(!named || wanted == method, toml.string(), " is a configuration of run.method = '", method, "', ", text,
               " cannot make it one of another recipe: begin with a file of that one");
    method = wanted;
  }
  return method;
}

}  // namespace

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kRecipes) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Recipe> make_recipe(const std::string& name) {
  std::string list;
  for (const Entry& entry : kRecipes) {
    if (name == entry.name) return entry.make();
    list += str(list.empty() ? "" : ", ", entry.name);
  }
  fail(str("run.method = '", name, "' is not one of ", list));
}

ConfiguredRecipe read_recipe(const std::filesystem::path& toml, std::span<const std::string> overrides) {
  ConfiguredRecipe configured{make_recipe(method_of(toml, overrides)), {}};
  configured.keys = configured.recipe->keys();
  configured.keys.read_file(toml);
  for (const std::string& assignment : overrides) configured.keys.set(assignment);
  return configured;
}

}  // namespace reid
