#pragma once
// What the tests of containers share: where the committed ones are (tools/golden_containers.py), and skipping aloud.

#include <doctest/doctest.h>

#include <filesystem>

#include "formats/lmdb.h"
#include "formats/matlab.h"
#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"

namespace reid::test {

inline const std::filesystem::path kContainers = std::filesystem::path(REID_SOURCE_DIR) / "data/golden/containers";

// True, and said, where the build lacks the library.
inline bool skipped(bool there, const std::string& package) {
  if (!there) MESSAGE("SKIPPED: built without ", package);
  return !there;
}
inline bool no_matlab() { return skipped(has_matlab(), "libmatio (apt-get install libmatio-dev)"); }
inline bool no_lmdb() { return skipped(has_lmdb(), "liblmdb (apt-get install liblmdb-dev)"); }

inline const NamedTensors& container_values() {
  static const NamedTensors values = read_safetensors(kContainers.parent_path() / "containers.safetensors");
  return values;
}

// Whether an image has the pixels [H, W, 3] of a golden.
inline bool same_pixels(const Image& image, const std::string& golden) {
  const Tensor& want = container_values().at(golden);
  if (want.shape() != Shape{image.height, image.width, 3}) return false;
  const auto bytes = want.span<uint8_t>();
  return std::equal(image.rgb.begin(), image.rgb.end(), bytes.begin(), bytes.end());
}

}  // namespace reid::test
