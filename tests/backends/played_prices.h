#pragma once
// What the engines of a played library cost, by a clock of its own, and how many it offers: what tests decide, which know them by name.
// Each library has these functions and their state for itself: one .cpp of it includes this.

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace {

struct Engine {
  std::vector<double> prices;  // seconds that its runs take in turn, the last one from then on; below zero: it fails
  int64_t runs = 0;
};
std::map<int64_t, Engine> engines;
double seconds_passed = 0;
int64_t most_offers = 1 << 10;

// Whether this run of the engine succeeds.
bool pay(int64_t engine) {
  Engine& e = engines[engine];
  const double price = e.prices.empty() ? 0 : e.prices[std::min(static_cast<size_t>(e.runs), e.prices.size() - 1)];
  ++e.runs;
  if (price >= 0) seconds_passed += price;
  return price >= 0;
}

}  // namespace

extern "C" {

double played_clock() { return seconds_passed; }
void played_price(int64_t engine, const double* prices, int64_t count) { engines[engine] = {{prices, prices + count}, 0}; }
int64_t played_runs(int64_t engine) { return engines[engine].runs; }
void played_offer_first(int64_t count) { most_offers = count; }  // of all the engines there are

}  // extern "C"
