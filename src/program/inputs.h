#pragma once
// What several verbs read: feature files and images named on the command line.

#include "reid/engine/tensor.h"
#include "reid/people/data.h"

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

// An image, or the images of a folder (.jpg, .jpeg, .png, at any depth, in the order of their names); throws when a folder has none.
// Whether an image exists shows when it is read.
void add_images(std::vector<Sample>& samples, const std::string& name);
// The same for each name; throws when one does not exist.
std::vector<Sample> list_images(const std::vector<std::string>& names);

}  // namespace reid::program
