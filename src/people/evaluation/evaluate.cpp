// CMC, mAP and mINP by counting.

#include "reid/people/evaluation.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <unordered_set>
#include <utility>

#include "people/distances.h"
#include "people/evaluation/blocks.h"
#include "people/evaluation/counting.h"
#include "people/evaluation/filter.h"
#include "people/evaluation/hints.h"
#include "people/evaluation/standing.h"

namespace reid {

namespace {

struct Protocol {
  const RetrievalFilter& filter;
  const EvaluationOptions& options;
};

// before[h]: kept entries ahead of match h.
double untied_precision(PrecisionForm form, const std::vector<int64_t>& before) {
  double sum = 0;
  for (size_t hit = 0; hit < before.size(); ++hit) {
    const double found = static_cast<double>(hit), earlier = static_cast<double>(before[hit]), here = (found + 1) / (earlier + 1);
    sum += form == PrecisionForm::step ? here : ((before[hit] == 0 ? 1 : found / earlier) + here) / 2;
  }
  return sum / static_cast<double>(before.size());
}

// Each match has the precision of all entries up to its distance; up_to[g]: kept entries ahead of end g.
template <class T>
double tied_precision(const Places<T>& matches, const Places<T>& ends, const std::vector<int64_t>& up_to) {
  double sum = 0;
  size_t hit = 0;
  for (size_t g = 0; g < ends.size(); ++g) {
    const size_t earlier = hit;
    while (hit < matches.size() && matches[hit].first == ends[g].first) ++hit;
    sum += static_cast<double>(hit - earlier) * static_cast<double>(hit) / static_cast<double>(up_to[g]);
  }
  return sum / static_cast<double>(matches.size());
}

// One query against its row of distances. Scratch is reused between queries.
template <class T>
class Ranker {
 public:
  Ranker(const Protocol& protocol, int64_t gallery) : filter_(protocol.filter), options_(protocol.options), gallery_(gallery) {}

  // matches == 0: the query has none. `hits` [ranks]: the draws whose first match is at rank k or better (without draws: 1 or 0).
  QueryResult rank(int64_t query, T* distances, int64_t* hits) {
    QueryResult result;
    result.query = query;
    filter_.entries(query, indices_, removed_);
    if (indices_.empty()) return result;
    // What the protocol leaves out goes to the far end, behind every match.
    for (int64_t j : filter_.junk()) distances[j] = std::numeric_limits<T>::infinity();
    for (int64_t j : removed_) distances[j] = std::numeric_limits<T>::infinity();
    matches_.clear();
    for (int64_t j : indices_) matches_.emplace_back(distances[j], j);
    std::sort(matches_.begin(), matches_.end());
    count_before(distances, gallery_, matches_, before_);
    result.matches = static_cast<int64_t>(matches_.size());
    result.first_rank = before_.front() + 1;
    result.last_rank = before_.back() + 1;
    if (options_.single_shot) {
      draw(query, distances, hits);
    } else {
      for (size_t k = 0; k < options_.ranks.size(); ++k) hits[k] = result.first_rank <= options_.ranks[k] ? 1 : 0;
    }
    result.average_precision = precision(distances);
    return result;
  }

 private:
  double precision(const T* distances) {
    if (options_.precision != PrecisionForm::tied) return untied_precision(options_.precision, before_);
    const Places<T> ends = ends_of_ties(matches_, gallery_);
    count_before(distances, gallery_, ends, before_);
    return tied_precision(matches_, ends, before_);
  }

  // Ranks of the query's own entry among one entry of every identity.
  void draw(int64_t query, const T* distances, int64_t* hits) {
    const Rng rng = Rng(options_.seed).at(static_cast<uint64_t>(query));
    const int64_t own_id = filter_.labels().query_ids[static_cast<size_t>(query)];
    for (int64_t repeat = 0; repeat < options_.repeats; ++repeat) {
      const Rng draws = rng.at(static_cast<uint64_t>(repeat));
      const auto drawn = [&](int64_t id, const std::vector<int64_t>& kept) {
        const int64_t j = kept[static_cast<size_t>(draws.at(static_cast<uint64_t>(id)).below(static_cast<int64_t>(kept.size())))];
        return std::pair<T, int64_t>(distances[j], j);
      };
      const std::pair<T, int64_t> own = drawn(own_id, indices_);
      int64_t rank = 1;
      const std::span<const RetrievalFilter::Entry> all = filter_.identities();
      for (size_t first = 0, end = 0; first < all.size(); first = end) {
        kept_.clear();
        for (; end < all.size() && all[end].first == all[first].first; ++end) {
          if (is_kept(query, all[end].second, distances)) kept_.push_back(all[end].second);
        }
        if (all[first].first != own_id && !kept_.empty() && drawn(all[first].first, kept_) < own) ++rank;
      }
      for (size_t k = 0; k < options_.ranks.size(); ++k) hits[k] += rank <= options_.ranks[k] ? 1 : 0;
    }
  }

  bool is_kept(int64_t query, int64_t j, const T* distances) const {
    const RetrievalLabels& labels = filter_.labels();
    if (distances[j] == std::numeric_limits<T>::infinity()) return false;
    return !options_.separate_cameras || labels.gallery_cameras[static_cast<size_t>(j)] != labels.query_cameras[static_cast<size_t>(query)];
  }

  const RetrievalFilter& filter_;
  const EvaluationOptions& options_;
  int64_t gallery_;
  std::vector<int64_t> indices_, removed_, before_, kept_;
  Places<T> matches_;  // (distance, gallery index)
};

struct Results {
  std::vector<QueryResult> queries;
  std::vector<int64_t> hits;  // [Q, ranks]
};

template <class T>
void rank_tile(const Protocol& protocol, int64_t begin, const Tensor& tile, Results& results) {
  T* distances = tile.data<T>();
  const int64_t columns = tile.dim(1), ranks = static_cast<int64_t>(protocol.options.ranks.size());
  parallel_for(tile.dim(0), 4, [&](int64_t first, int64_t last, int) {
    Ranker<T> ranker(protocol, columns);
    for (int64_t r = first; r < last; ++r) {
      const int64_t q = begin + r;
      results.queries[static_cast<size_t>(q)] = ranker.rank(q, distances + r * columns, results.hits.data() + q * ranks);
    }
  });
}

void check_options(const RetrievalLabels& labels, const EvaluationOptions& options) {
  for (int64_t k : options.ranks) REID_CHECK(k >= 1, "[evaluate] rank-", k, " was asked for: ranks count from 1");
  REID_CHECK(options.repeats >= 1, "[evaluate] ", options.repeats, " draws of a single-shot gallery were asked for, expected at least 1");
  REID_CHECK(!options.single_shot || !options.separate_cameras || labels.cameras_known, "[evaluate] ", options.preset,
             " takes no gallery images of the query's camera, and the cameras are unknown: use ", "cuhk03-single-shot");
}

void count_lists(const RetrievalFilter& filter, EvaluationReport& report) {
  const RetrievalLabels& labels = filter.labels();
  report.junk_queries = std::count(labels.query_ids.begin(), labels.query_ids.end(), kJunkId);
  report.junk_gallery = static_cast<int64_t>(filter.junk().size());
  const std::unordered_set<int64_t> asked(labels.query_ids.begin(), labels.query_ids.end());
  for (const auto& [id, j] : filter.identities()) report.distractors += asked.contains(id) ? 0 : 1;
  std::vector<int64_t> matches, removed;
  for (int64_t q = 0; q < static_cast<int64_t>(labels.query_ids.size()); ++q) {
    filter.entries(q, matches, removed);
    report.removed += static_cast<int64_t>(removed.size());
  }
}

void summarize(const Results& results, const EvaluationOptions& options, EvaluationReport& report) {
  const size_t ranks = options.ranks.size();
  std::vector<int64_t> hits(ranks, 0);
  for (const QueryResult& q : results.queries) {
    if (q.matches == 0) continue;
    ++report.evaluated;
    report.mAP += q.average_precision;
    report.mINP += static_cast<double>(q.matches) / static_cast<double>(q.last_rank);
    for (size_t k = 0; k < ranks; ++k) hits[k] += results.hits[static_cast<size_t>(q.query) * ranks + k];
    if (options.per_query) report.queries.push_back(q);
  }
  const int64_t total = static_cast<int64_t>(results.queries.size());
  report.unmatched = total - report.junk_queries - report.evaluated;
  REID_CHECK(report.evaluated > 0, "[evaluate] none of ", total, " queries has a match in the gallery (same identity, other camera; ",
             report.junk_queries, " are junk): query and gallery do not belong together, or ids or cameras are wrong");
  const double counted = static_cast<double>(report.evaluated + (options.count_unmatched ? report.unmatched : 0));
  report.mAP /= counted;
  report.mINP /= counted;
  report.ranks = options.ranks;
  for (int64_t hit : hits)
    report.cmc.push_back(static_cast<double>(hit) / (counted * static_cast<double>(options.single_shot ? options.repeats : 1)));
}

}  // namespace

double EvaluationReport::rank(int64_t k) const {
  for (size_t at = 0; at < ranks.size(); ++at) {
    if (ranks[at] == k) return cmc[at];
  }
  fail(str("[evaluate] rank-", k, " was not asked for: add it to EvaluationOptions::ranks"));
}

DistanceRows distance_rows(const Tensor& query, const Tensor& gallery, Metric metric, Device device) {
  DistanceTiles pairs(query, "[evaluate] query", gallery, "[evaluate] gallery", metric, device);
  const auto ranking = std::make_shared<const DistanceRanking>(std::move(pairs));
  const auto rows = [ranking](int64_t begin, int64_t end) { return ranking->pairs().rows(begin, end); };
  return {ranking->pairs().count(), ranking->pairs().width(), rows, ranking};
}

namespace {

// Without draws every rank that counts is that of a match (and of the end of its tie): no row of distances is needed.
void rank_matches(const Ranking& ranking, const RetrievalFilter& filter, const EvaluationOptions& options, Results& results) {
  const bool tied = options.precision == PrecisionForm::tied;
  const int64_t gallery = ranking.pairs().width();
  const std::vector<Standing> standings = standings_of(ranking, filter, tied);
  for (size_t q = 0; q < standings.size(); ++q) {
    Places<double> matches, ends;
    std::vector<int64_t> before, up_to;
    for (size_t m = 0; m < standings[q].places.size(); ++m) {
      const bool end = standings[q].places[m].second == gallery;
      (end ? ends : matches).push_back(standings[q].places[m]);
      (end ? up_to : before).push_back(standings[q].before[m]);
    }
    if (matches.empty()) continue;
    QueryResult& result = results.queries[q];
    result = {.query = static_cast<int64_t>(q),
              .matches = static_cast<int64_t>(matches.size()),
              .first_rank = before.front() + 1,
              .last_rank = before.back() + 1,
              .average_precision = tied ? tied_precision(matches, ends, up_to) : untied_precision(options.precision, before)};
    int64_t* hits = results.hits.data() + q * options.ranks.size();
    for (size_t k = 0; k < options.ranks.size(); ++k) hits[k] = result.first_rank <= options.ranks[k] ? 1 : 0;
  }
}

Results empty_results(int64_t queries, const EvaluationOptions& options) {
  Results results;
  results.queries.resize(static_cast<size_t>(queries));
  results.hits.assign(results.queries.size() * options.ranks.size(), 0);
  return results;
}

void rank_rows(const DistanceRows& distances, const RetrievalFilter& filter, const EvaluationOptions& options, Results& results) {
  const Protocol protocol{filter, options};
  const int64_t step = queries_per_block(distances.gallery);
  for (int64_t begin = 0; begin < distances.queries; begin += step) {
    const Tensor tile = distances.rows(begin, std::min(begin + step, distances.queries));
    if (tile.dtype() == DType::f32) {
      rank_tile<float>(protocol, begin, tile, results);
    } else {
      rank_tile<double>(protocol, begin, tile, results);
    }
  }
}

}  // namespace

EvaluationReport evaluate(const RetrievalLabels& labels, const DistanceRows& distances, const EvaluationOptions& options) {
  const Ranking* const ranking = distances.ranking.get();
  REID_CHECK(!ranking || (ranking->pairs().count() == distances.queries && ranking->pairs().width() == distances.gallery),
             "[evaluate] distances from ", distances.queries, " queries to ", distances.gallery,
             " are not those of their ranking: clear it");
  const RetrievalFilter filter(labels, distances.queries, distances.gallery);
  check_options(labels, options);
  EvaluationReport report;
  count_lists(filter, report);
  Results results = empty_results(distances.queries, options);
  if (ranking && !options.single_shot) {
    rank_matches(*ranking, filter, options, results);
  } else {
    rank_rows(distances, filter, options, results);
  }
  summarize(results, options, report);
  add_hints(labels, options, report);
  return report;
}

EvaluationReport evaluate(const EvaluationInput& input, const EvaluationOptions& options) {
  const Device device = options.single_shot ? Device{} : options.device;
  EvaluationReport report = evaluate(input, distance_rows(input.query, input.gallery, options.metric, device), options);
  add_feature_hints(input, report);
  return report;
}

}  // namespace reid
