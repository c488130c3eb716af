// k-reciprocal re-ranking: the encoding of the union, and final distances: of single pairs, from which places are counted, or by blocks of
// queries.

#include "reid/people/rerank.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "people/evaluation/blocks.h"
#include "people/evaluation/ranking.h"
#include "people/evaluation/stack.h"
#include "people/jaccard_device.h"
#include "reid/engine/ops.h"

namespace reid {

namespace {

struct VariantRule {
  RerankVariant variant;
  const char* name;
  bool unit;  // rows are scaled to length 1 first
  int power;  // of |x - y|, scaled by its largest in the row; 0: the cosine distance, unscaled
  bool k1_counts_self;
};

constexpr VariantRule kRules[] = {
    {RerankVariant::zhong, "zhong", false, 2, false},
    {RerankVariant::bot, "bot", true, 2, false},
    {RerankVariant::torchreid, "torchreid", false, 4, false},
    {RerankVariant::fastreid, "fastreid", true, 0, true},
};

const VariantRule& rule_of(RerankVariant variant) { return kRules[static_cast<size_t>(variant)]; }

Metric base_metric(const VariantRule& rule) { return rule.power == 0 ? Metric::cosine : Metric::euclidean; }

void check(const RerankOptions& options) {
  REID_CHECK(options.k1 >= 1, "[rerank] k1 is ", options.k1, ", expected at least 1");
  REID_CHECK(options.k2 >= 1, "[rerank] k2 is ", options.k2, ", expected at least 1");
  REID_CHECK(options.lambda >= 0 && options.lambda <= 1, "[rerank] lambda is ", options.lambda, ", expected a number in [0, 1]");
}

EncodingOptions encoding_options(const RerankOptions& options) {
  EncodingOptions encoding;
  encoding.k1 = options.k1;
  encoding.k2 = options.k2;
  encoding.k1_counts_self = rule_of(options.variant).k1_counts_self;
  return encoding;
}

Tensor union_of(const Tensor& query, const Tensor& gallery, const VariantRule& rule) {
  const Metric metric = rule.unit ? Metric::cosine : Metric::euclidean;
  check_features(query, metric, "[rerank] query");
  check_features(gallery, metric, "[rerank] gallery");
  REID_CHECK(query.dtype() == gallery.dtype(), "[rerank] query is ", query.dtype(), " but gallery is ", gallery.dtype(),
             ": convert one of them");
  const Tensor all = stacked(query, gallery);
  if (rule.unit) scale_to_unit(all);
  return all;
}

class Reranking final : public Ranking {
 public:
  Reranking(const Tensor& query, const Tensor& gallery, const RerankOptions& options, const WorkProgress& progress)
      : rule_(rule_of(options.variant)),
        lambda_(options.lambda),
        all_(union_of(query, gallery, rule_), "[rerank] query and gallery", base_metric(rule_), options.device),
        base_(all_.split_at(query.dim(0))) {
    EncodingOptions encoding = encoding_options(options);
    NeighborOptions search;
    search.distances = true;
    search.farthest = rule_.power != 0;
    search.progress = progress;
    Neighbors neighbors = nearest_neighbors(all_, encoding_list_length(encoding, all_.count()), search);
    // The search's blocks: nothing else asks for such.
    for (const Device device : {Device{}, options.device}) release_cached_memory(device);
    for (int64_t i = 0; i < base_.count(); ++i) near_.push_back(neighbors.distances(i, neighbors.width).back());
    if (rule_.power != 0) {
      largest_ = std::move(neighbors.farthest);
      for (size_t i = 0; i < largest_.size(); ++i) REID_CHECK(largest_[i] > 0, "[rerank] all rows are equal: there is nothing to rank");
      encoding.weights = {largest_, rule_.power};
    }
    if (all_.device() == Device{}) {
      here_.emplace(all_, neighbors, encoding);
    } else {
      there_.emplace(encode_there(all_, neighbors, encoding));
    }
  }

  const DistanceTiles& pairs() const override { return base_; }

  double value(int64_t query, double distance, double jaccard) const override {
    return double{static_cast<float>((1 - lambda_) * jaccard + lambda_ * share(query, distance))};
  }

  // Between `value` and its neighbors in f32 lies far more than the roundings of value() and of its inverse in double.
  std::pair<double, double> around(int64_t query, double value) const override {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const auto f32 = static_cast<float>(value);
    const auto distance = [&](float next) {
      const double counts = std::max(0.0, (double{next} - (1 - lambda_)) / lambda_);  // the inverse of share(), as what follows
      if (rule_.power == 0) return counts;
      const double root = std::sqrt(counts);
      return largest_[static_cast<size_t>(query)] * (rule_.power == 4 ? std::sqrt(root) : root);
    };
    return {distance(std::nextafter(f32, -kInfinity)), distance(std::nextafter(f32, kInfinity))};
  }

  SparseRows close(int64_t begin, int64_t end) const override {
    const int64_t queries = base_.count();
    SparseRows rows = here_ ? here_->distances(begin, end, queries) : there_->distances(begin, end, queries);
    for (int32_t& column : rows.columns) column -= static_cast<int32_t>(queries);
    return rows;
  }

  // Base distances by products in the dtype of the features, mixed with the Jaccard distances.
  Tensor rows(int64_t begin, int64_t end) const {
    const Tensor base = base_.rows(begin, end), tile = base.dtype() == DType::f32 ? base : Tensor::empty(base.shape(), DType::f32);
    const int64_t step = queries_per_close_block(base_.width());
    for (int64_t first = begin; first < end; first += step) {
      const int64_t last = std::min(first + step, end);
      const auto mix_as = base.dtype() == DType::f32 ? &Reranking::mix<float> : &Reranking::mix<double>;
      (this->*mix_as)(first, close(first, last), base.rows(first - begin, last - begin), tile.rows(first - begin, last - begin));
    }
    return tile;
  }

  // Whether counting is less work than rows: a close entry costs as much as some two dozen products, and so does one that ties in f32 with
  // a place, by its distance alone. The same on every device, and so what is computed is.
  bool is_counted() const {
    constexpr double kLeastSteps = 256;  // of f32 between the values of the query and of its farthest listed neighbor
    std::vector<double> steps;
    for (size_t q = 0; q < near_.size(); ++q) steps.push_back(lambda_ * share(static_cast<int64_t>(q), near_[q]) * 0x1p24);
    std::nth_element(steps.begin(), steps.begin() + std::ssize(steps) / 2, steps.end());
    if (steps[steps.size() / 2] < kLeastSteps) return false;
    constexpr int64_t kSamples = 8, kSample = 16;
    const int64_t queries = base_.count(), most = std::max<int64_t>(1024, base_.width() / 24);
    int64_t sampled = 0, entries = 0;
    for (int64_t sample = 0; sample < kSamples; ++sample) {
      const int64_t begin = sample * queries / kSamples, end = std::min(begin + kSample, queries);
      entries += std::ssize(close(begin, end).columns);
      sampled += end - begin;
    }
    return entries <= most * sampled;
  }

 private:
  // What the base distance of a query counts for.
  double share(int64_t query, double distance) const {
    return rule_.power == 0 ? distance : scaled_distance(distance, largest_[static_cast<size_t>(query)], rule_.power);
  }

  // Base distances of queries from `first` on into final ones; `tile` may be `base`.
  template <class T>
  void mix(int64_t first, const SparseRows& close, const Tensor& base, const Tensor& tile) const {
    const int64_t columns = base_.width();
    parallel_for(tile.dim(0), 4, [&](int64_t begin, int64_t end, int) {
      std::vector<double> jaccard(static_cast<size_t>(columns));
      for (int64_t r = begin; r < end; ++r) {
        std::fill(jaccard.begin(), jaccard.end(), 1.0);
        const std::span<const int32_t> near = close.columns_of(r);
        for (size_t e = 0; e < near.size(); ++e) jaccard[static_cast<size_t>(near[e])] = close.values_of(r)[e];
        const T* from = base.data<T>() + r * columns;
        float* row = tile.data<float>() + r * columns;
        for (int64_t j = 0; j < columns; ++j)
          row[j] = static_cast<float>(Reranking::value(first + r, double{from[j]}, jaccard[static_cast<size_t>(j)]));
      }
    });
  }

  const VariantRule& rule_;
  double lambda_;
  DistanceTiles all_, base_;     // the union among itself; query to gallery
  std::vector<double> largest_;  // the largest distance of each row of the union
  std::vector<double> near_;     // of each query the distance of the last of its list
  std::optional<KReciprocalEncoding> here_;
  std::optional<DeviceEncoding> there_;
};

}  // namespace

const char* name_of(RerankVariant variant) { return rule_of(variant).name; }

RerankVariant parse_rerank_variant(std::string_view name) {
  std::string known;
  for (const VariantRule& rule : kRules) {
    if (name == rule.name) return rule.variant;
    known += str(known.empty() ? "" : ", ", rule.name);
  }
  fail(str("unknown re-ranking variant '", name, "': expected one of ", known));
}

DistanceRows rerank(const Tensor& query, const Tensor& gallery, const RerankOptions& options, const WorkProgress& progress) {
  check(options);
  const auto ranking = std::make_shared<const Reranking>(query, gallery, options, progress);
  const auto rows = [ranking](int64_t begin, int64_t end) { return ranking->rows(begin, end); };
  return {ranking->pairs().count(), ranking->pairs().width(), rows, ranking->is_counted() ? ranking : nullptr};
}

int64_t rerank_bytes(int64_t queries, int64_t gallery, int64_t width, DType dtype, const RerankOptions& options) {
  check(options);
  const EncodingOptions encoding = encoding_options(options);
  const int64_t all = queries + gallery, list = encoding_list_length(encoding, all);
  const int64_t rows = all * width * size_of(dtype), encoded = encoding_bytes(encoding, all);
  const int64_t product = int64_t{48} << 20, overlaps = int64_t{64} << 20;  // packed rows of a product; Jaccard rows on their way
  const int64_t block = std::min(queries, queries_per_block(gallery)) * gallery * (size_of(dtype) + (dtype == DType::f32 ? 0 : 4));
  return rows + std::max({neighbor_bytes(all, all, width, true, list, true), all * list * 12 + encoded,
                          encoded + block + product + overlaps, encoded + overlaps + PairFilter::bytes(queries, gallery, width, false)});
}

}  // namespace reid
