// The table of contents of the device code, compiled once for each target. Where two files offer the same op, the first is preferred.

#include "kernels.h"

namespace reid::REID_TARGET {

void register_kernels() {
  register_sm90_rate();
  register_rate();
  register_sm90_gemm();
  register_sm90_conv();
  register_gemm();
  register_gemm_mma();
  register_distances();
  register_conv_implicit_gemm();
  register_conv_implicit_gemm_mma();
  register_conv_direct();
  register_norm();
  register_elementwise();
  register_reduce();
  register_pool();
  register_rows();
  register_metric();
  register_fused();
  register_pairs();
  register_pixels();
  register_colors();
  register_jaccard();
  register_optim();
}

}  // namespace reid::REID_TARGET
