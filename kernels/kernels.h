#pragma once
// The handwritten kernels as implementations of the registry's ops, a function for each file: its last lines say which versions it
// holds, in order of preference.

#include "target.h"

namespace reid::REID_TARGET {

void register_kernels();  // all of what follows, once: on a GPU for CUDA tensors, in emulation for those of the CPU and of the emulated
                          // device

void register_sm90_gemm();               // matmul in bf16 on Hopper
void register_sm90_conv();               // conv_forward and conv_backward_data in bf16 on Hopper
void register_sm90_conv_weight();        // conv_backward_weight in bf16 on Hopper
void register_rate();                    // repeated_product
void register_sm90_rate();               // repeated_product in bf16 on Hopper
void register_gemm();                    // matmul in f32
void register_gemm_mma();                // matmul in bf16
void register_distances();               // row_distances, code_products, non_local and its gradient
void register_conv_implicit_gemm();      // the three convolutions in f32
void register_conv_implicit_gemm_mma();  // the same in bf16
void register_conv_direct();             // f32, by definition
void register_norm();                    // norm_statistics, norm_apply, norm_backward
void register_elementwise();             // relu, relu_backward, add_scaled, multiply, bias_add, cast
void register_reduce();                  // column_sum
void register_pool();                    // max_pool, global_pool, stripe_pool and their gradients
void register_rows();                    // l2_normalize and its gradient, the rows of losses and what they pick, softmax
void register_metric();                  // triplet_rows, circle_logits, row_distances_backward
void register_fused();                   // centroid_rows
void register_pairs();                   // center_rows, pair_distances; nearest rows and pairs of a tile of products
void register_pixels();                  // views_from_pixels, mirror
void register_colors();                  // color_pixels
void register_jaccard();                 // reciprocal_members, reciprocal_rows, mean_rows, transpose_rows, jaccard_within
void register_optim();                   // sgd, adam, ema_update

}  // namespace reid::REID_TARGET
