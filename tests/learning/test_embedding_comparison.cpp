// Comparing two sets of embeddings: differences and ranks of cases small enough to do by hand.

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "formats/scratch.h"
#include "reid/learning/embedding_comparison.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;

namespace {

// Directions in the plane, in degrees.
Tensor directions(const std::vector<double>& degrees, double length = 1) {
  std::vector<double> values;
  for (const double d : degrees) {
    values.push_back(length * std::cos(d * std::numbers::pi / 180));
    values.push_back(length * std::sin(d * std::numbers::pi / 180));
  }
  return Tensor::from(values, {static_cast<int64_t>(degrees.size()), 2});
}

}  // namespace

TEST_CASE("embedding comparison: equal embeddings, and embeddings of another length") {
  const Tensor a = directions({0, 10, 30, 60, 100});
  const EmbeddingComparison same = compare_embeddings(a, a.clone(), "a", "b");
  CHECK(same.images == 5);
  CHECK(same.largest_relative == 0);
  CHECK(same.changed_ranks == 0);
  CHECK(same.summary() == "largest difference 0 of the embedding's length (image 0 of 5); no rank changed");
  const EmbeddingComparison longer = compare_embeddings(a, directions({0, 10, 30, 60, 100}, 1.5), "a", "b");
  CHECK(longer.largest_relative == doctest::Approx(0.5).epsilon(1e-12));
  CHECK(longer.changed_ranks == 0);
}

TEST_CASE("embedding comparison: a moved image changes the ranks it should, and the swap is measured in the reference") {
  // Image 1 moves from 20 to 26 degrees. Seen from 0 the order stays 1, 2; image 1 saw 0 (20) before 2 (25), now 2 (19) before
  // 0 (26); image 2 still sees 1 first. The swapped pair differed by cos 20 - cos 25.
  const EmbeddingComparison moved = compare_embeddings(directions({0, 20, 45}), directions({0, 26, 45}), "a", "b");
  CHECK(moved.changed_ranks == 1);
  const auto cosine = [](double degrees) { return std::cos(degrees * std::numbers::pi / 180); };
  CHECK(moved.largest_swap == doctest::Approx(cosine(20) - cosine(25)).epsilon(1e-9));
  CHECK(moved.largest_row == 1);
  CHECK(moved.largest_relative == doctest::Approx(2 * std::sin(3 * std::numbers::pi / 180)).epsilon(1e-9));
  CHECK(contains(moved.summary(), "1 of 3 images rank the others differently"));
}

TEST_CASE("embedding comparison: ties go by index on both sides, also across blocks of images") {
  std::vector<double> degrees;
  for (int i = 0; i < 150; ++i) degrees.push_back(10 * (i % 7));  // many equal rows, more than two blocks
  const EmbeddingComparison tied = compare_embeddings(directions(degrees), directions(degrees, 3).to(DType::f32), "a", "b");
  CHECK(tied.images == 150);
  CHECK(tied.largest_relative == doctest::Approx(2).epsilon(1e-6));
  CHECK(tied.largest_swap < 1e-6);
}

TEST_CASE("embedding comparison: shapes and rows that cannot be compared are named") {
  const Tensor a = directions({0, 10});
  const std::string shapes = failure_of([&] { compare_embeddings(a, directions({0, 10, 20}), "ours", "ONNX Runtime"); });
  CHECK(contains(shapes, "ours"));
  CHECK(contains(shapes, "[3, 2]"));
  const Tensor zero = Tensor::zeros({2, 2}, DType::f64);
  CHECK(contains(failure_of([&] { compare_embeddings(a, zero, "ours", "ONNX Runtime"); }), "the embeddings of ONNX Runtime"));
}
