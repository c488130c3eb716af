// Convolution as a matrix product whose operands are gathered where they stand (gather.cuh), on the register tiles of gemm/tile.cuh, in
// f32.
//
// Filters are small and pixels many, so the weights' gradient is cut into chunks of 1024 pixels (split-K), added in order by a second
// kernel. The data's gradient of a convolution with a stride runs by phases, so that no product meets a zero between the windows.
// Flops: 2 N P Q K R S C / g. Floor on H200: 67 Tflop/s of f32 FMA. No version was measured yet. bf16: implicit_gemm_mma.cu.

#include "conv/gather.cuh"
#include "kernels.h"

namespace reid::REID_TARGET {

namespace {

constexpr int64_t kSplit = 1024;  // pixels

void forward(const ConvForwardArgs& a, Stream& stream) { run_register_tile<64, 64>(ForwardProblem<float>(a), a.shape.groups, stream); }

void backward_data(const ConvBackwardDataArgs& a, Stream& stream) {
  const DataProblem<float> p(a);
  run_register_tile<64, 64>(p, a.shape.groups * p.phases, stream);
}

void backward_weight(const ConvBackwardWeightArgs& a, Stream& stream) {
  WeightProblem<float> p(a);
  run_splits(p, kSplit, a, stream, [&] { run_register_tile<64, 64>(p, a.shape.groups * p.splits, stream); });
}

template <class Args>
const char* refuse(const Args& a) {
  const char* reason = refuse_beyond_int(a.shape);
  if (!reason) reason = refuse_behind(a);
  return reason ? reason : refuse_other_than_f32(a.dtype);
}
const char* refuse_data(const ConvBackwardDataArgs& a) {
  const char* reason = refuse_wide_strides(a.shape);
  if (!reason) reason = refuse_sums(a);
  return reason ? reason : refuse(a);
}

}  // namespace

void register_conv_implicit_gemm() {
  add<ConvForward>(REID_KERNEL_NAME("implicit_gemm"), refuse<ConvForwardArgs>, forward);
  add<ConvBackwardData>(REID_KERNEL_NAME("implicit_gemm_phases"), refuse_data, backward_data);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("implicit_gemm_split"), refuse<ConvBackwardWeightArgs>, backward_weight);
}

}  // namespace reid::REID_TARGET
