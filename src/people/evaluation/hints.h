#pragma once
// Inside the people wing: what looks like a mistake in an evaluation that could be computed all the same.

#include "reid/people/evaluation.h"

namespace reid {

void add_hints(const RetrievalLabels& labels, const EvaluationOptions& options, EvaluationReport& report);
void add_feature_hints(const EvaluationInput& input, EvaluationReport& report);

}  // namespace reid
