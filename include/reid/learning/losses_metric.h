#pragma once
// The losses of supervised re-identification: triplets of a batch, centers of identities, classifiers with a margin.
//
// Shapes: f [B, D] features, labels [B] from 0. Each loss is a scalar, the mean over the batch. Identities of a batch come with
// several images each (samplers of data.h).

#include <cstdint>
#include <vector>

#include "reid/engine/autograd.h"

namespace reid {

struct TripletOptions {
  double margin = 0.3;     // of the hinge; 0: log(1 + exp), the soft margin
  bool weighted = false;   // softmax-weighted means of all distances (AGW: Ye et al., TPAMI 2021) instead of the hardest
  bool normalize = false;  // distances between unit rows
};
// Each row against its farthest image of the same identity and its nearest of another (Hermans, Beyer and Leibe, 2017). Euclidean
// distances sqrt(max(d^2, 1e-12)); the row itself counts among its positives, as in the original code. Rows whose batch holds no other
// identity are left out of the sum, not of the mean.
Var triplet_loss(const Var& f, const std::vector<int64_t>& labels, const TripletOptions& options);

// Mean of |f_i - c_y|^2 over the batch, c_y the row of `centers` [C, D] for label y (Wen et al., ECCV 2016, where it is half of that; this
// is the form of the strong baseline's code). Gradients flow to both.
Var center_loss(const Var& f, const Var& centers, const std::vector<int64_t>& labels);

// Logits of classifier rows w [C, D] by cosine with a circle margin (Sun et al., CVPR 2020): for cross_entropy().
struct CircleOptions {
  double scale = 64, margin = 0.35;
};
Var circle_classifier(const Var& f, const Var& w, const std::vector<int64_t>& labels, const CircleOptions& options);

// Label smoothing that spreads its share over the other classes only (fast-reid), as the share over all classes (cross_entropy()) that
// has the same target: 1 - s for the class itself, s / (C - 1) for each other.
double smoothing_over_others(double smoothing, int64_t classes);

// Share of rows whose largest logit is that of their label; of equal ones the first counts. f64 [1], where the logits are.
Tensor accuracy(const Tensor& logits, const std::vector<int64_t>& labels);

}  // namespace reid
