// eps from the distances of labeled same-camera pairs.

#include <algorithm>

#include "people/distances.h"

namespace reid {

namespace {

// The labeled rows, sorted by (camera, label, row), with the range of each one's camera and of its label within that camera.
struct SameCameraPairs {
  struct Entry {
    int64_t row, camera_begin, camera_end, label_begin, label_end;
  };
  std::vector<Entry> entries;

  SameCameraPairs(const std::vector<int64_t>& labels, const std::vector<int64_t>& cameras) {
    std::vector<int64_t> rows;
    for (size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] >= 0) rows.push_back(static_cast<int64_t>(i));
    }
    const auto camera = [&](int64_t i) { return cameras[static_cast<size_t>(i)]; };
    const auto label = [&](int64_t i) { return labels[static_cast<size_t>(i)]; };
    std::stable_sort(rows.begin(), rows.end(),
                     [&](int64_t a, int64_t b) { return std::pair(camera(a), label(a)) < std::pair(camera(b), label(b)); });
    const int64_t count = static_cast<int64_t>(rows.size());
    const auto at = [&](int64_t place) { return rows[static_cast<size_t>(place)]; };
    for (int64_t begin = 0; begin < count;) {
      int64_t end = begin;
      while (end < count && camera(at(end)) == camera(at(begin))) ++end;
      for (int64_t first = begin; first < end;) {
        int64_t last = first;
        while (last < end && label(at(last)) == label(at(first))) ++last;
        for (int64_t i = first; i < last; ++i) entries.push_back({at(i), begin, end, first, last});
        first = last;
      }
      begin = end;
    }
  }

  // How many partners the entry at `place` has, and the n-th of them.
  int64_t partners(int64_t place, bool same) const {
    const Entry& e = entries[static_cast<size_t>(place)];
    const int64_t mates = e.label_end - e.label_begin;
    return same ? mates - 1 : e.camera_end - e.camera_begin - mates;
  }
  int64_t partner(int64_t place, int64_t n, bool same) const {
    const Entry& e = entries[static_cast<size_t>(place)];
    if (same) return e.label_begin + n < place ? e.label_begin + n : e.label_begin + n + 1;
    return e.camera_begin + n < e.label_begin ? e.camera_begin + n : e.camera_begin + n + (e.label_end - e.label_begin);
  }
};

struct PairSample {
  int64_t existing = 0;
  std::vector<std::pair<int64_t, int64_t>> pairs;  // rows of the features
};

// All pairs of a kind, or `most` of them drawn uniformly with repetition: the first member with a chance proportional to its
// partners, the second uniformly among them.
PairSample sample_pairs(const SameCameraPairs& table, bool same, int64_t most, Rng rng) {
  const int64_t count = static_cast<int64_t>(table.entries.size());
  std::vector<int64_t> before(static_cast<size_t>(count) + 1, 0);  // ordered pairs whose first member stands earlier
  for (int64_t i = 0; i < count; ++i) before[static_cast<size_t>(i) + 1] = before[static_cast<size_t>(i)] + table.partners(i, same);
  PairSample sample;
  sample.existing = before.back() / 2;
  const auto add = [&](int64_t i, int64_t j) {
    sample.pairs.emplace_back(table.entries[static_cast<size_t>(i)].row, table.entries[static_cast<size_t>(j)].row);
  };
  if (sample.existing <= most) {
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t n = 0; n < table.partners(i, same); ++n) {
        if (const int64_t j = table.partner(i, n, same); i < j) add(i, j);
      }
    }
    return sample;
  }
  for (int64_t draw = 0; draw < most; ++draw) {
    const int64_t ordered = rng.below(before.back());
    const int64_t i = std::upper_bound(before.begin(), before.end(), ordered) - before.begin() - 1;
    add(i, table.partner(i, ordered - before[static_cast<size_t>(i)], same));
  }
  return sample;
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const size_t below = static_cast<size_t>(place), above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

std::vector<double> distances_of(const DistanceTiles& tiles, const PairSample& sample) {
  std::vector<double> distances(sample.pairs.size());
  parallel_for(static_cast<int64_t>(distances.size()), 256, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const auto& [i, j] = sample.pairs[static_cast<size_t>(n)];
      distances[static_cast<size_t>(n)] = tiles.pair(i, j);
    }
  });
  return distances;
}

void check_options(const CalibrationOptions& o) {
  REID_CHECK(o.fixed_eps > 0, "[calibrated_eps] fixed_eps is ", o.fixed_eps, ", expected above 0");
  REID_CHECK(o.floor > 0, "[calibrated_eps] floor is ", o.floor, ", expected above 0");
  REID_CHECK(o.same_quantile >= 0 && o.same_quantile <= 1, "[calibrated_eps] same_quantile is ", o.same_quantile, ", expected 0 to 1");
  REID_CHECK(o.other_quantile >= 0 && o.other_quantile <= 1, "[calibrated_eps] other_quantile is ", o.other_quantile, ", expected 0 to 1");
  REID_CHECK(o.min_pairs >= 1, "[calibrated_eps] min_pairs is ", o.min_pairs, ", expected at least 1");
  REID_CHECK(o.pairs >= o.min_pairs, "[calibrated_eps] pairs is ", o.pairs, ", expected at least min_pairs, ", o.min_pairs);
}

}  // namespace

Calibration calibrated_eps(const Tensor& features, const std::vector<int64_t>& labels, const std::vector<int64_t>& cameras,
                           const CalibrationOptions& options, const Rng& rng) {
  check_options(options);
  const DistanceTiles tiles(features, "[calibrated_eps] features", Metric::cosine);
  check_labels(labels, features, "[calibrated_eps] labels");
  check_labels(cameras, features, "[calibrated_eps] cameras");
  const SameCameraPairs table(labels, cameras);
  const PairSample same = sample_pairs(table, true, options.pairs, rng.at("same"));
  const PairSample other = sample_pairs(table, false, options.pairs, rng.at("other"));
  Calibration result;
  result.eps = options.fixed_eps;
  result.same_pairs = same.existing;
  result.other_pairs = other.existing;
  if (same.existing < options.min_pairs || other.existing < options.min_pairs) return result;
  result.calibrated = true;
  result.same_distance = quantile(distances_of(tiles, same), options.same_quantile);
  result.other_distance = quantile(distances_of(tiles, other), options.other_quantile);
  result.eps = std::max(options.floor, std::min(result.same_distance, result.other_distance));
  return result;
}

}  // namespace reid
