#include "people/coded_rows.h"

#include <algorithm>
#include <cmath>

#include "people/row_kernels.h"
#include "reid/engine/registry.h"

namespace reid {

namespace {

// Rounding lengthens a block of 64 codes by at most 4: 46334^2 is below 2^31.
constexpr double kLongestBlock = 46330, kLargestCode = 32765;
static_assert(kCodeBlock == 64);

}  // namespace

CodedRows::CodedRows(int64_t rows, int64_t width)
    : width_(width), codes_(Tensor::empty({rows, width}, DType::i16)), scales_(static_cast<size_t>(rows)) {}

void CodedRows::set(int64_t begin, const Tensor& y) {
  const float* rows = y.data<float>();
  std::vector<double> errors(static_cast<size_t>(y.dim(0)));
  parallel_for(y.dim(0), 16, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      const float* row = rows + r * width_;
      int16_t* codes = codes_.data<int16_t>() + (begin + r) * width_;
      const RowReach reach = row_reach(row, width_, kCodeBlock);
      float& scale = scales_[static_cast<size_t>(begin + r)];
      scale = static_cast<float>(std::max(std::sqrt(reach.squares) / kLongestBlock, reach.entry / kLargestCode));
      if (scale > 0x1p-60f) {  // no square underflows
        errors[static_cast<size_t>(r)] = code_row(row, scale, codes, width_);
      } else {
        std::fill_n(codes, width_, int16_t{0});
        errors[static_cast<size_t>(r)] = reach.squares > 0 ? 1 : 0;
      }
    }
  });
  for (double e : errors) error_ = std::max(error_, e * (1 + 0x1p-40));  // above the rounding of the sums
}

}  // namespace reid
