// Loads, stores, atomics, addresses, cp.async.

#include <cstring>
#include <iterator>

#include "ptx/decoder.h"
#include "ptx/traffic.h"

namespace reid::test::ptx {

namespace {

uint64_t address_of(const void* p) { return reinterpret_cast<uint64_t>(p); }

std::map<uint64_t, Stretch>& allowed() {
  static auto* memory = new std::map<uint64_t, Stretch>;
  return *memory;
}

}  // namespace

void allow_memory(const void* start, size_t bytes) { allowed()[address_of(start)] = {address_of(start), address_of(start) + bytes}; }
void forbid_memory(const void* start) {
  allowed().erase(address_of(start));
  last_used = {};
}

unsigned char* find_global(uint64_t address, size_t bytes) {
  if (address % bytes != 0) throw Fault("an address that is no multiple of " + std::to_string(bytes) + " bytes");
  const auto after = allowed().upper_bound(address);
  if (after == allowed().begin() || !std::prev(after)->second.holds(address, bytes)) {
    throw Fault("an address that is no memory of the device: " + std::to_string(address));
  }
  last_used = std::prev(after)->second;
  return reinterpret_cast<unsigned char*>(address);
}

unsigned char* find_shared(Warp& warp, uint64_t address, size_t bytes) {
  Block* block = warp.block;
  if (const uint64_t rank = address >> kRankShift; rank > 0) {
    if (rank > block->cluster->blocks.size()) throw Fault("an address in a block that the cluster does not have");
    block = &block->cluster->blocks[rank - 1];
    address &= (uint64_t{1} << kRankShift) - 1;
  }
  if (address + bytes > block->shared_bytes) {
    throw Fault("an address beyond the block's shared memory: " + std::to_string(address) + " of " + std::to_string(block->shared_bytes));
  }
  if (address % bytes != 0) throw Fault("an address in shared memory that is no multiple of " + std::to_string(bytes) + " bytes");
  return block->shared + address;
}

namespace {

unsigned char* generic_place(Warp& warp, uint64_t address, size_t bytes) {
  const uint64_t offset = address - address_of(warp.block->shared);
  return offset < warp.block->shared_bytes ? shared_place(warp, offset, bytes) : global_place(address, bytes);
}

enum class Space { parameter, shared, global, generic };

unsigned char* parameter_place(Warp& w, uint64_t address, size_t bytes) {
  const Launch& launch = *w.block->cluster->launch;
  if (address + bytes > launch.kernel->parameter_bytes) throw Fault("an address beyond the kernel's parameters");
  return const_cast<unsigned char*>(launch.parameters()) + address;
}

template <Space space>
unsigned char* place(Warp& w, uint64_t address, size_t bytes) {
  if constexpr (space == Space::shared) return shared_place(w, address, bytes);
  if constexpr (space == Space::global) return global_place(address, bytes);
  if constexpr (space == Space::generic) return generic_place(w, address, bytes);
  return parameter_place(w, address, bytes);
}

// in.at[0] holds the address, wide or narrow; the others are the vector's.
template <Space space, bool wide>
uint64_t address_in(Warp& w, const Instruction& in, unsigned lane) {
  const auto offset = static_cast<uint64_t>(in.number);
  if constexpr (wide) return w.registers<uint64_t>(in.at[0])[lane] + offset;
  return (w.registers<uint32_t>(in.at[0])[lane] + offset) & 0xFFFFFFFFu;
}

template <Space space, bool wide>
void count_accesses(Warp& w, const Instruction& in, uint32_t mask, size_t bytes, bool stores) {
  uint64_t addresses[kLanes] = {};
  each_lane(mask, [&](unsigned lane) { addresses[lane] = address_in<space, wide>(w, in, lane); });
  if (space == Space::global) count_global(stores ? counted->global_stores : counted->global_loads, addresses, mask, bytes);
  if (space == Space::shared) count_shared(stores ? counted->shared_stores : counted->shared_loads, addresses, mask, bytes);
}

// Of shared memory only: what a generic address means is known when it is used.
void watch(Warp& w, const Instruction& in, unsigned lane, const unsigned char* at, size_t bytes, bool stores) {
  const auto kind = in.atomic ? Races::Kind::atomic : Races::Kind::plain;
  Races& races = *w.block->cluster->races;
  stores ? races.write(w, in, lane, at, bytes, kind) : races.read(w, in, lane, at, bytes, kind);
}
template <Space space>
bool is_watched(const Warp& w, const unsigned char* at) {
  if (!w.block->cluster->races) return false;
  const Block& block = *w.block;
  return space == Space::shared || (space == Space::generic && at >= block.shared && at < block.shared + block.shared_bytes);
}

template <class T, Space space, bool wide, class Register>
void load(Warp& w, const Instruction& in, uint32_t mask) {
  const size_t count = in.at.size() - 1;
  if (counted) count_accesses<space, wide>(w, in, mask, sizeof(T) * count, false);
  each_lane(mask, [&](unsigned lane) {
    w.lane = lane;
    const unsigned char* from = place<space>(w, address_in<space, wide>(w, in, lane), sizeof(T) * count);
    if (is_watched<space>(w, from)) watch(w, in, lane, from, sizeof(T) * count, false);
    for (size_t i = 0; i < count; ++i) {
      T value;
      std::memcpy(&value, from + i * sizeof(T), sizeof(T));
      set_value(w.registers<Register>(in.at[i + 1]), lane, value);
    }
  });
}
template <class T, Space space, bool wide, class Register>
void store(Warp& w, const Instruction& in, uint32_t mask) {
  const size_t count = in.at.size() - 1;
  if (counted) count_accesses<space, wide>(w, in, mask, sizeof(T) * count, true);
  each_lane(mask, [&](unsigned lane) {
    w.lane = lane;
    unsigned char* to = place<space>(w, address_in<space, wide>(w, in, lane), sizeof(T) * count);
    if (is_watched<space>(w, to)) watch(w, in, lane, to, sizeof(T) * count, true);
    for (size_t i = 0; i < count; ++i) {
      const T value = value_of<T>(w.registers<Register>(in.at[i + 1]), lane);
      std::memcpy(to + i * sizeof(T), &value, sizeof(T));
    }
  });
}

// The data's registers may have more bits than the data.
struct Access {
  bool stores, wide_address, wide_data;
};
template <class T, Space space, bool wide, class Register>
Handler access_by(bool stores) {
  return stores ? store<T, space, wide, Register> : load<T, space, wide, Register>;
}
template <Space space>
Handler access(Access how, Type type) {
  return with_type(type, [&]<class T>() -> Handler {
    if (how.wide_data)
      return how.wide_address ? access_by<T, space, true, uint64_t>(how.stores) : access_by<T, space, false, uint64_t>(how.stores);
    if constexpr (sizeof(T) == 8) return nullptr;
    return how.wide_address ? access_by<T, space, true, uint32_t>(how.stores) : access_by<T, space, false, uint32_t>(how.stores);
  });
}
Handler access(Space space, Access how, Type type) {
  switch (space) {
    case Space::parameter: return access<Space::parameter>(how, type);
    case Space::shared: return access<Space::shared>(how, type);
    case Space::global: return access<Space::global>(how, type);
    case Space::generic: return access<Space::generic>(how, type);
  }
  return nullptr;
}

Space space_of(const Decoder& d) {
  return d.has("param")                                ? Space::parameter
         : d.has("shared") || d.has("shared::cluster") ? Space::shared
         : d.has("global")                             ? Space::global
                                                       : Space::generic;
}

// The register that an address stands on; -> whether it is wide.
bool use_address(Decoder& d, const Operand& address) {
  if (address.kind != Operand::Kind::address) throw Fault("an address was expected");
  const Operand& base = address.parts.at(0);
  const bool wide = base.kind == Operand::Kind::wide;
  d.use(base, wide ? 64 : 32);
  d.in.number = address.offset;
  return wide;
}

bool decode_access(Decoder& d, bool stores) {
  const Operand &address = d.operand(stores ? 0 : 1), &data = d.operand(stores ? 1 : 0);
  const bool wide = use_address(d, address);
  const std::vector<Operand> parts = data.kind == Operand::Kind::vector ? data.parts : std::vector<Operand>{data};
  d.in.atomic = d.has("volatile");
  const bool wide_data = parts.front().kind == Operand::Kind::wide || bits_of(d.type()) == 64;
  for (const Operand& part : parts) d.use(part, wide_data ? 64 : bits_of(d.type()));
  d.in.run = access(space_of(d), {stores, wide, wide_data}, d.type());
  return d.in.run != nullptr;
}

enum class Update { add, compare_and_swap };

// Address, old value, operands. One lane after the other.
template <Update update, Space space, bool wide>
void atomic(Warp& w, const Instruction& in, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) {
    w.lane = lane;
    unsigned char* at = place<space>(w, address_in<space, wide>(w, in, lane), sizeof(uint32_t));
    if (is_watched<space>(w, at)) watch(w, in, lane, at, sizeof(uint32_t), true);
    const auto source = [&](size_t i) { return w.registers<uint32_t>(in.at[i])[lane]; };
    uint32_t old;
    std::memcpy(&old, at, sizeof(old));
    const uint32_t next = update == Update::add ? old + source(2) : old == source(2) ? source(3) : old;
    std::memcpy(at, &next, sizeof(next));
    w.registers<uint32_t>(in.at[1])[lane] = old;
  });
}
template <Update update>
Handler atomic_for(Space space, bool wide) {
  switch (space) {
    case Space::shared: return wide ? atomic<update, Space::shared, true> : atomic<update, Space::shared, false>;
    case Space::global: return atomic<update, Space::global, true>;
    case Space::generic: return atomic<update, Space::generic, true>;
    case Space::parameter: break;
  }
  return nullptr;
}
bool decode_atomic(Decoder& d) {
  const bool adds = d.has("add") && d.type() == Type::u32, swaps = d.has("cas") && d.type() == Type::u32;
  if (!adds && !swaps) return false;
  d.in.atomic = true;
  const bool wide = use_address(d, d.operand(1));
  d.use(0, 32);
  for (size_t i = 2; i < d.operands().size(); ++i) d.use(i, 32);
  d.in.run = adds ? atomic_for<Update::add>(space_of(d), wide) : atomic_for<Update::compare_and_swap>(space_of(d), wide);
  return d.in.run != nullptr;
}

// Generic addresses are those of the machine that all of this runs on.
void same_address(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint64_t>(in.at[0]);
  const auto* from = w.registers<uint64_t>(in.at[1]);
  each_lane(mask, [&](unsigned lane) { to[lane] = from[lane] + static_cast<uint64_t>(in.number); });
}
void of_shared(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint64_t>(in.at[0]);
  const auto* from = w.registers<uint64_t>(in.at[1]);
  each_lane(mask, [&](unsigned lane) { to[lane] = from[lane] + address_of(w.block->shared); });
}
void to_shared(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint64_t>(in.at[0]);
  const auto* from = w.registers<uint64_t>(in.at[1]);
  each_lane(mask, [&](unsigned lane) { to[lane] = from[lane] - address_of(w.block->shared); });
}
void of_parameter(Warp& w, const Instruction& in, uint32_t mask) {
  auto* to = w.registers<uint64_t>(in.at[0]);
  const auto* from = w.registers<uint64_t>(in.at[1]);
  each_lane(mask, [&](unsigned lane) { to[lane] = from[lane] + address_of(w.block->cluster->launch->parameters()); });
}

// Nothing but 0xFF is there until it is waited for.
template <bool wide>
void copy_async(Warp& w, const Instruction& in, uint32_t mask) {
  if (counted) {
    uint64_t from[kLanes], to[kLanes];
    uint32_t reads = 0;
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      from[lane] = w.registers<uint64_t>(in.at[1])[lane];
      to[lane] = wide ? w.registers<uint64_t>(in.at[0])[lane] : w.registers<uint32_t>(in.at[0])[lane];
      if (w.registers<uint32_t>(in.at[2])[lane] > 0) reads |= mask & 1u << lane;
    }
    if (reads != 0) count_global(counted->global_loads, from, reads, 16);
    count_shared(counted->shared_stores, to, mask, 16);
  }
  each_lane(mask, [&](unsigned lane) {
    w.lane = lane;
    const auto bytes = static_cast<size_t>(w.registers<uint32_t>(in.at[2])[lane]);
    if (bytes > 16) throw Fault("cp.async: more than its 16 bytes are to be read");
    const uint64_t shared = wide ? w.registers<uint64_t>(in.at[0])[lane] : w.registers<uint32_t>(in.at[0])[lane];
    const uint64_t from = w.registers<uint64_t>(in.at[1])[lane];
    if (from % 16 != 0) throw Fault("cp.async: an address that is no multiple of 16 bytes");
    if (bytes > 0) global_place(from, 1), global_place(from + bytes - 1, 1);
    unsigned char* to = shared_place(w, shared, 16);
    std::memset(to, 0xFF, 16);
    if (Races* races = w.block->cluster->races.get()) races->copy_async(w, in, lane, to, 16);
    w.copies[lane].push_back({to, reinterpret_cast<const unsigned char*>(from), bytes, w.copy_group[lane]});
  });
}
void commit_copies(Warp& w, const Instruction&, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) { ++w.copy_group[lane]; });
}
void wait_for_copies(Warp& w, const Instruction& in, uint32_t mask) {
  each_lane(mask, [&](unsigned lane) {
    std::vector<CopyAsync>& copies = w.copies[lane];
    std::erase_if(copies, [&](const CopyAsync& copy) {
      if (copy.group + static_cast<unsigned>(in.number) >= w.copy_group[lane]) return false;
      std::memset(copy.to, 0, 16);
      if (Races* races = w.block->cluster->races.get()) races->copy_arrived(w, lane, copy.to, 16);
      if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
      return true;
    });
  });
}

bool decode_copy_async(Decoder& d) {
  if (d.opcode() == "cp.async.commit_group") {
    d.in.run = commit_copies;
    return true;
  }
  if (d.opcode() == "cp.async.wait_group") {
    d.in.number = static_cast<int64_t>(d.operand(0).value);
    d.in.run = wait_for_copies;
    return true;
  }
  if (d.opcode() != "cp.async.cg.shared.global" || d.operand(2).value != 16) return false;
  const bool wide = use_address(d, d.operand(0));
  use_address(d, d.operand(1));
  d.use(3, 32);
  d.in.run = wide ? copy_async<true> : copy_async<false>;
  return true;
}

bool decode_address(Decoder& d) {
  d.use(0, 64), d.use(1, 64);
  d.in.run = d.opcode() == "cvta.to.global.u64"   ? same_address
             : d.opcode() == "cvta.shared.u64"    ? of_shared
             : d.opcode() == "cvta.to.shared.u64" ? to_shared
             : d.opcode() == "cvta.param.u64"     ? of_parameter
                                                  : nullptr;
  return d.in.run != nullptr;
}

}  // namespace

bool decode_memory(Decoder& d) {
  if (d.name() == "ld") return decode_access(d, false);
  if (d.name() == "st") return decode_access(d, true);
  if (d.name() == "atom") return decode_atomic(d);
  if (d.name() == "cvta") return decode_address(d);
  if (d.name() == "cp" && d.words() > 1 && d.word(1) == "async" && !d.has("bulk")) return decode_copy_async(d);
  return false;
}

}  // namespace reid::test::ptx
