// The played card: what it refuses as a driver would, and what a recorded graph may hold.

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "ptx/fatbinary.h"
#include "ptx/machine.h"

extern "C" {
void** __cudaRegisterFatBinary(void* wrapper);
void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*);
}

namespace reid::test::ptx {
namespace {

// to[tid] += 1
constexpr char kKernel[] =
    ".version 9.0\n.target sm_90a\n.address_size 64\n\n.extern .shared .align 1024 .b8 dynamic[];\n\n.visible .entry increment(\n"
    "\t.param .u64 increment_param_0\n)\n.maxntid 64, 1, 1\n{\n\t.reg .b32 %r<4>;\n\t.reg .b64 %rd<4>;\n\t.shared .align 4 .b8 own[1024];\n"
    "\tld.param.u64 %rd0, [increment_param_0];\n\tmov.u32 %r0, %tid.x;\n\tmul.wide.u32 %rd1, %r0, 4;\n\tadd.s64 %rd1, %rd0, %rd1;\n"
    "\tld.global.u32 %r1, [%rd1];\n\tadd.s32 %r1, %r1, 1;\n\tst.global.u32 [%rd1], %r1;\n\tmov.u32 %r2, dynamic;\n\tret;\n}\n";

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Texts of PTX in a fat binary, as nvcc lays one out.
std::string fat_binary(const std::vector<std::string>& texts, uint64_t flags = 0) {
  std::string entries;
  for (const std::string& text : texts) {
    append(entries, uint16_t{1}), append(entries, uint16_t{0x101}), append(entries, uint32_t{80}), append(entries, uint64_t{text.size()});
    entries.append(24, '\0');
    append(entries, flags);
    entries.append(32, '\0');
    entries += text;
  }
  std::string binary;
  append(binary, uint32_t{0xBA55ED50}), append(binary, uint16_t{1}), append(binary, uint16_t{16}), append(binary, uint64_t{entries.size()});
  return binary + entries;
}

// The kernel, as a launch names it.
const void* incrementing() {
  static const char host = 0;
  static const std::string binary = [] {
    std::string older = kKernel;
    older.replace(older.find("sm_90a"), 6, "sm_80");
    return fat_binary({older, kKernel});
  }();
  static struct {
    int magic = 0x466243b1, version = 1;
    const void* data = binary.data();
    void* more = nullptr;
  } wrapper;
  static const bool registered = [] {
    __cudaRegisterFunction(__cudaRegisterFatBinary(&wrapper), &host, nullptr, "increment", 0, nullptr, nullptr, nullptr, nullptr, nullptr);
    return true;
  }();
  return registered ? &host : nullptr;
}

// 64 numbers on the card, a stream, and what a test does with them.
struct OnCard {
  OnCard() {
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&numbers), 256) == cudaSuccess);
    REQUIRE(cudaHostAlloc(reinterpret_cast<void**>(&pinned), 256, 0) == cudaSuccess);
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaMemsetAsync(numbers, 0, 256, stream) == cudaSuccess);
  }
  ~OnCard() { cudaStreamDestroy(stream), cudaFreeHost(pinned), cudaFree(numbers); }

  cudaError_t launch(dim3 grid, dim3 block, size_t shared = 0, unsigned cluster = 1) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension, attribute.val.clusterDim = {cluster, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = stream;
    config.attrs = &attribute, config.numAttrs = 1;
    void* arguments[] = {&numbers};
    return cudaLaunchKernelExC(&config, incrementing(), arguments);
  }
  cudaError_t copy_back(void* to) { return cudaMemcpyAsync(to, numbers, 256, cudaMemcpyDeviceToHost, stream); }

  int *numbers = nullptr, *pinned = nullptr;
  cudaStream_t stream = nullptr;
};

TEST_CASE("played card: a launch beyond what a block or a grid may have is refused") {
  OnCard card;
  CHECK(card.launch(1, 64) == cudaSuccess);
  CHECK(card.launch(1, 65) == cudaErrorInvalidConfiguration);  // .maxntid
  CHECK(card.launch(1, 0) == cudaErrorInvalidConfiguration);
  CHECK(card.launch(dim3(1, 65536), 64) == cudaErrorInvalidConfiguration);
  CHECK(card.launch(3, 64, 0, 2) == cudaErrorInvalidConfiguration);
  CHECK(card.launch(16, 64, 0, 16) == cudaErrorInvalidConfiguration);
  CHECK(card.launch(1, 64, 47 << 10) == cudaSuccess);  // 1 KB is the kernel's own
  CHECK(card.launch(1, 64, (47 << 10) + 1) == cudaErrorInvalidConfiguration);
  const auto allow = [](int bytes) { return cudaFuncSetAttribute(incrementing(), cudaFuncAttributeMaxDynamicSharedMemorySize, bytes); };
  REQUIRE(allow(48 << 10) == cudaSuccess);
  CHECK(card.launch(1, 64, 48 << 10) == cudaSuccess);
  CHECK(card.launch(1, 64, (48 << 10) + 1) == cudaErrorInvalidConfiguration);
  CHECK(allow(228 << 10) == cudaErrorInvalidValue);
  REQUIRE(card.copy_back(card.pinned) == cudaSuccess);
  CHECK(card.pinned[63] == 3);
}

TEST_CASE("played card: what is recorded runs when its graph is launched; what waits or allocates breaks the recording") {
  OnCard card;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t runnable = nullptr;
  REQUIRE(cudaStreamBeginCapture(card.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(card.launch(1, 64) == cudaSuccess);
  CHECK(card.launch(1, 64) == cudaSuccess);
  REQUIRE(cudaStreamEndCapture(card.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&runnable, graph, 0) == cudaSuccess);
  REQUIRE(card.copy_back(card.pinned) == cudaSuccess);
  CHECK(card.pinned[0] == 0);
  for (int i = 0; i < 2; ++i) CHECK(cudaGraphLaunch(runnable, card.stream) == cudaSuccess);
  REQUIRE(card.copy_back(card.pinned) == cudaSuccess);
  CHECK(card.pinned[0] == 4);
  cudaGraphExecDestroy(runnable), cudaGraphDestroy(graph);

  void* block = nullptr;
  int unpinned[64];
  const std::function<cudaError_t()> breaks[] = {
      [&] { return cudaMalloc(&block, 64); }, [&] { return cudaFree(card.numbers); }, [&] { return cudaHostAlloc(&block, 64, 0); },
      [&] { return cudaStreamSynchronize(card.stream); }, [&] { return card.copy_back(unpinned); }};
  for (const auto& what : breaks) {
    REQUIRE(cudaStreamBeginCapture(card.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    CHECK(what() == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaStreamEndCapture(card.stream, &graph) == cudaErrorStreamCaptureInvalidated);
  }
}

TEST_CASE("played card: copies of a wrong kind, strange blocks and streams are refused") {
  OnCard card;
  int host[64];
  CHECK(cudaMemcpyAsync(host, card.numbers, 256, cudaMemcpyHostToDevice, card.stream) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(host, card.numbers, 1024, cudaMemcpyDeviceToHost, card.stream) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(host, card.numbers, 256, cudaMemcpyDeviceToHost, nullptr) == cudaErrorInvalidResourceHandle);
  CHECK(cudaFree(host) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  void* block = nullptr;
  CHECK(cudaMalloc(&block, size_t{1} << 40) == cudaErrorMemoryAllocation);
}

TEST_CASE("played card: a tensor map that the driver would refuse") {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  REQUIRE(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result) == cudaSuccess);
  alignas(64) static unsigned char data[256];
  const auto encode = [&](size_t shift, cuuint64_t step, cuuint32_t rows, cuuint32_t every, CUtensorMapSwizzle swizzle) {
    CUtensorMap map;
    const cuuint64_t extent[] = {64, 2, 1, 1}, bytes[] = {step, 256, 256};
    const cuuint32_t box[] = {64, rows, 1, 1}, each[] = {1, every, 1, 1};
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
        &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, data + shift, extent, bytes, box, each, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CHECK(encode(0, 128, 2, 1, CU_TENSOR_MAP_SWIZZLE_128B) == CUDA_SUCCESS);
  CHECK(encode(8, 128, 2, 1, CU_TENSOR_MAP_SWIZZLE_128B) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encode(0, 120, 2, 1, CU_TENSOR_MAP_SWIZZLE_128B) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encode(0, 128, 257, 1, CU_TENSOR_MAP_SWIZZLE_128B) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encode(0, 128, 2, 9, CU_TENSOR_MAP_SWIZZLE_128B) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encode(0, 128, 2, 1, CU_TENSOR_MAP_SWIZZLE_64B) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("played card: PTX is read as it stands in a fat binary; what is compressed is refused") {
  const std::string both = fat_binary({"one", "another"});
  CHECK(texts_of(both.data()) == std::vector<std::string>{"one", "another"});
  const std::string compressed = fat_binary({"one"}, 0x8000), damaged(64, 'x');
  CHECK_THROWS_WITH_AS(texts_of(compressed.data()), doctest::Contains("REID_PLAYED_CARD=ON"), Fault);
  CHECK_THROWS_AS(texts_of(damaged.data()), Fault);
}

}  // namespace
}  // namespace reid::test::ptx
