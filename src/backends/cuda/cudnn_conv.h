#pragma once
// The three convolutions by cuDNN: NHWC, f32 or bf16, sums in f32, groups and dilation as the ops have them. Engines that round more than
// that, take other sums than allowed, or give other bits from call to call are refused (refuse_engine). Scratch memory is the stream's.
//
// The gradient of bf16 filters is f32, says the op, and cuDNN before 9.24 has no engine that writes it, later ones none for the stem (asked
// for an H200, 2026-11): it is refused. Where VendorAllows::rounded_gradients says so, cuDNN writes it in bf16 and it is widened.
//
// Fused, in one graph with the convolution: the addend of a data's gradient, and where VendorAllows::loose_statistics says so statistics of
// y over all rows, which cuDNN takes as sums and sums of squares. Not those of groups, as instance norm's; not the sums of a norm's
// gradients (NormSumsArgs): asked for a data gradient of bf16, ReLU's and these, cuDNN 9.19 offered no engine (H200, 2026-11).

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
  bool sums = false;                      // of y and of its squares are taken, too
  std::optional<TensorView> addend = {};  // of dx

  bool rounds() const { return pass == ConvPass::weight && filter.dtype == DType::bf16; }  // a gradient that is widened afterwards
  // Bytes that a plan writes and the op does not name: a rounded gradient, or sums and, behind them, those of squares.
  int64_t bytes_aside() const;
  int64_t bytes_of_sums() const;
  std::vector<int64_t> key(VendorAllows allows, int device) const;
};
ConvProblem conv_problem(const ConvForwardArgs& args, VendorAllows allows = {});
ConvProblem conv_problem(const ConvBackwardDataArgs& args, VendorAllows allows = {});
ConvProblem conv_problem(const ConvBackwardWeightArgs& args, VendorAllows allows = {});
// What is refused without asking the library: other dtypes, nothing to compute, extents beyond 2^31. Null: nothing speaks against it.
const char* refuse_conv(const ConvShape& shape, DType dtype);
// And of what is to be done beside the convolution.
const char* refuse_fused(const ConvForwardArgs& args, VendorAllows allows);
const char* refuse_fused(const ConvBackwardDataArgs& args, VendorAllows allows);
const char* refuse_fused(const ConvBackwardWeightArgs& args, VendorAllows allows);

// What plans take and make, by index in Operands; in plans each is identified by the number behind. kProduct, a data's gradient before
// the addend, is nowhere in memory.
enum Operand : uint8_t { kImage, kFilter, kMap, kSums, kSquares, kAddend, kProduct };
std::vector<CudnnPlan> plan_conv(const Cudnn& library, const CudnnTarget& target, const ConvProblem& problem, VendorAllows allows,
                                 int most = 1);  // as plan_operations()

using Operands = std::array<const void*, kProduct>;  // null: there is none
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
    const int tries = place_.tries_on({operands[kImage], operands[kFilter], operands[kMap], operands[operands[kAddend] ? kAddend : kMap]});
    std::vector<int64_t> key = problem.key(place_.allows, stream.device().index);
    key.push_back(tries);
    return plans_.get(key, [&] { return make(problem, operands, tries, stream, problem_line(args)); });
  }
  // Queues the work on the stream; throws where there is no plan.
  template <class Args>
  void run(const Args& args, Stream& stream) {
    const void* aside = compute(plan(args, stream), conv_problem(args, place_.allows), operands_of(args), stream);
    if (aside) finish(args, aside, stream);
  }
  PlanStatistics statistics() const { return plans_.statistics(); }
  VendorAllows allows() const { return place_.allows; }

 private:
  const Cudnn& library();
  cudnnHandle_t handle(Stream& stream);
  CudnnPlan make(const ConvProblem& problem, const Operands& operands, int tries, Stream& stream, const std::string& line);
  // Where bytes_aside() were written: the stream's workspace, null where there are none.
  const void* compute(const CudnnPlan& plan, const ConvProblem& problem, Operands operands, Stream& stream);
  void execute(const CudnnPlan& plan, const Operands& operands, void* scratch, Stream& stream);
  // What is made of them: statistics of sums; nothing; a gradient in f32.
  void finish(const ConvForwardArgs& args, const void* aside, Stream& stream);
  void finish(const ConvBackwardDataArgs&, const void*, Stream&) {}
  void finish(const ConvBackwardWeightArgs& args, const void* aside, Stream& stream);

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
