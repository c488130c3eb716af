#pragma once
// The cluster memory of Cluster Contrast (Dai et al., ACCV 2022): a unit vector for each cluster, contrasted with, moved by momentum.

#include <string>
#include <vector>

#include "reid/engine/autograd.h"

namespace reid {

struct MemoryOptions {
  double tau = 0.05;
  double momentum = 0.1;       // share of the old vector
  std::string update = "all";  // all, hard, mean: see update()
};

class ClusterMemory {
 public:
  ClusterMemory() = default;
  ClusterMemory(Tensor rows, const MemoryOptions& options);  // [K, D] unit rows, which it changes; throws on options that make no sense

  // Cross-entropy of f C^T / tau with the labels, mean over the batch; f [B, D] unit rows. No gradient flows to C. Of f C^T only some
  // columns are made at a time, see ops::centroid_rows.
  Var loss(const Var& f, const std::vector<int64_t>& labels) const;

  // c_y <- m c_y + (1 - m) v, then scaled to length 1, with
  //   all   v every row of the batch in turn, in its order: the published rule; the order matters
  //   hard  once for each cluster, v its row in the batch that is least similar to c_y (of equal ones the first)
  //   mean  once for each cluster, v the mean of its rows in the batch
  // Sums are in double. On an accelerator nobody waits for it.
  void update(const Tensor& f, const std::vector<int64_t>& labels);

  const Tensor& rows() const { return rows_; }  // [K, D]

 private:
  Tensor own_rows(const Tensor& f, const std::vector<int64_t>& labels) const;  // their numbers, i32 [B]; throws on what does not fit

  Tensor rows_;
  MemoryOptions options_;
};

}  // namespace reid
