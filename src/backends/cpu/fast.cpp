#include "backends/cpu/fast.h"

namespace reid::cpu {

void register_fast_cpu() {
  register_gemm();
  register_codes();
  register_conv_pairs();
  register_winograd();
  register_winograd_weight();
  register_conv();
  register_norm();
  register_norm_statistics();
  register_norm_apply();
  register_pointwise();
  register_optim();
  register_cast();
  register_pool();
  register_rows();
  register_fused();
}

}  // namespace reid::cpu
