#include "reid/learning/losses_parts.h"

#include <cmath>

namespace reid {

namespace {

void require_batch(const char* op, const Var& logits, const std::vector<int64_t>& labels, const std::vector<double>& agreement) {
  REID_CHECK(logits.shape().rank() == 2 && static_cast<size_t>(logits.shape()[0]) == labels.size() && labels.size() == agreement.size(),
             "[", op, "] logits ", logits.shape(), " with ", labels.size(), " labels and ", agreement.size(), " agreements");
  for (size_t i = 0; i < labels.size(); ++i) {
    REID_CHECK(labels[i] >= 0 && labels[i] < logits.shape()[1], "[", op, "] label ", labels[i], " of row ", i, " is outside 0..",
               logits.shape()[1] - 1);
    REID_CHECK(agreement[i] >= 0 && agreement[i] <= 1, "[", op, "] agreement ", agreement[i], " of row ", i, " is outside 0..1");
  }
}

Var mean_soft_target(const Var& logits, const std::vector<double>& target) {
  const DType dtype = logits.value().dtype();
  const Device device = logits.value().device();
  const int64_t rows = logits.shape()[0];
  return soft_target_rows(logits, Tensor::from(target, logits.shape()).to(dtype).to(device),
                          Tensor::full({rows}, 1 / static_cast<double>(rows), dtype, device));
}

}  // namespace

Var refined_label_loss(const Var& logits, const std::vector<Var>& part_logits, const std::vector<int64_t>& labels,
                       const PartAgreement& agreement, double beta) {
  REID_CHECK(!part_logits.empty() && part_logits.size() == agreement.size(), "[refined_label_loss] ", part_logits.size(), " parts with ",
             agreement.size(), " agreements");
  REID_CHECK(beta >= 0 && beta <= 1, "[refined_label_loss] beta = ", beta, " is outside 0..1");
  const size_t rows = labels.size(), classes = static_cast<size_t>(logits.shape()[1]);
  std::vector<double> target(rows * classes);
  for (size_t n = 0; n < part_logits.size(); ++n) {
    require_batch("refined_label_loss", logits, labels, agreement[n]);
    REID_CHECK(part_logits[n].shape() == logits.shape(), "[refined_label_loss] logits ", logits.shape(), " and part ", n, " ",
               part_logits[n].shape(), " differ");
    const Tensor q = ops::softmax(part_logits[n].value()).to(Device{}).to(DType::f64);
    for (size_t i = 0; i < rows; ++i) {
      double total = 0;
      for (const std::vector<double>& part : agreement) total += std::exp(part[i]);
      const double share = (1 - beta) * std::exp(agreement[n][i]) / total;
      for (size_t c = i * classes; c < (i + 1) * classes; ++c) target[c] += share * q.data<double>()[c];
    }
  }
  for (size_t i = 0; i < rows; ++i) target[i * classes + static_cast<size_t>(labels[i])] += beta;
  return mean_soft_target(logits, target);
}

// KL(u || q) is the cross-entropy to u less log K, so that all is one cross-entropy to a y + (1 - a) u less (1 - a) log K.
Var agreement_smoothing_loss(const Var& logits, const std::vector<int64_t>& labels, const std::vector<double>& agreement) {
  require_batch("agreement_smoothing_loss", logits, labels, agreement);
  const size_t rows = labels.size(), classes = static_cast<size_t>(logits.shape()[1]);
  std::vector<double> target(rows * classes);
  double entropy = 0;
  for (size_t i = 0; i < rows; ++i) {
    const double rest = 1 - agreement[i];
    for (size_t c = i * classes; c < (i + 1) * classes; ++c) target[c] = rest / static_cast<double>(classes);
    target[i * classes + static_cast<size_t>(labels[i])] += agreement[i];
    entropy += rest * std::log(static_cast<double>(classes)) / static_cast<double>(rows);
  }
  return add(mean_soft_target(logits, target), Var(Tensor::full({}, -entropy, logits.value().dtype(), logits.value().device())));
}

}  // namespace reid
