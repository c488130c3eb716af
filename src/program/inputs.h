#pragma once
// What several verbs read and write: feature files, images named on the command line, fields of CSV.

#include "reid/engine/tensor.h"
#include "reid/people/data.h"

#include <cstdint>
#include <string>
#include <vector>

namespace reid::program {

// The `features` [N, D] (f32 or f64) of a safetensors file; throws naming the file when it is missing, empty or of another kind.
Tensor read_features(const std::string& file);

// With the metadata `paths`, a JSON list, as reid embed writes it.
struct NamedFeatures {
  Tensor features;
  std::vector<std::string> paths;  // one for each row, or none
};
NamedFeatures read_named_features(const std::string& file);

// A whole feature file for evaluation: also `ids` [N] and, where they are known, `cameras` [N] as 64-bit integers.
struct LabeledFeatures : NamedFeatures {
  std::vector<int64_t> ids, cameras;  // no cameras: they are unknown
};
LabeledFeatures read_labeled_features(const std::string& file);

// An image, or the images of a folder (.jpg, .jpeg, .png, at any depth, in the order of their names); throws when a folder has none.
// Whether an image exists shows when it is read.
void add_images(std::vector<Sample>& samples, const std::string& name);
// The same for each name; throws when one does not exist.
std::vector<Sample> list_images(const std::vector<std::string>& names);

std::string csv_field(const std::string& text);  // quoted where RFC 4180 asks for it

}  // namespace reid::program
