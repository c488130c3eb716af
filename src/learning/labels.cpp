#include "labels.h"

#include <limits>

namespace reid {

Tensor class_numbers(const char* op, const std::vector<int64_t>& labels, int64_t classes, Device device) {
  REID_CHECK(classes <= std::numeric_limits<int32_t>::max(), "[", op, "] ", classes, " classes are too many to number in 32 bits");
  std::vector<int32_t> numbers;
  for (const int64_t label : labels) {
    REID_CHECK(label >= 0 && label < classes, "[", op, "] label ", label, " of row ", numbers.size(), " is outside 0..", classes - 1);
    numbers.push_back(static_cast<int32_t>(label));
  }
  return Tensor::from(numbers, {std::ssize(numbers)}, device);
}

}  // namespace reid
