#include "reid/learning/losses_parts.h"

#include <algorithm>
#include <cmath>

#include "labels.h"

namespace reid {

namespace {

void require_batch(const char* op, const Var& logits, const std::vector<int64_t>& labels, const std::vector<double>& agreement) {
  REID_CHECK(logits.shape().rank() == 2 && static_cast<size_t>(logits.shape()[0]) == labels.size() && labels.size() == agreement.size(),
             "[", op, "] logits ", logits.shape(), " with ", labels.size(), " labels and ", agreement.size(), " agreements");
  for (size_t i = 0; i < labels.size(); ++i) {
    REID_CHECK(agreement[i] >= 0 && agreement[i] <= 1, "[", op, "] agreement ", agreement[i], " of row ", i, " is outside 0..1");
  }
}

// share [2 + q's, B]: see MixedTargetsArgs.
Var mean_soft_target(const char* op, const Var& logits, const std::vector<Tensor>& q, const std::vector<double>& share,
                     const std::vector<int64_t>& labels) {
  const DType dtype = logits.value().dtype();
  const Device device = logits.value().device();
  const int64_t rows = logits.shape()[0];
  const Tensor target = ops::mixed_targets(q, Tensor::from(share, {2 + std::ssize(q), rows}).to(device),
                                           class_numbers(op, labels, logits.shape()[1], device), logits.shape()[1], dtype);
  return soft_target_rows(logits, target, Tensor::full({rows}, 1 / static_cast<double>(rows), dtype, device));
}

}  // namespace

Var refined_label_loss(const Var& logits, const std::vector<Var>& part_logits, const std::vector<int64_t>& labels,
                       const PartAgreement& agreement, double beta) {
  REID_CHECK(!part_logits.empty() && part_logits.size() == agreement.size(), "[refined_label_loss] ", part_logits.size(), " parts with ",
             agreement.size(), " agreements");
  REID_CHECK(beta >= 0 && beta <= 1, "[refined_label_loss] beta = ", beta, " is outside 0..1");
  const size_t rows = labels.size();
  std::vector<Tensor> q;
  std::vector<double> share(2 * rows);
  std::fill_n(share.begin(), rows, beta);
  for (size_t n = 0; n < part_logits.size(); ++n) {
    require_batch("refined_label_loss", logits, labels, agreement[n]);
    REID_CHECK(part_logits[n].shape() == logits.shape(), "[refined_label_loss] logits ", logits.shape(), " and part ", n, " ",
               part_logits[n].shape(), " differ");
    q.push_back(ops::softmax(part_logits[n].value()));
    for (size_t i = 0; i < rows; ++i) {
      double total = 0;
      for (const std::vector<double>& part : agreement) total += std::exp(part[i]);
      share.push_back((1 - beta) * std::exp(agreement[n][i]) / total);
    }
  }
  return mean_soft_target("refined_label_loss", logits, q, share, labels);
}

// KL(u || q) is the cross-entropy to u less log K, so that all is one cross-entropy to a y + (1 - a) u less (1 - a) log K.
Var agreement_smoothing_loss(const Var& logits, const std::vector<int64_t>& labels, const std::vector<double>& agreement) {
  require_batch("agreement_smoothing_loss", logits, labels, agreement);
  const size_t rows = labels.size();
  const double classes = static_cast<double>(logits.shape()[1]);
  std::vector<double> share(agreement);  // of the label, then of all classes alike
  double entropy = 0;
  for (const double of_label : agreement) {
    const double rest = 1 - of_label;
    share.push_back(rest / classes);
    entropy += rest * std::log(classes) / static_cast<double>(rows);
  }
  return add(mean_soft_target("agreement_smoothing_loss", logits, {}, share, labels),
             Var(Tensor::full({}, -entropy, logits.value().dtype(), logits.value().device())));
}

}  // namespace reid
