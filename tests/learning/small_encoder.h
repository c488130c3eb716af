#pragma once
// A random encoder for small images, written as a run writes its own.

#include <string>

#include "reid/learning/encoder_file.h"

namespace reid::test {

inline void write_small_encoder(const std::string& file) {
  ModelSettings model;
  model.depth = 18;
  model.width = 4;
  TransformConfig transform;
  transform.height = 32;
  transform.width = 16;
  write_safetensors(file, exported_encoder(LoadedEncoder(model, transform, 5).weights(), model, transform));
}

}  // namespace reid::test
