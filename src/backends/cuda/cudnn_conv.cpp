#include "cudnn_conv.h"

#include <iterator>

#include "reid/engine/registry.h"

namespace reid::cuda {

namespace {

// [A, B, C, D] as it lies in memory, its last extent counted as the second.
TensorView view_of(const void* data, DType dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
  return {.extents = {a, d, b, c}, .strides = {b * c * d, 1, c * d, d}, .dtype = dtype, .alignment = plan_alignment(data)};
}

ConvProblem problem_of(ConvPass pass, const ConvShape& s, DType dtype, const void* image, const void* filter, DType filter_type,
                       const void* map) {
  return {.pass = pass,
          .image = view_of(image, dtype, s.n, s.h, s.w, s.c),
          .filter = view_of(filter, filter_type, s.k, s.r, s.s, s.c / s.groups),
          .map = view_of(map, dtype, s.n, s.p(), s.q(), s.k),
          .stride = {s.stride[0], s.stride[1]},
          .pad = {s.pad[0], s.pad[1]},
          .dilation = {s.dilation[0], s.dilation[1]},
          .other_sums = s.other_sums};
}

void add_words(std::vector<int64_t>& words, const TensorView& view) {
  words.insert(words.end(), std::begin(view.extents), std::end(view.extents));
  words.push_back(static_cast<int64_t>(view.dtype));
  words.push_back(view.alignment);
}

}  // namespace

ConvProblem conv_problem(const ConvForwardArgs& a, VendorAllows) {
  return problem_of(ConvPass::forward, a.shape, a.dtype, a.x, a.w, a.dtype, a.y);
}
ConvProblem conv_problem(const ConvBackwardDataArgs& a, VendorAllows) {
  return problem_of(ConvPass::data, a.shape, a.dtype, a.dx, a.w, a.dtype, a.dy);
}
// A rounded gradient lies in scratch memory first.
ConvProblem conv_problem(const ConvBackwardWeightArgs& a, VendorAllows allows) {
  const bool rounded = allows.rounded_gradients && a.dtype == DType::bf16;
  return problem_of(ConvPass::weight, a.shape, a.dtype, a.x, rounded ? nullptr : a.dw, rounded ? DType::bf16 : wide(a.dtype), a.dy);
}

// Strides of tensors follow from their extents.
std::vector<int64_t> ConvProblem::key(VendorAllows allows, int device) const {
  std::vector<int64_t> words{static_cast<int64_t>(pass), other_sums, allows.tf32, allows.nondeterministic, device};
  for (const TensorView* view : {&image, &filter, &map}) add_words(words, *view);
  for (const auto* pair : {&stride, &pad, &dilation}) words.insert(words.end(), std::begin(*pair), std::end(*pair));
  return words;
}

const char* refuse_conv(const ConvShape& s, DType dtype) {
  constexpr int64_t kMost = int64_t{1} << 31;
  if (dtype != DType::f32 && dtype != DType::bf16) return "takes f32 and bf16";
  if (s.n * s.h * s.w * s.c == 0 || s.n * s.p() * s.q() * s.k == 0) return "takes tensors with elements";
  if (s.n * s.h * s.w * s.c >= kMost || s.n * s.p() * s.q() * s.k >= kMost || s.k * s.r * s.s * (s.c / s.groups) >= kMost)
    return "takes fewer than 2^31 elements";
  return nullptr;
}

namespace {

Descriptor describe_tensor(const Cudnn& library, int64_t identifier, const TensorView& view) {
  Descriptor tensor(library, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, identifier);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, view.dtype == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT);
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, view.alignment);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, view.extents);
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, view.strides);
  tensor.finalize();
  return tensor;
}

Descriptor describe_convolution(const Cudnn& library, const ConvProblem& p) {
  Descriptor convolution(library, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "the convolution");
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  convolution.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  convolution.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  convolution.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, p.dilation);
  convolution.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, p.stride);
  convolution.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, p.pad);
  convolution.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, p.pad);
  convolution.finalize();
  return convolution;
}

// How a pass is called, and its operands' attributes.
struct PassNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t image, filter, map, convolution, alpha, beta;
};
PassNames names_of(ConvPass pass) {
  switch (pass) {
    case ConvPass::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case ConvPass::data:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case ConvPass::weight: break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

}  // namespace

std::vector<CudnnPlan> plan_conv(const Cudnn& library, const CudnnTarget& target, const ConvProblem& p, VendorAllows allows, int most) {
  const Descriptor image = describe_tensor(library, kImage, p.image), filter = describe_tensor(library, kFilter, p.filter),
                   map = describe_tensor(library, kMap, p.map), convolution = describe_convolution(library, p);
  const PassNames names = names_of(p.pass);
  Descriptor operation(library, names.type, "the operation");
  operation.set(names.image, image);
  operation.set(names.filter, filter);
  operation.set(names.map, map);
  operation.set(names.convolution, convolution);
  operation.set(names.alpha, 1.0F);
  operation.set(names.beta, 0.0F);
  operation.finalize();
  return plan_operation(library, target, operation, {p.image.dtype == DType::f32, p.other_sums, allows}, most);
}

Operands operands_of(const ConvForwardArgs& a) { return {a.x, a.w, a.y}; }
Operands operands_of(const ConvBackwardDataArgs& a) { return {a.dx, a.w, a.dy}; }
Operands operands_of(const ConvBackwardWeightArgs& a) { return {a.x, a.dw, a.dy}; }

const Cudnn& Convolutions::library() {
  const std::scoped_lock lock(mutex_);
  if (!library_) library_.emplace(place_.files);
  return *library_;
}

// The stream's device must be the thread's also when a plan is executed.
cudnnHandle_t Convolutions::handle(Stream& stream) {
  const Cudnn& cudnn = library();
  cudaStream_t native = place_.native(stream);
  const std::scoped_lock lock(mutex_);
  const auto found = handles_.find(&stream);
  if (found != handles_.end()) return found->second;
  cudnnHandle_t made = nullptr;
  cudnn.check(cudnn.create(&made), "creating a handle");
  cudnn.check(cudnn.set_stream(made, native), "setting the stream");
  return handles_[&stream] = made;
}

namespace {

// Bytes of scratch memory, so that an operand may lie behind it.
int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// The operand that a pass writes.
size_t written(ConvPass pass) { return pass == ConvPass::forward ? 2 : pass == ConvPass::data ? 0 : 1; }
int64_t bytes_of(const TensorView& view) {
  return view.extents[0] * view.extents[1] * view.extents[2] * view.extents[3] * size_of(view.dtype);
}

}  // namespace

CudnnPlan Convolutions::make(const ConvProblem& problem, const Operands& operands, int tries, Stream& stream, const std::string& line) {
  std::vector<CudnnPlan> offers = plan_conv(library(), {handle(stream), nullptr}, problem, place_.allows, tries);
  const size_t out = written(problem.pass);
  const int64_t bytes = bytes_of(*std::array{&problem.image, &problem.filter, &problem.map}[out]);
  const Choice choice = fastest_offer(place_, stream, offers.size(), [&](size_t i) {
    const int64_t own = padded(offers[i].workspace);
    const Storage memory(own + bytes, stream.device(), Storage::Use::workspace);
    Operands aside = operands;
    aside[out] = static_cast<uint8_t*>(memory.data()) + own;
    execute(offers[i], aside, own == 0 ? nullptr : memory.data(), stream);
  });
  CudnnPlan plan = std::move(offers[choice.offer]);
  if (trace_enabled()) {
    const std::string what = plan.plan ? str("engine ", plan.engine, ", scratch ", plan.workspace, " bytes", choice.how) : plan.refusal;
    trace_line("plan", "cudnn", str(line, ": ", what));
  }
  return plan;
}

// A filter's gradient that cuDNN writes in bf16 lies behind its own scratch memory.
void Convolutions::compute(const CudnnPlan& plan, Operands operands, int64_t rounded, Stream& stream) {
  REID_CHECK(plan.plan, plan.refusal);
  const int64_t own = padded(plan.workspace);
  const auto bytes = static_cast<size_t>(own + rounded * size_of(DType::bf16));
  void* scratch = bytes == 0 ? nullptr : stream.workspace(bytes);
  const void* wanted = operands[1];
  if (rounded > 0) operands[1] = static_cast<uint8_t*>(scratch) + own;
  execute(plan, operands, scratch, stream);
  if (rounded == 0) return;
  const CastArgs cast{operands[1], const_cast<void*>(wanted), rounded, DType::bf16, DType::f32};
  Registry::pick<Cast>(place_.type, cast).run(cast, stream);
}

void Convolutions::execute(const CudnnPlan& plan, const Operands& operands, void* scratch, Stream& stream) {
  const int64_t identifiers[] = {kImage, kFilter, kMap};
  Descriptor pack(library(), CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "the operands");
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, identifiers);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, operands.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch);
  pack.finalize();
  library().check(library().execute(handle(stream), plan.plan->raw(), pack.raw()), "executing a plan");
}

namespace {

// The registry's functions carry no state: theirs is found by where they compute. Never destroyed, as the handles.
Convolutions* places[kDeviceTypes] = {};

template <class Op, DeviceType type>
const char* refuses(const typename Op::Args& args) {
  if (const char* reason = refuse_conv(args.shape, args.dtype)) return reason;
  if (const char* reason = refuse_behind(args)) return reason;
  if (const char* reason = refuse_addend(args)) return reason;
  return naming_op<Op>(args, [&]() -> const char* {
    Stream& stream = current_stream({type, device_of(operands_of(args)[1]).index});
    const CudnnPlan& plan = places[static_cast<size_t>(type)]->plan(args, stream);
    return plan.plan ? nullptr : plan.refusal.c_str();
  });
}

template <class Op, DeviceType type>
void run(const typename Op::Args& args, Stream& stream) {
  naming_op<Op>(args, [&] { places[static_cast<size_t>(type)]->run(args, stream); });
}

template <DeviceType type>
void add(const char* name) {
  Registry::add<ConvForward>(type, {name, refuses<ConvForward, type>, run<ConvForward, type>});
  Registry::add<ConvBackwardData>(type, {name, refuses<ConvBackwardData, type>, run<ConvBackwardData, type>});
  Registry::add<ConvBackwardWeight>(type, {name, refuses<ConvBackwardWeight, type>, run<ConvBackwardWeight, type>});
}

}  // namespace

void register_cudnn(const char* name, VendorPlace place) {
  const DeviceType type = place.type;
  REID_CHECK(type == DeviceType::cuda || type == DeviceType::cpu, "[vendor] cuDNN computes on cuda, in tests on the CPU");
  places[static_cast<size_t>(type)] = new Convolutions(std::move(place));
  type == DeviceType::cuda ? add<DeviceType::cuda>(name) : add<DeviceType::cpu>(name);
}

PlanStatistics cudnn_statistics(DeviceType type) {
  const Convolutions* place = places[static_cast<size_t>(type)];
  return place ? place->statistics() : PlanStatistics();
}

}  // namespace reid::cuda
