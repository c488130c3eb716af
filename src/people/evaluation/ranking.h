#pragma once
// Inside the people wing: by what a gallery is ranked for each query, as a rule instead of a matrix.
//
// Design: a pair has a value that grows with its distance. Where the pair is close in the sense of re-ranking, its Jaccard distance comes
// in; that is so for some pairs of a query, which are told one by one. So the places of a few entries can be counted by the
// distances of all the others (standing.h).

#include <utility>

#include "people/distances.h"
#include "people/jaccard.h"

namespace reid {

class Ranking {
 public:
  virtual ~Ranking() = default;

  virtual const DistanceTiles& pairs() const = 0;  // queries to gallery

  // What an entry is ranked by, ascending, from DistanceTiles::pair and the Jaccard distance: not decreasing with either.
  virtual double value(int64_t query, double distance, double jaccard = 1) const = 0;

  // With a Jaccard distance of 1 all distances below the first have smaller values, all above the second larger ones. None is negative.
  virtual std::pair<double, double> around(int64_t query, double value) const = 0;

  // The Jaccard distances of queries [begin, end) that may be below 1; columns are gallery entries.
  virtual SparseRows close(int64_t begin, int64_t end) const = 0;
};

}  // namespace reid
