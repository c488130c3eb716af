#include "people/coded_rows.h"

#include <algorithm>
#include <cmath>

#include "people/row_kernels.h"
#include "reid/engine/ops.h"
#include "reid/engine/registry.h"

namespace reid {

bool fast_codes(int64_t width) { return width <= kMostCodes && ops::fast_code_products(); }

CodedRows::CodedRows(int64_t rows, int64_t width)
    : width_(width),
      codes_(Tensor::empty({rows, width}, DType::u8)),
      scales_(static_cast<size_t>(rows)),
      errors_(static_cast<size_t>(rows)) {}

void CodedRows::set(int64_t begin, const Tensor& y) {
  uint8_t* codes = codes_.data<uint8_t>() + begin * width_;
  const float* rows = y.data<float>();
  parallel_for(y.dim(0), 16, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      const float* row = rows + r * width_;
      float most = 0;
      for (int64_t k = 0; k < width_; ++k) most = std::max(most, std::fabs(row[k]));
      const size_t i = static_cast<size_t>(begin + r);
      scales_[i] = most / 127;
      if (scales_[i] > 0x1p-100f) {  // 1 / scale is finite, and nothing underflows
        errors_[i] = code_row(row, scales_[i], codes + r * width_, width_);
      } else {
        std::fill_n(codes + r * width_, width_, uint8_t{128});
        errors_[i] = most > 0 ? 1 : 0;
      }
    }
  });
}

// 2^-40 is above the rounding of the sums.
double CodedRows::error() const { return errors_.empty() ? 0 : *std::max_element(errors_.begin(), errors_.end()) * (1 + 0x1p-40); }

}  // namespace reid
