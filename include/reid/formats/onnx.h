#pragma once
// An encoder as an ONNX model: operator set 17, floats of 32 bits, one file. docs/onnx.md shows the graph.
//
// Input "images" [N, 3, height, width] f32, normalized; with preprocess [N, height, width, 3] u8, RGB at the network's size.
// Output "embedding" [N, D] f32, not normalized. N is free.
//
// Design: the function is that of Encoder in inference, up to rounding. A batch norm behind a convolution becomes part of its
// filters and a bias: w g and b - m g with g = gamma / sqrt(v + eps), computed in double and rounded once. Where something stands
// between (IBN's halves, the pooling) it stays what it is. Nothing of protobuf or of the onnx package is needed.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "reid/engine/nn.h"
#include "reid/formats/safetensors.h"

namespace reid {

struct OnnxOptions {
  int64_t height = 256, width = 128;  // of the images, fixed in the graph
  bool preprocess = false;            // (pixel / 255 - mean) / std inside the graph; resizing stays outside
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f}, std = {0.229f, 0.224f, 0.225f};
  std::vector<std::pair<std::string, std::string>> metadata;  // kept in the model's metadata_props, in this order
};

// `weights` has the names and shapes of our files (weights.h). Throws, naming the file and the tensor, when one is missing, has
// another shape or makes a value that is not finite, and when the model would pass protobuf's 2 GiB. Tensors the network does not
// have are ignored. The same input gives the same bytes. Memory: the file's bytes and one layer.
std::vector<uint8_t> serialize_onnx(const EncoderConfig& config, const NamedTensors& weights, const OnnxOptions& options);
void write_onnx(const std::filesystem::path& file, const EncoderConfig& config, const NamedTensors& weights, const OnnxOptions& options);

}  // namespace reid
