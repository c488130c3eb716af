#define REID_LANES 16
#if defined(__clang__)
#define REID_LANES_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#else
#define REID_LANES_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")))
#endif
#define REID_LANES_FUSE true
#include "people/pixel_lanes.h"

namespace reid {

PixelKernels avx512_pixel_kernels() { return lanes_kernels("avx512"); }

}  // namespace reid
