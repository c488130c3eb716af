// The blocks of an emulated launch: turns, barriers, warp collectives, shared memory, and the reports of what went wrong.

#include <algorithm>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "emu/fiber.h"
#include "emu/hopper.h"

namespace reid::emu {

constinit thread_local uint3 threadIdx, blockIdx;
constinit thread_local dim3 blockDim, gridDim;

static std::ostream& operator<<(std::ostream& out, const uint3& i) { return out << "(" << i.x << ", " << i.y << ", " << i.z << ")"; }
static std::ostream& operator<<(std::ostream& out, const dim3& i) { return out << "(" << i.x << ", " << i.y << ", " << i.z << ")"; }
static std::ostream& operator<<(std::ostream& out, const Site& site) { return out << site.file << ":" << site.line; }

namespace {

thread_local Schedule chosen = Schedule::lockstep;

bool same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }
bool same(const Site& a, const Site& b) { return a.line == b.line && same(a.file, b.file); }

// A copy of cp.async that has not arrived.
struct Copy {
  void* shared;
  const void* global;
  size_t bytes, source_bytes;
  unsigned group;
};

struct Thread {
  Fibers::Fiber fiber;
  uint3 index;
  const char* waits = nullptr;  // the call it waits in; null: it can run, or has returned
  Site site{};
  std::vector<Copy> copies;                           // in order of issue
  unsigned group = 0;                                 // that the next copy joins: the number of commits so far
  const FunctionRef<bool()>* ready = nullptr;         // where it waits for something other than threads: whether that has come,
  const FunctionRef<std::string()>* lacks = nullptr;  // and what that is
};

struct Warp {
  unsigned arrived = 0;  // lanes in the current collective
  unsigned turn = 0;     // collectives completed; a lane can be one behind, so two buffers are enough
  const char* call = nullptr;
  Site site{};
  detail::Exchange buffers[2];
};

// Memory of exactly `bytes`, filled with NaN, so that AddressSanitizer knows where it ends. Tiles of the copy engine need 1024.
constexpr std::align_val_t kSharedAlignment{1024};
struct SharedArray {
  SharedArray(size_t size) : bytes(size), memory(static_cast<unsigned char*>(::operator new(size, kSharedAlignment))) {
    std::memset(memory.get(), 0xFF, size);
  }
  struct Free {
    void operator()(unsigned char* p) const { ::operator delete(p, kSharedAlignment); }
  };
  bool holds(const void* p, size_t count) const {
    const auto* at = static_cast<const unsigned char*>(p);
    return at >= memory.get() && at + count <= memory.get() + bytes;
  }
  size_t bytes;
  std::unique_ptr<unsigned char, Free> memory;
};

class Block;

// Blocks that run at the same time: one, where a launch asks for no more.
struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  size_t live = 0, arrived = 0;  // threads that have not returned; that wait for all of those
  uint64_t phase = 0;            // how often they all came
  Site site{};                   // where they wait
  void settle() {
    if (arrived > 0 && arrived == live) arrived = 0, ++phase;
  }
};

class Block {
 public:
  Block(const detail::LaunchShape& shape, FunctionRef<void()> body, Cluster& cluster)
      : shape_(shape),
        body_(body),
        cluster_(cluster),
        threads_(size_t{shape.block.x} * shape.block.y * shape.block.z),
        warps_(threads_.size() / kWarp) {
    for (unsigned i = 0; i < threads_.size(); ++i) {
      threads_[i].index = {i % shape.block.x, i / shape.block.x % shape.block.y, i / shape.block.x / shape.block.y};
    }
  }
  ~Block() {
    for (Thread& t : threads_) fibers().abandon(t.fiber);
  }
  void begin(uint3 index);
  bool advance();  // true when anything moved
  void end();
  size_t threads() const { return threads_.size(); }

  // What follows is called by the running thread.
  void thread_main();
  void barrier(Site site);
  void cluster_barrier(Site site);
  const void* of_cluster(const char* call, const void* pointer, size_t bytes, unsigned rank, Site site) const;
  void in_block(unsigned rank, const FunctionRef<void()>& act) const;
  const detail::Exchange& exchange(const char* call, unsigned mask, const void* mine, size_t bytes, Site site);
  void* shared_array(const void* declaration, size_t bytes, Site site);
  void* shared_dynamic(Site site);
  SharedRange array_of(const char* call, const void* pointer, size_t bytes, Site site) const;
  void refuse_shared(const char* call, const void* pointer, size_t bytes) const;
  std::vector<SharedRange> arrays() const;
  void copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, Site site);
  void copy_async_commit() { ++current_->group; }
  void copy_async_wait(unsigned groups_in_flight);
  void wait_until(const char* call, const FunctionRef<bool()>& ready, const FunctionRef<std::string()>& lacks, Site site);
  template <class... Parts>
  [[noreturn]] void stop(const Parts&... parts) const {
    fail(str("[emulator] launch at ", shape_.site, ", block ", blockIdx, ": ", parts...));
  }

  HopperUnits hopper;
  static thread_local Block* running;

 private:
  static bool can_run(const Thread& t) {
    if (t.waits && t.ready) threadIdx = t.index;  // what is found wrong is found for this thread
    return !t.fiber.done && (!t.waits || (t.ready && (*t.ready)()));
  }
  void resume(Thread& t);
  bool everyone_once();
  bool warps_greedily();
  void wait(const char* call, Site site) {
    current_->waits = call, current_->site = site;
    fibers().yield();
  }
  [[noreturn]] void report_standstill() const;

  void enter() { blockIdx = index_, running = this; }

  const detail::LaunchShape& shape_;
  FunctionRef<void()> body_;
  Cluster& cluster_;
  uint3 index_;
  size_t live_ = 0;  // threads that have not returned
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Thread* current_ = nullptr;
  unsigned at_barrier_ = 0, barriers_ = 0;  // threads that wait; barriers completed
  Site barrier_site_{};
  std::map<const void*, SharedArray> shared_;
  size_t static_bytes_ = 0;
  std::exception_ptr error_;
};
thread_local Block* Block::running = nullptr;

void Block::thread_main() {
  try {
    body_();
    hopper.end_thread();
    --live_, --cluster_.live;
    cluster_.settle();
  } catch (...) {
    error_ = std::current_exception();
  }
}

void Block::resume(Thread& t) {
  current_ = &t;
  t.waits = nullptr, t.ready = nullptr, t.lacks = nullptr;
  threadIdx = t.index;
  fibers().resume(t.fiber);
  if (error_) std::rethrow_exception(error_);
}

// True when anything moved.
bool Block::everyone_once() {
  bool moved = false;
  for (Thread& t : threads_) {
    if (!can_run(t)) continue;
    resume(t);
    moved = true;
  }
  return moved;
}

// Runs warps one after another, each as far as it comes; begins anew when a barrier has let everyone go.
bool Block::warps_greedily() {
  const bool down = chosen == Schedule::greedy_down;
  const unsigned before = barriers_;
  bool moved = false;
  for (size_t w = 0; w < warps_.size(); ++w) {
    Thread* lanes = &threads_[(down ? warps_.size() - 1 - w : w) * kWarp];
    for (bool again = true; again;) {
      again = false;
      for (unsigned l = 0; l < kWarp; ++l) {
        Thread& t = lanes[down ? kWarp - 1 - l : l];
        if (!can_run(t)) continue;
        resume(t);
        if (barriers_ != before) return true;
        again = moved = true;
      }
    }
  }
  return moved;
}

void Block::begin(uint3 index) {
  index_ = index;
  shared_.clear();
  static_bytes_ = 0;
  live_ = threads_.size();
  hopper.clear(threads_.size());
  for (Thread& t : threads_) {
    t.fiber = {}, t.waits = nullptr, t.ready = nullptr, t.lacks = nullptr;
    t.group = 0, t.copies.clear();
  }
}

bool Block::advance() {
  enter();
  return chosen == Schedule::lockstep ? everyone_once() : warps_greedily();
}

void Block::end() {
  enter();
  if (live_ > 0) report_standstill();
  if (const std::string left = hopper.end_block(); !left.empty()) stop(left);
}

void Block::report_standstill() const {
  std::map<std::string, int> waiting;
  int returned = 0;
  for (const Thread& t : threads_) {
    if (t.fiber.done) {
      ++returned;
    } else {
      ++waiting[str(t.waits, " (", t.site, ")", t.lacks ? " for " + (*t.lacks)() : "")];
    }
  }
  std::string parts;
  for (const auto& [place, count] : waiting) parts += str(parts.empty() ? "" : ", ", count, " threads wait at ", place);
  stop("no thread can go on: ", parts, ", ", returned,
       " already returned; all threads of a block must reach each barrier, all lanes of a warp each collective");
}

void Block::barrier(Site site) {
  if (at_barrier_ > 0 && !same(site, barrier_site_)) {
    stop("threads of one block wait at different barriers, ", barrier_site_, " and ", site, ": __syncthreads stands in a branch");
  }
  barrier_site_ = site;
  if (++at_barrier_ < threads_.size()) return wait("__syncthreads", site);
  at_barrier_ = 0;
  ++barriers_;
  for (Thread& t : threads_) t.waits = nullptr;
  fibers().yield();  // the last to come is not the first to go
}

void Block::cluster_barrier(Site site) {
  if (cluster_.arrived > 0 && !same(site, cluster_.site)) {
    stop("thread ", threadIdx, ": threads of one cluster wait at different barriers, ", cluster_.site, " and ", site);
  }
  cluster_.site = site;
  const uint64_t before = cluster_.phase;
  ++cluster_.arrived;
  cluster_.settle();
  if (cluster_.phase != before) return fibers().yield();  // the last to come is not the first to go
  wait_until(
      "cluster_sync", [&] { return cluster_.phase != before; },
      [&] { return str(cluster_.arrived, " of ", cluster_.live, " threads of the cluster have come"); }, site);
}

const void* Block::of_cluster(const char* call, const void* pointer, size_t bytes, unsigned rank, Site site) const {
  if (rank >= shape_.cluster) stop("thread ", threadIdx, ": block ", rank, " is asked for at ", site, "; the cluster has ", shape_.cluster);
  const Block& other = *cluster_.blocks[rank];
  if (other.live_ == 0) {
    stop("thread ", threadIdx, ": ", call, " at ", site, " reaches shared memory of block ", rank, " of the cluster, which has returned");
  }
  for (const auto& [declaration, array] : shared_) {
    if (!array.holds(pointer, bytes)) continue;
    const auto found = other.shared_.find(declaration);
    if (found == other.shared_.end()) stop("thread ", threadIdx, ": block ", rank, " of the cluster has not begun, asked for at ", site);
    return found->second.memory.get() + (static_cast<const unsigned char*>(pointer) - array.memory.get());
  }
  stop("thread ", threadIdx, ": ", call, " at ", site, ": ", bytes, " bytes outside of the block's shared memory");
}

// What goes wrong is told of the thread that acts: blockIdx stays.
void Block::in_block(unsigned rank, const FunctionRef<void()>& act) const {
  const struct Back {
    Block* own = running;
    ~Back() { running = own; }
  } back;
  running = cluster_.blocks[rank].get();
  act();
}

const detail::Exchange& Block::exchange(const char* call, unsigned mask, const void* mine, size_t bytes, Site site) {
  if (mask != kFullMask) stop(call, " at ", site, " names some lanes only (mask ", mask, "): collectives are for the whole warp here");
  const unsigned thread = detail::linear_thread(), lane = thread % kWarp;
  Warp& warp = warps_[thread / kWarp];
  if (warp.arrived > 0 && (!same(call, warp.call) || !same(site, warp.site))) {
    stop("lanes of warp ", thread / kWarp, " diverge: some are in ", warp.call, " (", warp.site, "), lane ", lane, " in ", call, " (", site,
         ")");
  }
  warp.call = call, warp.site = site;
  detail::Exchange& buffer = warp.buffers[warp.turn % 2];
  std::memcpy(buffer.lanes[lane], mine, bytes);
  if (++warp.arrived < kWarp) {
    wait(call, site);
    return buffer;
  }
  warp.arrived = 0;
  ++warp.turn;
  for (unsigned l = 0; l < kWarp; ++l) threads_[thread - lane + l].waits = nullptr;
  return buffer;
}

void* Block::shared_array(const void* declaration, size_t bytes, Site site) {
  const auto found = shared_.find(declaration);
  if (found != shared_.end()) return found->second.memory.get();
  static_bytes_ += bytes;
  if (static_bytes_ > kStaticShared)
    stop(static_bytes_, " bytes of shared arrays with the one at ", site, "; a block may declare ", kStaticShared);
  if (static_bytes_ + shape_.shared > kOptInShared) {
    stop(static_bytes_, " bytes of shared arrays and ", shape_.shared, " dynamic ones; a block has ", kOptInShared);
  }
  return shared_.try_emplace(declaration, bytes).first->second.memory.get();
}

void* Block::shared_dynamic(Site site) {
  if (shape_.shared == 0) stop("the kernel uses dynamic shared memory at ", site, " and was launched without any");
  return shared_.try_emplace(nullptr, shape_.shared).first->second.memory.get();
}

SharedRange Block::array_of(const char* call, const void* pointer, size_t bytes, Site site) const {
  for (const auto& [declaration, array] : shared_) {
    if (array.holds(pointer, bytes)) return {array.memory.get(), array.bytes};
  }
  stop("thread ", threadIdx, ": ", call, " at ", site, ": ", bytes, " bytes outside of the block's shared memory");
}

void Block::refuse_shared(const char* call, const void* pointer, size_t bytes) const {
  for (const auto& [declaration, array] : shared_) {
    if (array.holds(pointer, bytes)) stop("thread ", threadIdx, ": ", call, " takes global memory, and is given the block's shared memory");
  }
}

std::vector<SharedRange> Block::arrays() const {
  std::vector<SharedRange> all;
  for (const auto& [declaration, array] : shared_) all.push_back({array.memory.get(), array.bytes});
  return all;
}

void Block::copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, Site site) {
  array_of("cp.async", shared, bytes, site);
  detail::check_aligned(shared, bytes);
  if (source_bytes > 0) detail::check_aligned(global, bytes);
  std::memset(shared, 0xFF, bytes);
  current_->copies.push_back({shared, global, bytes, source_bytes, current_->group});
}

void Block::copy_async_wait(unsigned groups_in_flight) {
  std::vector<Copy>& copies = current_->copies;
  auto copy = copies.begin();
  for (; copy != copies.end() && copy->group + groups_in_flight < current_->group; ++copy) {
    auto* target = static_cast<unsigned char*>(copy->shared);
    std::memcpy(target, copy->global, copy->source_bytes);
    std::memset(target + copy->source_bytes, 0, copy->bytes - copy->source_bytes);
  }
  copies.erase(copies.begin(), copy);
}

void Block::wait_until(const char* call, const FunctionRef<bool()>& ready, const FunctionRef<std::string()>& lacks, Site site) {
  if (ready()) return;
  current_->ready = &ready, current_->lacks = &lacks;
  wait(call, site);
}

Block& running_block(const char* call) {
  REID_CHECK(Block::running, "[emulator] ", call, " outside of a kernel");
  return *Block::running;
}

}  // namespace

const char* name_of(Schedule s) { return s == Schedule::lockstep ? "lockstep" : s == Schedule::greedy_up ? "greedy_up" : "greedy_down"; }
Schedule schedule() { return chosen; }
void set_schedule(Schedule s) { chosen = s; }

namespace detail {

void check_shape(const LaunchShape& s) {
  const auto check = [&](bool right, const auto&... parts) {
    REID_CHECK(right, "[emulator] launch at ", s.site, ": grid ", s.grid, ", block ", s.block, ", ", s.shared,
               " dynamic bytes: ", parts...);
  };
  const size_t count = size_t{s.block.x} * s.block.y * s.block.z;
  check(count > 0 && s.block.x <= 1024 && s.block.y <= 1024 && s.block.z <= 64 && count <= 1024,
        "a block has 1 to 1024 threads, at most 64 deep");
  check(count % kWarp == 0, "the threads of a block must be whole warps of ", kWarp);
  check(s.grid.x > 0 && s.grid.y > 0 && s.grid.z > 0, "the grid is empty; launch nothing when there is nothing to do");
  check(s.grid.x <= 0x7FFFFFFFu && s.grid.y <= 65535 && s.grid.z <= 65535, "a grid has at most 2^31 - 1 by 65535 by 65535 blocks");
  check(s.cluster >= 1 && s.cluster <= 8 && s.grid.x % s.cluster == 0, "clusters of ", s.cluster, ": 1 to 8 blocks that divide the grid");
  check(s.shared <= kOptInShared, "a block has at most ", kOptInShared, " bytes of shared memory");
}

// The blocks from `first` on of the grid.
static void run_cluster(Cluster& cluster, const LaunchShape& shape, uint64_t first, bool last_first) {
  cluster.live = cluster.arrived = 0, cluster.phase = 0;
  for (const auto& block : cluster.blocks) {
    const uint64_t b = first++;
    block->begin({static_cast<unsigned>(b % shape.grid.x), static_cast<unsigned>(b / shape.grid.x % shape.grid.y),
                  static_cast<unsigned>(b / shape.grid.x / shape.grid.y)});
    cluster.live += block->threads();
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t i = 0; i < cluster.blocks.size(); ++i) {
      Block& block = *cluster.blocks[last_first ? cluster.blocks.size() - 1 - i : i];
      while (block.advance()) {
        moved = true;
        if (chosen == Schedule::lockstep) break;  // else as far as it comes: barriers of blocks order nothing between them
      }
    }
  }
  for (const auto& block : cluster.blocks) block->end();
}

void run_grid(const LaunchShape& shape, FunctionRef<void()> thread) {
  REID_CHECK(!Block::running, "[emulator] launch at ", shape.site, ": a kernel may not launch another");
  gridDim = shape.grid, blockDim = shape.block;
  fibers().body = [] { Block::running->thread_main(); };
  const struct Leave {
    ~Leave() { Block::running = nullptr; }
  } leave;
  Cluster cluster;
  for (unsigned i = 0; i < shape.cluster; ++i) cluster.blocks.push_back(std::make_unique<Block>(shape, thread, cluster));
  const bool down = chosen == Schedule::greedy_down;
  const uint64_t count = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z / shape.cluster;
  for (uint64_t i = 0; i < count; ++i) run_cluster(cluster, shape, (down ? count - 1 - i : i) * shape.cluster, down);
}

void block_barrier(Site site) { running_block("__syncthreads").barrier(site); }
void cluster_barrier(Site site) { running_block("cluster_sync").cluster_barrier(site); }
const void* of_cluster(const char* call, const void* pointer, size_t bytes, unsigned rank, Site site) {
  return running_block(call).of_cluster(call, pointer, bytes, rank, site);
}
void in_block(unsigned rank, FunctionRef<void()> act) { running_block("in_block").in_block(rank, act); }
const Exchange& exchange(const char* call, unsigned mask, const void* mine, size_t bytes, Site site) {
  return running_block(call).exchange(call, mask, mine, bytes, site);
}
void* shared_array(const void* declaration, size_t bytes, Site site) {
  return running_block("SHARED_ARRAY").shared_array(declaration, bytes, site);
}
void* shared_dynamic(Site site) { return running_block("shared_dynamic").shared_dynamic(site); }
void copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, Site site) {
  running_block("cp.async").copy_async(shared, global, bytes, source_bytes, site);
}
void copy_async_commit() { running_block("cp.async").copy_async_commit(); }
void copy_async_wait(unsigned groups_in_flight) { running_block("cp.async").copy_async_wait(groups_in_flight); }

void check_shared(const char* call, const void* pointer, size_t bytes, Site site) { shared_array_of(call, pointer, bytes, site); }
void check_global(const char* call, const void* pointer, size_t bytes) {
  if (Block::running) Block::running->refuse_shared(call, pointer, bytes);
}

SharedRange shared_array_of(const char* call, const void* pointer, size_t bytes, Site site) {
  return running_block(call).array_of(call, pointer, bytes, site);
}
std::vector<SharedRange> shared_arrays() { return running_block("shared_arrays").arrays(); }
HopperUnits& hopper_units(const char* call) { return running_block(call).hopper; }
void wait_until(const char* call, FunctionRef<bool()> ready, FunctionRef<std::string()> lacks, Site site) {
  running_block(call).wait_until(call, ready, lacks, site);
}
void stop_kernel(const std::string& what) { Block::running->stop("thread ", threadIdx, ": ", what); }

void misaligned(const void* pointer, size_t alignment) {
  const std::string what = str("accesses ", alignment, " bytes at an address that they do not divide: ", pointer);
  if (Block::running) stop_kernel(what);
  fail(str("[emulator] the host ", what));
}

}  // namespace detail

}  // namespace reid::emu
