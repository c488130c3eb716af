// reid keys: the configuration keys of a recipe, as docs/configuration.md lists them.

#include "program/verb.h"

#include "reid/learning/recipe.h"

#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string method = "remix";
  bool markdown = false, toml = false;
};

void run(const Context& context, const Options& o) {
  const std::unique_ptr<Recipe> recipe = make_recipe(o.method);
  const ConfigKeys keys = recipe->keys();
  if (o.markdown || o.toml) {
    const std::string text = o.markdown ? keys.markdown() : keys.toml();
    context.say(text.substr(0, text.size() - 1));
  } else {
    for (const ConfigKey& key : keys.keys())
      context.say(key.name, " = ", key.fallback.dump(), "    ", key.doc, "; ", key.expected(), " [", name_of(key.origin), "]");
  }
  Json list = Json::array();
  for (const ConfigKey& key : keys.keys()) {
    list.push_back(Json::object({{"key", key.name},
                                 {"type", key.type_name()},
                                 {"default", key.fallback},
                                 {"expected", key.expected()},
                                 {"meaning", key.doc},
                                 {"origin", name_of(key.origin)}}));
  }
  context.write_json(list);
}

}  // namespace

Verb keys_verb() {
  auto o = std::make_shared<Options>();
  return {"keys", "list the configuration keys: default, range, meaning, origin", "reid keys --toml > my.toml",
          [o](Flags& f) {
            std::string names;
            for (const std::string& name : recipe_names()) names += (names.empty() ? "" : ", ") + name;
            f.argument("METHOD", o->method, "the recipe: " + names);
            f.flag("--markdown", o->markdown, "as tables, the text of docs/configuration.md");
            f.flag("--toml", o->toml, "as a configuration file with all defaults");
          },
          [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
