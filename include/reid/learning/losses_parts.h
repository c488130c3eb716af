#pragma once
// The losses of PPLR (Cho et al., CVPR 2022): pseudo labels refined by what parts of a person say, as far as their neighbors agree.
//
// Shapes: logits [B, K] over K clusters, labels [B] from 0. Each loss is a scalar, the mean over the batch.

#include <cstdint>
#include <vector>

#include "reid/engine/autograd.h"

namespace reid {

// The cross agreement of each row of a batch, one list of [B] for each part.
using PartAgreement = std::vector<std::vector<double>>;

// Cross-entropy of the whole's logits to  beta y + (1 - beta) sum over parts n of w_n q_n,  w = softmax of the agreement over the parts, y
// the one-hot label and q_n = softmax(part_logits[n]). No gradient flows to the parts.
Var refined_label_loss(const Var& logits, const std::vector<Var>& part_logits, const std::vector<int64_t>& labels,
                       const PartAgreement& agreement, double beta);

// Agreement-aware label smoothing of one part:  a (-log q_y) + (1 - a) KL(u || q),  u uniform over the clusters and a [B] in 0..1.
Var agreement_smoothing_loss(const Var& logits, const std::vector<int64_t>& labels, const std::vector<double>& agreement);

}  // namespace reid
