#pragma once
// Same person or not: how well a threshold on the distance of two images tells, and which threshold to take.
//
// Design: all pairs of a query and a gallery image that an evaluation would rank, junk and the query's identity and camera removed; every
// count is exact. The distances of same pairs are kept, those of different pairs (10^9 at MSMT17's size) only counted between them:
// memory is 50 bytes for each same pair and thread, and a block of distances.

#include <cstdint>
#include <string>
#include <vector>

#include "reid/people/evaluation.h"

namespace reid {

struct VerificationOptions {
  Metric metric = Metric::cosine;
  std::vector<double> rates = {1e-4, 1e-3, 1e-2};  // false-accept rates to report, each in (0, 1)
  double wanted = 1e-3;                            // that of the recommended threshold
  uint64_t seed = 1;                               // which identities the threshold is chosen on
};

// Two images are taken for one person when their distance is at most `threshold`.
struct OperatingPoint {
  double threshold = -1;         // the largest distance of a same pair that keeps the rate; -1 when none does: nothing is accepted
  double false_accept_rate = 0;  // accepted share of the different pairs
  double true_accept_rate = 0;   // accepted share of the same pairs
};

struct VerificationReport {
  int64_t same_pairs = 0, different_pairs = 0;
  // For each rate asked for, the best true-accept rate whose false-accept rate is not above. A rate below 1 / different_pairs cannot be
  // measured: the point is then that of no false accept at all.
  std::vector<double> rates;
  std::vector<OperatingPoint> points;
  std::vector<OperatingPoint> curve;  // the ROC at false-accept rates 10^-6, 10^-5.9, ..., 1

  // What fast-reid prints as TPR@FPR for the rates. Its positives are the DIFFERENT pairs: the share of them that lies at or beyond the
  // distance that a share `rate` of the same pairs reaches (that point of scikit-learn's roc_curve whose share is nearest, the first of
  // equals).
  std::vector<double> fastreid;

  double equal_error_rate = 0;       // where the ROC's polyline has as many false accepts as false rejects, as shares
  double equal_error_threshold = 0;  // the distance of the first same pair at or beyond it
  double area = 0;                   // under the ROC: the chance that a same pair is nearer than a different one (ties: one half)

  // Counts of pairs by distance: at most 64 equal bins from 0 to the largest that occurs.
  double bin_width = 0;
  std::vector<int64_t> same_histogram, different_histogram;

  // The threshold for `wanted`. When at least two identities have same pairs they are divided in halves: it is chosen among the pairs
  // within one and its rates are measured within the other; else both are all pairs, and held_out is false.
  double wanted = 0;
  bool held_out = false;
  OperatingPoint chosen, measured;  // one threshold; rates where it was chosen, and where it was measured
  int64_t chosen_same = 0, chosen_different = 0, measured_same = 0, measured_different = 0;
};

// Throws as evaluate() does, and when there is no same or no different pair.
VerificationReport verify(const EvaluationInput& input, const VerificationOptions& options = {});

}  // namespace reid
