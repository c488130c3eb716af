#pragma once
// Inside the people wing: rows of f32 as 8-bit codes, for products that are four times as fast and known to be wrong by little.
//
// y = s (c - 128) + e with s = max |y| / 127 of the row and codes c in 1..255; |e| is measured, not estimated.

#include <vector>

#include "reid/engine/tensor.h"

namespace reid {

bool fast_codes(int64_t width);  // whether this CPU multiplies rows of so many codes faster than rows of f32

class CodedRows {
 public:
  CodedRows() = default;
  CodedRows(int64_t rows, int64_t width);
  void set(int64_t begin, const Tensor& y);  // rows [begin, begin + n) from y [n, D] f32

  const uint8_t* row(int64_t i) const { return codes_.data<uint8_t>() + i * width_; }
  const float* scales() const { return scales_.data(); }
  float scale(int64_t i) const { return scales_[static_cast<size_t>(i)]; }
  double error() const;  // the largest |e| / |y|, rounded up; 0 for rows of zeros

 private:
  int64_t width_ = 0;
  Tensor codes_;
  std::vector<float> scales_;
  std::vector<double> errors_;
};

}  // namespace reid
