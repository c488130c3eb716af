// What sm_90a adds: mbarrier, the copy engine, clusters, wgmma.

#include <cstring>

#include "ptx/decoder.h"
#include "ptx/tensor_map.h"
#include "ptx/traffic.h"

namespace reid::test::ptx {

float of_bf16(uint32_t word, unsigned half);

namespace {

void nothing(Warp&, const Instruction&, uint32_t) {}
void trap(Warp&, const Instruction&, uint32_t) { throw Fault("the kernel trapped"); }

// --- barriers ---

struct Place {
  Block& block;
  uint32_t offset;
};
Place place_of(Warp& w, uint32_t address) {
  shared_place(w, address, 8);
  const uint32_t rank = address >> kRankShift;
  return {rank == 0 ? *w.block : w.block->cluster->blocks[rank - 1], address & ((1u << kRankShift) - 1)};
}
Mbarrier& mbarrier_at(const Place& place) {
  const auto found = place.block.mbarriers.find(place.offset);
  if (found == place.block.mbarriers.end()) throw Fault("an mbarrier that was never initialized");
  return found->second;
}

void end_phase(Warp& w, const Place& place, Mbarrier& barrier) {
  const uint64_t before = barrier.phase;
  barrier.end_phase();
  Races* const races = w.block->cluster->races.get();
  if (races && barrier.phase > before) races->phase_ended(place.block, place.offset);
}

void initialize(Warp& w, const Instruction& in, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) {
    const Place place = place_of(w, w.registers<uint32_t>(in.at[0])[lane]);
    const uint32_t arrivals = w.registers<uint32_t>(in.at[1])[lane];
    const Mbarrier fresh{.arrivals = arrivals, .missing = arrivals};
    if (!place.block.mbarriers.emplace(place.offset, fresh).second) throw Fault("an mbarrier is initialized a second time");
  });
}
// in.number: whether bytes are expected, too
void arrive(Warp& w, const Instruction& in, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) {
    const Place place = place_of(w, w.registers<uint32_t>(in.at[0])[lane]);
    Mbarrier& barrier = mbarrier_at(place);
    if (barrier.missing == 0) throw Fault("mbarrier: one arrival more than a phase has");
    if (in.number != 0) barrier.bytes += w.registers<uint32_t>(in.at[1])[lane];
    --barrier.missing;
    if (Races* races = w.block->cluster->races.get()) races->arrive(w, place.block, place.offset);
    end_phase(w, place, barrier);
    ++w.block->cluster->progress;
  });
}
void try_wait(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t& to = w.predicates[in.at[0]];
  each_lane(mask, [&](unsigned lane) {
    const uint32_t parity = w.registers<uint32_t>(in.at[2])[lane];
    if (parity > 1) throw Fault("mbarrier: a parity is 0 or 1");
    const Place place = place_of(w, w.registers<uint32_t>(in.at[1])[lane]);
    Mbarrier& barrier = mbarrier_at(place);
    while (barrier.phase % 2 == parity && !barrier.boxes.empty()) {
      const Box box = std::move(barrier.boxes.front());
      barrier.boxes.pop_front();
      std::memcpy(box.to, box.content.data(), box.content.size());
      barrier.bytes -= static_cast<int64_t>(box.content.size());
      end_phase(w, place, barrier);
      ++w.block->cluster->progress;
    }
    const bool ended = barrier.phase % 2 != parity;
    if (Races* races = w.block->cluster->races.get(); races && ended) races->waited(w, place.block, place.offset);
    to = (to & ~(1u << lane)) | uint32_t{ended} << lane;
    w.yields = w.yields || !ended;
  });
  if (counted && w.yields) {  // this one and its branch back: how often depends on turns
    counted->instructions -= 2, counted->lanes -= 2 * static_cast<unsigned>(std::popcount(mask));
  }
}
void map_address(Warp& w, const Instruction& in, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) {
    const uint32_t address = w.registers<uint32_t>(in.at[1])[lane], rank = w.registers<uint32_t>(in.at[2])[lane];
    if (rank >= w.block->cluster->blocks.size()) throw Fault("mapa: the cluster has no such block");
    w.registers<uint32_t>(in.at[0])[lane] = address | (rank + 1) << kRankShift;
  });
}
// in.number: whether it releases
void arrive_at_cluster(Warp& w, const Instruction& in, uint32_t mask) {
  Cluster& cluster = *w.block->cluster;
  if (cluster.races && in.number != 0) cluster.races->cluster_arrive(w);
  w.cluster_phase = cluster.phase;
  cluster.arrived += static_cast<unsigned>(std::popcount(mask));
  cluster.end_phase();
}

// in.number: whether it acquires
void wait_at_cluster(Warp& w, const Instruction& in, uint32_t) {
  Cluster& cluster = *w.block->cluster;
  if (cluster.races && in.number != 0) cluster.races->cluster_wait(w);
}
void fence_proxy(Warp& w, const Instruction&, uint32_t) {
  if (w.block->cluster->races) w.block->cluster->races->fence_proxy(w);
}
// in.number: groups that may be on their way
void wait_for_products(Warp& w, const Instruction& in, uint32_t) {
  if (w.block->cluster->races) w.block->cluster->races->products_made(w, static_cast<unsigned>(in.number));
}
void commit_products(Warp& w, const Instruction&, uint32_t) {
  if (w.block->cluster->races) w.block->cluster->races->commit_products(w);
}

// --- the copy engine ---

// The 16-byte piece p of a row of 128 bytes lies where p ^ (row % 8) would.
uint64_t swizzled(uint64_t address) { return address ^ (address >> 7 & 7) << 4; }

std::vector<unsigned char> box_of(const EncodedMap& map, const int32_t (&x)[4]) {
  if (map.mark != EncodedMap::kMark) throw Fault("cp.async.bulk.tensor: that is no tensor map");
  uint32_t count[4];
  for (int axis = 0; axis < 4; ++axis) count[axis] = (map.box[axis] + map.every[axis] - 1) / map.every[axis];
  std::vector<unsigned char> content(size_t{count[0]} * count[1] * count[2] * count[3] * 2);
  size_t row = 0;
  for (uint32_t a3 = 0; a3 < count[3]; ++a3) {
    for (uint32_t a2 = 0; a2 < count[2]; ++a2) {
      for (uint32_t a1 = 0; a1 < count[1]; ++a1, ++row) {
        const int64_t at[] = {0, x[1] + int64_t{a1} * map.every[1], x[2] + int64_t{a2} * map.every[2], x[3] + int64_t{a3} * map.every[3]};
        uint64_t line = map.data;
        bool inside = true;
        for (int axis = 1; axis < 4; ++axis) {
          inside = inside && at[axis] >= 0 && at[axis] < static_cast<int64_t>(map.extent[axis]);
          if (inside) line += static_cast<uint64_t>(at[axis]) * map.bytes[axis - 1];
        }
        for (uint32_t e = 0; e < count[0]; ++e) {
          const int64_t column = int64_t{x[0]} + e;
          if (!inside || column < 0 || column >= static_cast<int64_t>(map.extent[0])) continue;
          std::memcpy(&content[swizzled(row * 128 + e * 2)], global_place(line + static_cast<uint64_t>(column) * 2, 2), 2);
        }
      }
    }
  }
  return content;
}

// Registers: place, map, x0 to x3, barrier; where it is for several blocks, which.
void load_box(Warp& w, const Instruction& in, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) {
    w.lane = lane;
    const auto narrow = [&](size_t i) { return w.registers<uint32_t>(in.at[i])[lane]; };
    const auto* map = reinterpret_cast<const EncodedMap*>(w.registers<uint64_t>(in.at[1])[lane]);
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0) throw Fault("cp.async.bulk.tensor: a map that is no multiple of 64 bytes");
    int32_t x[4];
    for (size_t axis = 0; axis < 4; ++axis) x[axis] = static_cast<int32_t>(narrow(2 + axis));
    const std::vector<unsigned char> content = box_of(*map, x);
    if (counted) {
      ++counted->global_loads.instructions;
      counted->global_loads.parts += content.size() / 32, counted->global_loads.least += content.size() / 32;
    }
    const uint32_t own = uint32_t{1} << w.block->rank(), ranks = in.at.size() > 7 ? narrow(7) & 0xFFFF : own;
    if (narrow(0) % 1024 != 0) throw Fault("cp.async.bulk.tensor: a place that is no multiple of 1024 bytes");
    for (uint32_t rank = 0; ranks >> rank != 0; ++rank) {
      if ((ranks >> rank & 1) == 0) continue;
      const uint32_t there = (rank + 1) << kRankShift;
      unsigned char* to = shared_place(w, narrow(0) | there, 1);
      shared_place(w, (narrow(0) | there) + content.size() - 1, 1);
      std::memset(to, 0xFF, content.size());
      const Place barrier = place_of(w, narrow(6) | there);
      if (Races* races = w.block->cluster->races.get()) races->box(w, in, barrier.block, barrier.offset, to, content.size());
      mbarrier_at(barrier).boxes.push_back({to, content});
    }
    ++w.block->cluster->progress;
  });
}

// --- products of a warpgroup: each warp makes its 16 rows ---

// Its fields: kernels/sm90/hopper.cuh, matrix_descriptor.
struct Matrix {
  uint32_t start, leading, stride;
  bool across;
  Matrix(uint64_t descriptor, bool lies_across) : across(lies_across) {
    const auto field = [&](int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3FFF) << 4; };
    start = field(0), leading = field(16), stride = field(32);
    if ((descriptor & ~0x3FFF'3FFF'3FFFULL) != uint64_t{1} << 62) throw Fault("wgmma: a descriptor of another swizzle than 128 bytes");
  }
  unsigned char* element(Warp& w, unsigned place, unsigned depth) const {
    const uint32_t at = across ? place / 64 * leading + depth / 8 * stride + depth % 8 * 128 + place % 64 * 2
                               : place / 8 * stride + place % 8 * 128 + depth * 2;
    return shared_place(w, swizzled(start + at), 2);
  }
  float value(Warp& w, unsigned place, unsigned depth) const {
    uint16_t bits;
    std::memcpy(&bits, element(w, place, depth), 2);
    return of_bf16(bits, 0);
  }
  // What a warp's product reads: places from the first, 16 steps of depth; 8 neighbors lie side by side.
  void watch(Warp& w, const Instruction& in, Races& races, unsigned first, unsigned count) const {
    for (unsigned place = first; place < first + count; place += across ? 8 : 1) {
      for (unsigned depth = 0; depth < 16; depth += across ? 1 : 8) races.product(w, in, element(w, place, depth), 16);
    }
  }
};

// Registers: the sums, then both descriptors. in.number: bits 0 and 1, which of them lie across depth.
void multiply(Warp& w, const Instruction& in, uint32_t) {
  const size_t sums = in.at.size() - 2, columns = sums * 2;
  const Matrix left(w.registers<uint64_t>(in.at[sums])[0], in.number & 1),
      right(w.registers<uint64_t>(in.at[sums + 1])[0], in.number >> 1 & 1);
  const unsigned first = w.first_thread % 128 / 2;  // row
  if (Races* races = w.block->cluster->races.get()) {
    left.watch(w, in, *races, first, 16);
    right.watch(w, in, *races, 0, static_cast<unsigned>(columns));
  }
  float a[16][16], b[16][256], d[16][256];
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned k = 0; k < 16; ++k) a[row][k] = left.value(w, first + row, k);
  }
  for (unsigned column = 0; column < columns; ++column) {
    for (unsigned k = 0; k < 16; ++k) b[k][column] = right.value(w, column, k);
  }
  const auto row_of = [](unsigned lane, size_t i) { return lane / 4 + i / 2 % 2 * 8; };
  const auto column_of = [](unsigned lane, size_t i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; };
  for (size_t i = 0; i < sums; ++i) {
    const auto* from = w.registers<uint32_t>(in.at[i]);
    for (unsigned lane = 0; lane < kLanes; ++lane) d[row_of(lane, i)][column_of(lane, i)] = std::bit_cast<float>(from[lane]);
  }
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned k = 0; k < 16; ++k) {
      for (unsigned column = 0; column < columns; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (size_t i = 0; i < sums; ++i) {
    auto* to = w.registers<uint32_t>(in.at[i]);
    for (unsigned lane = 0; lane < kLanes; ++lane) to[lane] = std::bit_cast<uint32_t>(d[row_of(lane, i)][column_of(lane, i)]);
  }
}

bool decode_multiply(Decoder& d) {
  if (!d.opcode().starts_with("wgmma.mma_async.sync.aligned.m64n") || !d.opcode().ends_with("k16.f32.bf16.bf16")) return false;
  for (const Operand& part : d.operand(0).parts) d.use(part, 32);
  const size_t sums = d.in.at.size();
  if (d.opcode() != "wgmma.mma_async.sync.aligned.m64n" + std::to_string(sums * 2) + "k16.f32.bf16.bf16") return false;
  d.use(1, 64), d.use(2, 64);
  for (size_t i = 3; i < 6; ++i) {  // adds to the sums, negates no operand
    if (d.operand(i).value != 1) return false;
  }
  d.in.number = static_cast<int64_t>(d.operand(6).value | d.operand(7).value << 1);
  d.in.run = multiply, d.in.flow = Flow::warp_wide;
  return d.in.number < 4 && sums <= 128;
}

bool decode_box(Decoder& d) {
  constexpr std::string_view kBox = "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes";
  const bool several = d.operands().size() == 4;
  if (d.opcode() != (several ? std::string(kBox) + ".multicast::cluster" : std::string(kBox))) return false;
  const Operand& source = d.operand(1);  // the map and its coordinates
  d.use(d.operand(0).parts.at(0), 32);
  d.use(source.parts.at(0), 64);
  if (source.parts.size() != 2 || source.parts[1].parts.size() != 4) return false;
  for (const Operand& x : source.parts[1].parts) d.use(x, 32);
  d.use(d.operand(2).parts.at(0), 32);
  if (several) d.use(3, 16);
  d.in.run = load_box;
  return true;
}

bool decode_mbarrier(Decoder& d) {
  const std::string_view opcode = d.opcode();
  const auto address = [&](size_t i) { d.use(d.operand(i).parts.at(0), 32); };
  if (opcode == "mbarrier.init.shared::cta.b64") {
    address(0), d.use(1, 32);
    d.in.run = initialize;
  } else if (opcode == "mbarrier.arrive.shared::cta.b64" || opcode == "mbarrier.arrive.shared::cluster.b64") {
    address(1);
    d.in.run = arrive;
  } else if (opcode == "mbarrier.arrive.expect_tx.shared::cta.b64") {
    address(1), d.use(2, 32);
    d.in.run = arrive, d.in.number = 1;
  } else if (opcode == "mbarrier.try_wait.parity.shared::cta.b64") {
    d.in.at.push_back(d.predicate(d.operand(0)));
    address(1), d.use(2, 32);
    d.in.run = try_wait;
  } else {
    return false;
  }
  return true;
}

// What orders memory, and what has nothing to do here: everything happens at once.
constexpr std::string_view kOrders[] = {"griddepcontrol.wait", "griddepcontrol.launch_dependents", "fence.mbarrier_init.release.cluster"};

}  // namespace

bool decode_hopper(Decoder& d) {
  const std::string_view opcode = d.opcode();
  for (const std::string_view order : kOrders) {
    if (opcode == order) d.in.run = nothing;
  }
  if (opcode == "fence.proxy.async.shared::cta") d.in.run = fence_proxy;
  if (opcode == "wgmma.fence.sync.aligned") d.in.run = nothing, d.in.flow = Flow::warp_wide;
  if (opcode == "wgmma.commit_group.sync.aligned") d.in.run = commit_products, d.in.flow = Flow::warp_wide;
  if (opcode == "wgmma.wait_group.sync.aligned") {
    d.in.number = static_cast<int64_t>(d.operand(0).value);
    d.in.run = wait_for_products, d.in.flow = Flow::warp_wide;
  }
  if (opcode == "trap") d.in.run = trap;
  if (opcode == "barrier.cluster.arrive.release.aligned" || opcode == "barrier.cluster.arrive.relaxed.aligned") {
    d.in.run = arrive_at_cluster, d.in.flow = Flow::warp_wide, d.in.number = d.has("release");
  }
  if (opcode == "barrier.cluster.wait.acquire.aligned" || opcode == "barrier.cluster.wait.aligned") {
    d.in.run = wait_at_cluster, d.in.flow = Flow::cluster_wait, d.in.number = d.has("acquire");
  }
  if (opcode == "mapa.shared::cluster.u32") {
    for (size_t i = 0; i < 3; ++i) d.use(i, 32);
    d.in.run = map_address;
  }
  return d.in.run != nullptr || decode_mbarrier(d) || decode_box(d) || decode_multiply(d);
}

}  // namespace reid::test::ptx
