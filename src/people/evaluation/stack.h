#pragma once
// Inside the people wing: whole sets of rows made from others.

#include "reid/engine/tensor.h"

namespace reid {

Tensor stacked(const Tensor& a, const Tensor& b);  // the rows of a, then those of b; same width and dtype
void scale_to_unit(const Tensor& rows);            // divides each row by its length, in double; no row of zeros

}  // namespace reid
