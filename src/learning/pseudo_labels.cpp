#include "reid/learning/pseudo_labels.h"

#include <algorithm>
#include <numeric>

namespace reid {

using enum Origin;

void ClusterSettings::visit(ConfigKeys& keys) {
  keys.section("pseudo", "Pseudo labels: DBSCAN on the Jaccard distances of all training images, before each epoch.");
  keys.key("eps", eps, published, "DBSCAN radius", Range::above(0));
  keys.key("min_samples", min_samples, published, "neighbors of a core point, itself included", Range::at_least(1));
  keys.key("k1", k1, published, "Jaccard: neighbors", Range::at_least(1));
  keys.key("k2", k2, published, "Jaccard: query expansion", Range::at_least(1));
}

void ClusterBatches::visit(ConfigKeys& keys) {
  keys.section("batch", "Clusters and images of each in a batch.");
  keys.key("people", people, published, "clusters in a batch; all of them in epochs that have fewer", Range::at_least(2));
  keys.key("images", images, published, "images of each; a cluster with fewer repeats some", Range::at_least(1));
  keys.choice("sampling", sampling, {"anchor", "cameras", "random"}, published,
              "a cluster's images: any and others from other cameras (published), one from each camera first, or any");
}

UnlabeledImages read_unlabeled(Run& run, int64_t neighbors, const char* key) {
  UnlabeledImages images{run.read_training(run.config().data.multi).train, {}};
  const int64_t count = static_cast<int64_t>(images.samples.size());
  REID_CHECK(count > neighbors, "data.multi has ", count, " training images, ", key, " = ", neighbors,
             " asks for more neighbors than each can have: lower it or add images");
  for (const Sample& sample : images.samples) images.truth.push_back(sample.person > 0 ? sample.person : -1);
  return images;
}

Clusters pseudo_label(Run& run, const Tensor& features, const ClusterSettings& settings, const std::vector<int64_t>& truth) {
  const ClusterProgress progress = [&run](const std::string& phase, double) { run.progress("clustering: " + phase); };
  Clusters clusters = dbscan_jaccard(features, {.k1 = settings.k1, .k2 = settings.k2},
                                     {.eps = settings.eps, .min_samples = settings.min_samples, .device = run.config().device}, progress);
  const int64_t count = features.dim(0);
  run.log("clusters", static_cast<double>(clusters.count));
  run.log("noise", static_cast<double>(clusters.noise) / static_cast<double>(count));
  log_quality(run, clusters.labels, truth);
  REID_CHECK(clusters.count >= 2, "clustering ", count, " images with pseudo.eps = ", settings.eps, " found ",
             clusters.count == 0 ? "no cluster" : "a single cluster", " (", clusters.noise, " images are noise): nothing to tell apart; ",
             clusters.count == 0 ? "raise" : "lower", " pseudo.eps, or begin with trained weights (model.weights)");
  return clusters;
}

void log_quality(Run& run, const std::vector<int64_t>& labels, const std::vector<int64_t>& truth) {
  if (std::ranges::all_of(truth, [](int64_t identity) { return identity < 0; })) return;
  const LabelQuality q = label_quality(labels, truth);
  run.log("purity", q.purity);
  run.log("pair_f", q.pair_f);
  run.log("v_measure", q.v_measure);
}

Clusters largest_clusters(const Clusters& clusters, int64_t count) {
  std::vector<int64_t> sizes(static_cast<size_t>(clusters.count)), order(sizes.size()), renamed(sizes.size(), -1);
  for (const int64_t label : clusters.labels) {
    if (label >= 0) ++sizes[static_cast<size_t>(label)];
  }
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return sizes[static_cast<size_t>(a)] > sizes[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(std::min(count, clusters.count)));
  std::ranges::sort(order);
  for (size_t k = 0; k < order.size(); ++k) renamed[static_cast<size_t>(order[k])] = static_cast<int64_t>(k);
  Clusters kept{.labels = {}, .count = static_cast<int64_t>(order.size()), .noise = 0};
  for (const int64_t label : clusters.labels) {
    kept.labels.push_back(label < 0 ? -1 : renamed[static_cast<size_t>(label)]);
    kept.noise += kept.labels.back() < 0;
  }
  return kept;
}

BatchPlan cluster_plan(Run& run, const std::vector<Sample>& samples, const Clusters& clusters, const ClusterBatches& batches,
                       const Rng& rng) {
  const RunConfig& config = run.config();
  PK pk{batches.people, batches.images};
  if (clusters.count < pk.people) {
    pk.people = clusters.count;
    while (pk.people > 0 && !config.model.can_cut(pk.people * pk.images)) --pk.people;
    REID_CHECK(pk.people >= 2, "a batch of ", clusters.count, " clusters, all that there are, with ", pk.images,
               " images each cannot be cut into model.bn_groups = ", config.model.bn_groups,
               " equal parts of at least two images: change pseudo.eps, batch.images or model.bn_groups");
    run.note(str("batches hold ", pk.people, " clusters: ", clusters.count, " are fewer than batch.people = ", batches.people));
  }
  const std::vector<PlanEntry> entries = labeled_entries(samples, clusters.labels, DataKind::multi);
  const int64_t count = config.run.iterations;
  if (batches.sampling == "anchor") return anchor_plan(entries, pk, count, rng);
  return batches.sampling == "cameras" ? multi_camera_plan(entries, pk, count, rng) : random_plan(entries, pk, count, rng);
}

void check_unlabeled(const RunConfig& common, const ClusterBatches& batches, const char* recipe) {
  REID_CHECK(!common.data.multi.empty(), "data.multi is empty: name at least one set, e.g. multi = [\"market1501:PATH\"]");
  REID_CHECK(common.data.single.empty(), "data.single is set, but ", recipe, " trains on data.multi only: remove it");
  reid::check(common.model.encoder().backbone);
  common.model.check_batch(batches.people * batches.images);
}

}  // namespace reid
