// The products in front of distances: their bounds hold for every pair, of codes and of f32, and every pair is covered once.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "people/coded_rows.h"
#include "people/pair_filter.h"
#include "reid/engine/ops.h"

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

void check_bounds(const DistanceTiles& pairs) {
  const PairFilter filter(pairs);
  std::vector<int> covered(static_cast<size_t>(pairs.count() * pairs.width()));
  bool held = true;
  filter.for_each({}, [&](const ProductTile& tile) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      for (int64_t c = 0; c < tile.columns; ++c) {
        const int64_t i = tile.row + r, j = tile.column + c;
        const double q = filter.half_square(pairs.pair(i, j));
        const float p = tile.products[r * tile.columns + c];
        held = held && filter.lower(i, j, p) <= q && q <= filter.upper(i, j, p);
        ++covered[static_cast<size_t>(i * pairs.width() + j)];
        if (tile.mirrored) ++covered[static_cast<size_t>(j * pairs.width() + i)];
      }
    }
  });
  CHECK(held);
  CHECK(std::all_of(covered.begin(), covered.end(), [](int times) { return times == 1; }));
}

}  // namespace

TEST_CASE("pair filter: bounds hold for every pair, whatever the rows look like") {
  for (const Kind kind : {Kind::normal, Kind::positive, Kind::outliers, Kind::clustered, Kind::tiny, Kind::mixed_lengths}) {
    for (const Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(name_of(metric));
      const Tensor a = rows_of(kind, 70, 131, Rng(1)), b = rows_of(kind, 90, 131, Rng(2));
      const DistanceTiles among(a, "a", metric), between(a, "a", b, "b", metric);
      check_bounds(among);
      check_bounds(between);
      const PairFilter filter(among);
      if (!ops::fast_code_products()) continue;
      if (kind == Kind::normal || kind == Kind::positive || kind == Kind::tiny) CHECK(filter.coded());
      CHECK(filter.margin() < (filter.coded() ? 6e-4 : 1e-5));
    }
  }
}

TEST_CASE("pair filter: rows that codes cannot hold are multiplied in f32") {
  Tensor a = rows_of(Kind::normal, 40, 131, Rng(5));
  for (int64_t k = 0; k < 131; ++k) a.data<float>()[k] *= 1e-25f;  // beside rows of length 11
  const DistanceTiles pairs(a, "a", Metric::euclidean);
  CHECK(PairFilter(pairs).coded() == ops::fast_code_products());  // the center moves the short row away from zero
  for (int64_t i = 0; i < 40; i += 2) {
    for (int64_t k = 0; k < 131; ++k) a.data<float>()[(i + 1) * 131 + k] = -a.data<float>()[i * 131 + k];  // now the center is zero
  }
  const DistanceTiles around(a, "a", Metric::euclidean);
  CHECK_FALSE(PairFilter(around).coded());
  check_bounds(around);
}

TEST_CASE("pair filter: several tiles") {
  const Tensor a = rows_of(Kind::normal, 1000, 16, Rng(3)), b = rows_of(Kind::normal, 2100, 16, Rng(4));
  check_bounds(DistanceTiles(a, "a", Metric::euclidean));
  check_bounds(DistanceTiles(a, "a", b, "b", Metric::cosine));
}

TEST_CASE("coded rows: codes differ from the rows by the measured error, and blocks of them fit exact sums") {
  const int64_t width = 203;
  for (const Kind kind : {Kind::normal, Kind::outliers, Kind::mixed_lengths}) {
    CAPTURE(static_cast<int>(kind));
    const Tensor y = rows_of(kind, 12, width, Rng(4));
    for (int64_t k = 0; k < width; ++k) y.data<float>()[k] = 0;                          // a row of zeros
    for (int64_t k = 0; k < width; ++k) y.data<float>()[width + k] = k == 7 ? 3e4f : 0;  // one entry
    CodedRows rows(12, width);
    rows.set(0, y.rows(0, 5));
    rows.set(5, y.rows(5, 12));
    double worst = 0;
    for (int64_t i = 0; i < 12; ++i) {
      const double scale = static_cast<double>(*rows.scales(i));
      double error = 0, length = 0;
      for (int64_t block = 0; block < width; block += kCodeBlock) {
        int64_t squares = 0;
        for (int64_t k = block; k < std::min(block + kCodeBlock, width); ++k) {
          const int64_t code = rows.row(i)[k];
          const double value = static_cast<double>(y.data<float>()[i * width + k]), e = value - scale * static_cast<double>(code);
          squares += code * code;
          error += e * e;
          length += value * value;
        }
        CHECK(squares < int64_t{1} << 31);
      }
      if (length > 0) worst = std::max(worst, std::sqrt(error / length));
    }
    CHECK(worst <= rows.error());
    CHECK(rows.error() <= worst * (1 + 1e-9));
    if (kind == Kind::normal) CHECK(rows.error() < 1e-4);
  }
}
