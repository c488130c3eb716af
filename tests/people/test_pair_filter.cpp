// The products in front of distances: their bounds hold for every pair, coarse and fine, and every pair is covered once.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "people/coded_rows.h"
#include "people/pair_filter.h"

using namespace reid;

namespace {

enum class Kind { normal, positive, outliers, clustered, tiny, mixed_lengths };

Tensor rows_of(Kind kind, int64_t count, int64_t width, Rng rng) {
  Tensor x = Tensor::empty({count, width}, DType::f32);
  std::vector<float> center(static_cast<size_t>(width));
  for (float& c : center) c = static_cast<float>(rng.normal());
  for (int64_t i = 0; i < count; ++i) {
    float* row = x.data<float>() + i * width;
    const double length = kind == Kind::mixed_lengths ? std::pow(10.0, static_cast<double>(i % 7) - 3) : kind == Kind::tiny ? 1e-6 : 1;
    for (int64_t k = 0; k < width; ++k) {
      double v = rng.normal();
      if (kind == Kind::positive) v = std::fabs(v) + 2;
      if (kind == Kind::outliers && rng.below(60) == 0) v *= 300;
      if (kind == Kind::clustered) v = double{center[static_cast<size_t>(k)]} + 0.01 * v;
      row[k] = static_cast<float>(v * length);
    }
    if (i % 11 == 10) std::copy_n(row - width, width, row);  // equal rows
  }
  return x;
}

// Checks all tiles of one walk; returns how many had coarse products.
int check_bounds(const DistanceTiles& pairs, bool coarse, int64_t undecided) {
  const PairFilter filter(pairs);
  std::vector<int> covered(static_cast<size_t>(pairs.count() * pairs.width()));
  int coarse_tiles = 0;
  bool held = true;
  const auto look = [&](const ProductTile& tile) {
    coarse_tiles += tile.margin > filter.margin();
    for (int64_t r = 0; r < tile.rows; ++r) {
      for (int64_t c = 0; c < tile.columns; ++c) {
        const int64_t i = tile.row + r, j = tile.column + c;
        const double q = filter.half_square(pairs.pair(i, j)), p = static_cast<double>(tile.products[r * tile.columns + c]);
        held = held && filter.lower(i, j, p, tile.margin) <= q && q <= filter.upper(i, j, p, tile.margin);
        if (tile.fine) {
          const FinePairs::Range range = tile.fine->range(i, j);
          held = held && range.lower <= q && q <= range.upper;
          // The fine codes are worth their name: at least 20 times as narrow, where f32 itself is not the limit.
          const double narrow = range.upper - range.lower, wide = filter.upper(i, j, p, tile.margin) - filter.lower(i, j, p, tile.margin);
          held = held && 20 * narrow <= wide + 40 * filter.margin() * wide / tile.margin;
        }
        ++covered[static_cast<size_t>(i * pairs.width() + j)];
        if (tile.mirrored) ++covered[static_cast<size_t>(j * pairs.width() + i)];
      }
    }
    return undecided;
  };
  if (coarse) {
    filter.for_each_coarse({}, look);
  } else {
    filter.for_each({}, [&](const ProductTile& tile) { look(tile); });
  }
  CHECK(held);
  CHECK(std::all_of(covered.begin(), covered.end(), [](int times) { return times == 1; }));
  return coarse_tiles;
}

}  // namespace

TEST_CASE("pair filter: bounds hold for every pair, coarse, fine and plain, whatever the rows look like") {
  for (const Kind kind : {Kind::normal, Kind::positive, Kind::outliers, Kind::clustered, Kind::tiny, Kind::mixed_lengths}) {
    for (const Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(name_of(metric));
      const Tensor a = rows_of(kind, 70, 131, Rng(1)), b = rows_of(kind, 90, 131, Rng(2));
      const DistanceTiles among(a, "a", metric), between(a, "a", b, "b", metric);
      for (const DistanceTiles* pairs : {&among, &between}) {
        CHECK(check_bounds(*pairs, false, 0) == 0);
        const int coarse = check_bounds(*pairs, true, 0);
        // Rows dominated by a few entries leave the others without a code; the center moves mixed lengths apart.
        if (fast_codes(131) && (kind == Kind::normal || kind == Kind::positive || kind == Kind::tiny)) CHECK(coarse == 1);
      }
    }
  }
}

TEST_CASE("pair filter: too many undecided pairs end the coarse products") {
  if (!fast_codes(16)) {
    MESSAGE("skipped: this CPU has no fast products of codes (AVX-512 VNNI)");
    return;
  }
  const Tensor a = rows_of(Kind::normal, 1000, 16, Rng(3));
  const DistanceTiles pairs(a, "a", Metric::euclidean);
  CHECK(check_bounds(pairs, true, 0) > 1);                  // several tiles, all coarse
  CHECK(check_bounds(pairs, true, int64_t{1} << 40) == 1);  // the first one only
}

TEST_CASE("coded rows: products of both codes are those of the rows but for the measured error") {
  const int64_t width = 203;
  const Tensor y = rows_of(Kind::normal, 12, width, Rng(4));
  for (int64_t k = 0; k < width; ++k) y.data<float>()[k] = 0;  // a row of zeros
  CodedRows rows(12, width);
  rows.set(0, y.rows(0, 5));
  rows.set(5, y.rows(5, 12));
  CHECK(rows.error() > 0.001);
  CHECK(rows.error() < 0.02);  // entries up to 4 sigma in steps of 4 sigma / 127: an error of 4 / 127 / sqrt(12) = 0.009
  CHECK(rows.fine_error() < rows.error() / 200);
  for (int64_t i = 0; i < 12; ++i) {
    for (int64_t j = 0; j < 12; ++j) {
      double product = 0, own = 0, other = 0;
      for (int64_t k = 0; k < width; ++k) {
        const double a = static_cast<double>(y.data<float>()[i * width + k]), b = static_cast<double>(y.data<float>()[j * width + k]);
        product += a * b, own += a * a, other += b * b;
      }
      const double r = rows.fine_error();
      CHECK(std::fabs(CodedRows::product(rows, i, rows, j) - product) <= (2 + r) * r * std::sqrt(own * other) + 1e-12);
    }
  }
}
