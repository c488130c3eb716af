// Each loss is one similarity matrix, a mask of who is what to whom, and one of the two row losses of the engine: [B, B] or, over the
// centroids of cameras, [B, K]. Over the centroids of people who counts is a range of columns, so that neither their mask nor all their
// similarities are needed: centroid_rows.

#include <algorithm>
#include <limits>
#include <numeric>

#include "labels.h"
#include "reid/learning/losses.h"

namespace reid {

namespace {

// Per-row settings of a row loss, filled on the host. On the device of x and as wide as its sums.
struct RowSettings {
  explicit RowSettings(int64_t rows) : tau(static_cast<size_t>(rows), 1.0), weight(static_cast<size_t>(rows), 0.0) {}
  Tensor tau_for(const Var& x) const { return wide_for(tau, x); }
  Tensor weight_for(const Var& x) const { return wide_for(weight, x); }
  static Tensor wide_for(const std::vector<double>& values, const Var& x) {
    return Tensor::from(values).to(wide(x.value().dtype())).to(x.value().device());
  }

  std::vector<double> tau, weight;
};

// And the mask.
struct Rows : RowSettings {
  Rows(int64_t rows, int64_t columns_) : RowSettings(rows), columns(columns_), mask(static_cast<size_t>(rows * columns_), kIgnored) {}
  uint8_t& at(size_t i, size_t j) { return mask[i * static_cast<size_t>(columns) + j]; }
  Tensor mask_for(const Var& s) const { return Tensor::from(mask, Shape{static_cast<int64_t>(tau.size()), columns}, s.value().device()); }

  int64_t columns;
  std::vector<uint8_t> mask;
};

void require_people(const char* op, const Var& f, const BatchPeople& people) {
  const size_t rows = people.labels.size();
  REID_CHECK(
      f.shape().rank() == 2 && static_cast<size_t>(f.shape()[0]) == rows && people.single.size() == rows && people.cameras.size() == rows,
      "[", op, "] f ", f.shape(), " with ", rows, " labels, ", people.single.size(), " types and ", people.cameras.size(), " cameras");
}

void require_momentum(const char* op, const Var& f, const Tensor& m) {
  REID_CHECK(m.shape() == f.shape(), "[", op, "] f ", f.shape(), " and m ", m.shape(), " differ");
}

void require_tau(const char* op, double tau) { REID_CHECK(tau > 0, "[", op, "] temperature ", tau, " must be positive"); }

// 1 over the number of anchors of the row's type (sum of means), or over all anchors (pooled); 0 for rows that are no anchors.
void set_weights(RowSettings& rows, const BatchPeople& people, const LossScope& scope) {
  double count[2] = {0, 0};
  for (const uint8_t s : people.single) count[s] += 1;
  if (!scope.use_single) count[1] = 0;
  for (size_t i = 0; i < people.single.size(); ++i) {
    const uint8_t type = people.single[i];
    if (type == 1 && !scope.use_single) continue;
    rows.weight[i] = 1 / (scope.pooled ? count[0] + count[1] : count[type]);
  }
}

bool in_scope(const LossScope& scope, uint8_t anchor, uint8_t other) {
  return scope.joint ? scope.use_single || other == 0 : anchor == other;
}

Var similarities(const Var& f, const Tensor& rows) { return matmul(f, Var(rows), false, true); }

}  // namespace

Var instance_loss(const Var& f, const Tensor& m, const BatchPeople& people, const InstanceLossOptions& options) {
  require_people("instance_loss", f, people);
  require_momentum("instance_loss", f, m);
  require_tau("instance_loss", std::min(options.tau_multi, options.tau_single));
  const size_t batch = people.labels.size();
  Rows rows(f.shape()[0], f.shape()[0]);
  set_weights(rows, people, options.scope);
  for (size_t i = 0; i < batch; ++i) {
    rows.tau[i] = people.single[i] ? options.tau_single : options.tau_multi;
    for (size_t j = 0; j < batch; ++j) {
      if (people.labels[i] == people.labels[j]) {
        rows.at(i, j) = i == j && !options.self_positive ? kIgnored : kPositive;
      } else if (in_scope(options.scope, people.single[i], people.single[j])) {
        rows.at(i, j) = kNegative;
      }
    }
  }
  const Var s = similarities(f, m);
  return options.supcon ? softmax_rows(s, rows.mask_for(s), rows.tau_for(s), rows.weight_for(s))
                        : one_positive_rows(s, rows.mask_for(s), rows.tau_for(s), rows.weight_for(s));
}

Var augmentation_loss(const Var& f, const Tensor& m, const BatchPeople& people, const AugmentationLossOptions& options) {
  require_people("augmentation_loss", f, people);
  require_momentum("augmentation_loss", f, m);
  require_tau("augmentation_loss", options.tau);
  const size_t batch = people.labels.size();
  Rows rows(f.shape()[0], f.shape()[0]);
  set_weights(rows, people, options.scope);
  for (size_t i = 0; i < batch; ++i) {
    rows.tau[i] = options.tau;
    for (size_t j = 0; j < batch; ++j) {
      if (i == j) {
        rows.at(i, j) = kPositive;
      } else if (people.labels[i] != people.labels[j] && in_scope(options.scope, people.single[i], people.single[j])) {
        rows.at(i, j) = kNegative;
      }
    }
  }
  const Var s = similarities(f, m);
  return one_positive_rows(s, rows.mask_for(s), rows.tau_for(s), rows.weight_for(s));
}

Var centroid_loss(const Var& f, const Tensor& centroids, int64_t multi_count, const BatchPeople& people,
                  const CentroidLossOptions& options) {
  require_people("centroid_loss", f, people);
  require_tau("centroid_loss", std::min(options.tau_multi, options.tau_single));
  REID_CHECK(centroids.shape().rank() == 2 && centroids.dim(1) == f.shape()[1], "[centroid_loss] f ", f.shape(), " and centroids ",
             centroids.shape(), " differ in width");
  const int64_t count = centroids.dim(0);
  REID_CHECK(multi_count >= 0 && multi_count <= count, "[centroid_loss] ", multi_count, " multi-camera centroids of ", count);
  REID_CHECK(count <= std::numeric_limits<int32_t>::max(), "[centroid_loss] ", count, " centroids are too many to number in 32 bits");
  RowSettings rows(f.shape()[0]);
  set_weights(rows, people, options.scope);
  // A row's own centroid is the one that has its label as number. Rows that are no anchors are over no centroid.
  std::vector<int32_t> own(rows.tau.size(), 0), first(rows.tau.size(), 0), end(rows.tau.size(), 0);
  for (size_t i = 0; i < people.labels.size(); ++i) {
    if (rows.weight[i] == 0) continue;
    const int64_t label = people.labels[i];
    REID_CHECK(label >= 0 && label < count && (label >= multi_count) == (people.single[i] == 1), "[centroid_loss] label ", label,
               " of row ", i, " has no centroid of its type (", multi_count, " multi-camera, ", count - multi_count, " single-camera)");
    rows.tau[i] = people.single[i] ? options.tau_single : options.tau_multi;
    own[i] = static_cast<int32_t>(label);
    first[i] = static_cast<int32_t>(in_scope(options.scope, people.single[i], 0) ? 0 : multi_count);
    end[i] = static_cast<int32_t>(in_scope(options.scope, people.single[i], 1) ? count : multi_count);
  }
  const Device device = f.value().device();
  return centroid_rows(f, centroids,
                       {.label = Tensor::from(own).to(device),
                        .first = Tensor::from(first).to(device),
                        .end = Tensor::from(end).to(device),
                        .tau = rows.tau_for(f),
                        .weight = rows.weight_for(f)},
                       {}, options.smoothing);
}

namespace {

// Marks one anchor's positives and all its negatives; false when it has no positive.
bool mark_camera_row(Rows& rows, size_t i, const Centroids& centroids, const BatchPeople& people,
                     const CameraCentroidLossOptions& options) {
  bool found = false;
  for (size_t u = 0; u < centroids.labels.size(); ++u) {
    if (centroids.labels[u] != people.labels[i]) {
      rows.at(i, u) = kNegative;
    } else if (centroids.cameras[u] != people.cameras[i] || options.include_own_camera) {
      rows.at(i, u) = kPositive;
      found = true;
    }
  }
  return found;
}

}  // namespace

Var camera_centroid_loss(const Var& f, const Centroids& centroids, const BatchPeople& people, const CameraCentroidLossOptions& options) {
  require_people("camera_centroid_loss", f, people);
  require_tau("camera_centroid_loss", options.tau);
  const size_t count = centroids.labels.size();
  REID_CHECK(centroids.rows.shape() == (Shape{static_cast<int64_t>(count), f.shape()[1]}) && centroids.cameras.size() == count,
             "[camera_centroid_loss] f ", f.shape(), ", centroids ", centroids.rows.shape(), " with ", count, " labels and ",
             centroids.cameras.size(), " cameras");
  REID_CHECK(options.hard_negatives >= 0, "[camera_centroid_loss] hard_negatives = ", options.hard_negatives, " is negative");
  const Var s = similarities(f, centroids.rows);
  Rows rows(f.shape()[0], static_cast<int64_t>(count));
  for (size_t i = 0; i < people.labels.size(); ++i) {
    rows.tau[i] = options.tau;
    if (people.single[i]) continue;
    if (mark_camera_row(rows, i, centroids, people, options)) rows.weight[i] = 1;
  }
  const double anchors =
      options.over_batch ? static_cast<double>(rows.weight.size()) : std::accumulate(rows.weight.begin(), rows.weight.end(), 0.0);
  for (double& w : rows.weight) w /= std::max(anchors, 1.0);
  const Tensor mask = ops::hardest_negatives(s.value(), rows.mask_for(s), options.hard_negatives);
  return softmax_rows(s, mask, rows.tau_for(s), rows.weight_for(s));
}

Var cross_entropy(const Var& logits, const std::vector<int64_t>& labels, double smoothing) {
  REID_CHECK(logits.shape().rank() == 2 && static_cast<size_t>(logits.shape()[0]) == labels.size(), "[cross_entropy] logits ",
             logits.shape(), " with ", labels.size(), " labels");
  RowSettings rows(logits.shape()[0]);
  std::ranges::fill(rows.weight, 1 / static_cast<double>(std::max<size_t>(labels.size(), 1)));
  return softmax_rows(logits, class_numbers("cross_entropy", labels, logits.shape()[1], logits.value().device()), rows.tau_for(logits),
                      rows.weight_for(logits), smoothing);
}

}  // namespace reid
