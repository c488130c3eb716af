#pragma once
// A world, a network and a run small enough to train in a second, for the tests of recipes.

#include <filesystem>
#include <string>

#include "formats/scratch.h"
#include "reid/formats/files.h"
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

inline ReMixConfig small_config() {
  ReMixConfig c;
  const std::string source = "market1501:" + (small_world() / "source").string();
  c.common.run = {.seed = 3, .epochs = 3, .iterations = 4, .workers = 1, .checkpoint_every = 3, .evaluate_every = 1};
  c.common.model.depth = 18;
  c.common.model.width = 4;
  c.common.data.multi = {source};
  c.common.data.single = {"videos:" + (small_world() / "videos").string()};
  c.common.data.evaluate = {"test=" + source};
  c.common.data.height = 32;
  c.common.data.width = 16;
  c.common.data.embed_batch = 16;
  c.common.augment.pad = 2;
  c.common.optimizer.schedule.warmup_epochs = 1;
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
inline bool train(const ReMixConfig& config, const std::filesystem::path& folder, bool resume = false, RunPorts ports = {}) {
  ReMixConfig copy = config;
  const ConfigKeys keys = keys_of(copy);
  config.check();
  Run run(folder, resume, config.common, keys, std::move(ports));
  Dataset multi = run.read_training(config.common.data.multi);
  Dataset single = config.common.data.single.empty() ? Dataset{} : run.read_training(config.common.data.single);
  ReMix method(config, std::move(multi), std::move(single));
  return run.train(method);
}

inline std::string bytes_of(const std::filesystem::path& file) { return read_text(file); }

// Everything a finished run leaves that results depend on.
inline std::string outcome(const std::filesystem::path& run) {
  return bytes_of(run / "metrics.jsonl") + bytes_of(run / "results.json") + bytes_of(run / "encoder.safetensors") +
         bytes_of(run / "checkpoint.safetensors");
}

}  // namespace reid::test
