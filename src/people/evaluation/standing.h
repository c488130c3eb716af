#pragma once
// Inside the people wing: where the matches of every query stand in its ranking, by exact distances and without a matrix of them.

#include <utility>
#include <vector>

#include "people/evaluation/counting.h"
#include "people/evaluation/filter.h"
#include "people/evaluation/ranking.h"

namespace reid {

// By DistanceTiles::pair rounded to the dtype of the features. The rounding lets distances tie that only the order of a sum tells apart.
class DistanceRanking final : public Ranking {
 public:
  explicit DistanceRanking(DistanceTiles pairs) : pairs_(std::move(pairs)) {}

  const DistanceTiles& pairs() const override { return pairs_; }
  double value(int64_t query, double distance, double jaccard) const override;
  std::pair<double, double> around(int64_t query, double value) const override;
  SparseRows close(int64_t begin, int64_t end) const override;

 private:
  DistanceTiles pairs_;
};

// One query's ranking at a few places.
struct Standing {
  Places<double> places;        // (value, gallery index); an index of G: everything up to that value
  std::vector<int64_t> before;  // kept entries that come before each
};

// The standings of every query's matches and, with `ends`, of the end of each value that a match has. Products decide most pairs, the
// distance those near a place: counts depend on the features alone.
// Cost: the products, two comparisons of each with each place of its query, and a DistanceTiles::pair for each match, each pair that is
// close or left out, and each that is nearer to a place than the products' margin.
std::vector<Standing> standings_of(const Ranking& ranking, const RetrievalFilter& filter, bool ends);

}  // namespace reid
