// Linked instead of the CUDA backend in builds without it.

#include "reid/engine/registry.h"

namespace reid {

void register_cuda() {}

}  // namespace reid
