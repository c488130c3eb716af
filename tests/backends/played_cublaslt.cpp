// libcublasLt played by the CPU: the functions that src/backends/cuda/cublaslt.cpp finds. Of the algorithms it offers, whatever the
// preference says, the first sums in place, the second sums in half precision, and the others compute, with scratch memory, at the prices
// of played_prices.h. The library's types are opaque: what is asked for is kept in their bytes.

#include <cublasLt.h>

#include <cstring>

#include "played_prices.h"
#include "reid/engine/base.h"

namespace {

struct Layout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t stride;
};
struct Operation {
  cublasComputeType_t compute;
  int32_t transposed_a, transposed_b;
};
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) && sizeof(Operation) <= sizeof(cublasLtMatmulDescOpaque_t));

int64_t living = 0;
bool fails_next = false;
constexpr int kAlgorithms = 5;
constexpr size_t scratch_of(uint64_t algorithm) { return algorithm < 2 ? 0 : 256 * (algorithm - 1); }  // bytes

template <class T, class Opaque>
T read(const Opaque* opaque) {
  T value;
  std::memcpy(&value, opaque->data, sizeof value);
  return value;
}
template <class T, class Opaque>
cublasStatus_t create(Opaque** opaque, const T& value) {
  *opaque = new Opaque{};
  std::memcpy((*opaque)->data, &value, sizeof value);
  ++living;
  return CUBLAS_STATUS_SUCCESS;
}
template <class Opaque>
cublasStatus_t destroy(Opaque* opaque) {
  delete opaque;
  --living;
  return CUBLAS_STATUS_SUCCESS;
}

// Element (i, j) of op(matrix), in its order of columns.
double element(const Layout& m, const void* data, bool transposed, int64_t i, int64_t j) {
  const int64_t place = transposed ? i * m.stride + j : j * m.stride + i;
  return m.type == CUDA_R_32F ? double{static_cast<const float*>(data)[place]} : double{float{static_cast<const reid::bf16*>(data)[place]}};
}

}  // namespace

extern "C" {

int64_t played_objects() { return living; }
void played_fail_next_product() { fails_next = true; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED ? "the played product failed" : "a played status";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int one = 0;
  *handle = reinterpret_cast<cublasLtHandle_t>(&one);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  return create(operation, Operation{compute, CUBLAS_OP_N, CUBLAS_OP_N});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return destroy(operation); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name, const void* value,
                                              size_t size) {
  Operation o = read<Operation>(operation);
  if (size != sizeof(int32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  if (name != CUBLASLT_MATMUL_DESC_TRANSA && name != CUBLASLT_MATMUL_DESC_TRANSB) return CUBLAS_STATUS_NOT_SUPPORTED;
  std::memcpy(name == CUBLASLT_MATMUL_DESC_TRANSA ? &o.transposed_a : &o.transposed_b, value, size);
  std::memcpy(operation->data, &o, sizeof o);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t columns,
                                          int64_t stride) {
  if (stride < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return create(layout, Layout{type, rows, columns, stride});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) { return create(preference, uint64_t{0}); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }
// The sizes are those of cublasLt.h: 8 bytes for the scratch memory's limit and the numerics, 4 for the rest.
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t name, const void*,
                                                    size_t size) {
  const bool wide = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES || name == CUBLASLT_MATMUL_PREF_IMPL_MASK;
  return size == (wide ? 8 : 4) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int room, cublasLtMatmulHeuristicResult_t* results, int* count) {
  const auto o = read<Operation>(operation);
  const auto la = read<Layout>(a), lb = read<Layout>(b), lc = read<Layout>(c);
  const uint64_t m = o.transposed_a ? la.columns : la.rows, k = o.transposed_a ? la.rows : la.columns;
  const uint64_t other_k = o.transposed_b ? lb.columns : lb.rows, n = o.transposed_b ? lb.rows : lb.columns;
  if (c != d || k != other_k || lc.rows != m || lc.columns != n || la.type != lb.type || lc.type != CUDA_R_32F || room < kAlgorithms)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (int i = 0; i < kAlgorithms; ++i) {
    results[i] = {};
    results[i].algo.data[0] = static_cast<uint64_t>(i);
    results[i].workspaceSize = scratch_of(static_cast<uint64_t>(i));
  }
  *count = static_cast<int>(std::min<int64_t>(kAlgorithms, most_offers));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulAlgoConfigAttributes_t name,
                                                    void* value, size_t size, size_t* written) {
  if (name != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME || size != 4) return CUBLAS_STATUS_INVALID_VALUE;
  const uint32_t schemes[] = {CUBLASLT_REDUCTION_SCHEME_INPLACE, CUBLASLT_REDUCTION_SCHEME_NONE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE};
  std::memcpy(value, &schemes[std::min<uint64_t>(algorithm->data[0], 2)], size);
  *written = size;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulAlgoCapAttributes_t name, void* value,
                                                 size_t size, size_t* written) {
  if (name != CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS || size != 8) return CUBLAS_STATUS_INVALID_VALUE;
  const uint64_t numerics = algorithm->data[0] == 1 ? CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F
                                                    : CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F;
  std::memcpy(value, &numerics, size);
  *written = size;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b, const void* beta,
                              const void* c, cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t* algorithm, void* scratch, size_t bytes, cudaStream_t) {
  const uint64_t which = algorithm->data[0];
  if (fails_next || which < 2 || !scratch || bytes != scratch_of(which) || c != d || !pay(static_cast<int64_t>(which))) {
    fails_next = false;
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  std::memset(scratch, 0xFF, bytes);
  const auto o = read<Operation>(operation);
  const auto la = read<Layout>(layout_a), lb = read<Layout>(layout_b), ld = read<Layout>(layout_d);
  const auto depth = static_cast<int64_t>(o.transposed_a ? la.rows : la.columns);
  for (int64_t j = 0; j < static_cast<int64_t>(ld.columns); ++j) {
    for (int64_t i = 0; i < static_cast<int64_t>(ld.rows); ++i) {
      double sum = 0;
      for (int64_t l = 0; l < depth; ++l) sum += element(la, a, o.transposed_a != 0, i, l) * element(lb, b, o.transposed_b != 0, l, j);
      float& out = static_cast<float*>(d)[j * ld.stride + i];
      const float scale = *static_cast<const float*>(beta), before = scale == 0 ? 0 : scale * out;
      out = *static_cast<const float*>(alpha) * static_cast<float>(sum) + before;
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
