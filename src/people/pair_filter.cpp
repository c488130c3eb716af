// Blocks of prepared rows and their products.

#include "people/pair_filter.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "people/coded_rows.h"
#include "people/row_kernels.h"
#include "reid/engine/registry.h"

namespace reid {

namespace {

// A pair by its fine codes costs as much as about three products of f32: with more than one in 8 of them coarse products hardly pay.
constexpr int64_t kMostUndecided = 8;

constexpr int64_t kMostWidth = int64_t{1} << 20;  // where the bound of the header is still below 1/8

// Tiles are tall: preparing and packing a row of b costs as much as multiplying it by some 30 rows of a, and the other way
// round. A set among itself wastes half of the tiles on the diagonal, which are as wide as the strip of columns.
struct TileSize {
  TileSize(int64_t rows_a, int64_t rows_b, bool same) {
    constexpr int64_t kTask = 224;  // rows of a task of the CPU's matrix product
    columns = std::min(rows_b, same ? std::clamp<int64_t>(rows_b / 16 / kTask * kTask, 2 * kTask, 5 * kTask) : 9 * kTask);
    rows = std::min(rows_a, same ? 4 * columns : 9 * kTask);
  }
  int64_t rows, columns;
};

std::vector<double> inverse_lengths(const std::vector<double>& squared) {
  std::vector<double> inverse;
  inverse.reserve(squared.size());
  for (double s : squared) inverse.push_back(1 / std::sqrt(s));
  return inverse;
}

// The mean of at most 4096 rows: any center is right, a near one makes the bounds narrow.
template <class T>
std::vector<double> center_of(const Tensor& features, double scale, const std::vector<double>& scales) {
  const int64_t rows = features.dim(0), width = features.dim(1), step = (rows + 4095) / 4096, count = (rows + step - 1) / step;
  std::vector<double> center(static_cast<size_t>(width), 0);
  parallel_for(width, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < rows; i += step) {
      const T* x = features.data<T>() + i * width;
      const double s = scales.empty() ? scale : scales[static_cast<size_t>(i)];
      for (int64_t k = begin; k < end; ++k) center[static_cast<size_t>(k)] += static_cast<double>(x[k]) * s / static_cast<double>(count);
    }
  });
  return center;
}

}  // namespace

float to_float(double value) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMost, kMost));
}

PairFilter::PairFilter(const DistanceTiles& pairs) : pairs_(pairs) {
  const int64_t width = pairs.a().dim(1);
  REID_CHECK(width <= kMostWidth, "[neighbors] rows have ", width, " columns, expected at most ", kMostWidth);
  const double roundings = static_cast<double>(width + 16);
  margin_ = roundings * 0x1p-24 / (1 - roundings * 0x1p-24);
  absolute_ = 0x1p22 * (roundings * 0x1p-52) * (roundings * 0x1p-52) + 0x1p-74;
  if (pairs.metric() == Metric::cosine) {
    scale_a_ = inverse_lengths(pairs.squared_a());
    if (!same()) scale_b_ = inverse_lengths(pairs.squared_b());
  } else {
    const double longest = std::max(*std::max_element(pairs.squared_a().begin(), pairs.squared_a().end()),
                                    *std::max_element(pairs.squared_b().begin(), pairs.squared_b().end()));
    if (longest > 0) scale_ = std::ldexp(1.0, -std::ilogb(std::sqrt(longest)) - 1);
  }
  const std::vector<double>& scales = same() ? scale_a_ : scale_b_;
  center_ = pairs.dtype() == DType::f32 ? center_of<float>(pairs.b(), scale_, scales) : center_of<double>(pairs.b(), scale_, scales);
  half_a_ = half_lengths(false);
  if (!same()) half_b_ = half_lengths(true);
}

double PairFilter::half_square(double distance) const {
  switch (pairs_.metric()) {
    case Metric::cosine: return distance;
    case Metric::euclidean: return (distance * scale_) * (distance * scale_) / 2;
    case Metric::squared_euclidean: return distance * scale_ * scale_ / 2;
  }
  return 0;
}

void PairFilter::prepare(bool b, int64_t begin, int64_t end, const Tensor& block) const {
  const Tensor& x = b ? pairs_.b() : pairs_.a();
  const std::vector<double>& scales = b && !same() ? scale_b_ : scale_a_;
  const int64_t width = x.dim(1);
  float* out = block.data<float>();
  parallel_for(end - begin, 16, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t i = begin + r;
      const double scale = scales.empty() ? scale_ : scales[static_cast<size_t>(i)];
      if (x.dtype() == DType::f32) {
        center_row(x.data<float>() + i * width, scale, center_.data(), out + r * width, width);
      } else {
        center_row(x.data<double>() + i * width, scale, center_.data(), out + r * width, width);
      }
    }
  });
}

std::vector<double> PairFilter::half_lengths(bool b) const {
  const int64_t rows = b ? pairs_.width() : pairs_.count(), width = pairs_.a().dim(1), step = std::min<int64_t>(rows, 1024);
  const Tensor block = Tensor::empty({step, width}, DType::f32);
  std::vector<double> half;
  half.reserve(static_cast<size_t>(rows));
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t end = std::min(begin + step, rows);
    prepare(b, begin, end, block);
    for (double squared : squared_lengths(block.rows(0, end - begin))) half.push_back(squared / 2);
  }
  return half;
}

// Products of f32: blocks of prepared rows, that of b kept while the column stays.
class PairFilter::PlainProducts {
 public:
  explicit PlainProducts(const PairFilter& filter) : filter_(filter) {}

  ProductTile tile(const TileSize& size, int64_t row, int64_t m, int64_t column, int64_t n, bool mirrored) {
    const int64_t width = filter_.pairs_.a().dim(1);
    if (!products_.defined()) {
      a_ = Tensor::empty({size.rows, width}, DType::f32);
      b_ = Tensor::empty({size.columns, width}, DType::f32);
      products_ = Tensor::empty({size.rows, size.columns}, DType::f32);
    }
    if (column != column_) filter_.prepare(true, column, column + n, b_);
    column_ = column;
    const bool diagonal = filter_.same() && !mirrored;
    if (!diagonal) filter_.prepare(false, row, row + m, a_);
    dispatch<Gemm>(Device{}, {.a = diagonal ? b_.raw() : a_.raw(),
                              .b = b_.raw(),
                              .c = products_.raw(),
                              .m = m,
                              .n = n,
                              .k = width,
                              .transpose_b = true,
                              .dtype = DType::f32});
    return {filter_.margin_, row, m, column, n, products_.data<float>(), mirrored};
  }

 private:
  const PairFilter& filter_;
  Tensor a_, b_, products_;
  int64_t column_ = -1;
};

// Products of codes: all rows are coded once, at half of the features' size in f32.
class PairFilter::CodedProducts {
 public:
  explicit CodedProducts(const PairFilter& filter) : filter_(filter) {
    const int64_t width = filter.pairs_.a().dim(1);
    if (!fast_codes(width)) return;
    coded(false, a_);
    if (!filter.same()) coded(true, b_);
    // With |e| <= r |y|: |y_i . y_j - y'_i . y'_j| <= |y_i| |e_j| + |e_i| (|y_j| + |e_j|) <= (2 r + r^2) |y_i| |y_j| <= (2 r + r^2) (h_i +
    // h_j). 2^-20 is above the rounding of the product of a sum and two scales, (1 + r)^2 4 u.
    const double r = std::max(a_.error(), b().error());
    margin_ = filter.margin_ + (2 + r) * r + 0x1p-20;
    useful_ = r < 1.0 / 32;
    fine_.emplace(filter, a_, b());
  }

  bool useful() const { return useful_; }

  ProductTile tile(const TileSize& size, int64_t row, int64_t m, int64_t column, int64_t n, bool mirrored) {
    if (!products_.defined()) {
      sums_ = Tensor::empty({size.rows, size.columns}, DType::i32);
      products_ = Tensor::empty({size.rows, size.columns}, DType::f32);
    }
    dispatch<CodeProducts>(Device{},
                           {.a = a_.row(row), .b = b().row(column), .c = sums_.raw(), .m = m, .n = n, .k = filter_.pairs_.a().dim(1)});
    const int32_t* sums = sums_.data<int32_t>();
    float* products = products_.data<float>();
    parallel_for(m, 16, [&](int64_t first, int64_t last, int) {
      for (int64_t r = first; r < last; ++r) {
        const float own = a_.scale(row + r);
        const float* scales = b().scales() + column;
        for (int64_t j = 0; j < n; ++j) products[r * n + j] = static_cast<float>(sums[r * n + j]) * (own * scales[j]);
      }
    });
    return {margin_, row, m, column, n, products, mirrored, &*fine_};
  }

 private:
  const CodedRows& b() const { return filter_.same() ? a_ : b_; }

  void coded(bool b, CodedRows& rows) const {
    const int64_t count = b ? filter_.pairs_.width() : filter_.pairs_.count(), width = filter_.pairs_.a().dim(1);
    const int64_t step = std::min<int64_t>(count, 1024);
    const Tensor block = Tensor::empty({step, width}, DType::f32);
    rows = CodedRows(count, width);
    for (int64_t begin = 0; begin < count; begin += step) {
      const int64_t end = std::min(begin + step, count);
      filter_.prepare(b, begin, end, block);
      rows.set(begin, block.rows(0, end - begin));
    }
  }

  const PairFilter& filter_;
  CodedRows a_, b_;
  std::optional<FinePairs> fine_;
  double margin_ = 0;
  bool useful_ = false;
  Tensor sums_, products_;
};

// As for coarse codes, with the error of both; 2^-40 is above the rounding of the sums.
FinePairs::FinePairs(const PairFilter& filter, const CodedRows& a, const CodedRows& b) : filter_(filter), a_(a), b_(b) {
  const double r = std::max(a.fine_error(), b.fine_error());
  margin_ = filter.margin() + (2 + r) * r + 0x1p-40;
}

FinePairs::Range FinePairs::range(int64_t i, int64_t j) const {
  const double product = CodedRows::product(a_, i, b_, j);
  return {filter_.lower(i, j, product, margin_), filter_.upper(i, j, product, margin_)};
}

// Calls tile(size, row, rows, column, columns, mirrored) for all of them.
template <class Tile>
void PairFilter::walk(const Progress& progress, Tile&& tile) const {
  const int64_t rows = pairs_.count(), columns = pairs_.width();
  const TileSize size(rows, columns, same());
  initialize();
  for (int64_t column = 0; column < columns; column += size.columns) {
    const int64_t n = std::min(size.columns, columns - column);
    const int64_t above = same() ? column : rows;  // rows that come before the diagonal
    for (int64_t row = 0; row < above; row += size.rows) tile(size, row, std::min(size.rows, above - row), column, n, same());
    if (same()) tile(size, column, n, column, n, false);
    const double share = static_cast<double>(column + n) / static_cast<double>(columns);
    if (progress) progress(same() ? share * share : share);
  }
}

void PairFilter::for_each(const Progress& progress, FunctionRef<void(const ProductTile&)> use) const {
  PlainProducts plain(*this);
  walk(progress, [&](const auto&... where) { use(plain.tile(where...)); });
}

void PairFilter::for_each_coarse(const Progress& progress, FunctionRef<int64_t(const ProductTile&)> use) const {
  PlainProducts plain(*this);
  std::optional<CodedProducts> coded(std::in_place, *this);
  if (!coded->useful()) coded.reset();
  walk(progress, [&](const auto&... where) {
    const ProductTile tile = coded ? coded->tile(where...) : plain.tile(where...);
    const int64_t undecided = use(tile);
    if (coded && undecided * kMostUndecided > tile.rows * tile.columns) coded.reset();
  });
}

int64_t PairFilter::bytes(int64_t rows_a, int64_t rows_b, int64_t width, bool same, bool coarse) {
  const TileSize size(rows_a, rows_b, same);
  // The matrix product's copy of b and, for two threads, of a task's rows of a.
  const int64_t packed = (size.columns + 32) * width + 2 * 224 * 272;
  const int64_t lengths = (rows_a + (same ? 0 : rows_b)) * 4 * int64_t{8};  // squared lengths, scales, h, edges and bars
  // Rows of codes with their scales, and a tile of sums in 32 bits.
  const int64_t codes =
      coarse && fast_codes(width) ? CodedRows::bytes(rows_a + (same ? 0 : rows_b), width) + 4 * size.rows * size.columns : 0;
  return 4 * ((size.rows + size.columns) * width + size.rows * size.columns + packed) + lengths + codes;
}

int64_t PairFilter::tile_pairs(int64_t rows_a, int64_t rows_b, bool same) {
  const TileSize size(rows_a, rows_b, same);
  return size.rows * size.columns;
}

}  // namespace reid
