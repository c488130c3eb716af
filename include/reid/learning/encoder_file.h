#pragma once
// An encoder as one safetensors file: weights, and in the metadata the network it is and how it wants its images.

#include <filesystem>

#include "reid/engine/weight_cache.h"
#include "reid/formats/safetensors.h"
#include "reid/learning/settings.h"

namespace reid {

// Whether the metadata says that this is such a file.
bool is_encoder(const NamedTensors& file);

NamedTensors exported_encoder(const Inventory& network, const ModelSettings& model, const TransformConfig& transform);

// A network ready to embed. Throws when the file is none of ours or its tensors do not fit the network it names.
class LoadedEncoder {
 public:
  explicit LoadedEncoder(const std::filesystem::path& file);
  explicit LoadedEncoder(const NamedTensors& file);  // what exported_encoder() returns, or a file that was read already
  // A network from settings: weights of a file that carries no description, or random ones when model.weights is empty.
  LoadedEncoder(const ModelSettings& model, const TransformConfig& transform, uint64_t seed);

  void move_to(Device device);         // computes there from now on
  Tensor embed(const Tensor& images);  // [B, H, W, 3] -> [B, D] where it computes; running statistics, not normalized
  // Sets batch norm's running statistics to those of the given images: the mean of every batch's statistics.
  void estimate_statistics(const std::vector<Tensor>& batches);
  const ModelSettings& model() const { return model_; }
  int64_t width() const { return encoder_.features(); }  // D
  const TransformConfig& transform() const { return transform_; }
  // What embed() keeps of the weights is forgotten: change them before the next call, not after it.
  Inventory weights();

 private:
  ModelSettings model_;
  TransformConfig transform_;
  Encoder encoder_;
  WeightCache cache_;
  Device device_;
};

}  // namespace reid
