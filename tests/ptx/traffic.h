#pragma once
// What kernels ask of memory, counted access by access as a GPU's profiler would: for REID_PLAYED_COUNTS (card.cpp).

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace reid::test::ptx {

// Of global memory a part is a sector of 32 bytes that an instruction touches; of shared memory a turn, in which each of 32 banks gives 4
// bytes: lanes that want other words of one bank wait for another turn. `least`: parts that the same bytes would be side by side.
struct Accesses {
  uint64_t instructions = 0, parts = 0, least = 0;
};

struct Traffic {
  uint64_t launches = 0;
  uint64_t instructions = 0, lanes = 0;  // of warps, in the PTX, without moves and waiting; lanes that took part in them
  Accesses global_loads = {}, global_stores = {}, shared_loads = {}, shared_stores = {};
};

inline Traffic* counted = nullptr;  // of the kernel that runs; null where nothing is counted

// By the kernels' names, which are mangled.
std::map<std::string, Traffic>& traffic();

// Addresses of 32 lanes, of which those in the mask access so many bytes each.
void count_global(Accesses& to, const uint64_t* addresses, uint32_t mask, size_t bytes);
void count_shared(Accesses& to, const uint64_t* addresses, uint32_t mask, size_t bytes);

// A line for each kernel, the one of most instructions first.
std::string traffic_table();

}  // namespace reid::test::ptx
