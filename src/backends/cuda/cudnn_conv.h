#pragma once
// The three convolutions by cuDNN: NHWC, f32 or bf16, sums in f32, groups and dilation as the ops have them. Engines that round more than
// that, take other sums than allowed, or give other bits from call to call are refused (refuse_engine). Scratch memory is the stream's.
//
// The gradient of bf16 filters is f32, says the op, and cuDNN 9.19 has no engine that writes it (asked for an H200, 2026-11): it is
// refused. Where VendorAllows::rounded_gradients says so, cuDNN writes it in bf16 and it is widened.

#include <array>
#include <optional>

#include "cudnn_graph.h"
#include "reid/engine/op_args.h"

namespace reid::cuda {

enum class ConvPass : uint8_t { forward, data, weight };

// A tensor as cuDNN wants it described: extents in the order N, C, H, W (of filters K, C / groups, R, S) whatever lies where, strides in
// elements.
struct TensorView {
  int64_t extents[4], strides[4];
  DType dtype;
  int64_t alignment;  // bytes
};

// All that a plan depends on besides the device.
struct ConvProblem {
  ConvPass pass;
  TensorView image, filter, map;  // x or dx; w or dw; y or dy
  int64_t stride[2], pad[2], dilation[2];
  bool other_sums;

  std::vector<int64_t> key(VendorAllows allows, int device) const;
};
ConvProblem conv_problem(const ConvForwardArgs& args, VendorAllows allows = {});
ConvProblem conv_problem(const ConvBackwardDataArgs& args, VendorAllows allows = {});
ConvProblem conv_problem(const ConvBackwardWeightArgs& args, VendorAllows allows = {});
// What is refused without asking the library: other dtypes, nothing to compute, extents beyond 2^31. Null: nothing speaks against it.
const char* refuse_conv(const ConvShape& shape, DType dtype);

// The identifiers of the operands in plans.
enum : int64_t { kImage = 1, kFilter = 2, kMap = 3 };
std::vector<CudnnPlan> plan_conv(const Cudnn& library, const CudnnTarget& target, const ConvProblem& problem, VendorAllows allows,
                                 int most = 1);  // as plan_operation()

using Operands = std::array<const void*, 3>;  // as identified: image, filter, map
Operands operands_of(const ConvForwardArgs& args);
Operands operands_of(const ConvBackwardDataArgs& args);
Operands operands_of(const ConvBackwardWeightArgs& args);

// cuDNN at one place: the library, once it is wanted, a handle for each stream, the plans. Safe from several threads.
class Convolutions {
 public:
  explicit Convolutions(VendorPlace place) : place_(std::move(place)) {}

  // The plan for these arguments, or the reason why there is none; made where it is new, and kept. Throws where the library is missing or
  // fails.
  template <class Args>
  const CudnnPlan& plan(const Args& args, Stream& stream) {
    const ConvProblem problem = conv_problem(args, place_.allows);
    const Operands operands = operands_of(args);
    const int tries = place_.tries_on({operands[0], operands[1], operands[2]});
    std::vector<int64_t> key = problem.key(place_.allows, stream.device().index);
    key.push_back(tries);
    return plans_.get(key, [&] { return make(problem, operands, tries, stream, problem_line(args)); });
  }
  // Queues the work on the stream; throws where there is no plan.
  template <class Args>
  void run(const Args& args, Stream& stream) {
    const ConvShape& s = args.shape;
    const bool rounds = std::is_same_v<Args, ConvBackwardWeightArgs> && place_.allows.rounded_gradients && args.dtype == DType::bf16;
    compute(plan(args, stream), operands_of(args), rounds ? s.k * s.r * s.s * (s.c / s.groups) : 0, stream);
  }
  PlanStatistics statistics() const { return plans_.statistics(); }

 private:
  const Cudnn& library();
  cudnnHandle_t handle(Stream& stream);
  CudnnPlan make(const ConvProblem& problem, const Operands& operands, int tries, Stream& stream, const std::string& line);
  // `rounded`: elements of a gradient that is widened when cuDNN has written it, or 0.
  void compute(const CudnnPlan& plan, Operands operands, int64_t rounded, Stream& stream);
  void execute(const CudnnPlan& plan, const Operands& operands, void* scratch, Stream& stream);

  VendorPlace place_;
  std::mutex mutex_;
  std::optional<Cudnn> library_;
  std::map<const Stream*, cudnnHandle_t> handles_;  // never destroyed: there may be no driver left by then
  PlanCache<CudnnPlan> plans_;
};

// Adds implementations of the three ops called `name` to the lists of place.type (cuda, or cpu in tests).
void register_cudnn(const char* name, VendorPlace place);
PlanStatistics cudnn_statistics(DeviceType type);  // of what register_cudnn() added there

}  // namespace reid::cuda
