#pragma once
// The families of problem lines: each makes the problems of one or more ops from a line and checks them.

#include "problem.h"

namespace reid::test {

using Families = std::map<std::string, void (*)(const ProblemLine&, Sweep&)>;
Families dense_families();    // matmul, conv, pointwise, bias
Families behind_families();   // conv_statistics, conv_finish
Families norm_families();     // norm, running_update, sums_statistics
Families vision_families();   // max_pool, global_pool, stripe_pool, non_local, views, colors, mirror
Families rows_families();     // l2_normalize, rows, optimizer
Families metric_families();   // distances of rows, triplet, circle, soft targets
Families fused_families();    // losses over centroids
Families pairs_families();    // steps of a search among rows
Families jaccard_families();  // k-reciprocal encodings and the pairs within a Jaccard distance

ConvShape conv_shape(const ProblemLine& line);

}  // namespace reid::test
