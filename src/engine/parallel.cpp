// The CPU thread pool. Chunks of a loop are handed out by an atomic counter, so who runs a chunk varies, what a chunk is does not.
//
// A training step has a thousand loops, a few microseconds apart, and to wake a sleeping thread takes tens. So whoever waits, a worker for
// the next loop or the caller for the workers, looks a while for himself, and gives way to whoever else wants the core between looks.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "reid/engine/device.h"

namespace reid {

namespace {

struct Loop {
  Loop(int64_t count_, int64_t grain_, FunctionRef<void(int64_t, int64_t, int)> work_) : count(count_), grain(grain_), work(work_) {}
  int64_t count, grain;
  FunctionRef<void(int64_t, int64_t, int)> work;
  std::atomic<int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void run(int worker) {
    for (;;) {
      const int64_t begin = next.fetch_add(1, std::memory_order_relaxed) * grain;
      if (begin >= count) return;
      try {
        work(begin, std::min(begin + grain, count), worker);
      } catch (...) {
        const std::scoped_lock lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store((count + grain - 1) / grain, std::memory_order_relaxed);  // the other chunks need not start
      }
    }
  }
};

constexpr int kLooks = 200;  // some 100 microseconds when nobody else wants the core

class Pool {
 public:
  explicit Pool(int count) {
    for (int worker = 1; worker < count; ++worker) workers_.emplace_back([this, worker] { serve(worker); });
  }
  ~Pool() {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void run(Loop& loop) {
    {
      const std::scoped_lock lock(mutex_);
      loop_ = &loop;
      running_ = static_cast<int>(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    loop.run(0);
    wait(done_, [&] { return running_ == 0; });
  }

 private:
  template <class Ready>
  void wait(std::condition_variable& signal, Ready&& ready) {
    for (int look = 0; look < kLooks; ++look) {
      if (ready()) return;
      std::this_thread::yield();
    }
    std::unique_lock lock(mutex_);
    signal.wait(lock, ready);
  }

  void serve(int worker) {
    uint64_t seen = 0;
    for (;;) {
      wait(wake_, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      ++seen;
      inside_loop() = true;
      loop_->run(worker);
      inside_loop() = false;
      if (--running_ > 0) continue;
      const std::scoped_lock lock(mutex_);  // the caller is either in front of its look or asleep, not between them
      done_.notify_one();
    }
  }

 public:
  static bool& inside_loop() {
    thread_local bool inside = false;
    return inside;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  Loop* loop_ = nullptr;                  // of the generation
  std::atomic<uint64_t> generation_ = 0;  // loops so far; every worker takes part in each
  std::atomic<int> running_ = 0;          // workers that are not done with it
  std::atomic<bool> stop_ = false;
};

struct PoolSlot {
  std::mutex busy;  // held during a loop: a second caller runs inline instead of waiting
  std::atomic<int> count{std::max(1, static_cast<int>(std::thread::hardware_concurrency()))};
  std::unique_ptr<Pool> pool;
};
PoolSlot& slot() {
  static PoolSlot s;
  return s;
}

}  // namespace

void set_threads(int count) {
  REID_CHECK(count >= 1 && count <= 1024, "threads = ", count, " is outside 1..1024");
  const std::scoped_lock lock(slot().busy);
  slot().count = count;
  if (slot().pool && slot().pool->size() != count) slot().pool.reset();
}

int threads() { return slot().count; }

void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t, int64_t, int)> work) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  PoolSlot& s = slot();
  std::unique_lock lock(s.busy, std::defer_lock);
  const bool pooled = count > grain && s.count > 1 && !Pool::inside_loop() && lock.try_lock();
  if (!pooled) {
    for (int64_t begin = 0; begin < count; begin += grain) work(begin, std::min(begin + grain, count), 0);
    return;
  }
  if (!s.pool) s.pool = std::make_unique<Pool>(s.count);
  Loop loop(count, grain, work);
  Pool::inside_loop() = true;
  s.pool->run(loop);
  Pool::inside_loop() = false;
  lock.unlock();
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace reid
