#include "reid/learning/losses_metric.h"

#include <algorithm>

#include "labels.h"

namespace reid {

namespace {

void require_batch(const char* op, const Var& f, const std::vector<int64_t>& labels) {
  REID_CHECK(f.shape().rank() == 2 && static_cast<size_t>(f.shape()[0]) == labels.size() && !labels.empty(), "[", op, "] f ", f.shape(),
             " with ", labels.size(), " labels");
}

// Row i has its 1 in the column of its label: its own share is all, that of all classes alike nothing (MixedTargetsArgs).
Tensor one_hot(const Tensor& labels, int64_t classes, DType dtype) {
  const auto rows = static_cast<size_t>(labels.dim(0));
  std::vector<double> share(2 * rows);
  std::fill_n(share.begin(), rows, 1.0);
  return ops::mixed_targets({}, Tensor::from(share, {2, labels.dim(0)}, labels.device()), labels, classes, dtype);
}

}  // namespace

Var triplet_loss(const Var& f, const std::vector<int64_t>& labels, const TripletOptions& options) {
  require_batch("triplet_loss", f, labels);
  REID_CHECK(options.margin >= 0, "[triplet_loss] margin ", options.margin, " is negative");
  const size_t batch = labels.size();
  std::vector<uint8_t> mask(batch * batch);
  for (size_t i = 0; i < batch; ++i) {
    for (size_t j = 0; j < batch; ++j) mask[i * batch + j] = labels[i] == labels[j] ? kPositive : kNegative;
  }
  const Shape square{f.shape()[0], f.shape()[0]};
  const Tensor weight = Tensor::full({f.shape()[0]}, 1 / static_cast<double>(batch), f.value().dtype(), f.value().device());
  const Var rows = options.normalize ? l2_normalize(f) : f;
  return triplet_rows(row_distances(rows), Tensor::from(mask, square, f.value().device()), weight, options.margin, options.weighted);
}

Var center_loss(const Var& f, const Var& centers, const std::vector<int64_t>& labels) {
  REID_CHECK(centers.shape().rank() == 2 && centers.shape()[1] == f.shape()[-1], "[center_loss] f ", f.shape(), " and centers ",
             centers.shape(), " differ in width");
  require_batch("center_loss", f, labels);
  const int64_t classes = centers.shape()[0];
  const Tensor chosen = one_hot(class_numbers("center_loss", labels, classes, f.value().device()), classes, f.value().dtype());
  const Tensor away = ops::add(f.value(), ops::matmul(chosen, centers.value()), -1);
  const double share = 1 / static_cast<double>(labels.size());
  return record("center_loss", ops::scale(ops::sum(ops::multiply(away, away)), share), {f, centers},
                [away, chosen, share](const Tensor& dy, Grads& d) {
                  const Tensor df = ops::scale(away, dy, 2 * share);
                  d.add(0, df);
                  if (d.wants(1)) d.add(1, ops::scale(ops::matmul(chosen, df, true, false), -1));
                });
}

Var circle_classifier(const Var& f, const Var& w, const std::vector<int64_t>& labels, const CircleOptions& options) {
  require_batch("circle_classifier", f, labels);
  return circle_logits(matmul(l2_normalize(f), l2_normalize(w), false, true),
                       class_numbers("circle_classifier", labels, w.shape()[0], f.value().device()), options.scale, options.margin);
}

double smoothing_over_others(double smoothing, int64_t classes) {
  REID_CHECK(classes >= 2, "label smoothing over the other classes needs at least two, not ", classes);
  const double n = static_cast<double>(classes);
  REID_CHECK(smoothing >= 0 && smoothing * n / (n - 1) < 1, "label smoothing ", smoothing, " leaves nothing to one of ", classes,
             " classes");
  return smoothing * n / (n - 1);
}

Tensor accuracy(const Tensor& logits, const std::vector<int64_t>& labels) {
  REID_CHECK(logits.shape().rank() == 2, "[accuracy] logits ", logits.shape(), " must be [B, C]");
  return ops::top_share(logits, class_numbers("accuracy", labels, logits.dim(1), logits.device()));
}

}  // namespace reid
