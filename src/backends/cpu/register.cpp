// The CPU's table of contents: fast implementations first, the reference behind them.

#include "fast.h"
#include "reference.h"

namespace reid {

void register_cpu() {
  cpu::register_fast_cpu();
  cpu::register_reference_dense();
  cpu::register_reference_vision();
  cpu::register_reference_rows();
  cpu::register_reference_metric();
  cpu::register_reference_optim();
  cpu::register_reference_fused();
  cpu::register_reference_pairs();
  cpu::register_reference_pixels();
  cpu::register_reference_jaccard();
}

}  // namespace reid
