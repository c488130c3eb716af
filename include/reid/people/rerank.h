#pragma once
// Rankings made better by the rankings of their neighbors: k-reciprocal re-ranking, and query and database expansion.
//
// Design: sparse: no matrix over queries and gallery together ever exists, only neighbor lists and k-reciprocal encodings of some hundred
// entries a row. Results depend on the features alone.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "reid/people/evaluation.h"

namespace reid {

using WorkProgress = std::function<void(double share)>;  // called now and then, from the calling thread; may be empty

// --- k-reciprocal re-ranking (Zhong, Zheng, Cao and Li, CVPR 2017) ---

// All work on the union of queries and gallery, with d(i, j) the base distance scaled by its largest in row i, and J the Jaccard distance
// of the k-reciprocal encodings of cluster.h, whose weights are exp(-d) here:   result = (1 - lambda) J + lambda d.
enum class RerankVariant : uint8_t {
  zhong,      // the authors': base |x - y|^2 of the features as they are; lists of the row and k1 more
  bot,        // reid-strong-baseline: the same of unit rows (it keeps encodings in half precision, this does not)
  torchreid,  // its evaluation hands squared distances to code that squares: base |x - y|^4 of the features as they are
  fastreid    // lists of k1 with the row itself, weights exp(-|x - y|^2) of unit rows, unscaled; lambda mixes in the cosine distance
};
const char* name_of(RerankVariant);
RerankVariant parse_rerank_variant(std::string_view name);  // throws, listing the names

struct RerankOptions {
  int64_t k1 = 20, k2 = 6;  // >= 1: neighbors looked at, rows averaged by the local query expansion
  double lambda = 0.3;      // in [0, 1]: the share of the base distance
  RerankVariant variant = RerankVariant::zhong;
  Device device = {};  // where neighbors are searched, encoded and counted, with the same result
};

// The final distances, f32 rows made when they are asked for; the neighbor search and the encodings happen here. Equals the references to
// 1e-5, where no neighbor's place is decided by less than their rounding; ties there go to the lower row of the union. evaluate()
// asks for no rows but for draws: it counts by the same distances from single pairs, in double and rounded to f32; where queries share
// neighbors with thousands of entries, or distances hardly count (lambda 0), which would be measured one by one, it has `ranking` null and
// goes by rows. Those come from a product in the dtype of the features, on the CPU, and may differ from those in the last digits.
// Cost: the matrix product of the union with itself, then about (entries of an encoding)^2 for each query.
DistanceRows rerank(const Tensor& query, const Tensor& gallery, const RerankOptions& options = {}, const WorkProgress& progress = {});
// What rerank() and evaluate() or one block of its distances take beside the features that are handed in. An estimate, as the entries of
// the encodings depend on the data: features without any structure took twice as much.
int64_t rerank_bytes(int64_t queries, int64_t gallery, int64_t width, DType dtype, const RerankOptions& options);

// --- expansion by the nearest neighbors ---

// A row becomes the mean of its k nearest, itself first, each multiplied by its cosine with the row to the power alpha (a power that is not
// a number, of a negative cosine, counts as 0). Neighbors are found by cosine, the features averaged as they are.
struct ExpansionOptions {
  int64_t k = 10;      // >= 1, the row itself included; cut at what there is
  double alpha = 3;    // >= 0
  Device device = {};  // as above
};

Tensor expand_queries(const Tensor& query, const Tensor& gallery,
                      const ExpansionOptions& options);                       // by the gallery: alpha query expansion
Tensor expand_rows(const Tensor& features, const ExpansionOptions& options);  // among themselves: database expansion
// fast-reid's rule: both sides, among all of them.
struct ExpandedSides {
  Tensor query, gallery;
};
ExpandedSides expand_union(const Tensor& query, const Tensor& gallery, const ExpansionOptions& options);

}  // namespace reid
