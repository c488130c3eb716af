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

// Codes c of y = scale (c - 128) + e, to the nearest; returns |e| / |y|, to about 2^-45. Needs |y| / scale <= 127 (1 + 2^-20) and |y| > 0.
double code_row(const float* y, float scale, uint8_t* codes, int64_t width);

}  // namespace reid
