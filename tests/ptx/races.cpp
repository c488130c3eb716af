#include "ptx/races.h"

#include <algorithm>

#include "ptx/machine.h"

namespace reid::test::ptx {

namespace {

constexpr size_t kCell = 2;          // bytes
constexpr size_t kMostAgents = 256;  // warps and barriers of a cluster

size_t cells_in(size_t bytes) { return (bytes + kCell - 1) / kCell; }

}  // namespace

Races::Races(size_t blocks, size_t warps, size_t shared_bytes)
    : warps_(warps),
      cells_of_block_(cells_in(shared_bytes)),
      agents_(blocks * warps),
      cells_(blocks * cells_of_block_),
      next_agent_(static_cast<uint16_t>(blocks * warps)),
      at_cluster_(kMostAgents) {
  for (size_t i = 0; i < agents_.size(); ++i) {
    agents_[i].number = static_cast<uint16_t>(i);
    agents_[i].knows.resize(kMostAgents);
    agents_[i].knows[i] = 1;
  }
}

Races::Agent& Races::agent_of(const Warp& w) { return agents_[w.block->rank() * warps_ + w.first_thread / kLanes]; }

Races::Barrier& Races::barrier_of(const Block& there, uint32_t barrier) {
  const auto [found, fresh] = barriers_.try_emplace({there.rank(), barrier});
  if (fresh) {
    if (next_agent_ == kMostAgents) throw Fault("more warps and mbarriers than the check for races tells apart");
    found->second = {next_agent_++, 0, Clocks(kMostAgents), Clocks(kMostAgents)};
  }
  return found->second;
}

Races::Cell* Races::cells_of(const Warp& w, const unsigned char* at) {
  for (const Block& block : w.block->cluster->blocks) {
    if (at >= block.shared && at < block.shared + block.shared_bytes) {
      return cells_.data() + block.rank() * cells_of_block_ + static_cast<size_t>(at - block.shared) / kCell;
    }
  }
  throw Fault("an access that is not to shared memory of the cluster");
}

void Races::learn(Clocks& to, const Clocks& from) {
  for (size_t i = 0; i < to.size(); ++i) to[i] = std::max(to[i], from[i]);
}

bool Races::ordered(const Agent& now, unsigned lane, const Access& before) const {
  if (before.line == 0) return true;
  if (before.clock == kUnknown) return false;
  if (before.agent != now.number) return before.clock <= now.knows[before.agent];
  return before.lane == lane || before.epoch < now.epoch || before.instruction == now.instruction;
}

void Races::check(const Agent& now, const Instruction& in, unsigned lane, const Access& before, const char* what) const {
  if (ordered(now, lane, before)) return;
  throw Fault(std::string("a race: ") + what + " at line " + std::to_string(in.line) + ", warp " + std::to_string(now.number) + ", lane " +
              std::to_string(lane) + "; before, at line " + std::to_string(before.line) + ", " +
              (before.agent < agents_.size() ? "warp " : "copy engine ") + std::to_string(before.agent) + ", lane " +
              std::to_string(before.lane) + (before.clock == kUnknown ? ", and still on its way" : ""));
}

Races::Access Races::access(const Agent& now, const Instruction& in, unsigned lane) const {
  return {.clock = now.knows[now.number],
          .epoch = now.epoch,
          .fences = now.fences,
          .instruction = now.instruction,
          .line = in.line,
          .agent = now.number,
          .lane = static_cast<uint8_t>(lane)};
}

void Races::read(const Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes, Kind kind) {
  const Agent& now = agent_of(w);
  Cell* cell = cells_of(w, at);
  Access mine = access(now, in, lane);
  mine.atomic = kind == Kind::atomic;
  for (size_t i = 0; i < cells_in(bytes); ++i, ++cell) {
    if (!(mine.atomic && cell->write.atomic)) check(now, in, lane, cell->write, "reads what was written");
    const auto known = std::find_if(cell->reads.begin(), cell->reads.end(), [&](const Access& a) {
      return a.agent == now.number && (a.lane == lane || a.epoch < now.epoch) && a.clock != kUnknown;
    });
    if (known == cell->reads.end()) {
      cell->reads.push_back(mine);
    } else {
      *known = mine;
    }
  }
}

void Races::write(const Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes, Kind kind) {
  const Agent& now = agent_of(w);
  Cell* cell = cells_of(w, at);
  Access mine = access(now, in, lane);
  mine.atomic = kind == Kind::atomic;
  for (size_t i = 0; i < cells_in(bytes); ++i, ++cell) {
    if (!(mine.atomic && cell->write.atomic)) check(now, in, lane, cell->write, "writes over what was written");
    for (const Access& before : cell->reads) {
      if (!(mine.atomic && before.atomic)) check(now, in, lane, before, "writes over what was read");
    }
    cell->write = mine;
    cell->reads.clear();
  }
}

// --- what happens behind a thread's back ---

void Races::copy_async(const Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes) {
  write(w, in, lane, at, bytes, Kind::plain);
  Cell* cell = cells_of(w, at);
  for (size_t i = 0; i < cells_in(bytes); ++i) cell[i].write.clock = kUnknown;
}

void Races::copy_arrived(const Warp& w, unsigned lane, const unsigned char* at, size_t bytes) {
  const Agent& now = agent_of(w);
  Cell* cell = cells_of(w, at);
  for (size_t i = 0; i < cells_in(bytes); ++i) {
    Access& write = cell[i].write;
    if (write.agent == now.number && write.lane == lane) write.clock = now.knows[now.number], write.epoch = now.epoch;
  }
}

void Races::box(const Warp& w, const Instruction& in, const Block& there, uint32_t barrier, const unsigned char* at, size_t bytes) {
  write(w, in, w.lane, at, bytes, Kind::plain);
  Barrier& b = barrier_of(there, barrier);
  ++b.boxes;
  Cell* cell = cells_of(w, at);
  for (size_t i = 0; i < cells_in(bytes); ++i)
    cell[i].write.agent = b.agent, cell[i].write.clock = b.boxes, cell[i].write.by_thread = false;
}

void Races::product(const Warp& w, const Instruction& in, const unsigned char* at, size_t bytes) {
  Agent& now = agent_of(w);
  Cell* const first = cells_of(w, at);
  for (size_t i = 0; i < cells_in(bytes); ++i) {
    Cell& cell = first[i];
    check(now, in, 0, cell.write, "wgmma reads what was written");
    const bool fenced = !cell.write.by_thread || cell.write.line == 0 || agents_[cell.write.agent].fences > cell.write.fences;
    if (!fenced)
      throw Fault("a race: wgmma at line " + std::to_string(in.line) + " reads what line " + std::to_string(cell.write.line) +
                  " wrote, without fence.proxy.async");
    Access mine = access(now, in, 0);
    mine.clock = kUnknown;
    cell.reads.push_back(mine);
  }
  now.products.push_back({now.group, first, cells_in(bytes)});
}

void Races::products_made(const Warp& w, unsigned groups_in_flight) {
  Agent& now = agent_of(w);
  std::erase_if(now.products, [&](const Agent::Product& product) {
    if (product.group + groups_in_flight >= now.group) return false;
    for (size_t i = 0; i < product.cells; ++i) {
      std::vector<Access>& reads = product.first[i].reads;
      for (Access& read : reads) {
        if (read.agent == now.number && read.clock == kUnknown) read.clock = now.knows[now.number], read.epoch = now.epoch;
      }
    }
    return true;
  });
}

// --- what orders ---

void Races::block_barrier(const Block& block) {
  Clocks all(kMostAgents);
  Agent* const first = &agents_[block.rank() * warps_];
  for (size_t i = 0; i < warps_; ++i) learn(all, first[i].knows);
  for (size_t i = 0; i < warps_; ++i) {
    first[i].knows = all;
    ++first[i].epoch;
    release(first[i]);
  }
}

void Races::arrive(const Warp& w, const Block& there, uint32_t barrier) {
  Agent& now = agent_of(w);
  learn(barrier_of(there, barrier).arrived, now.knows);
  release(now);
}

void Races::phase_ended(const Block& there, uint32_t barrier) {
  Barrier& b = barrier_of(there, barrier);
  b.arrived[b.agent] = b.boxes;
  b.ended = b.arrived;
}

void Races::waited(const Warp& w, const Block& there, uint32_t barrier) {
  Agent& now = agent_of(w);
  learn(now.knows, barrier_of(there, barrier).ended);
  ++now.epoch;
}

void Races::cluster_arrive(const Warp& w) {
  Agent& now = agent_of(w);
  learn(at_cluster_, now.knows);
  release(now);
}

void Races::cluster_wait(const Warp& w) {
  Agent& now = agent_of(w);
  learn(now.knows, at_cluster_);
  ++now.epoch;
}

}  // namespace reid::test::ptx
