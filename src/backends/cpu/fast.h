#pragma once
// The fast implementations in f32 and bf16 of the CPU, entered into the registry ahead of the references, in order of preference.

namespace reid::cpu {

void register_fast_cpu();  // all of the following

void register_gemm();             // matmul
void register_codes();            // code_products
void register_conv_pairs();       // the same of bf16 in tiles, which are faster than minimal filtering
void register_winograd();         // conv_forward, conv_backward_data of 3x3 filters
void register_winograd_weight();  // conv_backward_weight of 3x3 filters
void register_conv();             // conv_forward, conv_backward_data, conv_backward_weight
void register_norm();             // norm_backward
void register_norm_statistics();
void register_norm_apply();
void register_pointwise();  // relu, add_scaled, bias_add, column_sum and backward
void register_optim();      // sgd, adam, ema_update
void register_cast();       // cast
void register_pool();       // max_pool, global_pool and backward
void register_rows();       // l2_normalize and backward
void register_fused();      // centroid_rows

}  // namespace reid::cpu
