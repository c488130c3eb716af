// k-reciprocal re-ranking: the encoding of the union, and final distances by blocks of queries.

#include "reid/people/rerank.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "people/distances.h"
#include "people/evaluation/blocks.h"
#include "people/evaluation/stack.h"
#include "people/jaccard.h"
#include "people/neighbors.h"
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

// (d / largest)^power.
double scaled(double distance, double largest, int power) {
  const double share = distance / largest, square = share * share;
  return power == 4 ? square * square : square;
}

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

class Reranking {
 public:
  Reranking(const Tensor& query, const Tensor& gallery, const RerankOptions& options, const WorkProgress& progress)
      : rule_(rule_of(options.variant)),
        lambda_(options.lambda),
        base_(prepare(query, "[rerank] query"), "[rerank] query", prepare(gallery, "[rerank] gallery"), "[rerank] gallery",
              base_metric(rule_)) {
    const DistanceTiles all(stacked(base_.a(), base_.b()), "[rerank] query and gallery", base_metric(rule_), options.device);
    EncodingOptions encoding = encoding_options(options);
    NeighborOptions search;
    search.distances = true;
    search.farthest = rule_.power != 0;
    search.progress = progress;
    Neighbors neighbors = nearest_neighbors(all, encoding_list_length(encoding, all.count()), search);
    if (rule_.power != 0) {
      largest_ = std::move(neighbors.farthest);
      for (size_t i = 0; i < largest_.size(); ++i) REID_CHECK(largest_[i] > 0, "[rerank] all rows are equal: there is nothing to rank");
      encoding.weight = [this](int64_t i, double distance) {
        return std::exp(-scaled(distance, largest_[static_cast<size_t>(i)], rule_.power));
      };
    }
    encoding_ = std::make_unique<KReciprocalEncoding>(all, neighbors, encoding);
    largest_.resize(std::min(largest_.size(), static_cast<size_t>(base_.count())));
  }

  DistanceRows rows() const { return {base_.count(), base_.width(), {}}; }

  Tensor rows(int64_t begin, int64_t end) const {
    const Tensor tile = base_.rows(begin, end).to(DType::f32);
    // The Jaccard rows of some queries at a time: where all rows overlap they are not sparse.
    const int64_t step = std::clamp<int64_t>((int64_t{1} << 22) / base_.width(), 16, 256);
    for (int64_t first = begin; first < end; first += step) {
      const int64_t last = std::min(first + step, end);
      mix(first, encoding_->distances(first, last, base_.count()), tile.rows(first - begin, last - begin));
    }
    return tile;
  }

 private:
  // Base distances of queries from `first` on, in place, into final ones.
  void mix(int64_t first, const SparseRows& jaccard, const Tensor& tile) const {
    const int64_t columns = base_.width();
    parallel_for(tile.dim(0), 4, [&](int64_t begin, int64_t end, int) {
      std::vector<double> distances(static_cast<size_t>(columns));
      for (int64_t r = begin; r < end; ++r) {
        float* row = tile.data<float>() + r * columns;
        std::fill(distances.begin(), distances.end(), 1.0);
        const std::span<const int32_t> near = jaccard.columns_of(r);
        for (size_t e = 0; e < near.size(); ++e) distances[static_cast<size_t>(near[e] - base_.count())] = jaccard.values_of(r)[e];
        const double largest = rule_.power == 0 ? 1 : largest_[static_cast<size_t>(first + r)];
        for (int64_t j = 0; j < columns; ++j) {
          const auto own = static_cast<double>(row[j]);
          const double mixed = rule_.power == 0 ? own : scaled(own, largest, rule_.power);
          row[j] = static_cast<float>((1 - lambda_) * distances[static_cast<size_t>(j)] + lambda_ * mixed);
        }
      }
    });
  }

  Tensor prepare(const Tensor& features, const char* what) const {
    check_features(features, rule_.unit ? Metric::cosine : Metric::euclidean, what);
    return rule_.unit ? unit_rows(features) : features;
  }

  const VariantRule& rule_;
  double lambda_;
  DistanceTiles base_;           // query against gallery
  std::vector<double> largest_;  // the largest distance of each row of the union, later of each query
  std::unique_ptr<KReciprocalEncoding> encoding_;
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
  const auto ranking = std::make_shared<Reranking>(query, gallery, options, progress);
  DistanceRows result = ranking->rows();
  result.rows = [ranking](int64_t begin, int64_t end) { return ranking->rows(begin, end); };
  return result;
}

int64_t rerank_bytes(int64_t queries, int64_t gallery, int64_t width, DType dtype, const RerankOptions& options) {
  check(options);
  const EncodingOptions encoding = encoding_options(options);
  const int64_t all = queries + gallery, list = encoding_list_length(encoding, all);
  const int64_t copies = rule_of(options.variant).unit ? 2 : 1;  // the union, and unit rows
  const int64_t features = copies * all * width * size_of(dtype);
  const int64_t product = int64_t{48} << 20, overlaps = int64_t{64} << 20;  // packed rows of a product; Jaccard rows on their way
  const int64_t block = std::min(queries, queries_per_block(gallery)) * gallery * (size_of(dtype) + (dtype == DType::f32 ? 0 : 4));
  const int64_t encoded = encoding_bytes(encoding, all);
  return std::max({features + neighbor_bytes(all, all, width, true, list, true), features + all * list * 12 + encoded,
                   encoded + block + product + overlaps});
}

}  // namespace reid
