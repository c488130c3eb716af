#include "terms.h"

#include <cmath>

namespace reid {

Var weighted_sum(Run& run, const std::vector<Term>& terms) {
  Var total;
  for (const Term& term : terms) {
    if (term.weight == 0) continue;
    const Var value = term.loss();
    run.log(term.name, value.value().item());
    total = total.value().defined() ? add(total, value, term.weight) : scale(value, term.weight);
  }
  const double loss = total.value().item();
  run.log("loss", loss);
  REID_CHECK(std::isfinite(loss), "the loss became ", loss, " at step ", run.step_count(),
             ": lower schedule.lr, or look at the temperatures and scales of the losses");
  return total;
}

}  // namespace reid
