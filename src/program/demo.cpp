// reid demo: draws a small world, trains ReMix on it, and measures the encoder on a domain it never saw.

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "program/training.h"
#include "program/verb.h"
#include "reid/engine/accelerator.h"
#include "reid/learning/encoder_file.h"
#include "reid/learning/remix.h"
#include "reid/people/synth.h"

namespace reid::program {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string out = "demo", preset = "demo", config;
  int64_t seed = 1;
};

void declare(Flags& f, Options& o) {
  f.option("--out", o.out, "DIR", "folder for the world and the run");
  f.choice("--preset", o.preset, {"tiny", "demo"}, "size of the world and of the run");
  f.option("--config", o.config, "FILE", "training configuration; default: configs/PRESET.toml");
  f.option("--seed", o.seed, "seed of the world", Range::at_least(0));
}

// Draws the world unless the folder holds just this one already.
void ensure_world(const Context& context, const Options& o, const fs::path& folder) {
  const fs::path note = folder / "world.json";
  if (fs::exists(note)) {
    const Json world = parse_json(read_text(note), note.string());
    const bool same = world.at("version") == Json(kWorldVersion) && world.at("seed") == Json(std::to_string(o.seed)) &&
                      world.at("preset") == Json(o.preset);
    REID_CHECK(same, folder.string(), " holds another world (version, seed or preset differ): remove it or choose another --out");
    context.say("world: ", folder.string(), ", hash ", world.at("hash").string(), " (drawn before)");
    return;
  }
  const RunPorts ports = screen_ports(context);
  const WorldReport report =
      write_world(world_preset(o.preset), static_cast<uint64_t>(o.seed), folder, context.threads,
                  [&](int64_t done, int64_t total) { ports.progress(str("drawing the world: ", done, "/", total, " images")); });
  ports.say(str("world: ", folder.string(), ", version ", report.version, ", hash ", hex(report.hash), ", ", report.images, " images"));
}

using Reports = std::array<EvaluationReport, 2>;  // source, target

EvaluationReport histogram_report(const Dataset& set) {
  EvaluationInput input;
  const auto part = [](const std::vector<Sample>& samples, Tensor& features, std::vector<int64_t>& ids, std::vector<int64_t>& cameras) {
    std::vector<Image> images;
    for (const Sample& s : samples) {
      images.push_back(read_image(s.path));
      ids.push_back(s.person);
      cameras.push_back(s.camera);
    }
    features = color_histograms(images);
  };
  part(set.query, input.query, input.query_ids, input.query_cameras);
  part(set.gallery, input.gallery, input.gallery_ids, input.gallery_cameras);
  return evaluate(input);
}

// Source and target, measured by one network.
class Measure {
 public:
  Measure(const ReMixConfig& config, const fs::path& world)
      : config_(config),
        transform_(config.common.augment.transform(config.common.data)),
        cache_(std::make_shared<ImageCache>(config.common.data.cache_mib << 20)),
        sets_{market1501(world / "source"), market1501(world / "target")} {}

  Reports histogram() const { return {histogram_report(sets_[0]), histogram_report(sets_[1])}; }

  // The network that training starts from. Its running statistics are estimated on training images: an untrained batch norm
  // would not normalize at all.
  Reports untrained() const {
    const ModelSettings& model = config_.common.model;
    LoadedEncoder encoder(model, transform_, static_cast<uint64_t>(config_.common.run.seed));
    encoder.move_to(config_.common.device);
    std::vector<Sample> images = sets_[0].train;
    Rng(0).shuffle(images);
    images.resize(std::min<size_t>(images.size(), 512));
    Loader loader = evaluation_loader(images, 64, options());
    std::vector<Tensor> batches;
    while (const std::optional<Batch> batch = loader.next()) {
      if (batch->size() > 1) batches.push_back(batch->original);
    }
    encoder.estimate_statistics(batches);
    return both(encoder);
  }

  Reports trained(const fs::path& file) const {
    LoadedEncoder encoder(file);
    encoder.move_to(config_.common.device);
    return both(encoder);
  }

 private:
  LoaderOptions options() const {
    return {.transform = transform_, .augment = false, .workers = static_cast<int>(config_.common.run.workers), .cache = cache_};
  }
  Reports both(LoadedEncoder& encoder) const {
    Feed feed(config_.common.device, transform_);
    const auto report = [&](const Dataset& set) {
      return evaluate_dataset(
          std::span(&set, 1), [&](const Tensor& x) { return encoder.embed(x); }, config_.common.data, feed, cache_,
          config_.common.run.workers);
    };
    return {report(sets_[0]), report(sets_[1])};
  }

  const ReMixConfig& config_;
  TransformConfig transform_;
  std::shared_ptr<ImageCache> cache_;
  std::array<Dataset, 2> sets_;
};

std::string cells(const EvaluationReport& r) {
  char text[96];
  std::snprintf(text, sizeof text, "%7.1f%8.1f%8.1f%8.1f%7.1f", 100 * r.mAP, 100 * r.rank(1), 100 * r.rank(5), 100 * r.rank(10),
                100 * r.mINP);
  return text;
}

Json row(const char* name, const Reports& r) {
  return Json::object({{"name", name}, {"source", to_json(r[0])}, {"target", to_json(r[1])}});
}

void run(const Context& context, const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  const std::string file = o.config.empty() ? "configs/" + o.preset + ".toml" : o.config;
  REID_CHECK(fs::exists(file), "configuration ", file, " is not there: run from the project's folder, or name one with --config");
  const fs::path out = o.out, world = out / "world", folder = out / "run";
  make_folder(out);
  ensure_world(context, o, world);

  RecipeOf<ReMix> recipe;
  ReMixConfig& config = recipe.config;
  ConfigKeys keys = recipe.keys();
  keys.read_file(file);
  config.common.data.multi = {"market1501:" + (world / "source").string()};
  config.common.data.single = {"videos:" + (world / "videos").string()};
  config.common.data.evaluate = {"source=market1501:" + (world / "source").string(), "target=market1501:" + (world / "target").string()};
  config.truth = (world / "videos_truth.csv").string();

  const bool resume = fs::exists(folder / "config.toml");
  if (resume) context.say("continuing the run in ", folder.string(), "; remove ", out.string(), " to start over");
  if (!train_recipe(context, recipe, keys, folder.string(), resume)) return;

  const Measure measure(config, world);  // its networks compute where training did
  const Reports histogram = measure.histogram(), untrained = measure.untrained(), trained = measure.trained(folder / "encoder.safetensors");
  context.say(
      "\n                        source: people unseen, cameras seen          target: nothing of it seen\n"
      "%                     mAP  Rank-1  Rank-5 Rank-10   mINP      mAP  Rank-1  Rank-5 Rank-10   mINP");
  context.say("color histogram   ", cells(histogram[0]), "  ", cells(histogram[1]));
  context.say("untrained network ", cells(untrained[0]), "  ", cells(untrained[1]));
  context.say("trained by ReMix  ", cells(trained[0]), "  ", cells(trained[1]));

  const Json rows = Json::array({row("color histogram", histogram), row("untrained", untrained), row("trained", trained)});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_file(out / "table.json", Json::object({{"rows", rows}}).dump(2) + "\n");
  context.say("\nworld    ", world.string(), "\nrun      ", folder.string(), "  (metrics.jsonl, manifest.json, config.toml)\nencoder  ",
              (folder / "encoder.safetensors").string(), "\ntable    ", (out / "table.json").string());
  char text[64];
  std::snprintf(text, sizeof text, "%d:%02d minutes", static_cast<int>(seconds) / 60, static_cast<int>(seconds) % 60);
  context.say("took     ", text);
  context.write_json(Json::object({{"device", describe(context.device)}, {"seconds", seconds}, {"rows", rows}}));
}

}  // namespace

Verb demo_verb() {
  auto o = std::make_shared<Options>();
  return {"demo",
          "draw a world, train on it, measure on a domain never seen",
          "reid demo --out demo",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
