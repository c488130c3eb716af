// Whole training runs on an accelerator: they begin as on the CPU, and repeat and resume bit for bit, as graphs or piece by piece.

#include <doctest/doctest.h>

#include "learning/small_run.h"
#include "on_device.h"
#include "reid/learning/cluster_contrast.h"
#include "reid/learning/pplr.h"
#include "reid/learning/supervised.h"

namespace reid::test {
namespace {

template <class Config>
Config tiny(Config c, int64_t epochs = 1, int64_t iterations = 1) {
  make_small(c.common);
  c.common.run.epochs = epochs;
  c.common.run.iterations = iterations;
  c.common.model.width = 2;
  c.common.data.evaluate.clear();
  return c;
}

template <class Config>
Config on_device(Config c, bool eager = false) {
  c.common.device = test_device();
  c.common.eager = eager;
  return c;
}

ReMixConfig tiny_remix(int64_t epochs = 1, int64_t iterations = 1) {
  ReMixConfig c = tiny(small_config(), epochs, iterations);
  c.common.data.single = {"videos:" + (small_world() / "videos").string()};
  return c;
}

SupervisedConfig tiny_supervised() {
  SupervisedConfig c = tiny(SupervisedConfig());
  c.people = 3, c.images = 2;
  c.center_weight = 0.01;
  c.common.model.pooling = "gem";
  return c;
}

ClusterContrastConfig tiny_contrast() {
  ClusterContrastConfig c = tiny(ClusterContrastConfig());
  c.common.model.width = 4;
  c.common.model.bn_groups = 1;
  c.common.model.bn_running = "all";
  c.batches.people = 2, c.batches.images = 2;
  c.clusters = {.eps = 0.7, .min_samples = 2, .k1 = 6, .k2 = 2};
  return c;
}

PPLRConfig tiny_pplr() {
  PPLRConfig c = tiny(PPLRConfig());
  c.common.data.height = 64;
  c.common.model.width = 4;
  c.common.model.bn_groups = 2;
  c.batches.people = 2, c.batches.images = 2;
  c.clusters = {.eps = 0.7, .min_samples = 2, .k1 = 6, .k2 = 2};
  c.max_clusters = 20;
  c.agreement_neighbors = 5;
  c.agreement_start = 0;
  c.camera_weight = 0.5;
  return c;
}

std::string without_place(const std::filesystem::path& run) {
  return bytes_of(run / "metrics.jsonl") + bytes_of(run / "encoder.safetensors") + bytes_of(run / "checkpoint.safetensors");
}

template <class M>
void begins_as_on_the_cpu(const typename M::Config& config) {
  const Scratch scratch("device");
  REQUIRE(train_by<M>(config, scratch / "cpu"));
  REQUIRE(train_by<M>(on_device(config), scratch / "there"));
  const std::vector<double> expected = logged(scratch / "cpu", "loss"), got = logged(scratch / "there", "loss");
  REQUIRE(got.size() == expected.size());
  // A batch norm over the dozen values that the last maps hold here carries roundings ten times as far as the 1e-5 that networks of a
  // common size keep; test_device_path.cpp holds them to what double says.
  CHECK(std::abs(got[0] - expected[0]) <= 1e-4 * std::abs(expected[0]));
  CHECK(logged(scratch / "there", "lr") == logged(scratch / "cpu", "lr"));
}

// Of three steps the last is replayed: where it asks the host for nothing up to the optimizer's, it is one graph.
template <class M>
void replays(typename M::Config config, int64_t graphs) {
  const Scratch scratch("device graphs");
  config.common.run.iterations = 3;
  REQUIRE(train_by<M>(on_device(config), scratch / "graphs"));
  REQUIRE(train_by<M>(on_device(config, true), scratch / "eager"));
  CHECK(without_place(scratch / "eager") == without_place(scratch / "graphs"));
  const auto steps = [&](const char* run) { return parse_json(bytes_of(scratch / run / "times.json"), "times.json").at("steps"); };
  CHECK(steps("graphs").at("replayed").integer() == 1);
  CHECK(steps("graphs").at("graphs").integer() == graphs);
  CHECK(steps("eager").at("replayed").integer() == 0);
}

}  // namespace

TEST_CASE("device runs: every recipe begins as on the CPU") {
  begins_as_on_the_cpu<Supervised>(tiny_supervised());
  begins_as_on_the_cpu<ReMix>(tiny_remix());
  begins_as_on_the_cpu<ClusterContrast>(tiny_contrast());
  begins_as_on_the_cpu<PPLR>(tiny_pplr());
}

// Roundings to bf16 fall elsewhere where sums have another order: the two may be as far apart as bf16 is from f32, and one rounding of the
// loss more.
TEST_CASE("device runs: in bf16, too, a recipe begins as on the CPU") {
  const Scratch scratch("device bf16");
  SupervisedConfig config = tiny_supervised();
  const auto first_loss = [&](const SupervisedConfig& c, const char* name) {
    REQUIRE(train_by<Supervised>(c, scratch / name));
    return logged(scratch / name, "loss").at(0);
  };
  const double wide = first_loss(config, "f32");
  config.common.model.precision = "bf16";
  const double expected = first_loss(config, "bf16"), got = first_loss(on_device(config), "there");
  CHECK(got != wide);
  CHECK(std::abs(got - expected) <= std::abs(wide - expected) + 0x1p-8 * std::abs(expected));
  CHECK(bytes_of(scratch / "there" / "manifest.json").find("bf16, summed in f32") != std::string::npos);
}

TEST_CASE("device runs: up to the optimizer's a step is one graph, with the bits of single launches") {
  replays<Supervised>(tiny_supervised(), 1);
  replays<ReMix>(tiny_remix(), 1);
  replays<ClusterContrast>(tiny_contrast(), 1);
  replays<PPLR>(tiny_pplr(), 1);
  ClusterContrastConfig timed = tiny_contrast();  // in the precision and with the norms that gpu_check's train phase times
  timed.common.model.precision = "bf16", timed.common.model.ibn = "a";
  timed.common.model.bn_groups = 2, timed.common.model.bn_running = "first";
  replays<ClusterContrast>(timed, 1);
}

TEST_CASE("device runs: as graphs, piece by piece, stopped and resumed: the same bits") {
  const Scratch scratch("device repeat");
  const ReMixConfig config = tiny_remix(1, 3);  // of three steps the last is replayed
  REQUIRE(train(on_device(config), scratch / "graphs"));
  REQUIRE(train(on_device(config, true), scratch / "eager"));
  CHECK(without_place(scratch / "eager") == without_place(scratch / "graphs"));
  int polls = 0;
  RunPorts ports;
  ports.stop_requested = [&] { return ++polls > 2; };
  CHECK(!train(on_device(config), scratch / "resumed", false, ports));
  CHECK_THROWS_WITH_AS(train(config, scratch / "resumed", true), doctest::Contains("begun on an accelerator"), Error);
  REQUIRE(train(on_device(config), scratch / "resumed", true));
  CHECK(without_place(scratch / "resumed") == without_place(scratch / "graphs"));
}

// With maps that are whole blocks of rows: the first convolutions take statistics for their norms.
TEST_CASE("device runs: as graphs and piece by piece in bf16: the same bits") {
  const Scratch scratch("device repeat bf16");
  SupervisedConfig config = tiny_supervised();
  config.common.run.iterations = 3;
  config.common.data.height = 64, config.common.data.width = 32;
  config.common.model.width = 8;
  config.common.model.precision = "bf16";
  REQUIRE(train_by<Supervised>(on_device(config), scratch / "graphs"));
  REQUIRE(train_by<Supervised>(on_device(config, true), scratch / "eager"));
  CHECK(without_place(scratch / "eager") == without_place(scratch / "graphs"));
}

TEST_CASE("device runs: memory that ends says which tensor, and what batch would fit") {
  if (!on_emulated_device()) return;
  const Scratch scratch("device memory");
  SupervisedConfig config = tiny_supervised();
  config.common.data.height = 64, config.common.data.width = 32;
  const auto used = [] {
    return static_cast<size_t>(accelerator(test_device()).info(0).memory - accelerator(test_device()).free_memory(0));
  };
  release_cached_memory(test_device());
  const size_t before = used();
  REQUIRE(train_by<Supervised>(on_device(config, true), scratch / "enough"));
  const size_t needed = used() - before;  // nothing of it was given back to the device
  release_cached_memory(test_device());
  emu::set_device_memory(before + needed * 4 / 5);
  std::string message;
  try {
    train_by<Supervised>(on_device(config, true), scratch / "less");
  } catch (const Error& e) {
    message = e.what();
  }
  emu::set_device_memory(size_t{4} << 30);
  CAPTURE(message);
  CHECK(message.find("wanted for a tensor [") != std::string::npos);
  CHECK(message.find("a batch of 6 images is too large here, one of ") != std::string::npos);
}

}  // namespace reid::test
