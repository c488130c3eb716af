#pragma once
// A recipe's loss: named terms with weights.

#include <functional>
#include <vector>

#include "reid/engine/autograd.h"
#include "reid/learning/method.h"

namespace reid {

struct Term {
  const char* name;
  double weight;  // 0: switched off, not even computed
  std::function<Var()> loss;
};

// Logs every term and the sum as "loss". Throws when it is no longer finite.
Var weighted_sum(Run& run, const std::vector<Term>& terms);

}  // namespace reid
