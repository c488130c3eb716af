// Cluster Contrast and PPLR in runs: bitwise repeatable and resumable with every switch, what they log, and what they say when the data or
// the clusters do not do.

#include <doctest/doctest.h>

#include "reid/learning/cluster_contrast.h"
#include "reid/learning/pplr.h"
#include "small_run.h"

namespace reid::test {
namespace {

// 34 images of 6 people under 3 cameras.
ClusterContrastConfig small_contrast() {
  ClusterContrastConfig c;
  make_small(c.common);
  c.common.model.bn_groups = 1;
  c.common.model.bn_running = "all";
  c.batches.people = 3;
  c.batches.images = 4;
  c.clusters = {.eps = 0.7, .min_samples = 2, .k1 = 6, .k2 = 2};
  return c;
}

PPLRConfig small_pplr() {
  PPLRConfig c;
  make_small(c.common);
  c.common.data.height = 64;
  c.common.model.bn_groups = 2;
  c.common.run.epochs = 3;
  c.batches.people = 4;
  c.batches.images = 3;
  c.clusters = {.eps = 0.7, .min_samples = 2, .k1 = 6, .k2 = 2};
  c.max_clusters = 20;
  c.agreement_neighbors = 5;
  c.agreement_start = 1;
  return c;
}

template <class Config, class Change>
Config changed(Config config, const Change& change) {
  change(config);
  return config;
}

// Trains in one piece, and again with a stop before step `stop` and a resume: both leave the same.
template <class M>
void check_resumes(const char* name, const typename M::Config& config, int64_t stop) {
  CAPTURE(name);
  const Scratch scratch("unsupervised");
  REQUIRE(train_by<M>(config, scratch / "whole"));
  RunPorts ports;
  ports.stop_requested = [left = stop]() mutable { return left-- == 0; };
  REQUIRE_FALSE(train_by<M>(config, scratch / "stopped", false, ports));
  REQUIRE(train_by<M>(config, scratch / "stopped", true));
  CHECK(outcome(scratch / "stopped") == outcome(scratch / "whole"));
  const size_t epochs = static_cast<size_t>(config.common.run.epochs);
  for (const char* figure : {"clusters", "noise", "purity", "v_measure"}) CHECK(logged(scratch / "whole", figure).size() == epochs);
  CHECK(logged(scratch / "whole", "loss").size() == epochs * static_cast<size_t>(config.common.run.iterations));
  const Json times = parse_json(read_text(scratch / "stopped" / "times.json"), "times.json");
  for (const char* phase : {"extraction", "clustering", "training", "evaluation", "checkpoints"}) CHECK(times.at(phase).number() > 0);
  REQUIRE(times.at("epochs").items().size() == epochs);
  double sum = 0;
  for (const Json& epoch : times.at("epochs").items()) {
    CHECK(epoch.at("images").number() == times.at("images").number() / static_cast<double>(epochs));
    CHECK(epoch.at("training").number() > 0);
    sum += epoch.at("training").number();
  }
  CHECK(sum == doctest::Approx(times.at("training").number()).epsilon(1e-12));
}

template <class M>
std::string failure_in_run(const typename M::Config& config) {
  const Scratch scratch("failing");
  return failure_of([&] { train_by<M>(config, scratch / "run"); });
}

}  // namespace

TEST_CASE("cluster-contrast: every switch trains, and a stopped run ends bitwise equal to one that was not") {
  const ClusterContrastConfig plain = small_contrast();
  check_resumes<ClusterContrast>("as published", plain, 4);
  check_resumes<ClusterContrast>("the least similar image, any images of a cluster",
                                 changed(plain, [](ClusterContrastConfig& c) { c.memory.update = "hard", c.batches.sampling = "random"; }),
                                 3);
  check_resumes<ClusterContrast>("the mean, batch norm in groups",
                                 changed(plain,
                                         [](ClusterContrastConfig& c) {
                                           c.memory.update = "mean", c.common.model.bn_groups = 2, c.common.model.bn_running = "first";
                                         }),
                                 1);
}

TEST_CASE("pplr: every switch trains, and a stopped run ends bitwise equal to one that was not") {
  const PPLRConfig plain = small_pplr();
  check_resumes<PPLR>("as published", plain, 5);
  check_resumes<PPLR>("with cameras", changed(plain, [](PPLRConfig& c) { c.camera_weight = 0.5; }), 4);
  check_resumes<PPLR>("two parts, labels only",
                      changed(plain, [](PPLRConfig& c) { c.parts = 2, c.beta = 1, c.triplet_weight = 0, c.agreement_start = 100; }), 2);
}

TEST_CASE("pplr: an encoder is exported that has no parts, and agreement is logged") {
  const Scratch scratch("pplr");
  REQUIRE(train_by<PPLR>(small_pplr(), scratch / "run"));
  const NamedTensors encoder = read_safetensors(scratch / "run" / "encoder.safetensors");
  CHECK(encoder.find("bottleneck.weight") != nullptr);
  CHECK(encoder.find("part_bottleneck.0.weight") == nullptr);
  for (const double agreement : logged(scratch / "run", "agreement")) {
    CHECK(agreement > 0);
    CHECK(agreement < 1);
  }
}

TEST_CASE("pplr: of more clusters than the classifiers have rows the largest are trained on") {
  PPLRConfig config = small_pplr();
  config.max_clusters = 4;
  std::string said;
  RunPorts ports;
  ports.say = [&](const std::string& line) { said += line + "\n"; };
  const Scratch scratch("capacity");
  REQUIRE(train_by<PPLR>(config, scratch / "run", false, ports));
  REQUIRE(logged(scratch / "run", "clusters").front() > 4);
  CHECK(contains(said, "are more than pseudo.max_clusters = 4: only the largest are trained on"));
}

TEST_CASE("unsupervised: fewer clusters than a batch wants make smaller batches, of a size that batch norm can cut") {
  ClusterContrastConfig config = small_contrast();
  config.batches.people = 30;
  config.batches.images = 3;
  config.common.model.bn_groups = 2;
  config.common.run.epochs = 1;
  std::string said;
  RunPorts ports;
  ports.say = [&](const std::string& line) { said += line + "\n"; };
  const Scratch scratch("few");
  REQUIRE(train_by<ClusterContrast>(config, scratch / "run", false, ports));
  const int64_t clusters = static_cast<int64_t>(logged(scratch / "run", "clusters").front());
  CHECK(contains(said, str("batches hold ", clusters - clusters % 2, " clusters: ", clusters, " are fewer than batch.people = 30")));
  config.common.model.bn_groups = 45;
  CHECK(contains(failure_in_run<ClusterContrast>(config), "cannot be cut into model.bn_groups = 45 equal parts of at least two images"));
}

TEST_CASE("unsupervised: the largest clusters are kept in their order, the rest is noise") {
  const Clusters all{.labels = {0, 1, 1, 2, 2, 2, 3, 3, -1, 4}, .count = 5, .noise = 1};
  const Clusters three = largest_clusters(all, 3);
  CHECK(three.labels == std::vector<int64_t>{-1, 0, 0, 1, 1, 1, 2, 2, -1, -1});
  CHECK(three.count == 3);
  CHECK(three.noise == 3);
  const Clusters two = largest_clusters(all, 2);  // of equal ones the first
  CHECK(two.labels == std::vector<int64_t>{-1, 0, 0, 1, 1, 1, -1, -1, -1, -1});
  CHECK(largest_clusters(all, 9).labels == all.labels);
}

TEST_CASE("unsupervised: no cluster, a single cluster, and too few images or cameras are said") {
  const ClusterContrastConfig plain = small_contrast();
  CHECK(contains(failure_in_run<ClusterContrast>(changed(plain, [](ClusterContrastConfig& c) { c.clusters.min_samples = 30; })),
                 "found no cluster (34 images are noise): nothing to tell apart; raise pseudo.eps"));
  CHECK(contains(failure_in_run<ClusterContrast>(changed(plain, [](ClusterContrastConfig& c) { c.clusters.eps = 1; })),
                 "found a single cluster (0 images are noise): nothing to tell apart; lower pseudo.eps"));
  CHECK(contains(failure_in_run<ClusterContrast>(changed(plain, [](ClusterContrastConfig& c) { c.clusters.k1 = 34; })),
                 "data.multi has 34 training images, pseudo.k1 = 34 asks for more neighbors than each can have"));
  PPLRConfig parts = small_pplr();
  parts.agreement_neighbors = 34;
  CHECK(contains(failure_in_run<PPLR>(parts), "parts.neighbors = 34 asks for more neighbors"));

  const Scratch scratch("folder");
  copy_people(scratch / "people");
  parts = small_pplr();
  parts.common.data.multi = {"folder:" + (scratch / "people").string()};
  parts.camera_weight = 0.5;
  CHECK(contains(failure_in_run<PPLR>(parts), "needs images of several cameras, and the training data name only one"));
  parts.camera_weight = 0;
  CHECK(failure_in_run<PPLR>(parts) == "");
  parts.parts = 5;
  CHECK(contains(failure_in_run<PPLR>(parts), "parts.count = 5 are more than the 4 rows of the network's last feature map"));
}

TEST_CASE("unsupervised: settings that make no sense are refused") {
  const auto refusal = [](const auto& change) {
    PPLRConfig config = small_pplr();
    change(config);
    return failure_of([&] { config.check(); });
  };
  CHECK(contains(refusal([](PPLRConfig& c) { c.common.data.multi.clear(); }), "data.multi is empty"));
  CHECK(contains(refusal([](PPLRConfig& c) { c.common.data.single = {"videos:x"}; }), "pplr trains on data.multi only"));
  CHECK(contains(refusal([](PPLRConfig& c) { c.common.model.bn_groups = 5; }), "model.bn_groups = 5 does not cut a batch of 12 images"));
  CHECK(contains(refusal([](PPLRConfig& c) { c.common.model.bn_groups = 12; }), "into equal parts of at least two"));
  CHECK(contains(refusal([](PPLRConfig& c) { c.common.model.neck = "none"; }), "pplr needs model.neck = bn"));
  CHECK(contains(refusal([](PPLRConfig& c) { c.refined_weight = c.triplet_weight = c.parts_weight = 0; }), "nothing to train on"));
  CHECK(failure_of([] { small_contrast().check(); }) == "");

  ReMixConfig remix = small_config();  // 9 labeled images and 4 of videos
  remix.common.model.bn_groups = 3;
  CHECK(contains(failure_of([&] { remix.check(); }), "model.bn_groups = 3 does not cut a batch of 13 images"));
  remix.common.model.bn_groups = 2;
  CHECK(contains(failure_of([&] { remix.check(); }), "does not cut a batch of 9 images"));
}

}  // namespace reid::test
