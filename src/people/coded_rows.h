#pragma once
// Inside the people wing: rows of f32 as 16-bit codes, for products that are twice as fast and nearly as exact.
//
//   y = s c + e,   s the smallest scale with which sums of products of kCodeBlock codes fit 32 bits (engine: CodeProductsArgs)
//
// |e| / |y| is measured, not estimated: about 5e-5 for rows of normal entries, more where a few entries dominate.

#include <vector>

#include "reid/engine/tensor.h"

namespace reid {

class CodedRows {
 public:
  CodedRows() = default;
  CodedRows(int64_t rows, int64_t width);
  void set(int64_t begin, const Tensor& y);  // rows [begin, begin + n) from y [n, D] f32

  const int16_t* row(int64_t i) const { return codes_.data<int16_t>() + i * width_; }
  const float* scales(int64_t i) const { return scales_.data() + i; }  // from row i on
  double error() const { return error_; }                              // the largest |e| / |y|, rounded up; 0 for rows of zeros
  static int64_t bytes(int64_t rows, int64_t width) { return rows * (2 * width + 4); }

 private:
  int64_t width_ = 0;
  Tensor codes_;
  std::vector<float> scales_;
  double error_ = 0;
};

}  // namespace reid
