#pragma once
// Pseudo labels of a whole training set, made anew before each epoch: what the recipes without identities share.

#include <string>
#include <vector>

#include "reid/learning/method.h"
#include "reid/people/cluster.h"

namespace reid {

// DBSCAN on k-reciprocal Jaccard distances.
struct ClusterSettings {
  double eps = 0.6;
  int64_t min_samples = 4, k1 = 30, k2 = 6;
  void visit(ConfigKeys& keys);
};

// Batches of clusters.
struct ClusterBatches {
  int64_t people = 16, images = 16;
  std::string sampling = "anchor";
  void visit(ConfigKeys& keys);
};

// Training images whose identities are looked at for measuring only.
struct UnlabeledImages {
  std::vector<Sample> samples;
  std::vector<int64_t> truth;  // -1 unknown
};
// The training images of data.multi. Throws when there are no more of them than `neighbors`, the value of the key `key`.
UnlabeledImages read_unlabeled(Run& run, int64_t neighbors, const char* key);

// Labels of the rows of `features` [N, D]. Logs how many clusters there are, the share of noise and, where the truth is known, how good
// the labels are. Throws when there are fewer than two clusters: nothing could be told apart.
Clusters pseudo_label(Run& run, const Tensor& features, const ClusterSettings& settings, const std::vector<int64_t>& truth);
// The last of these: of the points whose truth is known.
void log_quality(Run& run, const std::vector<int64_t>& labels, const std::vector<int64_t>& truth);

// The `count` clusters with the most points, of equal ones the first, numbered anew in their order; the rest is noise.
Clusters largest_clusters(const Clusters& clusters, int64_t count);

// The epoch's batches over the labeled samples. With fewer clusters than batch.people each batch holds as many as there are, and as batch
// norm can cut into model.bn_groups parts.
BatchPlan cluster_plan(Run& run, const std::vector<Sample>& samples, const Clusters& clusters, const ClusterBatches& batches,
                       const Rng& rng);

// What a recipe on data.multi without labels checks of its settings.
void check_unlabeled(const RunConfig& common, const ClusterBatches& batches, const char* recipe);

}  // namespace reid
