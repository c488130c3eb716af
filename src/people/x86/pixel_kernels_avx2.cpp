#define REID_LANES 8
#define REID_LANES_TARGET __attribute__((target("avx2,fma")))
#define REID_LANES_FUSE true
#include "people/pixel_lanes.h"

namespace reid {

PixelKernels avx2_pixel_kernels() { return lanes_kernels("avx2"); }

}  // namespace reid
