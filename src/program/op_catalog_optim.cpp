// The catalog: one step of each optimizer, the moving average.

#include "program/op.h"

namespace reid::program {
namespace {

OpInput flat(const std::string& name, const std::string& doc) { return constant(name, "[P]", doc); }

void adam_step(OpCall& c, bool decoupled) {
  const Tensor w = c.tensor("w").clone(), zeros = Tensor::zeros(w.shape(), w.dtype());
  const Tensor m = c.has("m") ? c.tensor("m").clone() : zeros.clone(), v = c.has("v") ? c.tensor("v").clone() : zeros.clone();
  const Segment all{.offset = 0, .count = w.numel(), .step = c.integer("step")};
  REID_CHECK(c.integer("step") >= 1, "step = ", c.integer("step"), ": the first update is step 1");
  dispatch<AdamStep>(w.device(), {.w = w.raw(),
                                  .g = c.tensor("g").raw(),
                                  .m = m.raw(),
                                  .v = v.raw(),
                                  .segments = &all,
                                  .segment_count = 1,
                                  .lr = c.number("lr"),
                                  .beta1 = c.number("beta1"),
                                  .beta2 = c.number("beta2"),
                                  .eps = c.number("eps"),
                                  .decay = c.number("decay"),
                                  .decoupled = decoupled,
                                  .dtype = w.dtype()});
  c.result("w", w);
  c.result("m", m);
  c.result("v", v);
}

OpEntry adam_entry(bool decoupled) {
  return {.name = decoupled ? "adamw" : "adam",
          .summary = decoupled ? "one step of AdamW (decay apart from the gradient)" : "one step of Adam (decay joins the gradient)",
          .inputs = {flat("w", "parameters"), flat("g", "their gradient"), optional(flat("m", "first moment, else 0")),
                     optional(flat("v", "second moment, else 0"))},
          .attributes = {{"lr", OpAttribute::number, "0.001", "learning rate"},
                         {"beta1", OpAttribute::number, "0.9", "decay of the first moment"},
                         {"beta2", OpAttribute::number, "0.999", "decay of the second moment"},
                         {"eps", OpAttribute::number, "1e-8", "added to the root of the second moment"},
                         {"decay", OpAttribute::number, "0", "weight decay"},
                         {"step", OpAttribute::integer, "1", "1 for the first update"}},
          .results = {{"w", "[P]", "updated"}, {"m", "[P]", "updated"}, {"v", "[P]", "updated"}},
          .kernels = {"adam"},
          .run = [decoupled](OpCall& c) { adam_step(c, decoupled); }};
}

OpEntry sgd_entry() {
  return {.name = "sgd",
          .summary = "one step of SGD with momentum",
          .inputs = {flat("w", "parameters"), flat("g", "their gradient"), optional(flat("v", "velocity, else 0"))},
          .attributes = {{"lr", OpAttribute::number, "0.01", "learning rate"},
                         {"momentum", OpAttribute::number, "0.9", "share of the old velocity"},
                         {"decay", OpAttribute::number, "0", "weight decay, joins the gradient"},
                         {"nesterov", OpAttribute::flag, "false", "Nesterov's form"}},
          .results = {{"w", "[P]", "updated"}, {"v", "[P]", "updated"}},
          .kernels = {"sgd"},
          .run = [](OpCall& c) {
            const Tensor w = c.tensor("w").clone(), v = c.has("v") ? c.tensor("v").clone() : Tensor::zeros(w.shape(), w.dtype());
            const Segment all{.offset = 0, .count = w.numel()};
            dispatch<SgdStep>(w.device(), {.w = w.raw(),
                                           .g = c.tensor("g").raw(),
                                           .v = v.raw(),
                                           .segments = &all,
                                           .segment_count = 1,
                                           .lr = c.number("lr"),
                                           .momentum = c.number("momentum"),
                                           .decay = c.number("decay"),
                                           .nesterov = c.flag("nesterov"),
                                           .dtype = w.dtype()});
            c.result("w", w);
            c.result("v", v);
          }};
}

OpEntry ema_entry() {
  return {.name = "ema_update",
          .summary = "momentum * average + (1 - momentum) * w",
          .inputs = {flat("average", "the moving average"), flat("w", "parameters")},
          .attributes = {{"momentum", OpAttribute::number, "0.999", "share that stays"}},
          .results = {{"average", "[P]", "updated"}},
          .kernels = {"ema_update"},
          .run = [](OpCall& c) {
            const Tensor average = c.tensor("average").clone();
            dispatch<EmaUpdate>(average.device(), {.average = average.raw(),
                                                   .w = c.tensor("w").raw(),
                                                   .count = average.numel(),
                                                   .momentum = c.number("momentum"),
                                                   .dtype = average.dtype()});
            c.result("average", average);
          }};
}

}  // namespace

std::vector<OpEntry> optim_ops() { return {adam_entry(false), adam_entry(true), sgd_entry(), ema_entry()}; }

}  // namespace reid::program
