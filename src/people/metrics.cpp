// CMC, mAP and mINP by counting.

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "people/distances.h"
#include "reid/people/evaluation.h"

namespace reid {

namespace {

void check_lists(const EvaluationInput& in, const EvaluationOptions& options) {
  check_labels(in.query_ids, in.query, "[evaluate] query ids");
  check_labels(in.query_cameras, in.query, "[evaluate] query cameras");
  check_labels(in.gallery_ids, in.gallery, "[evaluate] gallery ids");
  check_labels(in.gallery_cameras, in.gallery, "[evaluate] gallery cameras");
  for (int64_t k : options.ranks) REID_CHECK(k >= 1, "[evaluate] rank-", k, " was asked for: ranks count from 1");
}

// One query against its row of distances. Scratch is reused between queries.
template <class T>
class Ranker {
 public:
  explicit Ranker(const EvaluationInput& in) : in_(in) {}

  // matches == 0: the query does not count.
  QueryResult rank(int64_t query, const T* distances) {
    QueryResult result;
    result.query = query;
    const int64_t id = in_.query_ids[static_cast<size_t>(query)], camera = in_.query_cameras[static_cast<size_t>(query)];
    matches_.clear();
    if (id != kJunkId) {
      for (size_t j = 0; j < in_.gallery_ids.size(); ++j) {
        if (in_.gallery_ids[j] == id && in_.gallery_cameras[j] != camera) matches_.emplace_back(distances[j], j);
      }
    }
    if (matches_.empty()) return result;
    std::sort(matches_.begin(), matches_.end());
    count_others(id, distances);

    const double total = static_cast<double>(matches_.size());
    int64_t others = 0;
    for (size_t hit = 0; hit < matches_.size(); ++hit) {
      others += others_before_[hit];
      const int64_t rank = static_cast<int64_t>(hit) + 1 + others;
      if (hit == 0) result.first_rank = rank;
      result.last_rank = rank;
      result.average_precision += static_cast<double>(hit + 1) / static_cast<double>(rank);
    }
    result.average_precision /= total;
    result.matches = static_cast<int64_t>(matches_.size());
    return result;
  }

 private:
  // others_before_[m]: entries of other identities ranked after match m - 1 and before match m.
  void count_others(int64_t id, const T* distances) {
    others_before_.assign(matches_.size() + 1, 0);
    const T last = matches_.back().first;
    for (size_t j = 0; j < in_.gallery_ids.size(); ++j) {
      if (distances[j] > last) continue;  // most entries, once features are any good
      const int64_t other = in_.gallery_ids[j];
      if (other == id || other == kJunkId) continue;
      const auto place = std::lower_bound(matches_.begin(), matches_.end(), std::pair<T, size_t>(distances[j], j));
      ++others_before_[static_cast<size_t>(place - matches_.begin())];
    }
  }

  const EvaluationInput& in_;
  std::vector<std::pair<T, size_t>> matches_;  // (distance, gallery index), ascending
  std::vector<int64_t> others_before_;
};

template <class T>
void rank_tile(const EvaluationInput& in, int64_t begin, const Tensor& tile, std::vector<QueryResult>& results) {
  const T* distances = tile.data<T>();
  const int64_t columns = tile.dim(1);
  parallel_for(tile.dim(0), 4, [&](int64_t first, int64_t last, int) {
    Ranker<T> ranker(in);
    for (int64_t r = first; r < last; ++r) results[static_cast<size_t>(begin + r)] = ranker.rank(begin + r, distances + r * columns);
  });
}

void summarize(const std::vector<QueryResult>& results, const EvaluationOptions& options, EvaluationReport& report) {
  report.ranks = options.ranks;
  report.cmc.assign(options.ranks.size(), 0);
  for (const QueryResult& q : results) {
    if (q.matches == 0) continue;
    ++report.evaluated;
    report.mAP += q.average_precision;
    report.mINP += static_cast<double>(q.matches) / static_cast<double>(q.last_rank);
    for (size_t k = 0; k < options.ranks.size(); ++k) report.cmc[k] += q.first_rank <= options.ranks[k] ? 1 : 0;
    if (options.per_query) report.queries.push_back(q);
  }
  report.unmatched = static_cast<int64_t>(results.size()) - report.junk_queries - report.evaluated;
  REID_CHECK(report.evaluated > 0, "[evaluate] none of ", results.size(),
             " queries has a match in the gallery (same identity, other camera; ", report.junk_queries,
             " are junk): query and gallery do not belong together, or ids or cameras are wrong");
  const double count = static_cast<double>(report.evaluated);
  report.mAP /= count;
  report.mINP /= count;
  for (double& share : report.cmc) share /= count;
}

}  // namespace

double EvaluationReport::rank(int64_t k) const {
  for (size_t at = 0; at < ranks.size(); ++at) {
    if (ranks[at] == k) return cmc[at];
  }
  fail(str("[evaluate] rank-", k, " was not asked for: add it to EvaluationOptions::ranks"));
}

EvaluationReport evaluate(const EvaluationInput& input, const EvaluationOptions& options) {
  const DistanceTiles tiles(input.query, "[evaluate] query", input.gallery, "[evaluate] gallery", options.metric);
  check_lists(input, options);
  EvaluationReport report;
  report.junk_queries = std::count(input.query_ids.begin(), input.query_ids.end(), kJunkId);
  report.junk_gallery = std::count(input.gallery_ids.begin(), input.gallery_ids.end(), kJunkId);
  const std::unordered_set<int64_t> asked(input.query_ids.begin(), input.query_ids.end());
  report.distractors =
      std::count_if(input.gallery_ids.begin(), input.gallery_ids.end(), [&](int64_t id) { return id != kJunkId && !asked.contains(id); });
  std::vector<QueryResult> results(input.query_ids.size());
  for_each_tile(tiles, [&](int64_t begin, const Tensor& tile) {
    if (tiles.dtype() == DType::f32) {
      rank_tile<float>(input, begin, tile, results);
    } else {
      rank_tile<double>(input, begin, tile, results);
    }
  });
  summarize(results, options, report);
  return report;
}

}  // namespace reid
