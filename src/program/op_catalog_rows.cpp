// The catalog: rows of embeddings and the losses on them.

#include "program/op.h"

#include "reid/learning/losses.h"

namespace reid::program {
namespace {

BatchPeople people_of(const OpCall& c) {
  BatchPeople people{.labels = c.integers("labels"), .cameras = {}, .single = {}};
  people.cameras.assign(people.labels.size(), 0);
  people.single.assign(people.labels.size(), 0);
  if (c.has("cameras")) people.cameras = c.integers("cameras");
  if (c.has("single")) people.single.assign(c.tensor("single").span<uint8_t>().begin(), c.tensor("single").span<uint8_t>().end());
  for (const uint8_t s : people.single)
    REID_CHECK(s <= 1, c.inputs().source, ": single holds ", int{s}, "; it is 0 (multi-camera) or 1 (single-camera)");
  return people;
}

OpInput labels() { return constant("labels", "[B]", "who each row is; pseudo labels after the others", "i64"); }
OpInput single() { return optional(constant("single", "[B]", "1: single-camera data, else 0", "u8")); }

std::vector<OpAttribute> scope(std::vector<OpAttribute> more) {
  more.push_back({"joint", OpAttribute::flag, "true", "negatives of both data types, else of the anchor's own"});
  more.push_back({"pooled", OpAttribute::flag, "false", "one mean over all anchors, else the sum of the types' means"});
  more.push_back({"use_single", OpAttribute::flag, "true", "false leaves single-camera rows out"});
  return more;
}

LossScope scope_of(const OpCall& c) { return {.joint = c.flag("joint"), .pooled = c.flag("pooled"), .use_single = c.flag("use_single")}; }

const std::vector<OpResult> kLoss = {{"loss", "[]", "a scalar"}};

OpEntry instance_entry() {
  return {.name = "instance_loss",
          .summary = "ReMix: each row against all positives and negatives of the batch",
          .inputs = {differentiable("f", "[B, D]", "encoder, unit rows"), constant("m", "[B, D]", "momentum encoder, unit rows"), labels(),
                     single()},
          .attributes = scope({{"tau_multi", OpAttribute::number, "0.1", "temperature of multi-camera anchors"},
                               {"tau_single", OpAttribute::number, "0.2", "temperature of single-camera anchors"},
                               {"self_positive", OpAttribute::flag, "true", "a row's own image is a positive"},
                               {"supcon", OpAttribute::flag, "false", "all positives in the denominator"}}),
          .results = kLoss,
          .kernels = {"matmul", "one_positive_rows", "softmax_rows", "column_sum"},
          .run = [](OpCall& c) {
            const InstanceLossOptions options{.tau_multi = c.number("tau_multi"),
                                              .tau_single = c.number("tau_single"),
                                              .scope = scope_of(c),
                                              .self_positive = c.flag("self_positive"),
                                              .supcon = c.flag("supcon")};
            c.result("loss", instance_loss(c.var("f"), c.tensor("m"), people_of(c), options));
          }};
}

OpEntry augmentation_entry() {
  return {.name = "augmentation_loss",
          .summary = "ReMix: each augmented row against its own original and other people",
          .inputs = {differentiable("f", "[B, D]", "encoder, unit rows"), constant("m", "[B, D]", "momentum encoder, unit rows"), labels(),
                     single()},
          .attributes = scope({{"tau", OpAttribute::number, "0.1", "temperature"}}),
          .results = kLoss,
          .kernels = {"matmul", "one_positive_rows", "column_sum"},
          .run = [](OpCall& c) {
            c.result("loss", augmentation_loss(c.var("f"), c.tensor("m"), people_of(c), {.tau = c.number("tau"), .scope = scope_of(c)}));
          }};
}

OpEntry centroid_entry() {
  return {
      .name = "centroid_loss",
      .summary = "ReMix: cross-entropy over the centroids of all people",
      .inputs = {differentiable("f", "[B, D]", "encoder, unit rows"), constant("centroids", "[C, D]", "row k belongs to label k"), labels(),
                 single()},
      .attributes = scope({{"tau_multi", OpAttribute::number, "0.5", "temperature of multi-camera anchors"},
                           {"tau_single", OpAttribute::number, "0.6", "temperature of single-camera anchors"},
                           {"smoothing", OpAttribute::number, "0", "label smoothing"},
                           {"multi_count", OpAttribute::integer, "-1", "centroids from here on are single-camera people's; -1: none are"}}),
      .results = kLoss,
      .kernels = {"centroid_rows", "column_sum"},
      .run = [](OpCall& c) {
        const CentroidLossOptions options{.tau_multi = c.number("tau_multi"),
                                          .tau_single = c.number("tau_single"),
                                          .scope = scope_of(c),
                                          .smoothing = c.number("smoothing")};
        const int64_t multi = c.integer("multi_count");
        const Tensor& table = c.tensor("centroids");
        c.result("loss", centroid_loss(c.var("f"), table, multi < 0 ? table.dim(0) : multi, people_of(c), options));
      }};
}

OpEntry camera_entry() {
  return {.name = "camera_centroid_loss",
          .summary = "ReMix: each multi-camera row against its person's centroids under other cameras",
          .inputs = {differentiable("f", "[B, D]", "encoder, unit rows"), constant("centroids", "[K, D]", "one for each person and camera"),
                     constant("centroid_labels", "[K]", "whose", "i64"), constant("centroid_cameras", "[K]", "under which camera", "i64"),
                     labels(), constant("cameras", "[B]", "the camera of each row", "i64"), single()},
          .attributes = {{"tau", OpAttribute::number, "0.07", "temperature"},
                         {"hard_negatives", OpAttribute::integer, "50", "most similar centroids of other people; ties by index"},
                         {"include_own_camera", OpAttribute::flag, "false", "the row's own camera is a positive, too"},
                         {"over_batch", OpAttribute::flag, "false", "mean over all rows (PPLR), else over those with a positive"}},
          .results = kLoss,
          .kernels = {"matmul", "softmax_rows", "column_sum"},
          .run = [](OpCall& c) {
            const CameraCentroidLossOptions options{.tau = c.number("tau"),
                                                    .hard_negatives = c.integer("hard_negatives"),
                                                    .include_own_camera = c.flag("include_own_camera"),
                                                    .over_batch = c.flag("over_batch")};
            REID_CHECK(options.hard_negatives >= 0, "hard_negatives = ", options.hard_negatives, " must not be negative");
            const Tensor& rows = c.tensor("centroids");
            const Centroids table{.rows = rows,
                                  .labels = c.integers("centroid_labels"),
                                  .cameras = c.integers("centroid_cameras"),
                                  .counts = std::vector<int64_t>(static_cast<size_t>(rows.dim(0)), 1)};
            c.result("loss", camera_centroid_loss(c.var("f"), table, people_of(c), options));
          }};
}

std::vector<OpInput> row_inputs() {
  return {differentiable("s", "[B, M]", "similarities"), constant("mask", "[B, M]", "0 ignored, 1 positive, 2 negative", "u8"),
          constant("tau", "[B]", "temperature of each row"), constant("weight", "[B]", "weight of each row")};
}

std::vector<OpEntry> plain() {
  return {
      {.name = "l2_normalize",
       .summary = "rows scaled to length 1",
       .inputs = {differentiable("x", "[B, D]", "rows")},
       .attributes = {{"eps", OpAttribute::number, "1e-12", "rows are divided by this at least"}},
       .results = {{"y", "[B, D]", ""}},
       .kernels = {"l2_normalize", "l2_normalize_backward"},
       .run = [](OpCall& c) { c.result("y", l2_normalize(c.var("x"), c.number("eps"))); }},
      {.name = "cross_entropy",
       .summary = "softmax cross-entropy with label smoothing, mean over rows",
       .inputs = {differentiable("logits", "[B, K]", ""), constant("labels", "[B]", "0..K-1", "i64")},
       .attributes = {{"smoothing", OpAttribute::number, "0", "share of the target spread over all classes"}},
       .results = kLoss,
       .kernels = {"softmax_rows", "column_sum"},
       .run = [](OpCall& c) { c.result("loss", cross_entropy(c.var("logits"), c.integers("labels"), c.number("smoothing"))); }},
      {.name = "one_positive_rows",
       .summary = "sum over rows of weight * mean over positives of log(1 + exp(S - s/tau)), S the log-sum-exp of the negatives",
       .inputs = row_inputs(),
       .attributes = {},
       .results = kLoss,
       .kernels = {"one_positive_rows", "column_sum"},
       .run = [](OpCall& c) { c.result("loss", one_positive_rows(c.var("s"), c.tensor("mask"), c.tensor("tau"), c.tensor("weight"))); }},
      {.name = "softmax_rows",
       .summary = "sum over rows of weight * cross-entropy of softmax(s/tau), the target shared by the positives",
       .inputs = row_inputs(),
       .attributes = {{"smoothing", OpAttribute::number, "0", "share of the target spread over positives and negatives"}},
       .results = kLoss,
       .kernels = {"softmax_rows", "column_sum"},
       .run =
           [](OpCall& c) {
             c.result("loss", softmax_rows(c.var("s"), c.tensor("mask"), c.tensor("tau"), c.tensor("weight"), c.number("smoothing")));
           }},
  };
}

}  // namespace

std::vector<OpEntry> row_ops() {
  std::vector<OpEntry> all = plain();
  for (OpEntry& entry : std::vector<OpEntry>{instance_entry(), augmentation_entry(), centroid_entry(), camera_entry()})
    all.push_back(std::move(entry));
  return all;
}

}  // namespace reid::program
