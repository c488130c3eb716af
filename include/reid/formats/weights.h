#pragma once
// A network's weights as a file: named tensors under torchvision's and IBN-Net's names, filters in PyTorch's [K, C, R, S]
// order, so that other programs read ours without renaming. Inside the project filters are [K, R, S, C].

#include <filesystem>
#include <string>

#include "reid/engine/nn.h"
#include "reid/formats/safetensors.h"

namespace reid {

Tensor filters_to_file(const Tensor& krsc);  // [K, R, S, C] -> [K, C, R, S]; other ranks pass
Tensor filters_from_file(const Tensor& kcrs);

// Every parameter and buffer of a module.
NamedTensors module_weights(const Inventory& module);

// Copies a file's tensors into a module, converting float dtypes. Throws, naming the file and the tensors, when one is missing or
// has another shape; tensors the module does not know are ignored (classifiers, counters).
void load_weights(const Inventory& module, const NamedTensors& weights);

}  // namespace reid
