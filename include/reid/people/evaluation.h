#pragma once
// Person search measured: CMC, mAP and mINP of ranked galleries under the field's protocols; the color-histogram baseline.
//
// Design: ranks are counted, never sorted, by products that are made for a tile at a time (or, where rows are needed, for a block of
// queries), so a gallery of 10^5 images needs some hundred MB beside its features. Results do not depend on block sizes, threads or the
// order of the queries.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reid/engine/tensor.h"
#include "reid/formats/image.h"
#include "reid/people/cluster.h"
#include "reid/people/dataset.h"

namespace reid {

// --- what is compared ---

inline constexpr int64_t kJunkId = -1;  // removed before anything else, on both sides

// Who the rows are. Where cameras are unknown their lists are not looked at, and a query's own file is all that is removed from its
// ranking; files are numbers, equal for the same file, and may be left out when no file is on both sides.
struct RetrievalLabels {
  std::vector<int64_t> query_ids, query_cameras;      // [Q]
  std::vector<int64_t> gallery_ids, gallery_cameras;  // [G]
  bool cameras_known = true;
  std::vector<int64_t> query_files, gallery_files;  // [Q], [G], or both empty
};

struct EvaluationInput : RetrievalLabels {
  Tensor query, gallery;  // [Q, D], [G, D] f32 or f64, one dtype; CPU
};

// The labels of a data set's query and gallery. Files are numbered by their canonical paths where cameras are unknown.
RetrievalLabels retrieval_labels(const Dataset& set);

class Ranking;

// Distances from queries to the whole gallery, some rows at a time. rows(begin, end) returns a fresh [end - begin, gallery] tensor,
// f32 or f64, finite, which the caller may overwrite; a row depends on its query alone, not on the block.
struct DistanceRows {
  int64_t queries = 0, gallery = 0;
  std::function<Tensor(int64_t begin, int64_t end)> rows;
  std::shared_ptr<const Ranking> ranking = nullptr;  // the library's own: evaluate() and first_ranked() go by it; clear it with other rows
};

// Of features; checks them as check_features does and that they fit each other. Keeps the features alive, and a copy on `device`, where
// they meet when no rows are asked for; the same distances in double, rounded to the dtype of the features.
DistanceRows distance_rows(const Tensor& query, const Tensor& gallery, Metric metric, Device device = {});

// The `count` gallery entries that each query ranks first, 1 <= count, cut at what there is; ties by index. Found as nearest_rows() does,
// beside those that share neighbors with the query where it re-ranks, by what evaluate() counts by and with the same result on every
// device. Lists longer than an eighth of the gallery, and those of distances without a ranking, are sorted rows.
NearestRows first_ranked(const DistanceRows& distances, int64_t count, const std::function<void(double share)>& progress = {});

// --- protocols ---

// The average precision of matches at ranks r_1 < ... < r_R of the kept list.
enum class PrecisionForm : uint8_t {
  step,         // (1/R) sum_j j / r_j: not interpolated
  trapezoidal,  // (1/R) sum_j ((j - 1) / (r_j - 1) + j / r_j) / 2, the first quotient being 1 when r_j = 1
  tied          // step, but entries at one distance share their last rank: average_precision_score of scikit-learn since 0.19
};
const char* name_of(PrecisionForm);

struct EvaluationOptions {
  std::string preset = "fastreid";  // what the report is called after; changes nothing
  Metric metric = Metric::cosine;
  PrecisionForm precision = PrecisionForm::step;
  bool count_unmatched = false;  // a query without a match counts as zero instead of being left out

  // CMC over draws that keep one random gallery entry of each identity (CUHK03's first protocol). Precision, mINP: of the full list.
  bool single_shot = false;
  bool separate_cameras = false;  // the draws take no entry of the query's camera, whoever it shows
  int64_t repeats = 10;           // draws of each query, >= 1
  // The entry of identity i in draw d of query q is number below(n) of Rng(seed).at(q).at(d).at(i), counting its n kept entries in
  // gallery order.
  uint64_t seed = 1;

  std::vector<int64_t> ranks = {1, 5, 10};  // the k of CMC rank-k, each >= 1
  bool per_query = false;                   // fill EvaluationReport::queries
  Device device = {};                       // where features meet (but for draws), with the same result
};

// fastreid, torchreid, openreid, market-matlab, cuhk03-single-shot (torchreid's), cuhk03-openreid: each what that program computes;
// docs/evaluation.md has them side by side. EvaluationOptions{} is fastreid. Throws on another name, naming these.
EvaluationOptions evaluation_preset(std::string_view name);
std::vector<std::string> evaluation_presets();
// What is computed, in one line: "fastreid: cosine distance; ...".
std::string describe(const EvaluationOptions& options, const RetrievalLabels& labels);

// --- results ---

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
  int64_t evaluated = 0;       // queries with a match
  int64_t unmatched = 0;       // queries without one in the gallery; left out, or zeros with count_unmatched
  int64_t junk_queries = 0, junk_gallery = 0;
  int64_t distractors = 0;           // gallery entries of identities that no query has, such as 0 in the Market-1501 layout
  int64_t removed = 0;               // (query, gallery entry) pairs removed for identity and camera, or as the query's own file
  std::vector<QueryResult> queries;  // those with a match, in order; empty unless asked for
  std::vector<std::string> hints;    // what looks like a mistake, each with its remedy; empty for most inputs

  double rank(int64_t k) const;  // cmc at k; throws when k was not asked for
};

// For each query the gallery is ranked by increasing distance, ties by gallery index, after removing junk (id -1) and the
// entries with the query's identity AND camera (or its own file). With R matches at ranks r_1 < ... < r_R of that list:
//   CMC rank-k = mean of [r_1 <= k], so that of the last rank when k exceeds the list;  mINP = mean of R / r_R
//   mAP = mean of the average precision in the form asked for
// Means are over the queries with R >= 1, or all but junk with count_unmatched; that no query has a match is an error, as are
// widths or dtypes that differ, list lengths that differ, and what check_features refuses (it names the row).
// Cost beside the distances: a comparison of each distance with each match of its query.
EvaluationReport evaluate(const EvaluationInput& input, const EvaluationOptions& options = {});
EvaluationReport evaluate(const RetrievalLabels& labels, const DistanceRows& distances, const EvaluationOptions& options);

// --- several images as one row ---

enum class Pooling : uint8_t { mean, max };

// Rows of one group become one: their mean (summed in double, in row order) or the largest of each column. `groups` [N] are any
// numbers; result row k is that of the k-th different number in order of appearance, whose first row is first[k].
struct PooledRows {
  Tensor rows;                 // [K, D], dtype of the features
  std::vector<int64_t> first;  // [K]
};
PooledRows pool_rows(const Tensor& features, const std::vector<int64_t>& groups, Pooling pooling);

// Multi-query: each query becomes the pool of all rows of `images` with its identity and camera, which hold its own image, too
// (Market-1501's gt_bbox; or the queries themselves). A query that finds none stays as it is. With `unit`, rows are scaled to length
// 1 first, as under cosine. Needs known cameras.
Tensor multi_query(const EvaluationInput& input, const Tensor& images, const std::vector<int64_t>& ids, const std::vector<int64_t>& cameras,
                   Pooling pooling, bool unit);

// Video: what is compared are tracklets, each the mean of its frames. tracklet_frames() lists the frames to embed, `frames` of each
// tracklet (0: all), tracklets in order of appearance; pool_tracklets() turns their features into one row each and `samples` into their
// first frames. Images of no tracklet stay as they are.
std::vector<Sample> tracklet_frames(const std::vector<Sample>& samples, int64_t frames);
Tensor pool_tracklets(const Tensor& features, std::vector<Sample>& samples);
// `wanted` of `count` frames, as torchreid's "evenly": frame i is i * floor(count / wanted); of fewer frames all, then the last one again
// and again. wanted = 0: all frames once.
std::vector<int64_t> even_frames(int64_t count, int64_t wanted);

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
