#pragma once
// Matrix products by cuBLASLt: f32 or bf16 factors, sums and result in f32, transposed operands and accumulation as the op has them.
//
// Refused are algorithms that round more than the op does, and sums in parts that are put together in the result itself, where the order
// may be that of arrival. Sums in parts that are added in a step of their own are taken: the same bits from call to call. How a sum is cut
// depends on all of M, N and K, so that rows of c agree bit for bit between products of the same extents, not between any two: here the
// library gives less than GemmArgs promises. Scratch memory is the stream's.

#include <cublasLt.h>

#include <memory>
#include <string>
#include <vector>

#include "reid/engine/op_args.h"
#include "vendor.h"

namespace reid::cuda {

// A matrix as cuBLASLt sees it, in its order of columns: what is row-major for us is transposed there.
struct ColumnMajor {
  int64_t rows, columns, stride;  // elements from a column to the next
  bool transposed;                // enters the product so
  DType dtype;
  int64_t alignment;  // bytes
};

// c^T = op(b)^T op(a)^T: `left` is b, `right` a, `result` c, and sums run over `k`.
struct GemmProblem {
  ColumnMajor left, right, result;
  bool accumulate;
  std::vector<int64_t> key(VendorAllows allows, int device) const;
};
GemmProblem gemm_problem(const GemmArgs& args);
// What is refused without asking the library. Null: nothing speaks against it.
const char* refuse_gemm(const GemmArgs& args);

// What an algorithm says of itself: cublasLtReductionScheme_t, CUBLASLT_NUMERICAL_IMPL_FLAGS_*.
struct AlgorithmNotes {
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  uint64_t numerics = 0;
};
const char* refuse_algorithm(const AlgorithmNotes& notes, DType dtype, VendorAllows allows);  // null: acceptable, else the reason

// The most scratch memory an algorithm may ask for: what the library's documentation advises for Hopper.
inline constexpr int64_t kCublasWorkspace = int64_t{32} << 20;

class CublasLt;   // the functions of the opened library
struct GemmPlan;  // what it wants described, and the chosen algorithm

// cuBLASLt at one place: the library, once it is wanted, a handle for each device, the plans. Safe from several threads.
class Products {
 public:
  explicit Products(VendorPlace place);
  ~Products();

  // Why there is no plan for these arguments; empty where there is one, made where it is new, and kept. Throws where the library is missing
  // or fails.
  const std::string& refusal(const GemmArgs& args, Stream& stream);
  void run(const GemmArgs& args, Stream& stream);  // queues the work; throws where there is no plan
  PlanStatistics statistics() const { return plans_.statistics(); }

 private:
  const CublasLt& library();
  cublasLtHandle_t handle(Stream& stream);
  const GemmPlan& plan(const GemmArgs& args, Stream& stream);
  GemmPlan make(const GemmArgs& args, const GemmProblem& problem, int tries, Stream& stream);

  VendorPlace place_;
  std::mutex mutex_;
  std::unique_ptr<CublasLt> library_;
  std::map<int, cublasLtHandle_t> handles_;  // by device; never destroyed: there may be no driver left by then
  PlanCache<GemmPlan> plans_;
};

// Adds an implementation of matmul called `name` to the list of place.type (cuda, or cpu in tests).
void register_cublaslt(const char* name, VendorPlace place);
PlanStatistics cublaslt_statistics(DeviceType type);  // of what register_cublaslt() added there

}  // namespace reid::cuda
