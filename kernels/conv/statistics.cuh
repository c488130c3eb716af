#pragma once
// Statistics of a convolution's result for the norm behind it: every block of the product leaves the moments of its columns
// (gemm/moments.cuh) in the workspace, moments [row blocks, K], and one more kernel merges them (merge.cuh).
//
// Fits where all rows of a block belong to one group of every window; a block of columns may lie in both windows, or in none.
// Bytes: y is not read again, 2 N P Q K in bf16; the moments are 8 N P Q K / rows, written and read: with blocks of 128 rows a sixteenth of
// it. Layer 1's last convolution at batch 64, 256 x 128: 67 MB less for 4 MB, 16 us less for 1 us at 4.3 TB/s.
// Instructions: about 8 an element (two to round, a merge, an eighth of an exchange); there 9 us of an H200's issue slots, beside the 20 us
// that x and y take to move. So it pays least where a product has few terms; the merging kernel is one launch for both windows, where
// norm_statistics takes two for each. Kernels that take statistics are instances of their own, the others stay as they are. Registers by
// ptxas of CUDA 13.0 (sm_80, sm_90a): mma_async_128 126 and 126 for 128 and 126 without, mma_async_128x64 154 and 154 for 152 and 156,
// sm90_wgmma 92 for 90, no spills: as many blocks share a processor. No version was measured yet.
// Only kernels of bf16 take them: norm.cu corrects a chunk's mean by a second look at its values, which f32 wants, and merging does not.

#include "gemm/moments.cuh"

namespace reid::REID_TARGET {

// Why blocks of `rows` neighboring rows of [N P Q, K] cannot take what `a` asks for beside y, or null.
const char* refuse_statistics(const ConvForwardArgs& a, int64_t rows);

// How many Moments there are with blocks of `rows` rows; 0: no statistics are wanted.
int64_t count_moments(const ConvForwardArgs& a, int64_t rows);
// Room for them, all of the stream's workspace; null: none are wanted.
Moments* room_for_moments(const ConvForwardArgs& a, int64_t rows, Stream& stream);

// Writes a's means and variances; behind the product, in the same stream.
void merge_moments(const ConvForwardArgs& a, const Moments* moments, int64_t rows, Stream& stream);

}  // namespace reid::REID_TARGET
