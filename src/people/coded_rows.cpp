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
      fine_(Tensor::empty({rows, width}, DType::u8)),
      scales_(static_cast<size_t>(rows)),
      sums_(static_cast<size_t>(rows)),
      fine_sums_(static_cast<size_t>(rows)) {}

void CodedRows::set(int64_t begin, const Tensor& y) {
  const float* rows = y.data<float>();
  std::vector<CodeErrors> errors(static_cast<size_t>(y.dim(0)));
  parallel_for(y.dim(0), 16, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      const float* row = rows + r * width_;
      uint8_t* codes = codes_.data<uint8_t>() + (begin + r) * width_;
      uint8_t* fine = fine_.data<uint8_t>() + (begin + r) * width_;
      float most = 0;
      for (int64_t k = 0; k < width_; ++k) most = std::max(most, std::fabs(row[k]));
      const size_t i = static_cast<size_t>(begin + r);
      scales_[i] = most / 127;
      if (scales_[i] > 0x1p-100f) {  // 254 / scale is finite, and nothing underflows
        errors[static_cast<size_t>(r)] = code_row(row, scales_[i], codes, fine, width_);
      } else {
        std::fill_n(codes, width_, uint8_t{128});
        std::fill_n(fine, width_, uint8_t{128});
        errors[static_cast<size_t>(r)] = {most > 0 ? 1.0 : 0.0, most > 0 ? 1.0 : 0.0};
      }
      int32_t sum = 0, fine_sum = 0;
      for (int64_t k = 0; k < width_; ++k) sum += codes[k] - 128, fine_sum += fine[k] - 128;
      sums_[i] = sum;
      fine_sums_[i] = fine_sum;
    }
  });
  for (const CodeErrors& e : errors) {  // 2^-40 is above the rounding of the sums
    error_ = std::max(error_, e.coarse * (1 + 0x1p-40));
    fine_error_ = std::max(fine_error_, e.fine * (1 + 0x1p-40));
  }
}

double CodedRows::product(const CodedRows& a, int64_t i, const CodedRows& b, int64_t j) {
  const size_t at = static_cast<size_t>(i), to = static_cast<size_t>(j);
  const int64_t width = a.width_;
  const double coarse = static_cast<double>(code_dot(a.row(i), b.row(j), b.sums_[to], width));
  const double mixed = static_cast<double>(code_dot(a.row(i), b.fine(j), b.fine_sums_[to], width)) +
                       static_cast<double>(code_dot(a.fine(i), b.row(j), b.sums_[to], width));
  const double fine = static_cast<double>(code_dot(a.fine(i), b.fine(j), b.fine_sums_[to], width));
  return static_cast<double>(a.scales_[at]) * static_cast<double>(b.scales_[to]) * (coarse + mixed / 254 + fine / (254 * 254));
}

}  // namespace reid
