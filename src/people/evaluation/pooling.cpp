// What goes into an evaluation: labels of a data set, several images as one row.

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "people/distances.h"
#include "reid/people/evaluation.h"

namespace reid {

namespace {

// The pool of some rows, each multiplied by its scale, into `out`.
template <class T>
void pool(const T* x, int64_t width, const std::vector<int64_t>& rows, const std::vector<double>& scales, Pooling pooling, T* out) {
  std::vector<double> sums(static_cast<size_t>(width), pooling == Pooling::mean ? 0 : -INFINITY);
  for (int64_t row : rows) {
    const double scale = scales.empty() ? 1 : scales[static_cast<size_t>(row)];
    for (int64_t d = 0; d < width; ++d) {
      const double value = static_cast<double>(x[row * width + d]) * scale;
      double& sum = sums[static_cast<size_t>(d)];
      sum = pooling == Pooling::mean ? sum + value : std::max(sum, value);
    }
  }
  const double count = pooling == Pooling::mean ? static_cast<double>(rows.size()) : 1;
  for (int64_t d = 0; d < width; ++d) out[d] = static_cast<T>(sums[static_cast<size_t>(d)] / count);
}

void pool_into(const Tensor& features, const std::vector<int64_t>& rows, const std::vector<double>& scales, Pooling pooling,
               const Tensor& out, int64_t row) {
  const int64_t width = features.dim(1);
  if (features.dtype() == DType::f32) {
    pool(features.data<float>(), width, rows, scales, pooling, out.data<float>() + row * width);
  } else {
    pool(features.data<double>(), width, rows, scales, pooling, out.data<double>() + row * width);
  }
}

std::vector<double> inverse_lengths(const Tensor& features) {
  std::vector<double> inverse = squared_lengths(features);
  for (double& value : inverse) value = 1 / std::sqrt(value);
  return inverse;
}

}  // namespace

RetrievalLabels retrieval_labels(const Dataset& set) {
  RetrievalLabels labels;
  labels.cameras_known = set.cameras_known;
  std::unordered_map<std::string, int64_t> numbers;
  const auto list = [&](const std::vector<Sample>& samples, std::vector<int64_t>& ids, std::vector<int64_t>& cameras,
                        std::vector<int64_t>& files) {
    for (const Sample& sample : samples) {
      ids.push_back(sample.person);
      cameras.push_back(sample.camera);
      if (set.cameras_known) continue;
      std::error_code ignored;  // a path that is no file, such as a container's key, stands for itself
      const std::string name = std::filesystem::weakly_canonical(sample.path, ignored).string();
      files.push_back(numbers.emplace(name.empty() ? sample.path : name, static_cast<int64_t>(numbers.size())).first->second);
    }
  };
  list(set.query, labels.query_ids, labels.query_cameras, labels.query_files);
  list(set.gallery, labels.gallery_ids, labels.gallery_cameras, labels.gallery_files);
  return labels;
}

PooledRows pool_rows(const Tensor& features, const std::vector<int64_t>& groups, Pooling pooling) {
  check_features(features, Metric::euclidean, "[pool_rows] features");
  check_labels(groups, features, "[pool_rows] groups");
  PooledRows result;
  std::vector<std::vector<int64_t>> members;
  std::unordered_map<int64_t, size_t> place;
  for (size_t i = 0; i < groups.size(); ++i) {
    const auto [found, is_new] = place.emplace(groups[i], members.size());
    if (is_new) {
      members.emplace_back();
      result.first.push_back(static_cast<int64_t>(i));
    }
    members[found->second].push_back(static_cast<int64_t>(i));
  }
  result.rows = Tensor::empty({static_cast<int64_t>(members.size()), features.dim(1)}, features.dtype());
  for (size_t k = 0; k < members.size(); ++k) pool_into(features, members[k], {}, pooling, result.rows, static_cast<int64_t>(k));
  return result;
}

Tensor multi_query(const EvaluationInput& input, const Tensor& images, const std::vector<int64_t>& ids, const std::vector<int64_t>& cameras,
                   Pooling pooling, bool unit) {
  REID_CHECK(input.cameras_known, "[multi_query] cameras are unknown, and a query is joined with the images of its identity and camera");
  const Metric metric = unit ? Metric::cosine : Metric::euclidean;
  check_features(images, metric, "[multi_query] images");
  check_features(input.query, metric, "[multi_query] query");
  check_labels(ids, images, "[multi_query] ids");
  check_labels(cameras, images, "[multi_query] cameras");
  check_labels(input.query_ids, input.query, "[multi_query] query ids");
  check_labels(input.query_cameras, input.query, "[multi_query] query cameras");
  REID_CHECK(images.dtype() == input.query.dtype() && images.dim(1) == input.query.dim(1), "[multi_query] images ", images.shape(), " ",
             images.dtype(), " do not fit the query ", input.query.shape(), " ", input.query.dtype());
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> members;
  for (size_t i = 0; i < ids.size(); ++i) members[{ids[i], cameras[i]}].push_back(static_cast<int64_t>(i));
  const std::vector<double> scales = unit ? inverse_lengths(images) : std::vector<double>{};
  Tensor result = input.query.clone();
  for (size_t q = 0; q < input.query_ids.size(); ++q) {
    const auto found = members.find({input.query_ids[q], input.query_cameras[q]});
    if (found != members.end()) pool_into(images, found->second, scales, pooling, result, static_cast<int64_t>(q));
  }
  return result;
}

std::vector<Sample> tracklet_frames(const std::vector<Sample>& samples, int64_t frames) {
  std::vector<std::vector<size_t>> groups;  // one for each tracklet, and for each image of none
  std::unordered_map<int64_t, size_t> place;
  for (size_t i = 0; i < samples.size(); ++i) {
    const bool is_new = samples[i].tracklet < 0 || place.emplace(samples[i].tracklet, groups.size()).second;
    if (is_new) {
      groups.push_back({i});
    } else {
      groups[place.at(samples[i].tracklet)].push_back(i);
    }
  }
  std::vector<Sample> chosen;
  for (const std::vector<size_t>& group : groups) {
    const int64_t wanted = samples[group[0]].tracklet < 0 ? 0 : frames;
    for (int64_t frame : even_frames(static_cast<int64_t>(group.size()), wanted))
      chosen.push_back(samples[group[static_cast<size_t>(frame)]]);
  }
  return chosen;
}

Tensor pool_tracklets(const Tensor& features, std::vector<Sample>& samples) {
  const auto in_tracklet = [](const Sample& sample) { return sample.tracklet >= 0; };
  if (std::none_of(samples.begin(), samples.end(), in_tracklet)) return features;
  std::vector<int64_t> groups;
  for (size_t i = 0; i < samples.size(); ++i)
    groups.push_back(in_tracklet(samples[i]) ? samples[i].tracklet : -1 - static_cast<int64_t>(i));
  const PooledRows pool = pool_rows(features, groups, Pooling::mean);
  std::vector<Sample> firsts;
  for (int64_t row : pool.first) firsts.push_back(samples[static_cast<size_t>(row)]);
  samples = std::move(firsts);
  return pool.rows;
}

std::vector<int64_t> even_frames(int64_t count, int64_t wanted) {
  REID_CHECK(count >= 1 && wanted >= 0, "[even_frames] ", wanted, " of ", count, " frames: expected at least one frame to choose from");
  std::vector<int64_t> frames;
  for (int64_t i = 0; i < (wanted == 0 ? count : wanted); ++i) {
    frames.push_back(wanted == 0 ? i : count >= wanted ? i * (count / wanted) : std::min(i, count - 1));
  }
  return frames;
}

}  // namespace reid
