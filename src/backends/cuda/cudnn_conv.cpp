#include "cudnn_conv.h"

#include <iterator>

#include "reid/engine/op_args_rows.h"
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

// Bytes of scratch memory, so that an operand may lie behind it.
int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }
int64_t bytes_of(const TensorView& view) {
  return view.extents[0] * view.extents[1] * view.extents[2] * view.extents[3] * size_of(view.dtype);
}

void add_words(std::vector<int64_t>& words, const TensorView& view) {
  words.insert(words.end(), std::begin(view.extents), std::end(view.extents));
  words.push_back(static_cast<int64_t>(view.dtype));
  words.push_back(view.alignment);
}

}  // namespace

ConvProblem conv_problem(const ConvForwardArgs& a, VendorAllows) {
  ConvProblem problem = problem_of(ConvPass::forward, a.shape, a.dtype, a.x, a.w, a.dtype, a.y);
  problem.sums = a.statistics[0].x || a.statistics[1].x;
  return problem;
}
ConvProblem conv_problem(const ConvBackwardDataArgs& a, VendorAllows) {
  ConvProblem problem = problem_of(ConvPass::data, a.shape, a.dtype, a.dx, a.w, a.dtype, a.dy);
  if (a.addend) problem.addend = view_of(a.addend, a.dtype, a.shape.n, a.shape.h, a.shape.w, a.shape.c);
  return problem;
}
// A rounded gradient lies in scratch memory first.
ConvProblem conv_problem(const ConvBackwardWeightArgs& a, VendorAllows allows) {
  const bool rounded = allows.rounded_gradients && a.dtype == DType::bf16;
  return problem_of(ConvPass::weight, a.shape, a.dtype, a.x, rounded ? nullptr : a.dw, rounded ? DType::bf16 : wide(a.dtype), a.dy);
}

int64_t ConvProblem::bytes_of_sums() const { return padded(map.extents[1] * size_of(DType::f32)); }
int64_t ConvProblem::bytes_aside() const { return sums ? 2 * bytes_of_sums() : rounds() ? bytes_of(filter) : 0; }

// Strides of tensors follow from their extents.
std::vector<int64_t> ConvProblem::key(VendorAllows allows, int device) const {
  std::vector<int64_t> words{static_cast<int64_t>(pass), other_sums, sums, allows.tf32, allows.nondeterministic, device};
  for (const TensorView* view : {&image, &filter, &map}) add_words(words, *view);
  if (addend) add_words(words, *addend);
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

const char* refuse_fused(const ConvForwardArgs& a, VendorAllows allows) {
  if (a.finish.mean) return "finishes nothing";
  for (const NormStatisticsArgs& s : a.statistics) {
    if (!s.x) continue;
    if (!allows.loose_statistics) return "takes no statistics, unless loose ones are allowed";
    if (s.window.groups != 1) return "takes statistics of all rows only";
  }
  return nullptr;
}
const char* refuse_fused(const ConvBackwardDataArgs& a, VendorAllows) { return refuse_sums(a); }
const char* refuse_fused(const ConvBackwardWeightArgs& a, VendorAllows) { return refuse_addend(a); }

namespace {

int64_t identifier(Operand operand) { return operand + 1; }

Descriptor describe_tensor(const Cudnn& library, Operand operand, const TensorView& view) {
  Descriptor tensor(library, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, identifier(operand));
  if (operand == kProduct) tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
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

// The sums of a map's columns and of their squares, f32.
Descriptor describe_sums(const Cudnn& library, const TensorView& view, const Descriptor& map) {
  const TensorView columns{{1, view.extents[1], 1, 1}, {view.extents[1], 1, view.extents[1], view.extents[1]}, DType::f32, 16};
  const Descriptor sums = describe_tensor(library, kSums, columns), squares = describe_tensor(library, kSquares, columns);
  const cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
  Descriptor operation(library, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, "the sums");
  operation.set(CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
  operation.set(CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_DATA_FLOAT);
  operation.set(CUDNN_ATTR_OPERATION_GENSTATS_XDESC, map);
  operation.set(CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, sums);
  operation.set(CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, squares);
  operation.finalize();
  return operation;
}

Descriptor describe_addition(const Cudnn& library, const Descriptor& product, const Descriptor& addend, const Descriptor& sum) {
  const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
  Descriptor addition(library, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "an addition");
  addition.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  addition.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  addition.finalize();
  Descriptor operation(library, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "the addition");
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, addition);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, product);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, addend);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, sum);
  operation.finalize();
  return operation;
}

}  // namespace

std::vector<CudnnPlan> plan_conv(const Cudnn& library, const CudnnTarget& target, const ConvProblem& p, VendorAllows allows, int most) {
  const Descriptor image = describe_tensor(library, kImage, p.image), filter = describe_tensor(library, kFilter, p.filter),
                   map = describe_tensor(library, kMap, p.map), convolution = describe_convolution(library, p);
  std::optional<Descriptor> product;  // f32: it is rounded once, with the addend
  if (p.addend) {
    TensorView wide = p.image;
    wide.dtype = DType::f32, wide.alignment = 16;
    product.emplace(describe_tensor(library, kProduct, wide));
  }
  const PassNames names = names_of(p.pass);
  Descriptor operation(library, names.type, "the operation");
  operation.set(names.image, product ? *product : image);
  operation.set(names.filter, filter);
  operation.set(names.map, map);
  operation.set(names.convolution, convolution);
  operation.set(names.alpha, 1.0F);
  operation.set(names.beta, 0.0F);
  operation.finalize();
  std::vector<Descriptor> operations;
  operations.push_back(std::move(operation));
  if (p.sums) operations.push_back(describe_sums(library, p.map, map));
  if (p.addend) operations.push_back(describe_addition(library, *product, describe_tensor(library, kAddend, *p.addend), image));
  return plan_operations(library, target, operations, {p.image.dtype == DType::f32, p.other_sums, allows}, most);
}

// Sums, and a gradient that is rounded, lie in scratch memory: compute().
Operands operands_of(const ConvForwardArgs& a) { return {a.x, a.w, a.y}; }
Operands operands_of(const ConvBackwardDataArgs& a) {
  Operands operands{a.dx, a.w, a.dy};
  operands[kAddend] = a.addend;
  return operands;
}
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

// The operand that a pass writes.
Operand written(ConvPass pass) { return pass == ConvPass::forward ? kMap : pass == ConvPass::data ? kImage : kFilter; }

// The operands that take bytes_aside().
void put_aside(Operands& operands, const ConvProblem& problem, uint8_t* memory) {
  if (problem.rounds()) operands[kFilter] = memory;
  if (problem.sums) operands[kSums] = memory, operands[kSquares] = memory + problem.bytes_of_sums();
}

}  // namespace

CudnnPlan Convolutions::make(const ConvProblem& problem, const Operands& operands, int tries, Stream& stream, const std::string& line) {
  std::vector<CudnnPlan> offers = plan_conv(library(), {handle(stream), nullptr}, problem, place_.allows, tries);
  const Operand out = written(problem.pass);
  const int64_t bytes = padded(bytes_of(*std::array{&problem.image, &problem.filter, &problem.map}[out]));
  const Choice choice = fastest_offer(place_, stream, offers.size(), [&](size_t i) {
    const int64_t own = padded(offers[i].workspace);
    const Storage memory(own + bytes + problem.bytes_aside(), stream.device(), Storage::Use::workspace);
    auto* behind = static_cast<uint8_t*>(memory.data()) + own;
    Operands elsewhere = operands;
    elsewhere[out] = behind;
    put_aside(elsewhere, problem, behind + bytes);
    execute(offers[i], elsewhere, own == 0 ? nullptr : memory.data(), stream);
  });
  CudnnPlan plan = std::move(offers[choice.offer]);
  if (trace_enabled()) {
    const std::string what = plan.plan ? str("engine ", plan.engine, ", scratch ", plan.workspace, " bytes", choice.how) : plan.refusal;
    trace_line("plan", "cudnn", str(line, ": ", what));
  }
  return plan;
}

const void* Convolutions::compute(const CudnnPlan& plan, const ConvProblem& problem, Operands operands, Stream& stream) {
  REID_CHECK(plan.plan, plan.refusal);
  const int64_t own = padded(plan.workspace), aside = problem.bytes_aside();
  auto* scratch = own + aside == 0 ? nullptr : static_cast<uint8_t*>(stream.workspace(static_cast<size_t>(own + aside)));
  if (aside > 0) put_aside(operands, problem, scratch + own);
  execute(plan, operands, scratch, stream);
  return aside > 0 ? scratch + own : nullptr;
}

void Convolutions::execute(const CudnnPlan& plan, const Operands& operands, void* scratch, Stream& stream) {
  std::vector<int64_t> identifiers;
  std::vector<const void*> pointers;
  for (uint8_t i = 0; i < operands.size(); ++i) {
    if (operands[i]) identifiers.push_back(identifier(Operand{i})), pointers.push_back(operands[i]);
  }
  const auto count = static_cast<int64_t>(pointers.size());
  Descriptor pack(library(), CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "the operands");
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, identifiers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch);
  pack.finalize();
  library().check(library().execute(handle(stream), plan.plan->raw(), pack.raw()), "executing a plan");
}

void Convolutions::finish(const ConvForwardArgs& a, const void* aside, Stream& stream) {
  const auto* sums = static_cast<const float*>(aside);
  const float* squares = sums + conv_problem(a).bytes_of_sums() / size_of(DType::f32);
  for (const NormStatisticsArgs& s : a.statistics) {
    if (!s.x) continue;
    const NormWindow& w = s.window;
    const SumsStatisticsArgs args{sums + w.first, squares + w.first, s.mean, s.variance, w.length, w.count, DType::f32};
    Registry::pick<SumsStatistics>(place_.type, args).run(args, stream);
  }
}

void Convolutions::finish(const ConvBackwardWeightArgs& a, const void* aside, Stream& stream) {
  const ConvShape& s = a.shape;
  const CastArgs cast{aside, a.dw, s.k * s.r * s.s * (s.c / s.groups), DType::bf16, DType::f32};
  Registry::pick<Cast>(place_.type, cast).run(cast, stream);
}

namespace {

// The registry's functions carry no state: theirs is found by where they compute. Never destroyed, as the handles.
Convolutions* places[kDeviceTypes] = {};

template <class Op, DeviceType type>
const char* refuses(const typename Op::Args& args) {
  Convolutions& place = *places[static_cast<size_t>(type)];
  if (const char* reason = refuse_conv(args.shape, args.dtype)) return reason;
  if (const char* reason = refuse_fused(args, place.allows())) return reason;
  return naming_op<Op>(args, [&]() -> const char* {
    Stream& stream = current_stream({type, device_of(operands_of(args)[kFilter]).index});
    const CudnnPlan& plan = place.plan(args, stream);
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
