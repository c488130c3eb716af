#pragma once
// The fast CPU implementations of this folder, entered into the registry ahead of the reference.

namespace reid::cpu {

void register_fast_cpu();

}  // namespace reid::cpu
