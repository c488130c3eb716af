// How the copy engine learns of an array: the driver encodes its map. And whether the device is the one that sm90/ is for.

#include <algorithm>
#include <iterator>

#include "sm90/device.cuh"

#ifdef __CUDACC__
#include <cudaTypedefs.h>
#endif

namespace reid::REID_TARGET {

#ifdef __CUDACC__

namespace {

// The driver's function, found at run time, so that programs start where there is no driver.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult status{};
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &status);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &status);
#endif
    REID_CHECK(error == cudaSuccess && status == cudaDriverEntryPointSuccess,
               "the CUDA driver has no cuTensorMapEncodeTiled: a driver for CUDA 12.0 or newer is needed");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  return found;
}

}  // namespace

TensorMap tensor_map(const bf16* data, const TensorShape& shape) {
  cuuint64_t extent[kTensorAxes], bytes[kTensorAxes - 1];
  cuuint32_t box[kTensorAxes], each[kTensorAxes];
  for (int axis = 0; axis < kTensorAxes; ++axis) {
    extent[axis] = static_cast<cuuint64_t>(shape.extent[axis]), each[axis] = static_cast<cuuint32_t>(shape.every[axis]);
    box[axis] = static_cast<cuuint32_t>(shape.box[axis] * shape.every[axis]);  // the driver counts what is stepped over
    if (axis > 0) bytes[axis - 1] = static_cast<cuuint64_t>(shape.step[axis]) * sizeof(bf16);
  }
  TensorMap map{};
  const CUresult result = encoder()(&map.map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kTensorAxes, const_cast<bf16*>(data), extent, bytes, box,
                                    each, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                                    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  REID_CHECK(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled refused an array of ", shape.extent[0], " x ", shape.extent[1], " x ",
             shape.extent[2], " x ", shape.extent[3], " (error ", static_cast<int>(result), ")");
  return map;
}

void use_device_of(Stream& stream) { native(stream); }

const char* refuse_other_than_hopper() {
#ifndef REID_SM90A
  return "was compiled for other devices: REID_CUDA_ARCH names no 90a";
#else
  int device = 0, major = 0, minor = 0;
  const bool known = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
  return known && major == 9 && minor == 0 ? nullptr : "takes devices of compute capability 9.0 (H100, H200) only";
#endif
}

int processors() {
  int device = 0, count = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) launch_failed(error, "cudaDeviceGetAttribute", __FILE__, __LINE__);
  return count;
}
int64_t deep_terms() { return 1024; }

#else

TensorMap tensor_map(const bf16* data, const TensorShape& shape) {
  detail::check_aligned(data, 16);
  constexpr int64_t kMostExtent = int64_t{1} << 32, kMostStep = int64_t{1} << 39;  // elements
  bool right = shape.step[0] == 1 && shape.box[0] == 64 && shape.every[0] == 1;
  for (int axis = 0; axis < kTensorAxes; ++axis) {
    right = right && shape.extent[axis] >= 1 && shape.extent[axis] <= kMostExtent && shape.every[axis] >= 1;
    if (axis == 0) continue;
    right = right && shape.step[axis] > 0 && shape.step[axis] % 8 == 0 && shape.step[axis] < kMostStep;
    right = right && shape.box[axis] >= 1 && shape.every[axis] <= 8 && shape.box[axis] * shape.every[axis] <= 256;
  }
  REID_CHECK(right,
             "[emulator] tensor_map takes extents of 1 to 2^32, boxes with rows of 64 elements and at most 256 rows an axis, those between "
             "them included, steps that are multiples of 8 elements and less than 2^40 bytes");
  return {data, shape};
}

void use_device_of(Stream&) {}

const char* refuse_other_than_hopper() { return nullptr; }

namespace {
Pretended pretended;
}
int processors() { return pretended.processors; }
int64_t deep_terms() { return pretended.deep_terms; }
Pretending::Pretending(const Pretended& device) { pretended = device; }
Pretending::~Pretending() { pretended = {}; }

#endif

// An H100 with 132 processors held 15 clusters of eight (github.com/NVIDIA/cutlass/issues/1921): so these have. Less than a GPC is an
// emulator, or a slice of a card.
int64_t processors_for(int cluster, int share) {
  constexpr int kGpcs[] = {18, 18, 18, 16, 16, 16, 16, 14}, kMore = 16;
  const int64_t all = processors();
  if (all < kGpcs[0]) return all;
  int64_t left = all, blocks = 0;
  for (size_t g = 0; left > 0; ++g) {
    const int64_t here = std::min<int64_t>(left, g < std::size(kGpcs) ? kGpcs[g] : kMore);
    blocks += here * share / cluster * cluster;
    left -= here;
  }
  return blocks / share;
}

}  // namespace reid::REID_TARGET
