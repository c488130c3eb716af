#include "emu/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "reid/engine/accelerator.h"

namespace reid::emu {

namespace {

// Device memory: one range of addresses, open while work runs.
class Memory {
 public:
  Memory() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    base_ = static_cast<char*>(mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    REID_CHECK(base_ != MAP_FAILED, "[emulated device] the system gives no address space for its memory");
  }

  void* allocate(size_t bytes) {
    const size_t size = (bytes + page_ - 1) / page_ * page_;
    if (in_use_ + size > most || (used_ + size > kReserved && !free_.contains(size))) return nullptr;
    in_use_ += size;
    char* block = base_ + used_;
    if (const auto found = free_.find(size); found != free_.end()) {
      block = found->second;
      free_.erase(found);
    } else {
      used_ += size;
      if (open_ > 0) mprotect(block, size, PROT_READ | PROT_WRITE);
    }
    blocks_[block] = size;
    return block;
  }
  void release(void* pointer) {
    const auto found = blocks_.find(static_cast<char*>(pointer));
    REID_CHECK(found != blocks_.end(), "[emulated device] a block is released that was never allocated");
    madvise(found->first, found->second, MADV_DONTNEED);
    in_use_ -= found->second;
    free_.emplace(found->second, found->first);
    blocks_.erase(found);
  }
  size_t in_use() const { return in_use_; }

  // While one of these lives, the host can reach the memory too: it plays the device.
  class Open {
   public:
    explicit Open(Memory& memory) : memory_(memory) {
      if (memory_.open_++ == 0) memory_.protect(PROT_READ | PROT_WRITE);
    }
    ~Open() {
      if (--memory_.open_ == 0) memory_.protect(PROT_NONE);
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;

   private:
    Memory& memory_;
  };

  size_t most = size_t{4} << 30;

 private:
  static constexpr size_t kReserved = size_t{8} << 30;
  void protect(int access) {
    if (used_ > 0) mprotect(base_, used_, access);
  }

  size_t page_;
  char* base_;
  size_t used_ = 0, in_use_ = 0;
  int open_ = 0;
  std::map<char*, size_t> blocks_;
  std::multimap<size_t, char*> free_;
};

using Work = std::function<void()>;

struct Queue;
struct Event {
  Queue* queue = nullptr;  // where it was recorded last
  uint64_t ticket = 0;     // it has happened when the queue finished that many pieces of work
  bool timed = false;
  std::optional<std::chrono::steady_clock::time_point> happened = {};  // of a timed one
};
struct Graph {
  std::vector<Work> work;
  bool broken = false;  // something was asked for that cannot stand in it
};
struct Queue {
  std::deque<Work> work;
  uint64_t queued = 0, finished = 0;
  std::unique_ptr<Graph> capture;  // what is being written down
};

class EmulatedDevice final : public Accelerator {
 public:
  int count() override { return 1; }
  AcceleratorInfo info(int) override { return {"emulated device", 9, 0, static_cast<int64_t>(memory.most)}; }
  int64_t free_memory(int) override { return static_cast<int64_t>(memory.most - memory.in_use()); }
  void* allocate(int, size_t bytes) override { return memory.allocate(bytes); }
  void release(int, void* block) override { memory.release(block); }
  void* allocate_pinned(size_t bytes) override {
    pinned_.emplace_back(static_cast<char*>(::operator new (bytes, std::align_val_t{64})), bytes);
    return pinned_.back().first;
  }
  void release_pinned(void* block) override {
    std::erase_if(pinned_, [&](const auto& p) { return p.first == block; });
    ::operator delete (block, std::align_val_t{64});
  }

  void* open_queue(int) override { return queues_.emplace(std::make_unique<Queue>()).first->get(); }
  void close_queue(void* q) override {
    run(as_queue(q), as_queue(q).queued);
    std::erase_if(queues_, [&](const auto& queue) { return queue.get() == q; });
  }
  void synchronize(void* q) override {
    Queue& queue = as_queue(q);
    refuse_in_capture(queue, "the host waits for a queue while a graph is captured on it");
    run(queue, queue.queued);
  }

  void copy(void* to, const void* from, size_t bytes, CopyKind kind, void* q) override;
  void fill(void* to, uint8_t byte, size_t bytes, void* q) override {
    push(q, [=] { std::memset(to, byte, bytes); });
  }
  void push(void* q, Work work);

  void* open_event(int, bool timed) override {
    auto* event = new Event;
    event->timed = timed;
    return event;
  }
  void close_event(void* event) override { delete static_cast<Event*>(event); }
  void record(void* event, void* q) override {
    Queue& queue = as_queue(q);
    refuse_in_capture(queue, "an event is recorded while a graph is captured");
    auto& e = *static_cast<Event*>(event);
    e.happened.reset();
    if (e.timed) push(q, [&e] { e.happened = std::chrono::steady_clock::now(); });  // outlives its turn: who times it waits for it
    e.queue = &queue, e.ticket = queue.queued;
  }
  void wait(void* q, void* event) override {
    const Event e = *static_cast<Event*>(event);
    if (e.queue) push(q, [this, e] { run(*e.queue, e.ticket); });
  }
  void synchronize_event(void* event) override {
    const Event e = *static_cast<Event*>(event);
    if (e.queue) run(*e.queue, e.ticket);
  }
  double seconds_between(void* begin, void* end) override {
    const auto &a = *static_cast<Event*>(begin), &b = *static_cast<Event*>(end);
    REID_CHECK(a.timed && b.timed, "[emulated device] the time of an event that was not opened as timed");
    REID_CHECK(a.happened && b.happened, "[emulated device] the time of an event that has not happened, or was not waited for");
    return std::chrono::duration<double>(*b.happened - *a.happened).count();
  }

  void begin_capture(void* q) override {
    REID_CHECK(!as_queue(q).capture, "[emulated device] this queue is being captured already");
    as_queue(q).capture = std::make_unique<Graph>();
  }
  void* end_capture(void* q) override {
    std::unique_ptr<Graph> graph = std::move(as_queue(q).capture);
    REID_CHECK(graph, "[emulated device] a capture ends that never began");
    REID_CHECK(!graph->broken, "[emulated device] an error before broke what is captured");
    return graph->work.empty() ? nullptr : graph.release();
  }
  bool capturing(void* q) override { return as_queue(q).capture != nullptr; }
  void launch_graph(void* graph, void* q) override {
    push(q, [work = static_cast<Graph*>(graph)->work] {
      for (const Work& one : work) one();
    });
  }
  void close_graph(void* graph) override { delete static_cast<Graph*>(graph); }

  void run_everything() {
    for (const auto& queue : queues_) run(*queue, queue->queued);
  }

  Memory memory;
  Pace pace = Pace::late;
  int64_t launches = 0;

 private:
  static Queue& as_queue(void* q) { return *static_cast<Queue*>(q); }
  static void refuse_in_capture(Queue& queue, const char* what) {
    if (!queue.capture) return;
    queue.capture->broken = true;
    fail(str("[emulated device] ", what));
  }
  bool is_pinned(const void* pointer) const {
    const auto* at = static_cast<const char*>(pointer);
    return std::any_of(pinned_.begin(), pinned_.end(), [&](const auto& p) { return p.first <= at && at < p.first + p.second; });
  }
  void run(Queue& queue, uint64_t until);

  std::set<std::unique_ptr<Queue>> queues_;
  std::vector<std::pair<char*, size_t>> pinned_;
};

// Runs the queue's work until that many pieces of it are finished. An error in a piece is thrown to whoever waits, and the rest is dropped.
void EmulatedDevice::run(Queue& queue, uint64_t until) {
  const Memory::Open open(memory);
  while (queue.finished < until) {
    const Work work = std::move(queue.work.front());
    queue.work.pop_front();
    ++queue.finished;
    try {
      work();
    } catch (...) {
      queue.finished += queue.work.size();
      queue.work.clear();
      throw;
    }
  }
}

void EmulatedDevice::push(void* q, Work work) {
  Queue& queue = as_queue(q);
  if (queue.capture) {
    queue.capture->work.push_back(std::move(work));
    return;
  }
  ++launches;
  queue.work.push_back(std::move(work));
  ++queue.queued;
  if (pace == Pace::early) run(queue, queue.queued);
}

void EmulatedDevice::copy(void* to, const void* from, size_t bytes, CopyKind kind, void* q) {
  if (kind == CopyKind::to_device && !is_pinned(from)) {
    refuse_in_capture(as_queue(q), "a copy from memory that is not pinned cannot stand in a graph");
    const auto* first = static_cast<const char*>(from);
    push(q, [to, aside = std::vector<char>(first, first + bytes)] { std::memcpy(to, aside.data(), aside.size()); });
    return;
  }
  push(q, [=] { std::memmove(to, from, bytes); });
  if (kind == CopyKind::to_host && !is_pinned(to)) synchronize(q);
}

EmulatedDevice& device() {
  static auto* one = new EmulatedDevice;  // never destroyed: streams and tensors may live as long as the program
  return *one;
}

}  // namespace

void install_device() { register_accelerator(DeviceType::emulated, &device()); }
Pace pace() { return device().pace; }
void set_pace(Pace pace) {
  device().run_everything();
  device().pace = pace;
}
void set_device_memory(size_t most) { device().memory.most = most; }
int64_t launches() { return device().launches; }

void detail::submit(Stream& stream, std::function<void()> kernel) {
  if (stream.device().type == DeviceType::emulated) {
    device().push(stream.native(), std::move(kernel));
  } else {
    kernel();
  }
}

}  // namespace reid::emu
