// Centroids: means of labeled rows, scaled to length 1.

#include <algorithm>
#include <cmath>
#include <map>

#include "people/distances.h"

namespace reid {

namespace {

using Key = std::pair<int64_t, int64_t>;  // (label, camera); camera 0 for all when cameras do not matter

template <class T>
void mean_rows(const Tensor& features, const std::vector<std::vector<int64_t>>& members, const std::vector<Key>& keys, const Tensor& out) {
  const int64_t width = features.dim(1);
  const T* x = features.data<T>();
  T* y = out.data<T>();
  parallel_for(static_cast<int64_t>(members.size()), 4, [&](int64_t begin, int64_t end, int) {
    std::vector<double> sum(static_cast<size_t>(width));
    for (int64_t k = begin; k < end; ++k) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t i : members[static_cast<size_t>(k)]) {
        for (int64_t d = 0; d < width; ++d) sum[static_cast<size_t>(d)] += static_cast<double>(x[i * width + d]);
      }
      double squared = 0;
      for (double s : sum) squared += s * s;
      REID_CHECK(squared > 0, "[centroids] the rows of label ", keys[static_cast<size_t>(k)].first,
                 " sum to zero, so their mean has no direction");
      const double scale = 1 / std::sqrt(squared);
      for (int64_t d = 0; d < width; ++d) y[k * width + d] = static_cast<T>(sum[static_cast<size_t>(d)] * scale);
    }
  });
}

Centroids centroids_of(const Tensor& features, const std::vector<int64_t>& labels, const std::vector<int64_t>* cameras) {
  check_features(features, Metric::euclidean, "[centroids] features");
  check_labels(labels, features, "[centroids] labels");
  if (cameras) check_labels(*cameras, features, "[centroids] cameras");
  std::map<Key, std::vector<int64_t>> groups;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] >= 0) groups[{labels[i], cameras ? (*cameras)[i] : 0}].push_back(static_cast<int64_t>(i));
  }
  REID_CHECK(!groups.empty(), "[centroids] none of ", labels.size(), " rows has a label of at least 0");
  Centroids result;
  std::vector<Key> keys;
  std::vector<std::vector<int64_t>> members;
  for (auto& [key, rows] : groups) {
    keys.push_back(key);
    result.labels.push_back(key.first);
    if (cameras) result.cameras.push_back(key.second);
    result.counts.push_back(static_cast<int64_t>(rows.size()));
    members.push_back(std::move(rows));
  }
  result.rows = Tensor::empty({static_cast<int64_t>(keys.size()), features.dim(1)}, features.dtype());
  if (features.dtype() == DType::f32) {
    mean_rows<float>(features, members, keys, result.rows);
  } else {
    mean_rows<double>(features, members, keys, result.rows);
  }
  return result;
}

}  // namespace

Centroids identity_centroids(const Tensor& features, const std::vector<int64_t>& labels) { return centroids_of(features, labels, nullptr); }

Centroids camera_centroids(const Tensor& features, const std::vector<int64_t>& labels, const std::vector<int64_t>& cameras) {
  return centroids_of(features, labels, &cameras);
}

}  // namespace reid
