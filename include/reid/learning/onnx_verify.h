#pragma once
// An encoder exported to ONNX, run by ONNX Runtime and held against the encoder itself.
//
// Design: the program links no Python. Where its user asks for the check, it starts `python3` (or the program that REID_PYTHON names)
// with a short script that needs onnxruntime and numpy; tensors go there and back as safetensors files in a temporary folder.

#include <filesystem>
#include <span>

#include "reid/formats/image.h"
#include "reid/formats/onnx.h"
#include "reid/learning/embedding_comparison.h"
#include "reid/learning/encoder_file.h"

namespace reid {

// How an encoder's file is exported: its preprocessing's size, mean and deviation, and the file's metadata.
OnnxOptions onnx_options(const TransformConfig& transform, const NamedTensors& encoder_file, bool preprocess);

// Whether the check can be run; where not, `reason` says what is missing and what to do. Starts Python.
bool has_onnxruntime(std::string& reason);

// The model's first output for `images`, f32 or u8 with N first, on the CPU, in batches of 32. Throws when Python or one of its
// packages is missing, and with ONNX Runtime's own message when it refuses the model or the images.
Tensor run_in_onnxruntime(const std::filesystem::path& model, const Tensor& images);

// Embeds the images with the encoder and with its exported model, which must be of the same preprocess. Images have the encoder's
// size. Takes the memory of all images as floats.
EmbeddingComparison verify_onnx(const std::filesystem::path& model, LoadedEncoder& encoder, std::span<const Image> images, bool preprocess);

}  // namespace reid
