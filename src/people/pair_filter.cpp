// Blocks of prepared rows and their products.

#include "people/pair_filter.h"

#include <algorithm>
#include <limits>

#include "people/row_kernels.h"
#include "reid/engine/op_args_pairs.h"
#include "reid/engine/ops.h"
#include "reid/engine/registry.h"

namespace reid {

namespace {

// Codes with a larger error (a few entries dominate the rows) leave more pairs open than their speed is worth.
constexpr double kMostError = 1.0 / 4096;

constexpr int64_t kPrepared = 1024;  // rows at a time, for their lengths and codes

constexpr int64_t kMostWidth = int64_t{1} << 20;  // where the bound of the header is still below 1/8

// Tiles are tall: preparing and packing a row of b costs as much as multiplying it by some 30 rows of a, and the other way
// round. A set among itself wastes half of the tiles on the diagonal, which are as wide as the strip of columns. On an accelerator a tile
// of 256 MB fills every multiprocessor a hundred times.
struct TileSize {
  TileSize(int64_t rows_a, int64_t rows_b, bool same, Device device = {}) {
    if (device != Device{}) {
      rows = std::min(rows_a, accelerator_tile), columns = std::min(rows_b, accelerator_tile);
      return;
    }
    constexpr int64_t kTask = 224;  // rows of a task of the CPU's matrix product
    columns = std::min(rows_b, same ? std::clamp<int64_t>(rows_b / 16 / kTask * kTask, 2 * kTask, 5 * kTask) : 9 * kTask);
    rows = std::min(rows_a, same ? 4 * columns : 9 * kTask);
  }
  int64_t rows, columns;
};

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
  if (device() != Device{}) {
    const double cuts = (1.15 * static_cast<double>(width) + 32) * 0x1p-23;
    margin_ = 3.03 * 0x1p-16 + cuts / (1 - cuts);
    half_a_ = split_there(false, parts_a_);
    if (!same()) half_b_ = split_there(true, parts_b_);
    return;
  }
  const bool fast = ops::fast_code_products();
  half_a_ = half_lengths(false, fast ? &codes_a_ : nullptr);
  if (!same()) half_b_ = half_lengths(true, fast ? &codes_b_ : nullptr);
  const double r = std::max(codes_a_.error(), codes_b_.error());
  coded_ = fast && r < kMostError;
  if (coded_) {
    const double few = static_cast<double>(width / kCodeBlock + 24) * 0x1p-24;
    margin_ = (2 + r) * r + few / (1 - few);
  } else {
    codes_a_ = codes_b_ = {};
  }
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

std::vector<double> PairFilter::half_lengths(bool b, CodedRows* codes) const {
  const int64_t rows = b ? pairs_.width() : pairs_.count(), width = pairs_.a().dim(1), step = std::min(rows, kPrepared);
  const Tensor block = Tensor::empty({step, width}, DType::f32);
  if (codes) *codes = CodedRows(rows, width);
  std::vector<double> half;
  half.reserve(static_cast<size_t>(rows));
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t end = std::min(begin + step, rows);
    prepare(b, begin, end, block);
    for (double squared : squared_lengths(block.rows(0, end - begin))) half.push_back(squared / 2);
    if (codes) codes->set(begin, block.rows(0, end - begin));
  }
  return half;
}

std::vector<double> PairFilter::split_there(bool b, Parts& parts) const {
  const Tensor& x = b ? pairs_.there_b() : pairs_.there_a();
  const int64_t rows = x.dim(0), width = x.dim(1);
  const std::vector<double>& own = b ? scale_b_ : scale_a_;
  const Tensor scale = Tensor::from(own.empty() ? std::vector<double>(static_cast<size_t>(rows), scale_) : own).to(device());
  const Tensor center = Tensor::from(center_).to(device()), half = Tensor::empty({rows}, DType::f64, device());
  parts = {Tensor::empty({rows, width}, DType::bf16, device()), Tensor::empty({rows, width}, DType::bf16, device())};
  dispatch<CenterRows>(device(), {.x = x.raw(),
                                  .scale = scale.raw(),
                                  .center = center.raw(),
                                  .high = parts.high.raw(),
                                  .low = parts.low.raw(),
                                  .half = half.raw(),
                                  .rows = rows,
                                  .columns = width,
                                  .dtype = x.dtype()});
  const Tensor here = half.to(Device{});
  return {here.data<double>(), here.data<double>() + rows};
}

std::vector<float> PairFilter::edges(double weight) const {
  std::vector<float> edges;
  for (double h : half_b()) edges.push_back(to_float(weight * h));
  return edges;
}

// The tiles' memory. Without codes also the blocks of prepared rows, that of b kept while the column stays.
class PairFilter::Products {
 public:
  Products(const PairFilter& filter, const TileSize& size)
      : filter_(filter),
        width_(filter.pairs_.a().dim(1)),
        products_(Tensor::empty({size.rows, size.columns}, DType::f32, filter.device())) {
    if (filter.coded_ || filter.device() != Device{}) return;
    a_ = Tensor::empty({size.rows, width_}, DType::f32);
    b_ = Tensor::empty({size.columns, width_}, DType::f32);
  }

  ProductTile tile(int64_t row, int64_t m, int64_t column, int64_t n, bool mirrored) {
    if (filter_.device() != Device{}) {
      const Parts &a = filter_.parts_a_, &b = filter_.same() ? a : filter_.parts_b_;
      const auto product = [&](const Tensor& left, const Tensor& right, bool accumulate) {
        multiply(left.rows(row, row + m), right.rows(column, column + n), accumulate);
      };
      product(a.high, b.high, false);
      product(a.high, b.low, true);
      product(a.low, b.high, true);
    } else if (filter_.coded_) {
      multiply_codes(row, m, column, n);
    } else {
      prepare_and_multiply(row, m, column, n, filter_.same() && !mirrored);
    }
    return {row, m, column, n, products_.address<float>(), mirrored};
  }

 private:
  void multiply_codes(int64_t row, int64_t m, int64_t column, int64_t n) {
    const CodedRows &a = filter_.codes_a_, &b = filter_.same() ? a : filter_.codes_b_;
    dispatch<CodeProducts>(Device{}, {.a = a.row(row),
                                      .b = b.row(column),
                                      .scale_a = a.scales(row),
                                      .scale_b = b.scales(column),
                                      .c = products_.data<float>(),
                                      .m = m,
                                      .n = n,
                                      .k = width_});
  }

  void prepare_and_multiply(int64_t row, int64_t m, int64_t column, int64_t n, bool diagonal) {
    if (column != column_) filter_.prepare(true, column, column + n, b_);
    column_ = column;
    if (!diagonal) filter_.prepare(false, row, row + m, a_);
    multiply(diagonal ? b_.rows(0, n) : a_.rows(0, m), b_.rows(0, n), false);
  }

  void multiply(const Tensor& a, const Tensor& b, bool accumulate) {
    dispatch<Gemm>(filter_.device(), {.a = a.raw(),
                                      .b = b.raw(),
                                      .c = products_.raw(),
                                      .m = a.dim(0),
                                      .n = b.dim(0),
                                      .k = width_,
                                      .transpose_b = true,
                                      .accumulate = accumulate,
                                      .dtype = a.dtype()});
  }

  const PairFilter& filter_;
  int64_t width_, column_ = -1;
  Tensor a_, b_, products_;
};

void PairFilter::for_each(const Progress& progress, FunctionRef<void(const ProductTile&)> use, bool whole) const {
  const int64_t rows = pairs_.count(), columns = pairs_.width();
  const bool half = same() && !whole;
  const TileSize size(rows, columns, same(), device());
  initialize();
  Products products(*this, size);
  for (int64_t column = 0; column < columns; column += size.columns) {
    const int64_t n = std::min(size.columns, columns - column);
    const int64_t above = half ? column : rows;  // rows that come before the diagonal
    for (int64_t row = 0; row < above; row += size.rows) use(products.tile(row, std::min(size.rows, above - row), column, n, half));
    if (half) use(products.tile(column, n, column, n, false));
    const double share = static_cast<double>(column + n) / static_cast<double>(columns);
    if (progress) progress(half ? share * share : share);
  }
}

int64_t PairFilter::bytes(int64_t rows_a, int64_t rows_b, int64_t width, bool same) {
  const TileSize size(rows_a, rows_b, same);
  const int64_t lengths = (rows_a + (same ? 0 : rows_b)) * 4 * int64_t{8};  // squared lengths, scales, h, edges and bars
  const int64_t tile = 4 * size.rows * size.columns;
  // The matrix product's copy of b and, for two threads, of a task's rows of a.
  const int64_t plain = 4 * ((size.rows + size.columns) * width + (size.columns + 32) * width + 2 * 224 * 272);
  if (!ops::fast_code_products()) return lengths + tile + plain;
  // The codes, while they are made a block of prepared rows, and the product's copies; they give way to f32 where they are of no use.
  const int64_t all = rows_a + (same ? 0 : rows_b);
  const int64_t codes =
      CodedRows::bytes(all, width) + 4 * std::min(all, kPrepared) * width + 2 * (size.columns + 32) * (width + 512) + 4 * 224 * 512;
  return lengths + tile + std::max(codes, plain);
}

int64_t PairFilter::tile_pairs(int64_t rows_a, int64_t rows_b, bool same) {
  const TileSize size(rows_a, rows_b, same);
  return size.rows * size.columns;
}

}  // namespace reid
