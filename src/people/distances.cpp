// Pairwise distances: a matrix product, norms in double, and close pairs once more from their differences.

#include "people/distances.h"

#include <algorithm>

#include "people/row_kernels.h"
#include "reid/engine/ops.h"

namespace reid {

namespace {

// Below this share of |a|^2 + |b|^2 a squared distance has lost 6 of the product's bits to cancellation and is recomputed.
constexpr double kClose = 1.0 / 64;

// Squared lengths below this may have lost products to underflow, so they never rely on the matrix product.
constexpr double tiny(DType dtype) { return dtype == DType::f32 ? 1e-24 : 1e-280; }
constexpr double longest(DType dtype) { return dtype == DType::f32 ? 1e18 : 1e150; }

constexpr int64_t kColumns = 256;  // combined at a time, in a buffer that stays in the first-level cache

// Distances from scalar products with one row, -1 where the product is not good enough; returns whether that occurs. Written
// without branches, so that it vectorizes.
template <class T>
bool cosine_block(const T* products, double own_inverse, const double* inverses, int64_t count, double* distances) {
  const double most = 1 / tiny(dtype_of<T>());
  int doubtful = 0;
  for (int64_t j = 0; j < count; ++j) {
    const double inverse = own_inverse * inverses[j];
    const double distance = std::min(2.0, 1 - static_cast<double>(products[j]) * inverse);
    const bool redo = (distance < kClose) | (inverse > most);
    distances[j] = redo ? -1 : distance;
    doubtful |= redo;
  }
  return doubtful != 0;
}

template <class T>
bool squared_block(const T* products, double own, const double* squared, int64_t count, double* distances) {
  int doubtful = 0;
  for (int64_t j = 0; j < count; ++j) {
    const double sum = own + squared[j];
    const double distance = sum - 2 * static_cast<double>(products[j]);
    const bool redo = (distance < kClose * sum) | (sum < tiny(dtype_of<T>()));
    distances[j] = redo ? -1 : distance;
    doubtful |= redo;
  }
  return doubtful != 0;
}

template <class T>
std::vector<double> squared_lengths_as(const Tensor& features) {
  const int64_t rows = features.dim(0), width = features.dim(1);
  std::vector<double> squared(static_cast<size_t>(rows));
  const T* x = features.data<T>();
  const std::vector<T> origin(static_cast<size_t>(width), T(0));
  parallel_for(rows, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) squared[static_cast<size_t>(i)] = squared_difference(x + i * width, 1, origin.data(), 1, width);
  });
  return squared;
}

void check_form(const Tensor& features, const std::string& what) {
  REID_CHECK(features.defined(), what, ": there are no features (an undefined tensor)");
  REID_CHECK(features.dtype() == DType::f32 || features.dtype() == DType::f64, what, ": features are ", features.dtype(),
             ", expected f32 or f64");
  REID_CHECK(features.device() == Device{}, what, ": features lie on ", features.device(),
             ", expected the CPU: move them with to(Device{})");
  REID_CHECK(features.shape().rank() == 2, what, ": features have shape ", features.shape(), ", expected [N, D]");
  REID_CHECK(features.dim(0) >= 1, what, ": there are no rows, shape ", features.shape());
  REID_CHECK(features.dim(1) >= 1, what, ": rows have no columns, shape ", features.shape());
}

// Checks and returns the squared lengths, which both need.
std::vector<double> checked_lengths(const Tensor& features, Metric metric, const std::string& what) {
  check_form(features, what);
  std::vector<double> squared = squared_lengths(features);
  const double limit = longest(features.dtype());
  for (size_t i = 0; i < squared.size(); ++i) {
    REID_CHECK(std::isfinite(squared[i]) || features.dtype() == DType::f64, what, ": row ", i, " holds NaN or infinity");
    REID_CHECK(!std::isnan(squared[i]), what, ": row ", i, " holds NaN");
    REID_CHECK(squared[i] <= limit * limit, what, ": row ", i, " is infinite or longer than ", limit, ": scale the features down");
    REID_CHECK(metric != Metric::cosine || squared[i] > 0, what, ": row ", i,
               " is all zeros and has no direction: remove it, or use the euclidean metric");
  }
  return squared;
}

}  // namespace

const char* name_of(Metric metric) {
  switch (metric) {
    case Metric::cosine: return "cosine";
    case Metric::euclidean: return "euclidean";
    case Metric::squared_euclidean: return "squared_euclidean";
  }
  return "?";
}

Metric parse_metric(std::string_view name) {
  for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
    if (name == name_of(metric)) return metric;
  }
  fail(str("unknown metric '", name, "': expected cosine, euclidean or squared_euclidean"));
}

void check_features(const Tensor& features, Metric metric, const std::string& what) { checked_lengths(features, metric, what); }

void check_labels(const std::vector<int64_t>& labels, const Tensor& features, const char* what) {
  REID_CHECK(static_cast<int64_t>(labels.size()) == features.dim(0), what, ": ", labels.size(), " entries for ", features.dim(0),
             " rows of features");
}

std::vector<double> squared_lengths(const Tensor& features) {
  return features.dtype() == DType::f32 ? squared_lengths_as<float>(features) : squared_lengths_as<double>(features);
}

std::vector<double> inverse_lengths(const std::vector<double>& squared) {
  std::vector<double> inverse;
  inverse.reserve(squared.size());
  for (double s : squared) inverse.push_back(1 / std::sqrt(s));
  return inverse;
}

DistanceTiles::DistanceTiles(const Tensor& a, const std::string& what_a, const Tensor& b, const std::string& what_b, Metric metric,
                             Device device)
    : a_(a),
      b_(b),
      metric_(metric),
      same_(false),
      squared_a_(checked_lengths(a, metric, what_a)),
      squared_b_(checked_lengths(b, metric, what_b)) {
  REID_CHECK(a.dtype() == b.dtype(), what_a, " is ", a.dtype(), " but ", what_b, " is ", b.dtype(), ": convert one of them");
  REID_CHECK(a.dim(1) == b.dim(1), what_a, " has ", a.dim(1), " columns but ", what_b, " has ", b.dim(1),
             ": they come from different models");
  there_a_ = a.to(device), there_b_ = b.to(device);
}

DistanceTiles::DistanceTiles(const Tensor& features, const std::string& what, Metric metric, Device device)
    : a_(features),
      b_(features),
      metric_(metric),
      same_(true),
      squared_a_(checked_lengths(features, metric, what)),
      squared_b_(squared_a_) {
  there_a_ = there_b_ = features.to(device);
}

DistanceTiles DistanceTiles::split_at(int64_t row) const {
  REID_CHECK(same_ && row > 0 && row < count(), "[distances] a set among itself is split at row ", row, " of ", count());
  DistanceTiles split = *this;
  split.same_ = false;
  split.a_ = a_.rows(0, row), split.there_a_ = there_a_.rows(0, row);
  split.b_ = a_.rows(row, count()), split.there_b_ = there_a_.rows(row, count());
  split.squared_a_.assign(squared_a_.begin(), squared_a_.begin() + row);
  split.squared_b_.assign(squared_a_.begin() + row, squared_a_.end());
  return split;
}

int64_t DistanceTiles::rows_per_block() const {
  constexpr int64_t kTileBytes = int64_t{64} << 20;
  return std::max<int64_t>(1, kTileBytes / (width() * size_of(dtype())));
}

template <class T>
double DistanceTiles::exact(int64_t i, int64_t j) const {
  const int64_t width = a_.dim(1);
  const T* a = a_.data<T>() + i * width;
  const T* b = b_.data<T>() + j * width;
  if (metric_ == Metric::cosine) {
    const double scale_a = 1 / std::sqrt(squared_a_[static_cast<size_t>(i)]), scale_b = 1 / std::sqrt(squared_b_[static_cast<size_t>(j)]);
    return std::min(2.0, squared_difference(a, scale_a, b, scale_b, width) / 2);
  }
  return squared_difference(a, 1, b, 1, width);
}

double DistanceTiles::pair(int64_t i, int64_t j) const {
  const double distance = dtype() == DType::f32 ? exact<float>(i, j) : exact<double>(i, j);
  return metric_ == Metric::euclidean ? std::sqrt(distance) : distance;
}

// Turns the scalar products in `tile` into distances, in place.
template <class T>
void DistanceTiles::combine(int64_t begin, const Tensor& tile) const {
  const int64_t columns = tile.dim(1);
  T* products = tile.data<T>();
  const bool cosine = metric_ == Metric::cosine;
  std::vector<double> inverse;
  for (double squared : squared_b_) {
    if (cosine) inverse.push_back(1 / std::sqrt(squared));
  }
  parallel_for(tile.dim(0), std::max<int64_t>(1, 16384 / columns), [&](int64_t first, int64_t last, int) {
    double distances[kColumns];
    for (int64_t r = first; r < last; ++r) {
      const double own = squared_a_[static_cast<size_t>(begin + r)];
      for (int64_t from = 0; from < columns; from += kColumns) {
        T* row = products + r * columns + from;
        const int64_t count = std::min(kColumns, columns - from);
        const bool doubtful = cosine ? cosine_block(row, 1 / std::sqrt(own), inverse.data() + from, count, distances)
                                     : squared_block(row, own, squared_b_.data() + from, count, distances);
        for (int64_t j = 0; doubtful && j < count; ++j) {
          if (distances[j] < 0) distances[j] = exact<T>(begin + r, from + j);
        }
        if (metric_ == Metric::euclidean) {
          for (int64_t j = 0; j < count; ++j) distances[j] = std::sqrt(distances[j]);
        }
        for (int64_t j = 0; j < count; ++j) row[j] = static_cast<T>(distances[j]);
      }
    }
  });
}

Tensor DistanceTiles::rows(int64_t begin, int64_t end) const {
  Tensor tile = ops::matmul(a_.rows(begin, end), b_, false, true);
  if (dtype() == DType::f32) {
    combine<float>(begin, tile);
  } else {
    combine<double>(begin, tile);
  }
  return tile;
}

Tensor pairwise_distance(const Tensor& a, const Tensor& b, Metric metric) {
  const DistanceTiles tiles(a, "[pairwise_distance] a", b, "[pairwise_distance] b", metric);
  return tiles.rows(0, tiles.count());
}

}  // namespace reid
