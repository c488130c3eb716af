#pragma once
// Person search measured: CMC, mAP and mINP of ranked galleries; and the color-histogram baseline to be compared with.
//
// Design: ranks are counted, never sorted, and distances are made for a block of queries at a time, so a gallery of 10^5 images
// needs tens of MB beside its features. Results do not depend on block sizes, threads or the order of the queries.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "reid/engine/tensor.h"
#include "reid/formats/image.h"
#include "reid/people/cluster.h"

namespace reid {

struct EvaluationInput {
  Tensor query, gallery;                              // [Q, D], [G, D] f32 or f64, one dtype; CPU
  std::vector<int64_t> query_ids, query_cameras;      // [Q]
  std::vector<int64_t> gallery_ids, gallery_cameras;  // [G]
};

inline constexpr int64_t kJunkId = -1;  // removed before anything else, on both sides

struct EvaluationOptions {
  Metric metric = Metric::cosine;
  std::vector<int64_t> ranks = {1, 5, 10};  // the k of CMC rank-k, each >= 1
  bool per_query = false;                   // fill EvaluationReport::queries
};

struct QueryResult {
  int64_t query = 0;       // its row
  int64_t matches = 0;     // right gallery entries, R
  int64_t first_rank = 0;  // of the first and the last match in the kept list, from 1
  int64_t last_rank = 0;
  double average_precision = 0;
};

struct EvaluationReport {
  double mAP = 0, mINP = 0;    // fractions
  std::vector<int64_t> ranks;  // as asked
  std::vector<double> cmc;     // beside ranks: share of queries whose first match is at rank k or better
  int64_t evaluated = 0;       // queries that count
  int64_t unmatched = 0;       // queries left out: no right entry in the gallery
  int64_t junk_queries = 0, junk_gallery = 0;
  int64_t distractors = 0;           // gallery entries of identities that no query has, such as 0 in the Market-1501 layout
  std::vector<QueryResult> queries;  // evaluated ones, in order; empty unless asked for

  double rank(int64_t k) const;  // cmc at k; throws when k was not asked for
};

// For each query the gallery is ranked by increasing distance, ties by gallery index, after removing junk (id -1) and the
// entries with the query's identity AND camera. With R matches at ranks r_1 < ... < r_R of that list:
//   CMC rank-k = mean of [r_1 <= k];  mAP = mean of (1/R) sum_j j / r_j;  mINP = mean of R / r_R
// (scikit-learn's average precision when no distances tie). Means are over the queries with R >= 1; that there is none is an
// error, as are widths or dtypes that differ, list lengths that differ, and what check_features refuses (it names the row).
EvaluationReport evaluate(const EvaluationInput& input, const EvaluationOptions& options = {});

// --- the baseline that knows colors only ---

// Six horizontal stripes of equal height. In each, pixels are counted by HSV: gray ones (saturation < 1/8 or value < 1/8) in 8
// bins of value, others in 12 bins of hue x 3 of saturation x 3 of value (from 1/8 to 1). Each stripe's counts are divided by
// their sum and square-rooted (so that a scalar product is a Bhattacharyya coefficient), and the row is scaled to length 1: the
// cosine of two images is the mean of the six stripes' coefficients.
inline constexpr int kHistogramStripes = 6;
inline constexpr int kHistogramBins = 8 + 12 * 3 * 3;                       // a stripe
inline constexpr int kHistogramWidth = kHistogramStripes * kHistogramBins;  // 696
std::array<float, kHistogramWidth> color_histogram(const Image& image);     // needs at least six rows and one column
Tensor color_histograms(std::span<const Image> images);                     // [N, 696] f32

}  // namespace reid
