// The recipe's promises that no golden covers: what the moving average touches, where the teacher's buffers come from, how videos
// are drawn, and what mixed batches hold.

#include <doctest/doctest.h>

#include <set>

#include "small_run.h"

namespace reid::test {
namespace {

// A recipe wrapped so that the tests see every step from both sides.
class Watched final : public Method {
 public:
  Watched(const ReMixConfig& config, Run& run)
      : inner_(config, run.read_training(config.common.data.multi), run.read_training(config.common.data.single)) {}

  void begin_epoch(Run& run, int64_t epoch) override {
    inner_.begin_epoch(run, epoch);
    if (on_epoch) on_epoch(inner_);
  }
  void step(Run& run, const Batch& batch) override {
    const NamedTensors before = snapshot();
    inner_.step(run, batch);
    if (on_step) on_step(before, snapshot(), batch, run.step_count());
  }
  const BatchPlan& plan() const override { return inner_.plan(); }
  const std::vector<Sample>& samples() const override { return inner_.samples(); }
  Tensor embed(const Tensor& images, WeightCache& made) override { return inner_.embed(images, made); }
  Inventory exported() override { return inner_.exported(); }
  void state(State& s) override { inner_.state(s); }

  std::function<void(const ReMix&)> on_epoch;
  std::function<void(const NamedTensors& before, const NamedTensors& after, const Batch&, int64_t step)> on_step;

 private:
  NamedTensors snapshot() {
    State s;
    inner_.state(s);
    return s.take();
  }
  ReMix inner_;
};

bool is_buffer(const std::string& name) { return name.ends_with("running_mean") || name.ends_with("running_var"); }

void train_watched(const ReMixConfig& config, const std::filesystem::path& folder, const std::function<void(Watched&)>& prepare) {
  ReMixConfig copy = config;
  const ConfigKeys keys = keys_of(copy);
  Run run(folder, false, config.common, keys, {});
  Watched method(config, run);
  prepare(method);
  REQUIRE(run.train(method));
}

}  // namespace

TEST_CASE("the moving average touches parameters only; the momentum encoder's buffers are those of its own forward passes") {
  const Scratch scratch("ema");
  const ReMixConfig config = small_config();
  int steps = 0;
  train_watched(config, scratch / "run", [&](Watched& method) {
    method.on_step = [&](const NamedTensors& before, const NamedTensors& after, const Batch& batch, int64_t step) {
      ++steps;
      // The momentum encoder as it was, given the same original views by hand.
      Encoder twin(config.common.model.encoder(), DType::f32, Rng(99));
      State state(before);
      state.module("momentum_encoder", twin);
      twin(Var(batch.original), config.common.model.training(nullptr));
      const double momentum = std::min(config.ema, (1.0 + static_cast<double>(step)) / (10.0 + static_cast<double>(step)));
      for (const auto& [name, buffer] : inventory(twin).buffers) CHECK(bitwise_equal(*buffer, after.at("momentum_encoder." + name)));
      for (const auto& [name, tensor] : after.tensors) {
        if (!name.starts_with("momentum_encoder.") || is_buffer(name)) continue;
        const Tensor& old = before.at(name);
        const Tensor& weights = after.at("encoder." + name.substr(std::string("momentum_encoder.").size()));
        for (int64_t i = 0; i < tensor.numel(); ++i) {
          const double expected = momentum * double{old.data<float>()[i]} + (1 - momentum) * double{weights.data<float>()[i]};
          // One rounding to f32 of a sum formed in f32 or f64: two units in the last place of the larger term.
          const double size = std::max(std::abs(double{old.data<float>()[i]}), std::abs(double{weights.data<float>()[i]}));
          REQUIRE(std::abs(double{tensor.data<float>()[i]} - expected) <= 2 * 0x1p-23 * size);
        }
      }
    };
  });
  CHECK(steps == 12);
}

TEST_CASE("mixed batches: distinct people, cameras spread, pseudo labels after the labeled ones") {
  const Scratch scratch("plan");
  const ReMixConfig config = small_config();
  int epochs = 0;
  train_watched(config, scratch / "run", [&](Watched& method) {
    method.on_epoch = [&](const ReMix& remix) {
      ++epochs;
      CHECK(remix.plan().batches.size() == 4);
      for (const std::vector<PlanEntry>& batch : remix.plan().batches) {
        REQUIRE(batch.size() == 13);  // 3 x 3 labeled, 2 x 2 pseudo-labeled
        std::set<int64_t> multi, single;
        for (size_t i = 0; i < batch.size(); ++i) {
          (batch[i].kind == DataKind::multi ? multi : single).insert(batch[i].label);
          CHECK((batch[i].kind == DataKind::multi) == (i < 9));
        }
        CHECK(multi.size() == 3);
        CHECK(single.size() == 2);
        CHECK(*multi.rbegin() < 6);  // six labeled people
        CHECK(*single.begin() >= 6);
        for (size_t person = 0; person < 3; ++person) {  // three images: from as many cameras as the person has, up to three
          std::set<int64_t> cameras, available;
          for (size_t k = 0; k < 3; ++k) cameras.insert(batch[person * 3 + k].camera);
          const int64_t id = remix.samples()[static_cast<size_t>(batch[person * 3].sample)].person;
          for (const Sample& s : remix.samples()) {
            if (s.video < 0 && s.person == id) available.insert(s.camera);
          }
          CHECK(cameras.size() == std::min<size_t>(3, available.size()));
        }
      }
    };
  });
  CHECK(epochs == 3);
}

TEST_CASE("without videos, with too few clusters or before the start epoch, an epoch trains on multi-camera data only") {
  for (const char* why : {"no videos", "few clusters", "start epoch"}) {
    CAPTURE(why);
    const Scratch scratch("multi");
    ReMixConfig config = small_config();
    config.common.run.epochs = 1;
    if (why == std::string("no videos")) config.common.data.single = {};
    if (why == std::string("few clusters")) config.min_samples = 100;
    if (why == std::string("start epoch")) config.start_epoch = 5;
    std::vector<std::string> said;
    RunPorts ports;
    ports.say = [&](const std::string& line) { said.push_back(line); };
    REQUIRE(train(config, scratch / "run", false, ports));
    const bool warned =
        std::any_of(said.begin(), said.end(), [](const std::string& line) { return contains(line, "multi-camera data only"); });
    CHECK(warned == (why == std::string("few clusters")));
  }
}

TEST_CASE("every switch of the recipe trains") {
  const std::vector<std::string> switches = {"batch.two_view_encoder=true",
                                             "batch.ema_ramp=false",
                                             "loss.instance_denominator=supcon",
                                             "loss.self_positive=false",
                                             "loss.negative_scope=same_type",
                                             "loss.centroid_scope=same_type",
                                             "loss.type_reduction=pooled",
                                             "loss.single_in_instance=false",
                                             "loss.single_in_augmentation=false",
                                             "loss.single_in_centroid=false",
                                             "loss.include_own_camera=true",
                                             "loss.centroid_smoothing=0.1",
                                             "loss.instance_weight=0",
                                             "loss.augmentation_weight=0",
                                             "loss.centroid_weight=0",
                                             "loss.camera_weight=0",
                                             "pseudo.metric=jaccard",
                                             "pseudo.eps_mode=calibrated",
                                             "pseudo.max_video_images=6",
                                             "model.pooling=gem",
                                             "model.ibn=b",
                                             "model.max_pool=ceil",
                                             "optimizer.kind=sgd",
                                             "optimizer.kind=adamw",
                                             "schedule.kind=cosine",
                                             "augment.erase=0.5",
                                             "model.last_stride=2"};
  for (const std::string& assignment : switches) {
    CAPTURE(assignment);
    const Scratch scratch("switch");
    ReMixConfig config = small_config();
    config.common.run.epochs = 1;
    config.common.run.iterations = 2;
    config.common.data.evaluate = {};
    ConfigKeys keys = keys_of(config);
    keys.set(assignment);
    CHECK(train(config, scratch / "run"));
  }
  const Scratch scratch("switch");
  ReMixConfig config = small_config();
  config.bn_batches = "per_type";
  config.multi_people = 2;
  config.multi_images = 2;
  config.common.run.epochs = 1;
  CHECK(train(config, scratch / "run"));
}

TEST_CASE("a video whose images are all damaged is left out") {
  const Scratch scratch("damaged");
  std::filesystem::copy(small_world() / "videos", scratch / "videos", std::filesystem::copy_options::recursive);
  const std::filesystem::path first = video_folders(scratch / "videos").train[0].path;
  for (const auto& image : std::filesystem::directory_iterator(first.parent_path())) write_file(image.path(), "no image");
  ReMixConfig config = small_config();
  config.common.data.single = {"videos:" + (scratch / "videos").string()};
  config.common.data.skip_damaged = true;
  config.common.run.epochs = 1;
  config.common.run.iterations = 100;  // more than all videos have
  config.truth = "";
  CHECK(train(config, scratch / "run"));
}

TEST_CASE("eps is calibrated on people whose cameras are known") {
  const Scratch scratch("calibrated");
  std::string rows = "path,id,camera,split\n";
  for (const Sample& s : market1501(small_world() / "source").train) {
    for (int copy = 0; copy < 4; ++copy) rows += str(s.path, ',', s.person, ',', s.camera, ",train\n");  // for pairs enough
  }
  write_file(scratch / "people.csv", rows);
  copy_people(scratch / "unnamed");
  ReMixConfig config = small_config();
  config.eps_mode = "calibrated", config.same_quantile = 1, config.other_quantile = 0.3;
  config.common.run.epochs = 1;
  config.truth = "";
  const auto eps_of = [&](const char* run, const std::vector<std::string>& labeled) {
    config.common.data.multi = labeled;
    REQUIRE(train(config, scratch / run));
    const std::string line = read_text(scratch / run / "metrics.jsonl");
    return line.substr(line.find("\"eps\""), 16);
  };
  const std::string manifest = "manifest:" + (scratch / "people.csv").string();
  const std::string known = eps_of("known", {manifest});
  CHECK(known != "\"eps\":0.4");
  CHECK(eps_of("both", {manifest, "folder:" + (scratch / "unnamed").string()}) == known);
}

TEST_CASE("settings that no single range can refuse") {
  ReMixConfig config = small_config();
  config.bn_batches = "per_type";
  CHECK(contains(failure_of([&] { config.check(); }), "batch.bn_batches"));
  config = small_config();
  config.common.data.multi = {};
  CHECK(contains(failure_of([&] { config.check(); }), "data.multi is empty"));
  config = small_config();
  config.instance_weight = config.augmentation_weight = config.centroid_weight = config.camera_weight = 0;
  CHECK(contains(failure_of([&] { config.check(); }), "nothing to train on"));
  const Scratch scratch("people");
  config = small_config();
  config.common.data.single.push_back(config.common.data.multi[0]);
  CHECK(contains(failure_of([&] { train(config, scratch / "run"); }), ".jpg of data.single belongs to no video"));
  copy_people(scratch / "unnamed");
  config = small_config();
  config.common.data.multi = {"folder:" + (scratch / "unnamed").string()};
  CHECK(contains(failure_of([&] { train(config, scratch / "run"); }), "loss.camera_weight = 0.5 needs people under several cameras"));
  config = small_config();
  config.multi_people = 100;
  const std::string message = failure_of([&] { train(config, scratch / "run"); });
  CHECK(contains(message, "100"));
  CHECK(contains(message, "6"));
}

}  // namespace reid::test
