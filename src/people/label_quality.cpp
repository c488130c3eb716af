// How good pseudo labels are: purity, pairs, entropies.

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "reid/people/cluster.h"

namespace reid {

namespace {

double ratio(double part, double whole, double if_empty) { return whole > 0 ? part / whole : if_empty; }
double pairs_of(int64_t n) { return static_cast<double>(n) * static_cast<double>(n - 1) / 2; }

// sum over groups of -(n/N) ln(n/N)
double entropy(const std::map<int64_t, int64_t>& sizes, double total) {
  double sum = 0;
  for (const auto& [key, n] : sizes) sum -= static_cast<double>(n) / total * std::log(static_cast<double>(n) / total);
  return sum;
}

}  // namespace

LabelQuality label_quality(const std::vector<int64_t>& labels, const std::vector<int64_t>& truth) {
  REID_CHECK(labels.size() == truth.size(), "[label_quality] ", labels.size(), " labels for ", truth.size(), " true identities");
  std::map<std::pair<int64_t, int64_t>, int64_t> joint;  // (cluster, identity) of clustered points
  std::map<int64_t, int64_t> clusters, clustered_truth;  // sizes, of clustered points
  std::map<int64_t, int64_t> identities;                 // sizes, noise included
  LabelQuality q;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (truth[i] < 0) continue;
    ++q.points;
    ++identities[truth[i]];
    if (labels[i] < 0) continue;
    ++joint[{labels[i], truth[i]}];
    ++clusters[labels[i]];
    ++clustered_truth[truth[i]];
  }
  q.clusters = static_cast<int64_t>(clusters.size());
  q.identities = static_cast<int64_t>(identities.size());
  double clustered = 0, true_pairs = 0, put_pairs = 0, right_pairs = 0, joint_entropy = 0;
  for (const auto& [key, n] : clusters) clustered += static_cast<double>(n), put_pairs += pairs_of(n);
  for (const auto& [key, n] : identities) true_pairs += pairs_of(n);
  std::map<int64_t, int64_t> largest;
  for (const auto& [key, n] : joint) {
    right_pairs += pairs_of(n);
    joint_entropy -= static_cast<double>(n) / clustered * std::log(static_cast<double>(n) / clustered);
    largest[key.first] = std::max(largest[key.first], n);
  }
  double majority = 0;
  for (const auto& [key, n] : largest) majority += static_cast<double>(n);
  const double points = static_cast<double>(q.points);
  q.noise_ratio = ratio(points - clustered, points, 0);
  q.purity = ratio(majority, clustered, 0);
  q.pair_precision = ratio(right_pairs, put_pairs, 1);
  q.pair_recall = ratio(right_pairs, true_pairs, 1);
  q.pair_f = ratio(2 * q.pair_precision * q.pair_recall, q.pair_precision + q.pair_recall, 0);
  // Conditional entropies are differences: rounding may leave them a hair below 0.
  const double of_truth = entropy(clustered_truth, clustered), of_clusters = entropy(clusters, clustered);
  q.homogeneity = 1 - ratio(std::max(0.0, joint_entropy - of_clusters), of_truth, 0);
  q.completeness = 1 - ratio(std::max(0.0, joint_entropy - of_truth), of_clusters, 0);
  q.v_measure = ratio(2 * q.homogeneity * q.completeness, q.homogeneity + q.completeness, 0);
  return q;
}

}  // namespace reid
