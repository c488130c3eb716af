// What the lanes of a warp do together: shuffles, votes, mma, ldmatrix; and barriers.

#include <cstring>

#include "ptx/decoder.h"
#include "ptx/traffic.h"

namespace reid::test::ptx {

float of_bf16(uint32_t word, unsigned half) { return std::bit_cast<float>(half == 0 ? word << 16 : word & 0xFFFF0000u); }

namespace {

enum class From { same, up, down, xor_, index };

// Registers: to, from, by, clamp, and where it is wanted a predicate: whether the source is within the segment.
template <From how>
void shuffle(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint32_t>(in.at[0]);
  const auto *from = w.registers<uint32_t>(in.at[1]), *by = w.registers<uint32_t>(in.at[2]), *clamp = w.registers<uint32_t>(in.at[3]);
  std::array<uint32_t, kLanes> held;
  std::memcpy(held.data(), from, sizeof(held));
  each_lane(mask, [&](unsigned lane) {
    w.lane = lane;
    const uint32_t step = by[lane] & 31, segment = clamp[lane] >> 8 & 31, end = (lane & segment) | (clamp[lane] & 31 & ~segment);
    const uint32_t source = how == From::up     ? lane - step
                            : how == From::down ? lane + step
                            : how == From::xor_ ? lane ^ step
                                                : (lane & segment) | (step & ~segment);
    const bool inside = how == From::up ? static_cast<int32_t>(source) >= static_cast<int32_t>(end) : source <= end;
    if (in.at.size() > 4) {
      uint32_t& told = w.predicates[in.at[4]];
      told = (told & ~(1u << lane)) | uint32_t{inside} << lane;
    }
    const uint32_t chosen = inside ? source : lane;
    if ((mask >> chosen & 1) == 0) throw Fault("shfl.sync: lane " + std::to_string(chosen) + " takes no part, and is read");
    to[lane] = held[chosen];
  });
}

void ballot(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint32_t>(in.at[0]);
  const uint32_t votes = w.predicates[in.at[1]] & mask;
  each_lane(mask, [&](unsigned lane) { to[lane] = votes; });
}

void nothing(Warp&, const Instruction&, uint32_t) {}
void meet(Warp& w, const Instruction&, uint32_t) {
  if (w.block->cluster->races) w.block->cluster->races->warp_barrier(w);
}

// Registers: d, a, b, c. Fragments: see kernels/mma.cuh. Sums are rounded one by one; a tensor core rounds in its own way.
void multiply(Warp& w, const Instruction& in, uint32_t) {
  const auto of = [&](size_t i) { return w.registers<uint32_t>(in.at[i]); };
  float a[16][16], b[16][8], sums[16][8];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 8; ++i) a[g + i / 2 % 2 * 8][2 * t + i / 4 * 8 + i % 2] = of_bf16(of(4 + i / 2)[lane], i % 2);
    for (unsigned i = 0; i < 4; ++i) b[2 * t + i / 2 * 8 + i % 2][g] = of_bf16(of(8 + i / 2)[lane], i % 2);
    for (unsigned i = 0; i < 4; ++i) sums[g + i / 2 * 8][2 * t + i % 2] = std::bit_cast<float>(of(10 + i)[lane]);
  }
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned k = 0; k < 16; ++k) {
      for (unsigned column = 0; column < 8; ++column) sums[row][column] += a[row][k] * b[k][column];
    }
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for (unsigned i = 0; i < 4; ++i) of(i)[lane] = std::bit_cast<uint32_t>(sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
  }
}

// Registers: matrices, address.
template <unsigned matrices, bool transposed>
void load_matrices(Warp& w, const Instruction& in, uint32_t) {
  uint16_t rows[matrices * 8][8];
  for (unsigned lane = 0; lane < matrices * 8; ++lane) {
    w.lane = lane;
    const unsigned char* row = shared_place(w, w.registers<uint32_t>(in.at[matrices])[lane], 16);
    if (Races* races = w.block->cluster->races.get()) races->read(w, in, lane, row, 16, Races::Kind::plain);
    std::memcpy(rows[lane], row, 16);
  }
  if (counted) {
    uint64_t addresses[kLanes];
    for (unsigned lane = 0; lane < kLanes; ++lane) addresses[lane] = w.registers<uint32_t>(in.at[matrices])[lane];
    count_shared(counted->shared_loads, addresses, matrices == 4 ? kAllLanes : 0xFFFF, 16);
  }
  for (unsigned i = 0; i < matrices; ++i) {
    auto* to = w.registers<uint32_t>(in.at[i]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned g = lane / 4, t = lane % 4;
      const auto element = [&](unsigned y, unsigned x) { return uint32_t{rows[8 * i + y][x]}; };
      to[lane] = transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16 : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
    }
  }
}

void use_all(Decoder& d, std::initializer_list<size_t> operands) {
  for (const size_t i : operands) {
    for (const Operand& part : d.operand(i).parts) d.use(part, 32);
  }
}

bool decode_shuffle(Decoder& d) {
  const std::string_view how = d.word(2);
  const Operand& to = d.operand(0);
  const bool tells = to.kind == Operand::Kind::vector;
  d.use(tells ? to.parts.at(0) : to, 32);
  for (size_t i = 1; i < 4; ++i) d.use(i, 32);
  if (tells) d.in.at.push_back(d.predicate(to.parts.at(1)));
  d.in.lanes = d.source(d.operand(4), 32);
  d.in.run = how == "up"     ? shuffle<From::up>
             : how == "down" ? shuffle<From::down>
             : how == "bfly" ? shuffle<From::xor_>
             : how == "idx"  ? shuffle<From::index>
                             : nullptr;
  return d.in.run != nullptr;
}

}  // namespace

bool decode_warp(Decoder& d) {
  const std::string_view opcode = d.opcode();
  if (opcode == "bar.sync" || opcode == "barrier.sync") {
    d.in.run = nothing, d.in.flow = Flow::barrier;
    return d.operands().size() == 1 && d.operand(0).value == 0;
  }
  d.in.flow = Flow::warp_wide;
  if (d.name() == "shfl" && d.words() == 4 && d.word(1) == "sync") return decode_shuffle(d);
  if (opcode == "bar.warp.sync") {
    d.in.lanes = d.source(d.operand(0), 32);
    d.in.run = meet;
  } else if (opcode == "vote.sync.ballot.b32") {
    d.use(0, 32);
    d.in.at.push_back(d.predicate(d.operand(1)));
    d.in.lanes = d.source(d.operand(2), 32);
    d.in.run = ballot;
  } else if (opcode == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32") {
    use_all(d, {0, 1, 2, 3});
    d.in.run = multiply;
  } else if (opcode.starts_with("ldmatrix.sync.aligned.m8n8.") && opcode.ends_with(".shared.b16")) {
    use_all(d, {0, 1});
    const bool four = d.has("x4"), transposed = d.has("trans");
    if (d.in.at.size() != (four ? 5 : 3) || d.operand(1).offset != 0) return false;
    d.in.run = four ? (transposed ? load_matrices<4, true> : load_matrices<4, false>)
                    : (transposed ? load_matrices<2, true> : load_matrices<2, false>);
  } else {
    d.in.flow = Flow::on;
    return false;
  }
  return true;
}

}  // namespace reid::test::ptx
