#pragma once
// Inside the people wing: figures from the counts of pairs at and between the distances of the same pairs.

#include <cstdint>
#include <vector>

#include "reid/people/verification.h"

namespace reid {

struct RocCounts {
  std::vector<double> values;      // distances of same pairs, ascending, distinct
  std::vector<int64_t> same;       // same pairs at each
  std::vector<int64_t> below, at;  // different pairs below and at each
  int64_t same_total = 0, different = 0;
};

// Everything but the histograms and the recommendation.
VerificationReport verification_report(const RocCounts& counts, const VerificationOptions& options);
// Fills the recommendation for report.wanted.
void recommend(const RocCounts& chosen_on, const RocCounts& measured_on, VerificationReport& report);

}  // namespace reid
