#include "reid/learning/state.h"

namespace reid {

void State::place(const std::string& name, Tensor& t) {
  if (!reading_) {
    content_.add(name, t.clone());
    return;
  }
  const Tensor& stored = content_.at(name);
  REID_CHECK(stored.shape() == t.shape() && stored.dtype() == t.dtype(), content_.source, ": ", name, " is ", stored.shape(), " ",
             stored.dtype(), ", this run has ", t.shape(), " ", t.dtype());
  t.copy_from(stored);
}

void State::tensor(const std::string& name, Tensor& t) {
  if (reading_) {
    const Tensor* stored = content_.find(name);
    t = stored ? stored->clone() : Tensor();
  } else if (t.defined()) {
    content_.add(name, t.clone());
  }
}

void State::integers(const std::string& name, std::vector<int64_t>& values) {
  if (reading_) {
    const Tensor& stored = content_.at(name);
    values.assign(stored.data<int64_t>(), stored.data<int64_t>() + stored.numel());
  } else {
    content_.add(name, Tensor::from(values));
  }
}

void State::integer(const std::string& name, int64_t& value) {
  std::vector<int64_t> one = {value};
  integers(name, one);
  REID_CHECK(one.size() == 1, content_.source, ": ", name, " holds ", one.size(), " values instead of one");
  value = one.front();
}

}  // namespace reid
