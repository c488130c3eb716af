#pragma once
// Inside the people wing: where the matches of every query stand in its ranking, by exact distances and without a matrix of them.

#include <utility>
#include <vector>

#include "people/distances.h"
#include "people/evaluation/filter.h"

namespace reid {

// One query's ranking at a few places.
struct Standing {
  std::vector<std::pair<double, int64_t>> places;  // (distance, gallery index), ascending; an index of G: everything up to that distance
  std::vector<int64_t> before;                     // kept entries that come before each, in the order of (distance, index)
};

// The matches of every query as places, `before` not yet counted. Distances are DistanceTiles::pair rounded to the dtype of the features:
// functions of the two rows alone. The rounding lets distances tie that only the order of a sum tells apart.
std::vector<Standing> match_places(const DistanceTiles& pairs, const RetrievalFilter& filter);

// Fills `before`. Products decide most pairs, the distance those near a place: counts depend on the features alone.
// Cost: the products, two comparisons of each with each place of its query, and a pair() for each pair nearer to a place than the products'
// margin.
void count_before(const DistanceTiles& pairs, const RetrievalFilter& filter, std::vector<Standing>& standings);

}  // namespace reid
