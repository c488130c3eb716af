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

// The largest sum of squares of `block` entries of a row, to about 2^-45, and the largest magnitude of one, to 2^-24 where its square is
// a normal float.
struct RowReach {
  double squares = 0, entry = 0;
};
RowReach row_reach(const float* y, int64_t width, int64_t block);

// Codes of y = scale c + e, to the nearest; |e| / |y|, to about 2^-45. Needs every |y| / scale <= 32767 and |y| > 0.
double code_row(const float* y, float scale, int16_t* c, int64_t width);

}  // namespace reid
