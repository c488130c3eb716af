#pragma once
// A world, a network and a run small enough to train in a second, for the tests of recipes.

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/learning/recipe.h"
#include "reid/learning/remix.h"
#include "reid/people/synth.h"

namespace reid::test {

// Drawn once for all tests of the process.
inline const std::filesystem::path& small_world() {
  static const Scratch scratch("world");
  static const std::filesystem::path folder = [] {
    WorldConfig config = world_preset("tiny");
    config.height = 64;
    config.width = 32;
    config.domains.resize(1);
    config.domains[0] = {.name = "source",
                         .style = config.domains[0].style,
                         .train_ids = 6,
                         .test_ids = 4,
                         .cameras = 3,
                         .images_per_camera = 2,
                         .distractors = 2,
                         .junk = 1};
    config.videos = {.count = 4, .min_people = 3, .max_people = 3, .min_frames = 4, .max_frames = 5, .layout = "folders"};
    write_world(config, 7, scratch / "small", 2);
    return scratch / "small";
  }();
  return folder;
}

// The small world's training people, a folder each; the files name no cameras, and the first person has a single image.
inline void copy_people(const std::filesystem::path& folder) {
  const std::vector<Sample> people = market1501(small_world() / "source").train;
  for (size_t i = 0; i < people.size(); ++i) {
    if (i > 0 && people[i].person == people[0].person) continue;
    const std::filesystem::path person = folder / str("person", people[i].person);
    std::filesystem::create_directories(person);
    std::filesystem::copy_file(people[i].path, person / str("image", i, ".jpg"));
  }
}

// Of any recipe: its settings are scaled down.
inline void make_small(RunConfig& c) {
  const std::string source = "market1501:" + (small_world() / "source").string();
  c.run.seed = 3;
  c.run.epochs = 2;
  c.run.iterations = 3;
  c.run.workers = 1;
  c.run.checkpoint_every = 2;
  c.run.evaluate_every = 0;
  c.model.depth = 18;
  c.model.width = 4;
  c.data.multi = {source};
  c.data.evaluate = {"test=" + source};
  c.data.height = 32;
  c.data.width = 16;
  c.data.embed_batch = 16;
  c.augment.pad = 2;
  c.optimizer.schedule.warmup_epochs = 1;
}

inline ReMixConfig small_config() {
  ReMixConfig c;
  make_small(c.common);
  c.common.run.epochs = 3;
  c.common.run.iterations = 4;
  c.common.run.checkpoint_every = 3;
  c.common.run.evaluate_every = 1;
  c.common.data.single = {"videos:" + (small_world() / "videos").string()};
  c.multi_people = 3;
  c.multi_images = 3;
  c.single_people = 2;
  c.single_images = 2;
  c.ema = 0.9;
  c.min_samples = 2;
  c.eps_mode = "fixed";
  c.eps = 0.4;
  c.truth = (small_world() / "videos_truth.csv").string();
  return c;
}

// Trains into `folder`; true when the run reached its end.
template <class M>
bool train_by(const typename M::Config& config, const std::filesystem::path& folder, bool resume = false, RunPorts ports = {}) {
  RecipeOf<M> recipe;
  recipe.config = config;
  recipe.check();
  Run run(folder, resume, recipe.common(), recipe.keys(), std::move(ports));
  return run.train(*recipe.prepare(run));
}
inline bool train(const ReMixConfig& config, const std::filesystem::path& folder, bool resume = false, RunPorts ports = {}) {
  return train_by<ReMix>(config, folder, resume, std::move(ports));
}

// The values of one key in a run's metrics, in order.
inline std::vector<double> logged(const std::filesystem::path& run, const char* name) {
  std::istringstream lines(read_text(run / "metrics.jsonl"));
  std::vector<double> values;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json(line, "metrics.jsonl");
    if (const Json* value = entry.find(name)) values.push_back(value->number());
  }
  return values;
}

inline std::string bytes_of(const std::filesystem::path& file) { return read_text(file); }

// Everything a finished run leaves that results depend on.
inline std::string outcome(const std::filesystem::path& run) {
  return bytes_of(run / "metrics.jsonl") + bytes_of(run / "results.json") + bytes_of(run / "encoder.safetensors") +
         bytes_of(run / "checkpoint.safetensors");
}

}  // namespace reid::test
