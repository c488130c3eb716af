#include "ptx/machine.h"

#include <algorithm>
#include <cstring>

#include "ptx/traffic.h"

namespace reid::test::ptx {

namespace {

constexpr int kTurn = 4096;        // instructions of a warp, before it is another's turn
constexpr int kPatience = 100000;  // turns of a cluster in which nothing happens

[[noreturn]] void stuck(const Warp& w, const std::string& what) {
  throw Fault(what + ": lanes " + std::to_string(w.alive) + ", of which " + std::to_string(w.groups.size()) + " groups wait apart");
}

void leave(Warp& w, Group& group, uint32_t lanes) {
  group.lanes &= ~lanes;
  w.alive &= ~lanes;
  for (Group& other : w.groups) other.waits = false;  // they may have waited for these lanes
  Cluster& cluster = *w.block->cluster;
  cluster.alive -= static_cast<unsigned>(std::popcount(lanes));
  cluster.end_phase();
  ++cluster.progress;
}

// Groups that have come to the same instruction go on together.
void join(Warp& w) {
  for (size_t i = 0; i < w.groups.size(); ++i) {
    for (size_t j = w.groups.size(); j-- > i + 1;) {
      if (w.groups[j].place != w.groups[i].place) continue;
      w.groups[i].lanes |= w.groups[j].lanes;
      w.groups[i].waits = false;
      w.groups.erase(w.groups.begin() + static_cast<std::ptrdiff_t>(j));
    }
  }
}

// The one that is furthest behind, of those that wait for no other; one that spins lets the others go first.
size_t next_group(Warp& w) {
  for (int round = 0; round < 2; ++round) {
    size_t best = w.groups.size();
    for (size_t i = 0; i < w.groups.size(); ++i) {
      const Group& group = w.groups[i];
      if (group.waits || group.spins) continue;
      if (best == w.groups.size() || group.place < w.groups[best].place) best = i;
    }
    if (best < w.groups.size()) return best;
    for (Group& group : w.groups) group.spins = false;
  }
  stuck(w, "lanes of a warp wait for others that never come");
}

// The lanes of a group that must be there for what it is about to do together; 0: they are not all.
uint32_t together(Warp& w, const Instruction& in, uint32_t active) {
  if (in.lanes == 0) return active == w.alive && active == kAllLanes ? active : 0;
  const uint32_t wanted = w.registers<uint32_t>(in.lanes)[std::countr_zero(active)];
  if ((wanted & active) != active) throw Fault("a lane calls that is not in the mask that it gives");
  if ((wanted & ~w.alive) != 0) throw Fault("the mask names lanes that have returned");
  return wanted == active ? active : 0;
}

enum class Step { on, other_group, end_of_turn };

void branch(Warp& w, size_t at, const Instruction& in, uint32_t taken) {
  Group& group = w.groups[at];
  const uint32_t rest = group.lanes & ~taken;
  if (rest == 0) {
    group.place = in.target;
  } else if (taken == 0) {
    ++group.place;
  } else {
    group.lanes = rest;
    ++group.place;
    w.groups.push_back({in.target, taken});
  }
}

Step step(Warp& w, size_t at, const Kernel& kernel) {
  Group& group = w.groups[at];
  if (group.place >= kernel.code.size()) throw Fault("the kernel's code ends without ret");
  const Instruction& in = kernel.code[group.place];
  uint32_t active = group.lanes;
  if (in.guarded) active &= in.negated ? ~w.predicates[in.guard] : w.predicates[in.guard];
  if (counted && !in.moves) ++counted->instructions, counted->lanes += static_cast<unsigned>(std::popcount(active));
  if (Races* races = w.block->cluster->races.get()) races->next_instruction(w);
  switch (in.flow) {
    case Flow::on:
      if (active != 0) in.run(w, in, active);
      ++group.place;
      group.spins = w.yields;
      return w.yields ? Step::end_of_turn : Step::on;
    case Flow::branch: branch(w, at, in, active); return Step::on;
    case Flow::exit:
      ++group.place;
      if (active != 0) leave(w, group, active);
      if (group.lanes == 0) w.groups.erase(w.groups.begin() + static_cast<std::ptrdiff_t>(at));
      return w.groups.empty() ? Step::end_of_turn : Step::other_group;
    case Flow::warp_wide:
      if (active == 0) break;
      if (active != group.lanes || together(w, in, active) == 0) {
        group.waits = true;
        return Step::other_group;
      }
      in.run(w, in, active);
      break;
    case Flow::barrier:
      if (group.lanes != kAllLanes && w.groups.size() > 1) {
        group.waits = true;
        return Step::other_group;
      }
      if (active != group.lanes) throw Fault("bar.sync of some lanes only");
      ++group.place;
      w.at_barrier = true;
      ++w.block->waiting;
      return Step::end_of_turn;
    case Flow::cluster_wait:
      if (w.block->cluster->phase == w.cluster_phase) {
        w.yields = group.spins = true;
        return Step::end_of_turn;
      }
      in.run(w, in, active);
      break;
  }
  ++group.place;
  return Step::on;
}

void turn(Warp& w, const Kernel& kernel) {
  w.yields = false;
  size_t at = next_group(w);
  for (int left = kTurn; left > 0; --left) {
    try {
      const Step how = step(w, at, kernel);
      if (how == Step::end_of_turn) return;
      if (w.groups.size() > 1 || how == Step::other_group) {
        join(w);
        at = next_group(w);
      }
    } catch (const Fault& fault) {
      const uint32_t place = at < w.groups.size() ? w.groups[at].place : 0;
      throw Fault("line " + std::to_string(kernel.code[std::min<size_t>(place, kernel.code.size() - 1)].line) + " of the PTX, thread " +
                  std::to_string(w.first_thread + w.lane) + ": " + fault.what());
    }
  }
  w.groups[at].spins = true;
}

void open_barrier(Block& block) {
  const auto unfinished =
      static_cast<unsigned>(std::count_if(block.warps.begin(), block.warps.end(), [](const Warp& w) { return w.alive != 0; }));
  if (block.waiting == 0 || block.waiting < unfinished) return;
  if (unfinished < block.warps.size()) throw Fault("bar.sync: threads have returned that it waits for");
  for (Warp& w : block.warps) w.at_barrier = false;
  if (block.cluster->races) block.cluster->races->block_barrier(block);
  block.waiting = 0;
  ++block.cluster->progress;
}

void begin_warp(Warp& w, Block& block, unsigned first, unsigned threads, const Launch& launch) {
  const Kernel& kernel = *launch.kernel;
  w.block = &block;
  w.first_thread = first;
  w.narrow.resize(size_t{kLanes} * kernel.narrow), w.wide.resize(size_t{kLanes} * kernel.wide), w.predicates.resize(kernel.predicates);
  for (const auto& [index, value] : kernel.narrow_constants) std::fill_n(w.registers<uint32_t>(index), kLanes, value);
  for (const auto& [index, value] : kernel.wide_constants) std::fill_n(w.registers<uint64_t>(index), kLanes, value);
  const Extent &b = launch.block, &g = launch.grid;
  const unsigned of_all[kSpecials] = {0, 0, 0, b.x, b.y, b.z, block.index.x, block.index.y, block.index.z, g.x, g.y, g.z};
  for (uint32_t i = 0; i < kSpecials; ++i) std::fill_n(w.registers<uint32_t>(i), kLanes, of_all[i]);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned thread = first + lane;
    w.registers<uint32_t>(0)[lane] = thread % b.x;
    w.registers<uint32_t>(1)[lane] = thread / b.x % b.y;
    w.registers<uint32_t>(2)[lane] = thread / b.x / b.y;
    w.copies[lane].clear(), w.copy_group[lane] = 0;
  }
  const unsigned lanes = std::min(kLanes, threads - first);
  w.alive = lanes == kLanes ? kAllLanes : (1u << lanes) - 1;
  w.groups = {{0, w.alive}};
  w.at_barrier = w.yields = false;
}

void begin_block(Block& block, const Launch& launch) {
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  if (!block.memory) {
    block.shared_bytes = launch.kernel->static_shared + launch.dynamic_shared;
    block.memory = std::make_unique<unsigned char[]>(block.shared_bytes + 1024);
    block.shared = block.memory.get() + (1024 - reinterpret_cast<uintptr_t>(block.memory.get()) % 1024) % 1024;
    block.warps.resize((threads + kLanes - 1) / kLanes);
  }
  std::memset(block.shared, 0xFF, block.shared_bytes);  // NaN
  block.mbarriers.clear();
  block.waiting = 0;
  for (unsigned i = 0; i < block.warps.size(); ++i) begin_warp(block.warps[i], block, i * kLanes, threads, launch);
}

void end_block(const Block& block) {
  for (const auto& [place, barrier] : block.mbarriers) {
    if (!barrier.boxes.empty()) throw Fault("the block ends with boxes on their way");
  }
}

void run_cluster(Cluster& cluster) {
  const Kernel& kernel = *cluster.launch->kernel;
  uint64_t seen = ~uint64_t{0};
  for (int idle = 0; cluster.alive > 0; ++idle) {
    if (cluster.progress != seen) idle = 0;
    seen = cluster.progress;
    if (idle > kPatience) throw Fault("no warp of the cluster goes on: they wait for what never comes");
    for (Block& block : cluster.blocks) {
      for (Warp& w : block.warps) {
        if (w.alive == 0 || w.at_barrier) continue;
        turn(w, kernel);
        if (!w.yields) ++cluster.progress;
      }
      open_barrier(block);
    }
  }
  for (const Block& block : cluster.blocks) end_block(block);
}

}  // namespace

void run(const Launch& launch) {
  if (counted) counted = &traffic()[launch.kernel->name], ++counted->launches;
  Cluster cluster{.launch = &launch};
  cluster.blocks.resize(launch.cluster);
  const Extent& grid = launch.grid;
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; x += launch.cluster) {
        cluster.alive = threads * launch.cluster, cluster.arrived = 0, cluster.phase = 0;
        for (unsigned i = 0; i < launch.cluster; ++i) {
          cluster.blocks[i].cluster = &cluster;
          cluster.blocks[i].index = {x + i, y, z};
          begin_block(cluster.blocks[i], launch);
        }
        if (watches_races) {
          const Block& first = cluster.blocks.front();
          cluster.races = std::make_unique<Races>(cluster.blocks.size(), first.warps.size(), first.shared_bytes);
        }
        try {
          run_cluster(cluster);
        } catch (const Fault& fault) {
          throw Fault(launch.kernel->name + ", block " + std::to_string(x) + ' ' + std::to_string(y) + ' ' + std::to_string(z) + ": " +
                      fault.what());
        }
      }
    }
  }
}

}  // namespace reid::test::ptx
