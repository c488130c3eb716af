// Configurations: reading, overriding, refusing, printing, documenting, comparing.

#include <doctest/doctest.h>

#include "reid/engine/base.h"
#include "reid/learning/config.h"

#include <string>

using namespace reid;

namespace {

struct Loss {
  double tau_instance_multi = 0.05, weight = 1;
  bool camera = true;
  void visit(ConfigKeys& keys) {
    keys.section("loss", "The losses.");
    keys.key("tau_instance_multi", tau_instance_multi, Origin::inferred, "temperature", Range::above(0));
    keys.key("weight", weight, Origin::engineering, "weight", Range::closed(0, 10));
    keys.key("camera", camera, Origin::published, "camera centroids: on | off");
  }
};

struct Config {
  int64_t seed = 1;
  std::string metric = "cosine", name = "run";
  std::vector<std::string> sources{"market1501:a"};
  Loss loss;
  void visit(ConfigKeys& keys) {
    keys.key("seed", seed, Origin::engineering, "seed of every draw", Range::at_least(0));
    keys.key("name", name, Origin::engineering, "name of the run");
    keys.key("sources", sources, Origin::engineering, "labelled data sets");
    loss.visit(keys);
    keys.section("dbscan", "Pseudo labels.");
    keys.choice("metric", metric, {"cosine", "jaccard"}, Origin::inferred, "distance");
  }
};

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::string message_of_read(const char* toml) {
  Config config;
  ConfigKeys keys = keys_of(config);
  return message_of([&] { keys.read(parse_toml(toml, "run.toml"), "run.toml"); });
}

std::string message_of_set(const char* assignment) {
  Config config;
  ConfigKeys keys = keys_of(config);
  return message_of([&] { keys.set(assignment); });
}

}  // namespace

TEST_CASE("config: reading sets what is mentioned and leaves the rest") {
  Config config;
  ConfigKeys keys = keys_of(config);
  keys.read(parse_toml("seed = 7\nsources = ['a:1', 'b:2']\nloss.weight = 2\n[dbscan]\nmetric = 'jaccard'\n", "run.toml"), "run.toml");
  CHECK(config.seed == 7);
  CHECK(config.sources == std::vector<std::string>{"a:1", "b:2"});
  CHECK(config.loss.weight == 2.0);  // an integer is a number
  CHECK(config.loss.tau_instance_multi == 0.05);
  CHECK(config.metric == "jaccard");
}

TEST_CASE("config: mistakes in a file are named with the key, what was found and what is expected") {
  CHECK(message_of_read("[loss]\ntau_instnce_multi = 0.1") ==
        "run.toml: unknown key 'loss.tau_instnce_multi'; did you mean 'loss.tau_instance_multi'?");
  CHECK(message_of_read("tau_instance_multi = 0.1") ==
        "run.toml: unknown key 'tau_instance_multi'; did you mean 'loss.tau_instance_multi'?");
  CHECK(message_of_read("[nothing]\nlike_this = 1") == "run.toml: unknown key 'nothing'");
  CHECK(message_of_read("seed = 'many'") == "run.toml: key 'seed' is \"many\" (string); expected an integer >= 0");
  CHECK(message_of_read("seed = 1.5").find("expected an integer >= 0") != std::string::npos);
  CHECK(message_of_read("seed = -1").find("key 'seed' is -1") != std::string::npos);
  CHECK(message_of_read("[loss]\nweight = 11.0").find("expected a number in [0, 10]") != std::string::npos);
  CHECK(message_of_read("[loss]\ntau_instance_multi = 0").find("expected a number > 0") != std::string::npos);
  CHECK(message_of_read("[loss]\nweight = nan").find("key 'loss.weight' is nan") != std::string::npos);
  CHECK(message_of_read("[loss]\ncamera = 1").find("expected true or false") != std::string::npos);
  CHECK(message_of_read("[dbscan]\nmetric = 'euclid'").find("expected one of cosine, jaccard") != std::string::npos);
  CHECK(message_of_read("sources = ['a', 2]").find("expected a list of strings") != std::string::npos);
  CHECK(message_of_read("loss = 3").find("'loss' is a section") != std::string::npos);
  CHECK(message_of_read("seed = 3") == "");
}

TEST_CASE("config: overrides take TOML values, and bare words for strings") {
  Config config;
  ConfigKeys keys = keys_of(config);
  for (const char* text : {"seed=12", "loss.weight=1e-1", "loss.camera=false", "name=2024", "dbscan.metric=jaccard"}) keys.set(text);
  CHECK(config.seed == 12);
  CHECK(config.loss.weight == 0.1);
  CHECK_FALSE(config.loss.camera);
  CHECK(config.name == "2024");
  CHECK(config.metric == "jaccard");
  keys.set("name=\"a b\"");
  CHECK(config.name == "a b");
  keys.set("name=x=y");
  CHECK(config.name == "x=y");
  keys.set("name=");
  CHECK(config.name.empty());
  keys.set("sources=market1501:/data/m");
  CHECK(config.sources == std::vector<std::string>{"market1501:/data/m"});
  keys.set("sources=['p', 'q']");
  CHECK(config.sources == std::vector<std::string>{"p", "q"});

  CHECK(message_of_set("sed=1") == "override 'sed=1': unknown key 'sed'; did you mean 'seed'?");
  CHECK(message_of_set("seed") == "override 'seed' is not of the form key=value");
  CHECK(message_of_set("seed=many") == "override 'seed=many': key 'seed' is \"many\" (string); expected an integer >= 0");
  CHECK(message_of_set("seed=") == "override 'seed=': key 'seed' is \"\" (string); expected an integer >= 0");
  CHECK(message_of_set("seed=1\nname=2").find("expected an integer") != std::string::npos);
  CHECK(message_of_set("sources=['p'").find("cannot read ['p' as a TOML value") != std::string::npos);
}

TEST_CASE("config: the resolved file reads back to the same values") {
  Config config;
  config.loss.tau_instance_multi = 0.1 + 0.2;
  config.loss.weight = 3;
  config.name = "tab\t \"quoted\" back\\slash \x01";
  config.sources = {};
  ConfigKeys keys = keys_of(config);
  const std::string text = keys.toml();
  Config again;
  ConfigKeys again_keys = keys_of(again);
  again_keys.read(parse_toml(text, "resolved.toml"), "resolved.toml");
  CHECK(again.loss.tau_instance_multi == config.loss.tau_instance_multi);
  CHECK(again.name == config.name);
  CHECK(again.sources.empty());
  CHECK(again_keys.toml() == text);
  CHECK(keys.differences(again_keys).empty());
  CHECK(text.find("weight = 3.0\n") != std::string::npos);
  CHECK(keys.values().at("loss").at("weight").number() == 3);
}

TEST_CASE("config: two configurations are compared by key") {
  Config a, b;
  b.seed = 2;
  b.loss.camera = false;
  ConfigKeys left = keys_of(a), right = keys_of(b);
  CHECK(left.differences(right) == std::vector<std::string>{"seed: 1 -> 2", "loss.camera: true -> false"});
}

TEST_CASE("config: the documentation states default, range and origin") {
  Config config;
  const std::string text = keys_of(config).markdown();
  CHECK(text.find("| `loss.tau_instance_multi` | float | `0.05` | > 0 | temperature | inferred |") != std::string::npos);
  CHECK(text.find("| `dbscan.metric` | choice | `\"cosine\"` | cosine, jaccard | distance | inferred |") != std::string::npos);
  CHECK(text.find("camera centroids: on \\| off | published |") != std::string::npos);
  CHECK(text.find("### `loss`\n\nThe losses.\n") != std::string::npos);
}

TEST_CASE("config: a key declared twice is a bug that is reported") {
  struct Twice {
    int64_t a = 1;
    void visit(ConfigKeys& keys) {
      keys.key("a", a, Origin::engineering, "");
      keys.key("a", a, Origin::engineering, "");
    }
  } twice;
  CHECK(message_of([&] { keys_of(twice); }).find("declared twice") != std::string::npos);
}

TEST_CASE("nearest name: typos are found, other words are not") {
  const std::vector<std::string> names{"train", "eval", "embed", "cluster"};
  CHECK(nearest("trian", names) == "train");
  CHECK(nearest("evla", names) == "eval");
  CHECK(nearest("clusters", names) == "cluster");
  CHECK(nearest("xylophone", names).empty());
}
