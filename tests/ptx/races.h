#pragma once
// Whether accesses to shared memory are ordered (REID_PLAYED_RACES=1): what the block's barrier, bar.warp.sync, mbarrier and the barrier of
// the cluster order, no more; for plain accesses as for cp.async, the copy engine and wgmma.
//
// Vector clocks (Lamport, CACM 1978; Mattern 1989): an agent is a warp or the copy engine on behalf of one mbarrier. Its clock counts its
// releases. A warp knows of each agent up to which of its clocks everything has happened. Of every two bytes of shared memory the last
// write and each agent's last read are kept; an access that does not know of a conflicting one is a race. Lanes of a warp are ordered by
// bar.warp.sync and by what orders warps. What is on its way (cp.async, reads of wgmma) has a clock that nobody knows until it is waited
// for. Writes of threads that wgmma reads need a fence.proxy.async behind them.
// Not seen: global memory; which lane of a warp it was that arrived at an mbarrier.

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace reid::test::ptx {

struct Warp;
struct Block;
struct Instruction;

class Races {
 public:
  Races(size_t blocks, size_t warps, size_t shared_bytes);

  enum class Kind { plain, atomic };
  void read(const Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes, Kind kind);
  void write(const Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes, Kind kind);
  // Instructions of a warp are told apart by this: accesses of one do not race with each other.
  void next_instruction(const Warp& w) { ++agent_of(w).instruction; }

  void copy_async(const Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes);
  void copy_arrived(const Warp& w, unsigned lane, const unsigned char* at, size_t bytes);

  void box(const Warp& w, const Instruction& in, const Block& there, uint32_t barrier, const unsigned char* at, size_t bytes);
  void product(const Warp& w, const Instruction& in, const unsigned char* at, size_t bytes);  // reads of wgmma
  void products_made(const Warp& w, unsigned groups_in_flight);
  void commit_products(const Warp& w) { ++agent_of(w).group; }
  void fence_proxy(const Warp& w) { ++agent_of(w).fences; }

  void warp_barrier(const Warp& w) { ++agent_of(w).epoch; }
  void block_barrier(const Block& block);
  void arrive(const Warp& w, const Block& there, uint32_t barrier);
  void phase_ended(const Block& there, uint32_t barrier);
  void waited(const Warp& w, const Block& there, uint32_t barrier);
  void cluster_arrive(const Warp& w);  // release
  void cluster_wait(const Warp& w);    // acquire

 private:
  using Clocks = std::vector<uint32_t>;
  static constexpr uint32_t kUnknown = ~uint32_t{0};  // the clock of what is on its way
  struct Access {
    uint32_t clock = 0, epoch = 0, fences = 0;
    uint64_t instruction = 0;
    int line = 0;  // 0: there was none
    uint16_t agent = 0;
    uint8_t lane = 0;
    bool atomic = false, by_thread = true;
  };
  struct Cell {
    Access write;
    std::vector<Access> reads;  // one of each agent
  };
  struct Agent {
    uint16_t number = 0;
    Clocks knows;
    uint32_t epoch = 0, fences = 0, group = 0;
    uint64_t instruction = 0;
    struct Product {
      uint32_t group;
      Cell* first;
      size_t cells;
    };
    std::vector<Product> products = {};
  };
  struct Barrier {
    uint16_t agent = 0;  // of the copy engine
    uint32_t boxes = 0;  // its clock
    Clocks arrived, ended;
  };

  Agent& agent_of(const Warp& w);
  Barrier& barrier_of(const Block& there, uint32_t barrier);
  Cell* cells_of(const Warp& w, const unsigned char* at);
  bool ordered(const Agent& now, unsigned lane, const Access& before) const;
  void check(const Agent& now, const Instruction& in, unsigned lane, const Access& before, const char* what) const;
  static void learn(Clocks& to, const Clocks& from);
  void release(Agent& agent) { ++agent.knows[agent.number]; }
  Access access(const Agent& now, const Instruction& in, unsigned lane) const;

  size_t warps_, cells_of_block_;
  std::vector<Agent> agents_;
  std::vector<Cell> cells_;
  std::map<std::pair<size_t, uint32_t>, Barrier> barriers_;
  uint16_t next_agent_;
  Clocks at_cluster_;
};

inline bool watches_races = false;

}  // namespace reid::test::ptx
