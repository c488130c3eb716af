// The table of contents of the device code, compiled once for each target. Where two files offer the same op, the first is preferred.

#include "kernels.h"
#include "prims.cuh"

#include <cstdlib>
#include <string_view>

namespace reid::REID_TARGET {

#ifdef __CUDACC__
namespace {
__global__ void any_kernel() { after_predecessors(); }
}  // namespace

// A kernel compiled for less than sm_90 would not wait for its predecessors. Asked of the first device that computes: a process uses one.
// Graphs with such launches came with CUDA 12.3.
bool launches_overlap() {
  static const bool overlap = [] {
    const char* const text = std::getenv("REID_OVERLAP");
    const std::string_view word = text ? text : "";
    REID_CHECK(word.empty() || word == "0" || word == "1", "REID_OVERLAP: '", word, "' is not 0 or 1");
    if (word != "1") return false;
    int driver = 0;
    if (const cudaError_t error = cudaDriverGetVersion(&driver); error != cudaSuccess)
      launch_failed(error, "cudaDriverGetVersion", __FILE__, __LINE__);
    REID_CHECK(CUDART_VERSION >= 12030 && driver >= 12030, "REID_OVERLAP=1 needs CUDA 12.3: this program was built with ",
               CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10, ", the driver knows ", driver / 1000, ".", driver % 1000 / 10);
    cudaFuncAttributes attributes = {};
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, any_kernel); error != cudaSuccess)
      launch_failed(error, "cudaFuncGetAttributes", __FILE__, __LINE__);
    REID_CHECK(attributes.ptxVersion >= 90, "REID_OVERLAP=1: this device runs kernels compiled for sm_", attributes.ptxVersion,
               ", and only those for sm_90 and newer can overlap");
    return true;
  }();
  return overlap;
}
#endif

void register_kernels() {
  register_sm90_rate();
  register_rate();
  register_sm90_gemm();
  register_sm90_conv();
  register_sm90_conv_weight();
  register_gemm();
  register_gemm_mma();
  register_distances();
  register_conv_implicit_gemm();
  register_conv_implicit_gemm_mma();
  register_conv_direct();
  register_norm();
  register_elementwise();
  register_reduce();
  register_pool();
  register_rows();
  register_metric();
  register_fused();
  register_pairs();
  register_pixels();
  register_colors();
  register_jaccard();
  register_optim();
}

}  // namespace reid::REID_TARGET
