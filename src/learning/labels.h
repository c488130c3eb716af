#pragma once
// Labels of a batch as the ops take them.

#include <cstdint>
#include <vector>

#include "reid/engine/tensor.h"

namespace reid {

// i32 [B] on the device. Throws in the name of `op` unless each is among the classes 0..classes-1.
Tensor class_numbers(const char* op, const std::vector<int64_t>& labels, int64_t classes, Device device);

}  // namespace reid
