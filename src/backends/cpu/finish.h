#pragma once
// A norm applied to what a convolution has just written, while it is in cache: the same values as norm_apply's, without its way to memory.

#include <cstdint>
#include <vector>

#include "reid/engine/op_args.h"

namespace reid::cpu {

class Finish {
 public:
  explicit Finish(const NormApplyArgs& norm);  // of one group; x is y
  // Rows [row, row + rows) of [.., channels], of their channels [column, column + columns) those the norm is for.
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns) const;

 private:
  const NormApplyArgs& norm_;
  std::vector<float> scale_;  // gamma / sqrt(variance + eps)
};

}  // namespace reid::cpu
