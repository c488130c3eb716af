#include "reid/learning/losses_metric.h"

#include <algorithm>

namespace reid {

namespace {

void require_labels(const char* op, const Var& f, const std::vector<int64_t>& labels, int64_t classes) {
  REID_CHECK(f.shape().rank() == 2 && static_cast<size_t>(f.shape()[0]) == labels.size() && !labels.empty(), "[", op, "] f ", f.shape(),
             " with ", labels.size(), " labels");
  for (size_t i = 0; i < labels.size(); ++i)
    REID_CHECK(labels[i] >= 0 && labels[i] < classes, "[", op, "] label ", labels[i], " of row ", i, " is outside 0..", classes - 1);
}

// Row i has its 1 in the column of its label.
Tensor one_hot(const std::vector<int64_t>& labels, int64_t classes, const Tensor& like) {
  std::vector<double> rows(labels.size() * static_cast<size_t>(classes));
  for (size_t i = 0; i < labels.size(); ++i) rows[i * static_cast<size_t>(classes) + static_cast<size_t>(labels[i])] = 1;
  return Tensor::from(rows, {static_cast<int64_t>(labels.size()), classes}).to(like.dtype()).to(like.device());
}

}  // namespace

Var triplet_loss(const Var& f, const std::vector<int64_t>& labels, const TripletOptions& options) {
  REID_CHECK(f.shape().rank() == 2 && static_cast<size_t>(f.shape()[0]) == labels.size() && !labels.empty(), "[triplet_loss] f ", f.shape(),
             " with ", labels.size(), " labels");
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
  require_labels("center_loss", f, labels, centers.shape()[0]);
  const Tensor chosen = one_hot(labels, centers.shape()[0], f.value());
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
  require_labels("circle_classifier", f, labels, w.shape()[0]);
  const std::vector<int32_t> narrow(labels.begin(), labels.end());
  return circle_logits(matmul(l2_normalize(f), l2_normalize(w), false, true), Tensor::from(narrow).to(f.value().device()), options.scale,
                       options.margin);
}

double smoothing_over_others(double smoothing, int64_t classes) {
  REID_CHECK(classes >= 2, "label smoothing over the other classes needs at least two, not ", classes);
  const double n = static_cast<double>(classes);
  REID_CHECK(smoothing >= 0 && smoothing * n / (n - 1) < 1, "label smoothing ", smoothing, " leaves nothing to one of ", classes,
             " classes");
  return smoothing * n / (n - 1);
}

Tensor accuracy(const Tensor& logits, const std::vector<int64_t>& labels) {
  const std::vector<int32_t> narrow(labels.begin(), labels.end());
  return ops::top_share(logits, Tensor::from(narrow).to(logits.device()));
}

}  // namespace reid
