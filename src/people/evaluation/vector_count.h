#pragma once
// Inside the people wing: the innermost loop of counting ranks, compiled for the vectors of this machine.

#include <cstdint>

namespace reid {

// Products against descending bars: sure = product - sure_edge, maybe = product - maybe_edge are kept, counts[m] += how many of `sure`
// exceed sure_bars[m]. undecided[j] becomes 1 where, for some m, maybe[j] >= maybe_bars[m] but not sure[j] > sure_bars[m]; returns
// whether that occurs, and leaves `undecided` as it is when it does not.
struct Comparison {
  const float* products;
  const float* sure_edges;
  const float* maybe_edges;
  int64_t count;
  const float* sure_bars;
  const float* maybe_bars;
  int64_t bars;
  int64_t* counts;
  float* sure;   // [count]
  float* maybe;  // [count]
  uint8_t* undecided;
};
bool compare(const Comparison& c);

}  // namespace reid
