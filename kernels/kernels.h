#pragma once
// The handwritten kernels as implementations of the registry's ops, a function for each family: its file's last lines say which
// versions there are, in order of preference.

#include "target.h"

namespace reid::REID_TARGET {

void register_kernels();  // all of what follows, once: on a GPU for CUDA tensors, in emulation for CPU tensors

void register_elementwise();

}  // namespace reid::REID_TARGET
