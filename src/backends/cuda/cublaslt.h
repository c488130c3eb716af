#pragma once
// Matrix products by cuBLASLt: f32 or bf16 factors, sums and result in f32, transposed operands and accumulation as the op has them.
//
// Refused are algorithms that round more than the op does, and sums in parts that are put together in the result itself, where the order
// may be that of arrival. Sums in parts that are added in a step of their own are taken: the same bits from call to call. How a sum is cut
// depends on all of M, N and K, so that rows of c agree bit for bit between products of the same extents, not between any two: here the
// library gives less than GemmArgs promises. Scratch memory is the stream's.

#include <cublasLt.h>

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

// Adds an implementation of matmul called `name` to the list of place.type (cuda, or cpu in tests).
void register_cublaslt(const char* name, VendorPlace place);
PlanStatistics cublaslt_statistics(DeviceType type);  // of what register_cublaslt() added there

}  // namespace reid::cuda
