// The supervised recipe in runs: bitwise repeatable and resumable with every switch, and clear about settings that make no sense.

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "reid/formats/weights.h"
#include "reid/learning/supervised.h"
#include "small_run.h"

namespace reid::test {
namespace {

SupervisedConfig small_supervised() {
  SupervisedConfig c;
  make_small(c.common);
  c.people = 4;
  c.images = 3;
  return c;
}

std::string refusal_of(const SupervisedConfig& config) {
  return failure_of([&] { config.check(); });
}

}  // namespace

TEST_CASE("supervised: every switch trains, and a stopped run ends bitwise equal to one that was not") {
  const auto variant = [](const auto& change) {
    SupervisedConfig config = small_supervised();
    change(config);
    return config;
  };
  const std::vector<std::pair<const char*, SupervisedConfig>> variants = {
      {"strong baseline with centers", variant([](SupervisedConfig& c) { c.center_weight = 5e-4; })},
      {"AGW's losses", variant([](SupervisedConfig& c) { c.common.model.pooling = "gem", c.triplet = "weighted", c.triplet_margin = 0; })},
      {"SBS, frozen at first", variant([](SupervisedConfig& c) {
         c.classifier = "circle", c.metric_feature = "after", c.triplet_margin = 0, c.smoothing = 0, c.freeze_steps = 4;
       })},
      {"classifier alone, smoothing over others, images across cameras",
       variant([](SupervisedConfig& c) { c.triplet_weight = 0, c.smoothing_share = "others", c.sampling = "cameras"; })},
      {"triplets alone, batch norm in groups", variant([](SupervisedConfig& c) {
         c.id_weight = 0, c.triplet_normalize = true, c.common.model.bn_groups = 2, c.common.model.bn_running = "first";
       })},
  };
  for (const auto& one : variants) {
    const auto& config = one.second;
    CAPTURE(one.first);
    const Scratch scratch("supervised");
    REQUIRE(train_by<Supervised>(config, scratch / "whole"));
    CHECK(logged(scratch / "whole", "loss").size() == 6);
    RunPorts ports;
    ports.stop_requested = [left = 4]() mutable { return left-- == 0; };
    REQUIRE_FALSE(train_by<Supervised>(config, scratch / "stopped", false, ports));
    REQUIRE(train_by<Supervised>(config, scratch / "stopped", true));
    CHECK(outcome(scratch / "stopped") == outcome(scratch / "whole"));
  }
}

TEST_CASE("supervised: a frozen backbone stands still, its statistics too") {
  SupervisedConfig config = small_supervised();
  config.freeze_steps = 100;
  const Scratch scratch("frozen");
  REQUIRE(train_by<Supervised>(config, scratch / "run"));
  const NamedTensors last = read_safetensors(scratch / "run" / "encoder.safetensors");
  Encoder first(config.common.model.encoder(), DType::f32, Rng(3).at("init"));
  for (const auto& parameter : inventory(first).parameters) {
    const auto& name = parameter.name;
    const Parameter* p = parameter.parameter;
    const bool backbone = !name.starts_with("bottleneck.");
    CHECK_MESSAGE(bitwise_equal(filters_to_file(p->value), last.at(name)) == (backbone || !p->trainable), name);
  }
  for (const auto& b : inventory(first).buffers) {
    CHECK_MESSAGE(bitwise_equal(*b.tensor, last.at(b.name)) == !b.name.starts_with("bottleneck."), b.name);
  }
}

TEST_CASE("supervised: training on few people teaches the classifier to tell them apart") {
  SupervisedConfig config = small_supervised();
  config.common.run.epochs = 6;
  config.common.run.iterations = 8;
  config.common.model.width = 8;
  config.common.augment.values.erase = 0;
  config.common.optimizer.schedule.lr = 3e-3;
  const Scratch scratch("learns");
  REQUIRE(train_by<Supervised>(config, scratch / "run"));
  const std::vector<double> loss = logged(scratch / "run", "loss"), accuracy = logged(scratch / "run", "accuracy");
  REQUIRE(loss.size() == 48);
  const auto mean = [](auto begin, auto end) { return std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin); };
  CHECK(mean(loss.end() - 8, loss.end()) < 0.75 * mean(loss.begin(), loss.begin() + 8));
  CHECK(mean(accuracy.end() - 8, accuracy.end()) > 2 * mean(accuracy.begin(), accuracy.begin() + 8));
}

TEST_CASE("supervised: a run in bf16 says so once, keeps f32 and the course of its losses") {
  SupervisedConfig config = small_supervised();
  const Scratch scratch("bf16");
  REQUIRE(train_by<Supervised>(config, scratch / "f32"));
  config.common.model.precision = "bf16";
  std::vector<std::string> said;
  RunPorts ports;
  ports.say = [&](const std::string& line) {
    if (line.starts_with("precision: bf16")) said.push_back(line);
  };
  REQUIRE(train_by<Supervised>(config, scratch / "bf16", false, ports));
  CHECK(said.size() == 1);
  const auto precision = [&](const char* run) {
    return parse_json(read_text(scratch / run / "manifest.json"), "manifest").at("precision").string();
  };
  CHECK(precision("bf16").starts_with("bf16, widened to f32"));
  CHECK(precision("f32") == "f32");
  for (const char* file : {"encoder.safetensors", "checkpoint.safetensors"}) {
    const NamedTensors kept = read_safetensors(scratch / "bf16" / file), likewise = read_safetensors(scratch / "f32" / file);
    bool same_types = kept.tensors.size() == likewise.tensors.size();
    for (const auto& entry : kept.tensors) same_types = same_types && entry.second.dtype() == likewise.at(entry.first).dtype();
    CHECK(same_types);
  }
  const std::vector<double> exact = logged(scratch / "f32", "loss"), rounded = logged(scratch / "bf16", "loss");
  REQUIRE(exact.size() == rounded.size());
  CHECK(exact != rounded);
  CHECK(std::abs(rounded[0] - exact[0]) < 0.02 * exact[0]);  // before the first update: rounding alone
}

TEST_CASE("supervised: a person with a single image, and images without cameras") {
  const Scratch scratch("single");
  copy_people(scratch / "people");
  SupervisedConfig config = small_supervised();
  config.common.data.multi = {"folder:" + (scratch / "people").string()};
  config.people = 6;  // all of them, in every batch
  config.sampling = "cameras";
  REQUIRE(train_by<Supervised>(config, scratch / "run"));
  CHECK(logged(scratch / "run", "loss").size() == 6);
}

TEST_CASE("recipes: strict numerics keep the sums of the definition") {
  ModelSettings model;
  CHECK(model.training(nullptr).other_sums);
  CHECK(model.inference().other_sums);
  model.numerics = "strict";
  CHECK(!model.training(nullptr).other_sums);
  CHECK(!model.inference().other_sums);
}

TEST_CASE("recipes: a default that a recipe takes from its publication is called published") {
  const auto origin = [](const char* method, const char* key) { return make_recipe(method)->keys().find(key)->origin; };
  CHECK(origin("supervised", "schedule.lr") == Origin::published);
  CHECK(origin("pplr", "model.bn_groups") == Origin::published);
  CHECK(origin("remix", "schedule.lr") == Origin::inferred);
  CHECK(origin("supervised", "run.workers") == Origin::engineering);
  ConfigKeys keys;
  CHECK(contains(failure_of([&] { keys.published({"loss.tua"}); }), "there is no key 'loss.tua'"));
}

TEST_CASE("recipes: every configuration of configs/ can be read") {
  std::set<std::string> methods;
  for (const auto& file : std::filesystem::directory_iterator(std::filesystem::path(REID_SOURCE_DIR) / "configs")) {
    CAPTURE(file.path().string());
    ConfiguredRecipe read = read_recipe(file.path(), {});
    RunConfig& common = read.recipe->common();
    methods.insert(common.run.method);
    if (common.data.multi.empty()) common.data.multi = {"market1501:x"};  // `reid demo`, the study and tests fill it in
    CHECK(failure_of([&] { read.recipe->check(); }) == "");
  }
  const std::vector<std::string> names = recipe_names();
  CHECK(methods == std::set<std::string>(names.begin(), names.end()));
}

TEST_CASE("supervised: settings that make no sense are refused") {
  SupervisedConfig config = small_supervised();
  config.common.data.multi.clear();
  CHECK(contains(refusal_of(config), "data.multi is empty"));
  config = small_supervised();
  config.common.data.single = {"videos:x"};
  CHECK(contains(refusal_of(config), "trains on labeled sets only"));
  config = small_supervised();
  config.images = 1;
  CHECK(contains(refusal_of(config), "without positives"));
  config = small_supervised();
  config.id_weight = config.triplet_weight = 0;
  CHECK(contains(refusal_of(config), "nothing to train on"));
  config = small_supervised();
  config.common.model.bn_groups = 5;
  CHECK(contains(refusal_of(config), "model.bn_groups = 5 does not cut a batch of 12 images"));
  config = small_supervised();
  config.people = 1000;
  const Scratch scratch("refused");
  CHECK(contains(failure_of([&] { train_by<Supervised>(config, scratch / "run"); }), "a batch wants P = 1000 different labeled people"));
}

TEST_CASE("recipes: a file's method decides which keys there are") {
  const Scratch scratch("recipes");
  const std::string file = (scratch / "run.toml").string();
  write_file(file, "[run]\nmethod = 'supervised'\n[loss]\ntriplet = 'weighted'\n");
  const ConfiguredRecipe read = read_recipe(file, {});
  CHECK(read.recipe->common().run.method == "supervised");
  CHECK(read.keys.find("loss.triplet")->get().string() == "weighted");
  CHECK(read.keys.find("loss.tau_camera") == nullptr);
  const std::vector<std::string> other = {"run.method=remix"};
  CHECK(
      contains(failure_of([&] { read_recipe(file, other); }), "is a configuration of run.method = 'supervised', run.method=remix cannot"));
  const std::vector<std::string> same = {"run.method=\"supervised\""};
  CHECK(failure_of([&] { read_recipe(file, same); }) == "");
  write_file(file, "[run]\nmethod = 'suporvised'\n");
  CHECK(contains(failure_of([&] { read_recipe(file, {}); }), "run.method = 'suporvised' is not one of remix, supervised"));
}

}  // namespace reid::test
