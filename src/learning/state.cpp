#include "reid/learning/state.h"

namespace reid {

namespace {

// Never the tensor itself, which the next step changes.
Tensor host_copy(const Tensor& t) { return t.device() == Device{} ? t.clone() : t.to(Device{}); }

}  // namespace

void State::place(const std::string& name, Tensor& t) {
  if (!reading_) {
    content_.add(name, host_copy(t));
    return;
  }
  const Tensor& stored = content_.at(name);
  REID_CHECK(stored.shape() == t.shape() && stored.dtype() == t.dtype(), content_.source, ": ", name, " is ", stored.shape(), " ",
             stored.dtype(), ", this run has ", t.shape(), " ", t.dtype());
  t.copy_from(stored);
}

void State::tensor(const std::string& name, Tensor& t, Device device) {
  if (reading_) {
    const Tensor* stored = content_.find(name);
    t = stored ? stored->clone().to(device) : Tensor();
  } else if (t.defined()) {
    content_.add(name, host_copy(t));
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

// Rows (batch, sample, label, camera, kind).
void State::plan(const std::string& name, BatchPlan& plan) {
  std::vector<int64_t> rows;
  for (size_t b = 0; b < plan.batches.size(); ++b) {
    for (const PlanEntry& e : plan.batches[b]) {
      rows.insert(rows.end(), {static_cast<int64_t>(b), e.sample, e.label, e.camera, static_cast<int64_t>(e.kind)});
    }
  }
  integers(name, rows);
  if (!reading()) return;
  plan = {};
  for (size_t i = 0; i + 4 < rows.size(); i += 5) {
    plan.batches.resize(static_cast<size_t>(rows[i]) + 1);
    plan.batches.back().push_back(
        {.sample = rows[i + 1], .label = rows[i + 2], .camera = rows[i + 3], .kind = static_cast<DataKind>(rows[i + 4])});
  }
}

}  // namespace reid
