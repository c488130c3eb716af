// The catalog: distances, triplets, classifiers with a margin, soft labels.

#include "program/op.h"

#include "reid/learning/losses_metric.h"
#include "reid/learning/losses_parts.h"
#include "reid/people/cluster.h"

namespace reid::program {
namespace {

const std::vector<OpResult> kLoss = {{"loss", "[]", "a scalar"}};

std::vector<double> numbers(const Tensor& t) {
  const Tensor wide = t.to(DType::f64);
  return {wide.data<double>(), wide.data<double>() + wide.numel()};
}

std::vector<OpEntry> metric() {
  return {
      {.name = "row_distances",
       .summary = "Euclidean distances of the rows to each other",
       .inputs = {differentiable("x", "[B, D]", "rows")},
       .attributes = {{"floor", OpAttribute::number, "1e-12", "smallest square of a distance; below it no gradient flows"}},
       .results = {{"d", "[B, B]", ""}},
       .kernels = {"row_distances", "row_distances_backward"},
       .run = [](OpCall& c) { c.result("d", row_distances(c.var("x"), c.number("floor"))); }},
      {.name = "triplet_rows",
       .summary = "sum over rows of weight * triplet loss of the hardest positive and negative, or of softmax-weighted means",
       .inputs = {differentiable("d", "[B, M]", "distances"), constant("mask", "[B, M]", "0 ignored, 1 positive, 2 negative", "u8"),
                  constant("weight", "[B]", "weight of each row")},
       .attributes = {{"margin", OpAttribute::number, "0.3", "of the hinge; 0: log(1 + exp)"},
                      {"weighted", OpAttribute::flag, "false", "softmax-weighted means instead of the hardest"}},
       .results = kLoss,
       .kernels = {"triplet_rows", "column_sum"},
       .run =
           [](OpCall& c) {
             c.result("loss", triplet_rows(c.var("d"), c.tensor("mask"), c.tensor("weight"), c.number("margin"), c.flag("weighted")));
           }},
      {.name = "softmax",
       .summary = "probabilities of logits, by rows",
       .inputs = {constant("s", "[B, C]", "logits")},
       .attributes = {},
       .results = {{"q", "[B, C]", ""}},
       .kernels = {"softmax"},
       .run = [](OpCall& c) { c.result("q", ops::softmax(c.tensor("s"))); }},
      {.name = "soft_target_rows",
       .summary = "sum over rows of weight * cross-entropy to a target distribution",
       .inputs = {differentiable("s", "[B, C]", "logits"), constant("target", "[B, C]", "distributions"),
                  constant("weight", "[B]", "weight of each row")},
       .attributes = {},
       .results = kLoss,
       .kernels = {"soft_target_rows", "column_sum"},
       .run = [](OpCall& c) { c.result("loss", soft_target_rows(c.var("s"), c.tensor("target"), c.tensor("weight"))); }},
      {.name = "circle_logits",
       .summary = "circle loss at class level: cosines to logits; its factor is a constant for gradients",
       .inputs = {differentiable("s", "[B, C]", "cosines"), constant("labels", "[B]", "0..C-1", "i64")},
       .attributes = {{"scale", OpAttribute::number, "64", "of the logits"}, {"margin", OpAttribute::number, "0.35", "of the cosines"}},
       .results = {{"y", "[B, C]", ""}},
       .kernels = {"circle_logits", "multiply"},
       .run =
           [](OpCall& c) {
             const std::vector<int64_t> labels = c.integers("labels");
             const std::vector<int32_t> narrow(labels.begin(), labels.end());
             c.result("y", circle_logits(c.var("s"), Tensor::from(narrow), c.number("scale"), c.number("margin")));
           }},
  };
}

std::vector<OpEntry> losses() {
  const OpInput logits = differentiable("logits", "[B, C]", ""), labels = constant("labels", "[B]", "0..C-1", "i64");
  return {
      {.name = "triplet_loss",
       .summary = "each row against its farthest row of the same label and its nearest of another",
       .inputs = {differentiable("f", "[B, D]", "rows"), constant("labels", "[B]", "who each row is", "i64")},
       .attributes = {{"margin", OpAttribute::number, "0.3", "of the hinge; 0: log(1 + exp)"},
                      {"weighted", OpAttribute::flag, "false", "softmax-weighted means instead of the hardest"},
                      {"normalize", OpAttribute::flag, "false", "distances between unit rows"}},
       .results = kLoss,
       .kernels = {"row_distances", "row_distances_backward", "triplet_rows", "column_sum"},
       .run =
           [](OpCall& c) {
             const TripletOptions options{.margin = c.number("margin"), .weighted = c.flag("weighted"), .normalize = c.flag("normalize")};
             c.result("loss", triplet_loss(c.var("f"), c.integers("labels"), options));
           }},
      {.name = "center_loss",
       .summary = "mean squared distance of each row to the center of its label",
       .inputs = {differentiable("f", "[B, D]", "rows"), differentiable("centers", "[C, D]", "one for each label"), labels},
       .attributes = {},
       .results = kLoss,
       .kernels = {"mixed_targets", "matmul", "multiply", "column_sum"},
       .run = [](OpCall& c) { c.result("loss", center_loss(c.var("f"), c.var("centers"), c.integers("labels"))); }},
      {.name = "agreement_smoothing_loss",
       .summary = "PPLR: a part's cross-entropy to its labels, smoothed as far as neighbors disagree",
       .inputs = {logits, labels, constant("agreement", "[B]", "cross agreement of each row, 0..1")},
       .attributes = {},
       .results = kLoss,
       .kernels = {"mixed_targets", "soft_target_rows", "column_sum"},
       .run =
           [](OpCall& c) {
             c.result("loss", agreement_smoothing_loss(c.var("logits"), c.integers("labels"), numbers(c.tensor("agreement"))));
           }},
      {.name = "refined_label_loss",
       .summary = "PPLR: cross-entropy of the whole to labels refined by one part's predictions",
       .inputs = {logits, constant("part", "[B, C]", "logits of the part"), labels, constant("agreement", "[B]", "cross agreement, 0..1")},
       .attributes = {{"beta", OpAttribute::number, "0.5", "share of the label"}},
       .results = kLoss,
       .kernels = {"softmax", "mixed_targets", "soft_target_rows", "column_sum"},
       .run =
           [](OpCall& c) {
             c.result("loss", refined_label_loss(c.var("logits"), {Var(c.tensor("part"))}, c.integers("labels"),
                                                 {numbers(c.tensor("agreement"))}, c.number("beta")));
           }},
      {.name = "cross_agreement",
       .summary = "PPLR: how alike each row's neighborhoods in two spaces are, |A n B| / |A u B|",
       .inputs = {constant("a", "[N, D]", "rows"), constant("b", "[N, E]", "rows")},
       .attributes = {{"k", OpAttribute::integer, "20", "neighbors, the row itself left out"}},
       .results = {{"agreement", "[N]", "f64"}},
       .kernels = {},
       .run = [](OpCall& c) { c.result("agreement", Tensor::from(cross_agreement(c.tensor("a"), c.tensor("b"), c.integer("k")))); }},
  };
}

}  // namespace

std::vector<OpEntry> metric_ops() {
  std::vector<OpEntry> all = metric();
  for (OpEntry& entry : losses()) all.push_back(std::move(entry));
  return all;
}

}  // namespace reid::program
