// The CUDA runtime library, played: the functions that the program calls, on a machine that runs the kernels' PTX. Linked in its place,
// under the program's own backend (src/backends/cuda/runtime.cpp, kernels/launch.cuh), which cannot tell the difference but by its speed.
// What a driver refuses is refused here. To be chosen: REID_PLAYED_CARD, the compute capability (80, or 90, the default),
// REID_PLAYED_PROCESSORS (132), REID_PLAYED_RACES=1 (races.h), REID_PLAYED_COUNTS=FILE (traffic.h).

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ptx/card.h"
#include "ptx/fatbinary.h"
#include "ptx/tensor_map.h"

namespace reid::test::ptx {
namespace {

bool is_for_this_card(const std::string& text) {
  const size_t target = text.find(".target sm_");
  if (target == std::string::npos) return false;
  return text.compare(target + 11, 3, card().capability == 90 ? "90a" : "80\n") == 0;
}

// The driver's part: its rules are those of cuTensorMapEncodeTiled's documentation, for the maps that the kernels use.
CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data, const cuuint64_t* extent,
                      const cuuint64_t* bytes, const cuuint32_t* box, const cuuint32_t* every, CUtensorMapInterleave interleave,
                      CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  EncodedMap encoded;
  bool right = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && rank == 4 && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
               swizzle == CU_TENSOR_MAP_SWIZZLE_128B && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  right = right && reinterpret_cast<uintptr_t>(map) % 64 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (unsigned axis = 0; right && axis < 4; ++axis) {
    right =
        extent[axis] > 0 && extent[axis] <= uint64_t{1} << 32 && box[axis] > 0 && box[axis] <= 256 && every[axis] > 0 && every[axis] <= 8;
    if (axis > 0) right = right && bytes[axis - 1] % 16 == 0 && bytes[axis - 1] < uint64_t{1} << 40;
    if (axis > 0) encoded.bytes[axis - 1] = bytes[axis - 1];
    encoded.extent[axis] = extent[axis], encoded.box[axis] = box[axis], encoded.every[axis] = every[axis];
  }
  if (!right || box[0] * 2 != 128 || every[0] != 1) return CUDA_ERROR_INVALID_VALUE;
  encoded.data = reinterpret_cast<uint64_t>(data);
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, &encoded, sizeof(encoded));
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace reid::test::ptx

using namespace reid::test::ptx;

extern "C" {

// --- what nvcc's host code calls ---

struct FatbinaryWrapper {
  int magic, version;
  const void* data;
  void* more;
};

void** __cudaRegisterFatBinary(void* wrapper) {
  auto* const module = new Module*(nullptr);
  try {
    for (const std::string& text : texts_of(static_cast<const FatbinaryWrapper*>(wrapper)->data)) {
      if (is_for_this_card(text)) *module = new Module(text);
    }
  } catch (const Fault& fault) {
    std::fprintf(stderr, "[played card] %s\n", fault.what());
    std::abort();
  }
  return reinterpret_cast<void**>(module);
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
  auto* const module = *reinterpret_cast<Module**>(handle);
  card().functions[host] = {module && module->has(name) ? module : nullptr, name};
}
// Behind kernel<<<>>>, which nothing here uses.
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t) { std::abort(); }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { std::abort(); }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { std::abort(); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { std::abort(); }

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return guarded([&] { return launch(*config, function, arguments); });
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return guarded([&] {
    const auto found = card().functions.find(function);
    if (found == card().functions.end()) return refused(cudaErrorInvalidDeviceFunction, "an attribute of a kernel that no module brought");
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || static_cast<size_t>(value) > card().shared_of_block())
      return refused(cudaErrorInvalidValue, "that much shared memory");
    found->second.dynamic_shared = static_cast<size_t>(value);
    return cudaSuccess;
  });
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = attributes->binaryVersion = card().capability;
  return cudaSuccess;
}

// --- devices ---

cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : said(cudaErrorInvalidDevice); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "played card");
  properties->major = card().capability / 10, properties->minor = card().capability % 10;
  properties->totalGlobalMem = card().memory;
  properties->multiProcessorCount = card().processors;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = card().capability / 10; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = card().capability % 10; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = card().processors; return cudaSuccess;
    default: return refused(cudaErrorInvalidValue, "an attribute that the played card does not have");
  }
}
cudaError_t cudaGetLastError() { return std::exchange(card().last, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t error) { return error == cudaSuccess ? "cudaSuccess" : "cudaError"; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? "unspecified launch failure" : "refused by the played card, which says why on stderr";
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  if (std::strcmp(symbol, "cuTensorMapEncodeTiled") != 0)
    return refused(cudaErrorInvalidValue, "a function that the played driver does not have");
  *function = reinterpret_cast<void*>(encode_tiled);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// --- memory ---

cudaError_t cudaMalloc(void** block, size_t bytes) {
  return guarded([&] {
    if (const cudaError_t error = refuse_in_capture("cudaMalloc"); error != cudaSuccess) return error;
    const size_t rounded = (bytes + 511) / 512 * 512;
    if (rounded > card().memory - card().used) return cudaErrorMemoryAllocation;
    *block = std::aligned_alloc(512, rounded);
    std::memset(*block, 0xFF, rounded);
    allow_memory(*block, bytes);
    card().blocks[*block] = rounded;
    card().used += rounded;
    return cudaSuccess;
  });
}
cudaError_t cudaFree(void* block) {
  return guarded([&] {
    if (const cudaError_t error = refuse_in_capture("cudaFree"); error != cudaSuccess) return error;
    const auto found = card().blocks.find(block);
    if (found == card().blocks.end())
      return block ? refused(cudaErrorInvalidValue, "cudaFree of what cudaMalloc did not give") : cudaSuccess;
    card().used -= found->second;
    card().blocks.erase(found);
    forbid_memory(block);
    std::free(block);
    return cudaSuccess;
  });
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = card().memory - card().used, *total = card().memory, cudaSuccess; }
cudaError_t cudaHostAlloc(void** block, size_t bytes, unsigned) {
  return guarded([&] {
    if (const cudaError_t error = refuse_in_capture("cudaHostAlloc"); error != cudaSuccess) return error;
    *block = std::aligned_alloc(512, (bytes + 511) / 512 * 512);
    card().pinned[*block] = bytes;
    allow_memory(*block, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaFreeHost(void* block) {
  return guarded([&] {
    card().pinned.erase(block);
    forbid_memory(block);
    std::free(block);
    return cudaSuccess;
  });
}

// --- streams, events, graphs ---

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return guarded([&] {
    *stream = reinterpret_cast<cudaStream_t>(*card().streams.insert(new Stream).first);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return guarded([&] {
    auto* s = reinterpret_cast<Stream*>(stream);
    if (card().streams.erase(s) == 0) return refused(cudaErrorInvalidResourceHandle, "a stream is closed that is not open");
    delete s;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return guarded([] { return refuse_in_capture("cudaStreamSynchronize"); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return guarded([&] {
    const auto is_known = [&](const void* p, const std::map<void*, size_t>& blocks) {
      const auto after = blocks.upper_bound(const_cast<void*>(p));
      return after != blocks.begin() &&
             static_cast<const char*>(p) + bytes <= static_cast<const char*>(std::prev(after)->first) + std::prev(after)->second;
    };
    const Card& c = card();
    const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
    if ((to_device && !is_known(to, c.blocks)) || (from_device && !is_known(from, c.blocks))) {
      return refused(cudaErrorInvalidValue, "a copy whose kind is wrong, or that leaves the device's memory");
    }
    const bool pinned = (to_device || is_known(to, c.pinned)) && (from_device || is_known(from, c.pinned));
    if (!pinned && c.capturing()) return refuse_in_capture("a copy of memory that is not pinned");
    return submit(stream, [=] { return std::memmove(to, from, bytes), cudaSuccess; });
  });
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  return guarded([&] { return submit(stream, [=] { return std::memset(to, byte, bytes), cudaSuccess; }); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  auto* e = new Event;
  e->timed = (flags & cudaEventDisableTiming) == 0;
  return *event = reinterpret_cast<cudaEvent_t>(e), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete reinterpret_cast<Event*>(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return guarded([&] {
    return submit(stream, [e = reinterpret_cast<Event*>(event)] {
      e->happened = std::chrono::steady_clock::now(), e->recorded = true;
      return cudaSuccess;
    });
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  return guarded([&] { return submit(stream, [] { return cudaSuccess; }); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return guarded([] { return refuse_in_capture("cudaEventSynchronize"); });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const auto &a = *reinterpret_cast<Event*>(begin), &b = *reinterpret_cast<Event*>(end);
  if (!a.timed || !b.timed || !a.recorded || !b.recorded)
    return refused(cudaErrorInvalidResourceHandle, "the time between events that have none");
  *milliseconds = std::chrono::duration<float, std::milli>(b.happened - a.happened).count();
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return guarded([&] {
    auto* s = reinterpret_cast<Stream*>(stream);
    if (s->capture) return refused(cudaErrorIllegalState, "a stream is captured already");
    s->capture = std::make_unique<Graph>(), s->broken = false;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return guarded([&] {
    auto* s = reinterpret_cast<Stream*>(stream);
    if (!s->capture) return refused(cudaErrorIllegalState, "no stream is captured");
    const std::unique_ptr<Graph> captured = std::move(s->capture);
    if (s->broken) return *graph = nullptr, refused(cudaErrorStreamCaptureInvalidated, "something broke what was captured");
    *graph = reinterpret_cast<cudaGraph_t>(new Graph(*captured));
    return cudaSuccess;
  });
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = reinterpret_cast<Stream*>(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  return *count = reinterpret_cast<Graph*>(graph)->work.size(), cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* runnable, cudaGraph_t graph, unsigned long long) {
  return *runnable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph))), cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return guarded([&] {
    return submit(stream, [work = reinterpret_cast<Graph*>(graph)->work] {
      for (const Work& one : work) {
        if (const cudaError_t error = one(); error != cudaSuccess) return error;
      }
      return cudaSuccess;
    });
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete reinterpret_cast<Graph*>(graph), cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete reinterpret_cast<Graph*>(graph), cudaSuccess; }

}  // extern "C"
