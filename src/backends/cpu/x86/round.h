#pragma once
// Sums rounded to bf16 by an instruction of AVX512-BF16: 32 at once, a tenth of the work of integer arithmetic. Like it to nearest, of two
// the even one; but sums below 2^-126, which the multiplications of bf16 do not make, become zero.

#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {

void round_by_instruction(const Apart& tile);  // at most 32 columns

}  // namespace reid::cpu
