#include "terms.h"

namespace reid {

Var weighted_sum(Run& run, const std::vector<Term>& terms) {
  Var total;
  for (const Term& term : terms) {
    if (term.weight == 0) continue;
    const Var value = term.loss();
    run.log(term.name, value.value());
    total = total.value().defined() ? add(total, value, term.weight) : scale(value, term.weight);
  }
  run.log("loss", total.value());
  return total;
}

}  // namespace reid
