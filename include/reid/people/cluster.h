#pragma once
// Distances between embeddings, DBSCAN, centroids, and how good pseudo labels are.
//
// Design: everything is exact and reproducible. A distance is a function of its two rows alone, bit for bit: not of the batch,
// the position or the number of threads. Neighbors, Jaccard distances and the clusters of features are defined by distances
// computed in double from the differences of two rows; f32 products only decide, within a proven bound, which pairs need that.
// Ties are broken by index everywhere. Nothing here holds an N x N matrix unless the caller asks for one. CPU tensors only,
// f32 or f64; results have the dtype of the features. No gradients.
//
// Labels and cameras are std::vector<int64_t> beside a [N, D] tensor. A negative label means noise (no label).

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "reid/engine/base.h"
#include "reid/engine/tensor.h"

namespace reid {

// --- distances ---

enum class Metric : uint8_t { cosine, euclidean, squared_euclidean };  // cosine: 1 - <a, b> / (|a| |b|), in [0, 2]
const char* name_of(Metric);
Metric parse_metric(std::string_view name);  // throws, listing the names

// Refuses what a distance cannot be computed from, naming `what` and the row: not [N, D] f32/f64 on the CPU with D >= 1, NaN or
// infinity, a length above 1e18 (f32) or 1e150 (f64), and, under cosine, a row of zeros. No rows at all are refused, too.
void check_features(const Tensor& features, Metric metric, const std::string& what);

// a [M, D], b [N, D] of one dtype -> [M, N] of that dtype.
//
// The scalar products come from ops::matmul in the dtype (unit roundoff u = 2^-24 or 2^-53) and are combined in double with
// norms that were summed in double. Subtracting nearly equal numbers would lose the digits of small distances, so a pair with
// |a-b|^2 < (|a|^2 + |b|^2) / 64 (cosine: 1 - cos < 1/64) is computed again from its differences in double. Hence, to first
// order in u and before the result is rounded to the dtype,
//   - equal rows have distance exactly 0, no distance is negative, d(a, b) == d(b, a);
//   - from the product: |error| <= D u (|a|^2 + |b|^2) for squared_euclidean, D u for cosine, so at most 64 D u relative to the
//     distance, half of that for euclidean (these are worst cases: 100 times less is usual at D = 2048);
//   - recomputed: relative error <= (D + 3) 2^-53 for the euclidean ones, |error| <= (D + 10) 2^-52 sqrt(d) for cosine.
// Cost: a matrix product, and for each recomputed pair about a microsecond of one core at D = 2048.
Tensor pairwise_distance(const Tensor& a, const Tensor& b, Metric metric);

struct NearestRows {
  Tensor index, distance;  // [M, min(count, N)] i32 rows of b, f64; of each row of a by increasing distance, ties by index
};
// The `count` rows of b nearest to each row of a, 1 <= count, by distances in double from the differences of two rows. Searched where
// `device` says, with the same result; no [M, N] numbers anywhere. Cost: the matrix product, in low precision where its bound decides, and
// a microsecond of one core at D = 2048 for each entry.
NearestRows nearest_rows(const Tensor& a, const Tensor& b, Metric metric, int64_t count, Device device = {},
                         const std::function<void(double share)>& progress = {});

// --- k-reciprocal Jaccard distance (Zhong et al., CVPR 2017, in the form that ICE and ClusterContrast cluster with) ---

struct JaccardOptions {
  int64_t k1 = 30;  // neighbors looked at, >= 1
  int64_t k2 = 6;   // rows averaged by the local query expansion, >= 1; 1 switches it off. Lists are cut at N, so both may be larger
  // Whether the row itself is one of the k1 neighbors: true in ICE and ClusterContrast (their search returns k1 columns, itself
  // among them); false is Zhong's original reading, itself and k1 more.
  bool k1_counts_self = true;
};

// features [N, D] (rows need not be unit) -> [N, N] of the same dtype, symmetric, in [0, 1], diagonal 0. With z = row / |row|:
//   R(i, k)  the k-reciprocal neighbors of i: j in the list of i and i in the list of j, lists by increasing cosine distance,
//            the row itself first, then ties by index
//   R*(i)    R(i, k1) and R(c, k1/2) (half rounded to even) of each c in R(i, k1) when over 2/3 of it lies in R(i, k1)
//   V[i, j]  softmax over j in R*(i) of -|z_i - z_j|^2, else 0; then the mean of V over the first k2 rows of the list of i
//   s = sum_g min(V[i, g], V[j, g]);  d = 1 - s / (2 - s), not below 0
// V and the sums are sparse and in double, and so are the distances behind them, whatever the dtype. Lists are cut at N when N
// is small. The result takes N^2 numbers: for clustering use dbscan_jaccard, which does not store it. Cost beside the search
// for neighbors (half a matrix product): about N * (row length of V)^2.
Tensor jaccard_distance(const Tensor& features, const JaccardOptions& options = {});

// --- DBSCAN, with the semantics of scikit-learn ---

struct DbscanOptions {
  double eps = 0.5;                         // > 0. Neighbors have d <= eps, compared in the dtype of the distances (eps is rounded to it)
  int64_t min_samples = 4;                  // >= 1. A core point has at least that many neighbors, itself included
  int64_t pair_bytes = int64_t{256} << 20;  // >= 0. Most memory for pairs that wait, see dbscan_features. Labels do not depend on it
  Device device = {};                       // where pairs are searched, with the same result
};

struct Clusters {
  std::vector<int64_t> labels;  // [N] 0..count-1, numbered in the order of each cluster's first core point; noise is -1
  int64_t count = 0;            // clusters
  int64_t noise = 0;            // points labeled -1
};

// A border point (a neighbor of core points, not core itself) belongs to the lowest-numbered cluster that reaches it.
// `distances` [N, N] is taken as it is, row i holding the neighbors of point i, and compared in its dtype (eps is rounded to it);
// NaN and negative entries are refused.
Clusters dbscan(const Tensor& distances, const DbscanOptions& options);

// Hears of long work: a phase ("neighbors", "encoding", "graph", "labels", further passes) and the share of it that is done.
// Called from the calling thread, with share 0 when a phase begins.
using ClusterProgress = std::function<void(const std::string& phase, double share)>;

// From features [N, D]; N < 2^31. Labels are those of dbscan() on the matrix of distances computed in double from the differences
// of rows, for f32 features, too (whose entries are taken as they are); scikit-learn's, where it computes as exactly: given
// f32 it compares f32 distances under some metrics, so that pairs within an ulp of eps can differ.
//
// Pairs are found by tiles and forgotten once both ends are known to be core points, so memory does not grow with the number of
// pairs within eps: at most N (min_samples - 2) pairs of 8 bytes wait at a time. If these would exceed pair_bytes, none are kept and
// the pairs are found again, up to twice. eps >= 1 under Jaccard puts all points together without looking at pairs.
// Cost: half a matrix product (again for each further pass), and about a microsecond for each pair nearer to eps than the bound
// of the f32 product, (D + 16) 2^-24 (|a|^2 + |b|^2) / 2 about the mean row.
Clusters dbscan_features(const Tensor& features, Metric metric, const DbscanOptions& options, const ClusterProgress& progress = {});
// By the distances of jaccard_distance in double, of which only those below 1 are ever made.
Clusters dbscan_jaccard(const Tensor& features, const JaccardOptions& jaccard, const DbscanOptions& options,
                        const ClusterProgress& progress = {});

// The memory that the two take beside the features, known before they start: tiles, lists and waiting pairs at their limits. The
// rows of V differ with the data: taken as k1 (1 + k2 / 2) entries (k1 1.5 without expansion), about 1.2 times what random
// clusters of 17 have. With an accelerator: what they take there, a copy of the features (as f32) among it.
int64_t dbscan_features_bytes(int64_t rows, int64_t columns, const DbscanOptions& options);
int64_t dbscan_jaccard_bytes(int64_t rows, int64_t columns, const JaccardOptions& jaccard, const DbscanOptions& options);

// --- centroids ---

struct Centroids {
  Tensor rows;                   // [K, D] unit rows, dtype of the features
  std::vector<int64_t> labels;   // [K] ascending; with labels 0..K-1 in the input, row k is label k
  std::vector<int64_t> cameras;  // [K] ascending within a label; empty for identity_centroids
  std::vector<int64_t> counts;   // [K] members
};

// The mean of each label's rows (of each (label, camera) that occurs), scaled to length 1. Sums are in double, in row order, so
// the result depends on nothing else. Rows with a negative label are left out. Features are averaged as given: pass unit rows
// for centroids of directions. Throws when nothing is labeled, and for a mean of length 0, naming the label.
Centroids identity_centroids(const Tensor& features, const std::vector<int64_t>& labels);
Centroids camera_centroids(const Tensor& features, const std::vector<int64_t>& labels, const std::vector<int64_t>& cameras);

// --- eps from labeled data ---

struct CalibrationOptions {
  double fixed_eps = 0.3;         // the answer when there are too few pairs
  double floor = 0.01;            // the answer is never below
  double same_quantile = 0.90;    // of the distances within an identity
  double other_quantile = 0.001;  // of the distances between identities
  int64_t pairs = 100000;         // drawn of each kind; all of them when there are no more
  int64_t min_pairs = 100;        // of each kind, else fixed_eps
};

struct Calibration {
  double eps = 0;
  bool calibrated = false;                       // false: eps is fixed_eps
  int64_t same_pairs = 0, other_pairs = 0;       // that exist
  double same_distance = 0, other_distance = 0;  // the two quantiles; 0 when not calibrated
};

// eps for clustering videos of one camera, from labeled images of several: pairs from the SAME camera only, cosine distance,
// eps = max(floor, min(quantile of same-identity pairs, quantile of other-identity pairs)). Pairs are drawn uniformly with
// repetition; quantiles interpolate linearly. Negative labels are left out. features [N, D].
Calibration calibrated_eps(const Tensor& features, const std::vector<int64_t>& labels, const std::vector<int64_t>& cameras,
                           const CalibrationOptions& options, const Rng& rng);

// --- do two feature spaces agree ---

// For each row, how alike its neighborhoods in two spaces are: |A n B| / |A u B|, A and B the k rows nearest to it in a [N, D] and
// b [N, E] by cosine, itself left out, ties by index (the cross agreement of PPLR: Cho et al., CVPR 2022). k >= 1; N > k.
// Neighbors are searched on `device`, with the same result.
std::vector<double> cross_agreement(const Tensor& a, const Tensor& b, int64_t k, Device device = {});

// --- how good are pseudo labels ---

// Purity, homogeneity, completeness and v_measure are of the clustered points (noise is not trained on; noise_ratio says how
// much that is). Pairs: precision of the pairs put together; recall counts all true pairs, those with a noise point as missed.
struct LabelQuality {
  int64_t points = 0, clusters = 0, identities = 0;  // of the points whose truth is known
  double noise_ratio = 0;                            // of points
  double purity = 0;                                 // clustered points that have their cluster's most frequent identity
  double pair_precision = 0, pair_recall = 0, pair_f = 0;
  double homogeneity = 0, completeness = 0, v_measure = 0;  // v_measure equals NMI with the arithmetic mean
};
// Points whose truth is negative (unknown) are left out. A ratio whose denominator is 0 is 1 for precision, recall, homogeneity and
// completeness (nothing was wrong), and 0 for purity.
LabelQuality label_quality(const std::vector<int64_t>& labels, const std::vector<int64_t>& truth);

}  // namespace reid
