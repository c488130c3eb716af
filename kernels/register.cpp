// The table of contents of the device code. Compiled once for each target.

#include "kernels.h"

namespace reid::REID_TARGET {

void register_kernels() { register_elementwise(); }

}  // namespace reid::REID_TARGET
