// Accelerator over the CUDA runtime library, and what kernel launches need of it. CUDA 12.0 is the oldest toolkit meant to work. Compiled
// by the host's compiler: nothing here is device code. The library is linked statically, so that the program starts where there is no
// driver.

#include <cuda_runtime_api.h>

#include <memory>

#include "reid/engine/accelerator.h"
#include "reid/engine/registry.h"
#include "vendor.h"

namespace reid::cuda {

cudaStream_t native(Stream& stream);
[[noreturn]] void launch_failed(cudaError_t error, const char* call, const char* file, int line);
void register_kernels();

namespace {

#define REID_CUDA(call) check(call, #call)
void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  const std::string_view text = call;
  fail(str("[cuda] ", text.substr(0, text.find('(')), ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
}

std::string version(int number) { return str(number / 1000, ".", number % 1000 / 10); }

// What keeps this machine from computing with CUDA, as one sentence.
[[noreturn]] void no_device(cudaError_t error) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const char* remedy = ", or use --device cpu";
  if (driver == 0) fail(str("device cuda: this machine has no NVIDIA driver (or it is not loaded): install one", remedy));
  if (error == cudaErrorInsufficientDriver) {
    fail(str("device cuda: the NVIDIA driver is too old: it knows CUDA ", version(driver), ", this program was built with ",
             version(runtime), ": update the driver", remedy));
  }
  if (error == cudaSuccess || error == cudaErrorNoDevice) {
    fail(str("device cuda: the driver is there, but shows no NVIDIA GPU (is CUDA_VISIBLE_DEVICES right?): make one visible", remedy));
  }
  fail(str("device cuda: the driver does not answer: ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")", remedy));
}

constexpr int kOldest = 80;  // sm_80: what kernels are compiled for

class Runtime final : public Accelerator {
 public:
  int count() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) no_device(error);
    return count;
  }

  AcceleratorInfo info(int device) override {
    cudaDeviceProp p;
    REID_CUDA(cudaGetDeviceProperties(&p, device));
    return {p.name, p.major, p.minor, static_cast<int64_t>(p.totalGlobalMem)};
  }

  int64_t free_memory(int device) override {
    REID_CUDA(cudaSetDevice(device));
    size_t free = 0, total = 0;
    REID_CUDA(cudaMemGetInfo(&free, &total));
    return static_cast<int64_t>(free);
  }

  void* allocate(int device, size_t bytes) override {
    REID_CUDA(cudaSetDevice(device));
    void* block = nullptr;
    const cudaError_t error = cudaMalloc(&block, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // or the next launch would report it
      return nullptr;
    }
    check(error, "cudaMalloc");
    return block;
  }

  // Blocks given back while the program ends may find the driver gone.
  void release(int, void* block) override {
    if (const cudaError_t error = cudaFree(block); error != cudaErrorCudartUnloading) check(error, "cudaFree");
  }

  void* allocate_pinned(size_t bytes) override {
    void* block = nullptr;
    REID_CUDA(cudaHostAlloc(&block, bytes, cudaHostAllocDefault));
    return block;
  }
  void release_pinned(void* block) override { REID_CUDA(cudaFreeHost(block)); }

  void* open_queue(int device) override {
    REID_CHECK(device < count(), "device cuda:", device, ": this machine has ", count());
    const AcceleratorInfo i = info(device);
    REID_CHECK(i.major * 10 + i.minor >= kOldest, "device cuda:", device, ": ", i.name, " has compute capability ", i.major, ".", i.minor,
               "; kernels are for 8.0 and newer");
    REID_CUDA(cudaSetDevice(device));
    cudaStream_t stream = nullptr;
    REID_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }
  void close_queue(void* queue) override { REID_CUDA(cudaStreamDestroy(as_stream(queue))); }
  void synchronize(void* queue) override { REID_CUDA(cudaStreamSynchronize(as_stream(queue))); }

  void copy(void* to, const void* from, size_t bytes, CopyKind kind, void* queue) override {
    constexpr cudaMemcpyKind kKinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
    REID_CUDA(cudaMemcpyAsync(to, from, bytes, kKinds[static_cast<size_t>(kind)], as_stream(queue)));
  }
  void fill(void* to, uint8_t byte, size_t bytes, void* queue) override { REID_CUDA(cudaMemsetAsync(to, byte, bytes, as_stream(queue))); }

  void* open_event(int device, bool timed) override {
    REID_CUDA(cudaSetDevice(device));
    cudaEvent_t event = nullptr;
    // Who waits sleeps: the loader's threads want the processors.
    REID_CUDA(cudaEventCreateWithFlags(&event, cudaEventBlockingSync | (timed ? cudaEventDefault : cudaEventDisableTiming)));
    return event;
  }
  void close_event(void* event) override { REID_CUDA(cudaEventDestroy(as_event(event))); }
  void record(void* event, void* queue) override { REID_CUDA(cudaEventRecord(as_event(event), as_stream(queue))); }
  void wait(void* queue, void* event) override { REID_CUDA(cudaStreamWaitEvent(as_stream(queue), as_event(event), 0)); }
  void synchronize_event(void* event) override { REID_CUDA(cudaEventSynchronize(as_event(event))); }
  double seconds_between(void* begin, void* end) override {
    float milliseconds = 0;
    REID_CUDA(cudaEventElapsedTime(&milliseconds, as_event(begin), as_event(end)));
    return milliseconds * 1e-3;
  }

  void begin_capture(void* queue) override { REID_CUDA(cudaStreamBeginCapture(as_stream(queue), cudaStreamCaptureModeThreadLocal)); }
  void* end_capture(void* queue) override {
    cudaGraph_t graph = nullptr;
    REID_CUDA(cudaStreamEndCapture(as_stream(queue), &graph));
    const auto destroy = [](cudaGraph_t g) { cudaGraphDestroy(g); };
    const std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, decltype(destroy)> written(graph, destroy);
    size_t nodes = 0;
    REID_CUDA(cudaGraphGetNodes(graph, nullptr, &nodes));
    if (nodes == 0) return nullptr;
    cudaGraphExec_t runnable = nullptr;
    REID_CUDA(cudaGraphInstantiate(&runnable, graph, 0));
    return runnable;
  }
  bool capturing(void* queue) override {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    REID_CUDA(cudaStreamIsCapturing(as_stream(queue), &status));
    return status != cudaStreamCaptureStatusNone;
  }
  void launch_graph(void* graph, void* queue) override { REID_CUDA(cudaGraphLaunch(as_graph(graph), as_stream(queue))); }
  void close_graph(void* graph) override { REID_CUDA(cudaGraphExecDestroy(as_graph(graph))); }

 private:
  static cudaStream_t as_stream(void* queue) { return static_cast<cudaStream_t>(queue); }
  static cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }
  static cudaGraphExec_t as_graph(void* graph) { return static_cast<cudaGraphExec_t>(graph); }
};

}  // namespace

// The device of a launch is that of the thread, which may have used another since.
cudaStream_t native(Stream& stream) {
  REID_CUDA(cudaSetDevice(stream.device().index));
  return static_cast<cudaStream_t>(stream.native());
}

void launch_failed(cudaError_t error, const char* call, const char* file, int line) {
  fail(str("[cuda] ", call, " at ", file, ":", line, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
}

}  // namespace reid::cuda

namespace reid {

void register_cuda() {
  static auto* runtime = new cuda::Runtime;  // never destroyed: streams live as long as the program
  register_accelerator(DeviceType::cuda, runtime);
  cuda::register_kernels();
  cuda::register_vendor(cuda::native);
}

}  // namespace reid
