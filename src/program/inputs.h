#pragma once
// What several verbs read: feature files and data sets named on the command line.

#include "reid/engine/tensor.h"

#include <cstdint>
#include <string>
#include <vector>

namespace reid::program {

// The `features` [N, D] (f32 or f64) of a safetensors file; throws naming the file when it is missing, empty or of another kind.
Tensor read_features(const std::string& file);

// A whole feature file for evaluation: `features` [N, D], `ids` [N] and `cameras` [N] as 64-bit integers.
struct LabeledFeatures {
  Tensor features;
  std::vector<int64_t> ids, cameras;
};
LabeledFeatures read_labeled_features(const std::string& file);

}  // namespace reid::program
