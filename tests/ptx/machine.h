#pragma once
// A machine that runs PTX: what nvcc made of the kernels, inline assembly and all, without a GPU. The emulator (kernels/emu) runs the same
// sources as a C++ compiler understands them; this runs what nvcc understood, one warp's instruction after the other. The played runtime
// library (cudart.cpp) loads kernels into it, so that the program's own CUDA backend stands on it.
//
// Virtual registers are kept per warp, 32 lanes side by side: narrow ones (predicates apart) of 32 bits, wide ones of 64. Constants and
// special registers are registers that are set before a block begins. Lanes of a warp that branch apart go on as groups; the one that is
// furthest behind runs first, and groups that come to the same instruction go on together. Of the asynchronous units, copies arrive as late
// as they may: boxes when somebody waits for their barrier, cp.async at its wait. Products of wgmma are made when they are issued: ptxas,
// not PTX, keeps their registers from being read too early. Source: PTX ISA 9.0.

#include <array>
#include <bit>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ptx/races.h"

namespace reid::test::ptx {

inline constexpr unsigned kLanes = 32;
inline constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// What a program does that a GPU would answer with a fault, or what this machine does not know.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Warp;
struct Instruction;
using Handler = void (*)(Warp& warp, const Instruction& in, uint32_t mask);

enum class Flow : uint8_t {
  on,
  branch,
  exit,
  warp_wide,    // waits until the lanes that it names have come
  barrier,      // of the block; of a whole warp
  cluster_wait  // for the end of the phase in which the warp arrived
};

struct Instruction {
  Handler run = nullptr;
  Flow flow = Flow::on;
  bool guarded = false, negated = false;  // by a predicate
  bool atomic = false;                    // or volatile
  bool moves = false;                     // from register to register: ptxas leaves few of those
  uint32_t guard = 0;
  uint32_t target = 0;       // of a branch
  uint32_t lanes = 0;        // register of the lanes that take part, of a warp_wide one; 0: all
  std::vector<uint32_t> at;  // registers, in an order that the handler knows
  int64_t number = 0;        // an address's offset, a count
  int line = 0;              // in the PTX
};

struct Parameter {
  size_t offset, bytes;
};

// tid, ntid, ctaid, nctaid with x, y, z each: the first narrow registers.
inline constexpr uint32_t kSpecials = 12;

struct Kernel {
  std::string name;
  std::vector<Instruction> code;
  std::vector<Parameter> parameters;
  size_t parameter_bytes = 0;
  size_t static_shared = 0;   // bytes, up to where the dynamic ones begin
  unsigned most_threads = 0;  // of a block (.maxntid); 0: not said
  uint32_t narrow = kSpecials, wide = 0, predicates = 0;
  std::vector<std::pair<uint32_t, uint32_t>> narrow_constants;
  std::vector<std::pair<uint32_t, uint64_t>> wide_constants;
};

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  const Kernel* kernel = nullptr;
  Extent grid = {}, block = {};
  unsigned cluster = 1;
  size_t dynamic_shared = 0;
  struct alignas(128) Piece {  // a tensor map among the parameters wants a multiple of 64 bytes
    unsigned char bytes[128];
  };
  std::vector<Piece> pieces = {};  // of the parameters
  unsigned char* parameters() { return pieces.front().bytes; }
  const unsigned char* parameters() const { return pieces.front().bytes; }
};

// Throws Fault, whose text names the kernel, the block, the thread and the line of the PTX.
void run(const Launch& launch);

// Of the device's memory, and of the host's that it may reach.
void allow_memory(const void* start, size_t bytes);
void forbid_memory(const void* start);

// --- what runs ---

struct CopyAsync {
  unsigned char* to;
  const unsigned char* from;
  size_t bytes;
  unsigned group;
};

struct Box {  // on its way
  unsigned char* to;
  std::vector<unsigned char> content;
};
struct Mbarrier {
  unsigned arrivals = 0, missing = 0;
  int64_t bytes = 0;  // expected, and not here
  uint64_t phase = 0;
  std::deque<Box> boxes = {};
  void end_phase() {
    if (missing == 0 && bytes == 0) ++phase, missing = arrivals;
  }
};

struct Block;
struct Cluster;

struct Group {  // lanes of a warp that are at the same instruction
  uint32_t place, lanes;
  bool waits = false;  // for other lanes
  bool spins = false;  // it had its turn: others may do what it waits for
};

struct Warp {
  Block* block = nullptr;
  std::vector<uint32_t> narrow = {}, predicates = {};
  std::vector<uint64_t> wide = {};
  uint32_t alive = 0;
  std::vector<Group> groups = {};
  unsigned first_thread = 0;
  bool at_barrier = false;
  bool yields = false;  // what it waits for may be another warp's
  uint64_t cluster_phase = 0;
  std::array<std::vector<CopyAsync>, kLanes> copies = {};
  std::array<unsigned, kLanes> copy_group = {};
  unsigned lane = 0;  // that runs, for messages

  template <class T>
  auto* registers(uint32_t index) {
    if constexpr (sizeof(T) == 8) {
      return wide.data() + size_t{kLanes} * index;
    } else {
      return narrow.data() + size_t{kLanes} * index;
    }
  }
};

struct Block {
  Cluster* cluster = nullptr;
  Extent index = {};
  std::unique_ptr<unsigned char[]> memory = {};
  unsigned char* shared = nullptr;  // a multiple of 1024
  size_t shared_bytes = 0;
  std::vector<Warp> warps = {};
  std::map<uint32_t, Mbarrier> mbarriers = {};  // by their place in shared memory
  unsigned waiting = 0;                         // warps at the barrier
  uint32_t rank() const;
};

struct Cluster {
  const Launch* launch = nullptr;
  std::vector<Block> blocks = {};
  unsigned alive = 0, arrived = 0;  // threads, at the cluster's barrier
  uint64_t phase = 0;
  uint64_t progress = 0;              // counts what may let another warp go on
  std::unique_ptr<Races> races = {};  // where they are watched
  void end_phase() {
    if (arrived > 0 && arrived == alive) ++phase, arrived = 0, ++progress;
  }
};

inline uint32_t Block::rank() const { return static_cast<uint32_t>(this - cluster->blocks.data()); }

// A register's lane as a value of a type. Narrower values stand in the lower bits.
template <class T, class S>
T value_of(const S* lanes, unsigned lane) {
  if constexpr (sizeof(T) == sizeof(S)) {
    return std::bit_cast<T>(lanes[lane]);
  } else {
    return static_cast<T>(lanes[lane]);
  }
}
template <class T, class S>
void set_value(S* lanes, unsigned lane, T value) {
  if constexpr (sizeof(T) == sizeof(S)) {
    lanes[lane] = std::bit_cast<S>(value);
  } else {
    lanes[lane] = static_cast<S>(value);
  }
}

template <class F>
void each_lane(uint32_t mask, F&& f) {
  if (mask == kAllLanes) {
    for (unsigned lane = 0; lane < kLanes; ++lane) f(lane);
  } else {
    for (uint32_t left = mask; left != 0; left &= left - 1) f(static_cast<unsigned>(std::countr_zero(left)));
  }
}

// --- memory: `bytes` is a power of 2, of which an address must be a multiple ---

struct Stretch {
  uint64_t begin = 0, end = 0;
  bool holds(uint64_t address, size_t bytes) const { return address >= begin && address + bytes <= end; }
};
inline Stretch last_used;  // of global memory
unsigned char* find_global(uint64_t address, size_t bytes);
inline unsigned char* global_place(uint64_t address, size_t bytes) {
  if (last_used.holds(address, bytes) && (address & (bytes - 1)) == 0) return reinterpret_cast<unsigned char*>(address);
  return find_global(address, bytes);
}

// Of the block's shared memory, or of another's of its cluster where the address says so (mapa).
inline constexpr unsigned kRankShift = 24;  // of an address in a cluster: rank + 1
unsigned char* find_shared(Warp& warp, uint64_t address, size_t bytes);
inline unsigned char* shared_place(Warp& warp, uint64_t address, size_t bytes) {
  Block& block = *warp.block;
  if (address + bytes <= block.shared_bytes && (address & (bytes - 1)) == 0) return block.shared + address;
  return find_shared(warp, address, bytes);
}

}  // namespace reid::test::ptx
