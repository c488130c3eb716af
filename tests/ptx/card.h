#pragma once
// The state of the played card: its memory, streams, events and graphs. Work is done when it is queued; while a stream is captured it is
// written down.

#include <cuda_runtime_api.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "ptx/decoder.h"

namespace reid::test::ptx {

using Work = std::function<cudaError_t()>;

struct Graph {
  std::vector<Work> work;
};
struct Stream {
  std::unique_ptr<Graph> capture = {};
  bool broken = false;  // what is captured
};
struct Event {
  std::chrono::steady_clock::time_point happened = {};
  bool timed = false, recorded = false;
};
struct Function {
  Module* module = nullptr;  // null: there is none for this card
  std::string name;
  std::optional<size_t> dynamic_shared = {};  // that cudaFuncSetAttribute allows; else 48 KB less its static arrays
};

struct Card {
  int capability, processors;
  size_t memory = size_t{16} << 30, used = 0;
  std::map<void*, size_t> blocks, pinned;
  std::map<const void*, Function> functions;  // by the address of what stands for them on the host
  std::set<Stream*> streams;
  cudaError_t last = cudaSuccess;
  cudaError_t fault = cudaSuccess;  // that nothing works after
  std::recursive_mutex mutex;

  Card();
  size_t shared_of_block() const { return size_t{capability == 90 ? 227u : 163u} << 10; }
  bool capturing() const;
};
Card& card();

// Keeps an error for cudaGetLastError, and says on stderr why.
cudaError_t said(cudaError_t error);
cudaError_t refused(cudaError_t error, const std::string& why);
// What waits, or changes memory, breaks what is being captured (cudaStreamCaptureModeThreadLocal).
cudaError_t refuse_in_capture(const char* call);
cudaError_t submit(cudaStream_t stream, Work work);
cudaError_t launch(const cudaLaunchConfig_t& config, const void* host, void** arguments);

template <class F>
cudaError_t guarded(F f) {
  const std::lock_guard lock(card().mutex);
  if (card().fault != cudaSuccess) return card().fault;
  return said(f());
}

}  // namespace reid::test::ptx
