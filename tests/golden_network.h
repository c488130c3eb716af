#pragma once
// What the tests of networks and of the training trajectory share: parameters of a golden under our names.

#include "harness.h"
#include "reid/formats/weights.h"

namespace reid::test {

// The golden's embedder is backbone + neck; ours has the backbone's names at the top and calls the neck "bottleneck".
inline std::string golden_name(const std::string& name) {
  if (name.starts_with("part_bottleneck.")) return name;
  return name.starts_with("bottleneck.") ? "neck." + name.substr(11) : "backbone." + name;
}

// Copies the golden's parameters (stored as PyTorch lays them out) into the module.
inline void load_golden(const Inventory& module, const Golden& g, const std::string& group) {
  for (const auto& [name, p] : module.parameters) {
    const Tensor stored = filters_from_file(g[group + "/" + golden_name(name)]);
    REQUIRE_MESSAGE(stored.shape() == p->value.shape(), g.prefix());
    p->value.copy_from(stored.to(p->value.dtype()));
  }
}

// u8 pixels to [-1, 1], as the golden's script does.
inline Tensor scaled_images(const Tensor& pixels, DType dtype = DType::f64) {
  Tensor images = Tensor::empty(pixels.shape(), DType::f64);
  for (size_t i = 0; i < images.span<double>().size(); ++i) images.span<double>()[i] = pixels.span<uint8_t>()[i] / 127.5 - 1;
  return images.to(dtype);
}

}  // namespace reid::test
