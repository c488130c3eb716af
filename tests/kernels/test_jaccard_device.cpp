// k-reciprocal encodings on a device: rows and pairs with the bits of the host's.

#include <numeric>

#include "on_device.h"
#include "people/distances.h"
#include "people/features.h"
#include "people/jaccard_device.h"

namespace reid::test {
namespace {

// Rows around some centers, every fifth the copy of another.
Tensor clusters(int64_t rows, int64_t width, int64_t centers, DType dtype, uint64_t seed) {
  const Tensor middle = random_features(centers, width, DType::f64, seed), noise = random_features(rows, width, DType::f64, seed + 1);
  const Tensor x = Tensor::empty({rows, width}, DType::f64);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t like = i % 5 == 4 ? i / 2 : i;
    for (int64_t d = 0; d < width; ++d)
      x.data<double>()[i * width + d] = middle.data<double>()[like % centers * width + d] + 0.4 * noise.data<double>()[like * width + d];
  }
  return x.to(dtype);
}

struct Lists {
  Tensor scales, index, distance;
};
Lists lists_of(const DistanceTiles& pairs, int64_t width) {
  const Neighbors found = nearest_neighbors(pairs, width, {.distances = true, .farthest = false, .progress = {}});
  std::vector<double> scales;
  for (const double square : pairs.squared_a()) scales.push_back(1 / std::sqrt(square));
  const Shape shape{pairs.count(), found.width};
  return {Tensor::from(scales), Tensor::from(found.index, shape), Tensor::from(found.distance, shape)};
}

using Pairs = std::vector<std::pair<int64_t, int64_t>>;
template <class Encoding, class... More>
Pairs pairs_of(const Encoding& encoding, double radius, More... more) {
  Pairs pairs;
  double share = 0;
  encoding.for_each_pair_within(
      radius,
      [&](double done) {
        CHECK(done > share);
        share = done;
      },
      [&](int64_t i, std::span<const int32_t> columns) {
        CHECK(!columns.empty());
        for (const int32_t j : columns) pairs.emplace_back(i, j);
      },
      more...);
  CHECK(share == 1);
  return pairs;
}

// The distances of the first third of the rows to the last third, all at once and some rows at a time.
void check_distances(const KReciprocalEncoding& expected, const DeviceEncoding& found) {
  const int64_t rows = found.count(), end = rows / 3, from = rows - rows / 3;
  const SparseRows wanted = expected.distances(0, end, from);
  for (const int64_t bytes : {int64_t{16} << 20, int64_t{3000}}) {
    const SparseRows got = found.distances(0, end, from, bytes);
    CHECK(got.offsets == wanted.offsets);
    CHECK(got.columns == wanted.columns);
    CHECK(got.values == wanted.values);
  }
  if (end > 1) CHECK(found.distances(1, end, from).columns_of(0).size() == wanted.columns_of(1).size());
}

void check_encoding(const Tensor& features, const JaccardOptions& options, const std::vector<double>& radii) {
  const DistanceTiles pairs(features, "features", Metric::cosine);
  const EncodingOptions o = encoding_options(options);
  const Lists lists = lists_of(pairs, encoding_list_length(o, pairs.count()));
  const KReciprocalEncoding expected = encode(pairs, options);
  const Device device = test_device();
  const DeviceEncoding found(features.to(device), lists.scales.to(device), lists.index.to(device), lists.distance.to(device), o);
  CHECK(found.count() == expected.count());
  const SparseRows& rows = expected.rows();
  CHECK(bitwise_equal(found.rows().offset.to(Device{}), Tensor::from(rows.offsets)));
  CHECK(bitwise_equal(found.rows().column.to(Device{}), Tensor::from(rows.columns)));
  CHECK(bitwise_equal(found.rows().value.to(Device{}), Tensor::from(rows.values)));
  check_distances(expected, found);
  for (const double radius : radii) {
    const Pairs wanted = pairs_of(expected, radius);
    CHECK(pairs_of(found, radius) == wanted);
    if (radius == radii.front()) {
      CHECK(!wanted.empty());
      CHECK(pairs_of(found, radius, int64_t{2000}) == wanted);  // some rows at a time
    }
  }
}

TEST_CASE("jaccard device: rows and pairs have the host's bits") {
  const struct {
    int64_t rows, width, centers;
    JaccardOptions options;
  } cases[] = {
      {150, 33, 9, {}},
      {150, 7, 30, {.k1 = 12, .k2 = 1, .k1_counts_self = true}},
      {110, 40, 5, {.k1 = 15, .k2 = 4, .k1_counts_self = false}},
      {101, 3, 101, {.k1 = 7, .k2 = 6, .k1_counts_self = true}},
      {19, 5, 3, {.k1 = 30, .k2 = 6, .k1_counts_self = false}},      // fewer rows than k1
      {9, 5, 2, {.k1 = 1000000, .k2 = 77, .k1_counts_self = true}},  // than k2, too
      {40, 6, 4, {.k1 = 3, .k2 = 9, .k1_counts_self = true}},        // k2 above k1
      {40, 6, 4, {.k1 = 1, .k2 = 2, .k1_counts_self = true}},
  };
  at_both_paces([&] {
    for (const auto& c : cases) {
      for (const DType dtype : {DType::f32, DType::f64}) {
        INFO(c.rows, " rows, k1 ", c.options.k1, ", k2 ", c.options.k2, " ", dtype);
        check_encoding(clusters(c.rows, c.width, c.centers, dtype, 17), c.options, {0.5, 0.9, 0});
      }
    }
    check_encoding(clusters(1, 4, 1, DType::f32, 3), {}, {});
  });
}

TEST_CASE("jaccard device: weights by the largest distance of a row") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const DistanceTiles here(clusters(120, 19, 8, dtype, 31), "x", Metric::euclidean),
        there(here.a(), "x", Metric::euclidean, test_device());
    EncodingOptions options{.k1 = 14, .k2 = 4, .k1_counts_self = false};
    const Neighbors lists =
        nearest_neighbors(here, encoding_list_length(options, 120), {.distances = true, .farthest = true, .progress = {}});
    for (const int power : {2, 4}) {
      options.weights = {lists.farthest, power};
      const KReciprocalEncoding expected(here, lists, options);
      const DeviceEncoding found = encode_there(there, lists, options);
      CHECK(bitwise_equal(found.rows().value.to(Device{}), Tensor::from(expected.rows().values)));
      check_distances(expected, found);
    }
    options.weights = {};
    CHECK_THROWS_WITH_AS(encode_there(there, lists, options), "[jaccard_distance] euclidean distances and weights do not fit", Error);
  }
}

TEST_CASE("jaccard device: a radius that is itself a distance includes it, one ulp less does not") {
  const Tensor x = clusters(90, 11, 6, DType::f32, 23);
  const JaccardOptions options{.k1 = 10, .k2 = 3, .k1_counts_self = true};
  const Tensor d = jaccard_distance(x.to(DType::f64), options);
  std::vector<double> radii{0.8};
  for (const int64_t at : {int64_t{6}, int64_t{90 * 3 + 9}, int64_t{90 * 12 + 66}}) {
    const double radius = d.data<double>()[at];
    if (radius > 0 && radius < 1) radii.insert(radii.end(), {radius, std::nextafter(radius, 0.0)});
  }
  REQUIRE(radii.size() > 2);
  check_encoding(x.to(DType::f64), options, radii);
}

TEST_CASE("jaccard device: more pairs in a row than were expected") {
  const Tensor x = random_features(150, 4, DType::f32, 29);
  for (int64_t i = 0; i < 150; ++i) x.data<float>()[i * 4] += 30;  // all in one direction, and each has a pair with every other
  check_encoding(x, {.k1 = 140, .k2 = 2, .k1_counts_self = true}, {0.95});
}

TEST_CASE("jaccard device: what does not fit together is refused") {
  const Tensor x = clusters(30, 5, 3, DType::f32, 5);
  const DistanceTiles pairs(x, "x", Metric::cosine);
  const Lists lists = lists_of(pairs, 10);
  const auto failure = [&](const Tensor& features, const Tensor& scales, const Tensor& index, const JaccardOptions& options) {
    try {
      DeviceEncoding(features, scales, index, lists.distance, encoding_options(options));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const JaccardOptions options{.k1 = 10, .k2 = 2, .k1_counts_self = true};
  CHECK(failure(x, lists.scales, lists.index, options).empty());
  CHECK(failure(x, lists.scales, lists.index, {.k1 = 11, .k2 = 2, .k1_counts_self = true}).find("10 entries, expected 11") !=
        std::string::npos);
  CHECK(failure(x.rows(0, 29), lists.scales, lists.index, options).find("[reciprocal_rows] x must be [30, D]") != std::string::npos);
  CHECK(failure(x, lists.scales.to(DType::f32), lists.index, options).find("scale is f32, expected f64") != std::string::npos);
  CHECK(failure(x, lists.scales, lists.index.to(DType::i64), options).find("index must be [N, width] i32") != std::string::npos);
  CHECK(failure(x, lists.scales, lists.index.to(test_device()), options).find("lies on") != std::string::npos);
  const DeviceEncoding encoding(x, lists.scales, lists.index, lists.distance, encoding_options(options));
  CHECK_THROWS_WITH_AS(encoding.distances(4, 9, 8), "[jaccard_distance] rows 4..9 from column 8 of 30", Error);
  CHECK_THROWS_WITH_AS(encoding.for_each_pair_within(1, {}, [](int64_t, std::span<const int32_t>) {}),
                       "[jaccard_within] all pairs lie within 1", Error);
}

}  // namespace
}  // namespace reid::test
