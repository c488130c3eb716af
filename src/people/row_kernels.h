#pragma once
// Inside the people wing: the loops over the entries of a row, compiled for the vectors of this machine.

#include <cstdint>

namespace reid {

// |scale_a a - scale_b b|^2 of one pair, all in double, from the differences: no cancellation however close the rows. The sum
// has a fixed order and the same bits on every machine; exchanging the rows changes none.
double squared_difference(const float* a, double scale_a, const float* b, double scale_b, int64_t width);
double squared_difference(const double* a, double scale_a, const double* b, double scale_b, int64_t width);

// y = scale x - center, in double, rounded once.
void center_row(const float* x, double scale, const double* center, float* y, int64_t width);
void center_row(const double* x, double scale, const double* center, float* y, int64_t width);

// Codes of y = scale (c - 128) + (scale / 254) (f - 128) + e, to the nearest. Needs every |y| / scale <= 127 (1 + 2^-20), |y| > 0.
struct CodeErrors {
  double coarse = 0, fine = 0;  // |y - scale (c - 128)| / |y| and |e| / |y|, to about 2^-45
};
CodeErrors code_row(const float* y, float scale, uint8_t* c, uint8_t* f, int64_t width);

// The sum of (a - 128) (b - 128); sum_b is that of b - 128. At most 65,536 codes.
int32_t code_dot(const uint8_t* a, const uint8_t* b, int32_t sum_b, int64_t width);

}  // namespace reid
