#pragma once
// What sm90/hopper.cuh stands on in emulation: barriers that count bytes, the copy engine, the tensor cores of warpgroups.
//
// Design: one set of units for each block, which the scheduler clears. What they do behind a thread's back happens as late as it may, and
// what nobody may look at meanwhile holds NaN: a box's place until a thread waits for its barrier and cannot go on without it, sums until
// their products are waited for. The units read shared memory through a view of their own, as the hardware's asynchronous proxy does:
// boxes arrive in both, ordinary writes reach the view by a fence. What a GPU leaves undefined is an error that names launch, block,
// thread and line. Stricter than a GPU where only mistakes lose by it: a thread that waits for a barrier waits for each of its phases
// once, in order; who multiplies a box has waited for it itself; every group of products begins with a fence; a barrier is initialized
// once; nothing is on its way when a block ends. Not here: copies from shared to global memory, operands in registers.

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "emu/cuda_emu.h"

namespace reid::emu {

// A stretch of shared memory. The scheduler says which array it lies in.
struct SharedRange {
  const unsigned char* start;
  size_t bytes;
  bool overlaps(const SharedRange& other) const { return start < other.start + other.bytes && other.start < start + bytes; }
};

class HopperUnits {
 public:
  void clear(size_t threads);     // for the next block
  void end_thread();              // throws when the running thread leaves products behind
  std::string end_block() const;  // what is wrong: boxes on their way, warps of a warpgroup that did not work together; "": nothing

  void init(void* barrier, unsigned arrivals, Site site);
  void fence_init();
  void arrive(void* barrier, unsigned bytes, Site site);
  void wait(void* barrier, unsigned parity, Site site);

  // `write` fills the place, whose first byte it is given. What it captures must outlive the thread.
  using Write = std::function<void(unsigned char* to)>;
  void load(SharedRange place, void* barrier, Write write, Site site);

  // `run(sums, a, b)` adds to the `count` sums, 128 at most; a and b are the distances from the operands' addresses to where the units see
  // them.
  using Product = std::function<void(float* sums, uintptr_t a, uintptr_t b)>;
  void multiply(float* sums, size_t count, SharedRange a, SharedRange b, Product run, Site site);
  void multiply_fence();
  void multiply_commit();
  void multiply_wait(unsigned groups_in_flight, Site site);

  void fence_view(Site site);  // what was written by now becomes visible to the units

 private:
  static constexpr size_t kMostSums = 128;
  struct Box {
    int64_t phase;  // of the barrier when it was asked for
    SharedRange place;
    Write write;
  };
  struct Origin {  // of what stands in a place where a box was asked for last
    const void* barrier;
    int64_t phase;
    size_t bytes;
  };
  struct Barrier {
    unsigned arrivals, waits_for;  // announced; missing in this phase
    unsigned thread;               // that initialized it
    bool fenced = false;
    int64_t bytes = 0;           // expected in this phase and not here
    int64_t phase = 0;           // phases that have ended
    std::deque<Box> boxes = {};  // on their way
  };
  struct Sums {
    float* place;
    size_t bytes;
    int pending = 0;    // products
    bool held = false;  // `values` are right, the place is NaN
    float values[kMostSums];
  };
  struct Pending {
    unsigned group;
    size_t sums;  // among the thread's
    SharedRange a, b;
    Product run;
    bool alike;  // the units see of a and b what threads see: that must stay until the product is made
  };
  struct Thread {
    std::map<const void*, int64_t> seen;  // the last phase of each barrier that it waited for
    std::vector<Sums> sums;
    std::vector<Pending> products;
    unsigned group = 0;
    uint64_t issued = 0;  // products in all
    bool fenced = false;
  };

  Barrier& find(const char* call, void* barrier, Site site);
  std::string describe(const void* barrier, const Barrier& b) const;
  void end_phase(Barrier& b);
  void deliver(Barrier& b);
  bool check_arrived(const SharedRange& operand, Site site);  // -> whether the units are known to see what threads see of it
  void check_unchanged(const char* call, const Pending& product, Site site);
  void saw(const void* barrier, int64_t phase, Site site);
  unsigned char* view(const void* address);
  bool seen_alike(const SharedRange& range) { return std::memcmp(view(range.start), range.start, range.bytes) == 0; }
  Thread& mine() { return threads_[detail::linear_thread()]; }

  std::map<const void*, Barrier> barriers_;
  std::vector<Thread> threads_;
  std::map<const unsigned char*, Origin> origins_;                    // by a place's first byte
  std::map<const unsigned char*, std::vector<unsigned char>> views_;  // by an array's first byte
};

namespace detail {

void cluster_barrier(Site site);
// Where block `rank` of the cluster has what the running one has at `pointer`; throws, naming the call, where it has nothing.
const void* of_cluster(const char* call, const void* pointer, size_t bytes, unsigned rank, Site site);
void in_block(unsigned rank, FunctionRef<void()> act);  // shared memory and units are those of that block of the cluster meanwhile

HopperUnits& hopper_units(const char* call);  // of the block that runs
// Where the address's array lies; throws, naming the call, when the bytes are not all within one.
SharedRange shared_array_of(const char* call, const void* address, size_t bytes, Site site);
std::vector<SharedRange> shared_arrays();  // of the block that runs
// A thread waits until `ready`, which is asked again whenever its turn comes; `lacks` says for what, if that never happens.
void wait_until(const char* call, FunctionRef<bool()> ready, FunctionRef<std::string()> lacks, Site site);
[[noreturn]] void stop_kernel(const std::string& what);  // throws: launch, block and thread before it

}  // namespace detail

}  // namespace reid::emu
