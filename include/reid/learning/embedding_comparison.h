#pragma once
// Two programs' embeddings of the same images, compared: how far apart they are, and whether a search would notice.
//
// Design: a difference alone says little, since a search sees ranks only; ranks alone hide that two images were a tie but for
// rounding. So both are reported, and for the ranks that changed how near a tie they were. By blocks of images: memory is two
// copies of the embeddings in f64 and some MB.

#include <cstdint>
#include <string>

#include "reid/engine/tensor.h"

namespace reid {

struct EmbeddingComparison {
  int64_t images = 0;
  double largest_relative = 0;  // of |a - b| / |a| over the rows
  int64_t largest_row = 0;      // where
  int64_t changed_ranks = 0;    // images that do not rank all the others alike: by cosine distance, ties by index
  double largest_swap = 0;      // among pairs whose order changed, the largest difference of their distances in `a`
  std::string summary() const;  // "largest difference 3.1e-07 (image 5 of 64); no rank changed"
};

// a, b [N, D], floating, on the CPU; `a` is the reference. Throws when the shapes differ and for rows without a direction or with
// values that are not finite, naming the side by `a_name` or `b_name`. Cost: two sorts of N distances for each of the N images.
EmbeddingComparison compare_embeddings(const Tensor& a, const Tensor& b, const std::string& a_name, const std::string& b_name);

}  // namespace reid
