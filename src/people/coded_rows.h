#pragma once
// Inside the people wing: rows of f32 as 8-bit codes, for products that are four times as fast and known to be wrong by little.
//
//   y = s (c - 128) + (s / 254) (f - 128) + e,   s = max |y| / 127 of the row, codes c and f in 1..255
//
// The coarse codes c serve tiles of products; those pairs that they leave open are decided by the fine codes f, 254 times as exact, at
// a tenth of the cost of a distance in double. |e|, and what c alone leaves out, are measured, not estimated.

#include <vector>

#include "reid/engine/tensor.h"

namespace reid {

bool fast_codes(int64_t width);  // whether this CPU multiplies rows of so many codes faster than rows of f32

class CodedRows {
 public:
  CodedRows() = default;
  CodedRows(int64_t rows, int64_t width);
  void set(int64_t begin, const Tensor& y);  // rows [begin, begin + n) from y [n, D] f32

  const uint8_t* row(int64_t i) const { return codes_.data<uint8_t>() + i * width_; }  // coarse
  const float* scales() const { return scales_.data(); }
  float scale(int64_t i) const { return scales_[static_cast<size_t>(i)]; }
  // The largest |y - y'| / |y|, rounded up, with y' from the coarse codes or from both; 0 for rows of zeros.
  double error() const { return error_; }
  double fine_error() const { return fine_error_; }
  // The product of two rows from both codes, but for the rounding of a sum in double.
  static double product(const CodedRows& a, int64_t i, const CodedRows& b, int64_t j);
  static int64_t bytes(int64_t rows, int64_t width) { return rows * (2 * width + 12); }

 private:
  const uint8_t* fine(int64_t i) const { return fine_.data<uint8_t>() + i * width_; }

  int64_t width_ = 0;
  Tensor codes_, fine_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_, fine_sums_;  // of c - 128 and f - 128
  double error_ = 0, fine_error_ = 0;
};

}  // namespace reid
