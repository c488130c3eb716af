#include "backends/cpu/fast.h"

namespace reid::cpu {

void register_fast_cpu() {
  register_gemm();
  register_conv();
}

}  // namespace reid::cpu
