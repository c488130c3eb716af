#include "ptx/card.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "ptx/traffic.h"

namespace reid::test::ptx {

namespace {

int number_from(const char* variable, int otherwise, bool (*right)(int), const char* what) {
  const char* text = std::getenv(variable);
  if (!text) return otherwise;
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  if (end != text && *end == '\0' && number <= 100000 && right(static_cast<int>(number))) return static_cast<int>(number);
  std::fprintf(stderr, "[played card] %s: '%s' is not %s\n", variable, text, what);
  std::exit(2);
}
bool is_switch(int n) { return n == 0 || n == 1; }
bool is_capability(int n) { return n == 80 || n == 90; }
bool is_count(int n) { return n > 0; }

}  // namespace

// REID_PLAYED_COUNTS=FILE: what each kernel did, when the program ends.
Card::Card()
    : capability(number_from("REID_PLAYED_CARD", 90, is_capability, "80 or 90")),
      processors(number_from("REID_PLAYED_PROCESSORS", 132, is_count, "a number of processors")) {
  watches_races = number_from("REID_PLAYED_RACES", 0, is_switch, "0 or 1") != 0;
  static const char* const path = std::getenv("REID_PLAYED_COUNTS");
  if (!path) return;
  counted = &traffic()[""];  // of no kernel yet
  std::atexit([] {
    traffic().erase("");
    if (!(std::ofstream(path) << traffic_table() << std::flush))
      std::fprintf(stderr, "[played card] REID_PLAYED_COUNTS: cannot write '%s'\n", path);
  });
}

bool Card::capturing() const {
  for (const Stream* stream : streams) {
    if (stream->capture) return true;
  }
  return false;
}

Card& card() {
  static auto* one = new Card;  // never destroyed: modules are unloaded when the program ends
  return *one;
}

cudaError_t said(cudaError_t error) {
  if (error != cudaSuccess) card().last = error;
  return error;
}
cudaError_t refused(cudaError_t error, const std::string& why) {
  std::fprintf(stderr, "[played card] %s\n", why.c_str());
  return said(error);
}

cudaError_t refuse_in_capture(const char* call) {
  if (!card().capturing()) return cudaSuccess;
  for (Stream* stream : card().streams) stream->broken = stream->broken || stream->capture;
  return refused(cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream is captured");
}

cudaError_t submit(cudaStream_t stream, Work work) {
  auto* s = reinterpret_cast<Stream*>(stream);
  if (!card().streams.contains(s)) return refused(cudaErrorInvalidResourceHandle, "work for a stream that is not open");
  if (!s->capture) return work();
  s->capture->work.push_back(std::move(work));
  return cudaSuccess;
}

namespace {

std::string problem_of(const cudaLaunchConfig_t& config, const Function& function, const Kernel& kernel, unsigned cluster) {
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const auto threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64) return "a block of that many threads";
  if (kernel.most_threads != 0 && threads > kernel.most_threads) return "more threads than __launch_bounds__ allows";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535) return "a grid of that extent";
  const size_t without_asking = (48 << 10) - std::min<size_t>(kernel.static_shared, 48 << 10);
  if (config.dynamicSmemBytes > function.dynamic_shared.value_or(without_asking)) return "more dynamic shared memory than it was allowed";
  if (config.dynamicSmemBytes + kernel.static_shared > card().shared_of_block()) return "more shared memory than a block can have";
  if (cluster == 0 || cluster > 8 || grid.x % cluster != 0) return "clusters of that many blocks";
  if (cluster > 1 && card().capability < 90) return "clusters on a device that has none";
  return "";
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* host, void** arguments) {
  const auto found = card().functions.find(host);
  if (found == card().functions.end()) return refused(cudaErrorInvalidDeviceFunction, "a kernel that no module brought");
  const Function& function = found->second;
  if (!function.module) return refused(cudaErrorNoKernelImageForDevice, function.name + ": no PTX for this card");
  unsigned cluster = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id == cudaLaunchAttributeClusterDimension) cluster = attribute.val.clusterDim.x;
  }
  try {
    const Kernel& kernel = function.module->kernel(function.name);
    if (const std::string problem = problem_of(config, function, kernel, cluster); !problem.empty()) {
      return refused(cudaErrorInvalidConfiguration, function.name + ": " + problem);
    }
    const dim3 &g = config.gridDim, &b = config.blockDim;
    auto work = std::make_shared<Launch>(Launch{&kernel, {g.x, g.y, g.z}, {b.x, b.y, b.z}, cluster, config.dynamicSmemBytes, {}});
    work->pieces.resize(kernel.parameter_bytes / sizeof(Launch::Piece) + 1);
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
      std::memcpy(work->parameters() + kernel.parameters[i].offset, arguments[i], kernel.parameters[i].bytes);
    }
    return submit(config.stream, [work] {
      try {
        run(*work);
        return cudaSuccess;
      } catch (const Fault& fault) {
        card().fault = cudaErrorLaunchFailure;
        return refused(cudaErrorLaunchFailure, fault.what());
      }
    });
  } catch (const Fault& fault) {
    return refused(cudaErrorInvalidPtx, function.name + ": " + fault.what());
  }
}

}  // namespace reid::test::ptx
