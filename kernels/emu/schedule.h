#pragma once
// The order in which the emulator runs the threads of a block. A right kernel gives the same bits under every one of them.

#include <cstdint>

namespace reid::emu {

enum class Schedule : uint8_t {
  lockstep,     // every thread in turn up to its next barrier or warp collective
  greedy_up,    // a whole warp up to its next block barrier, then the next warp; lanes and blocks ascend too
  greedy_down,  // the same from the last block, warp and lane to the first
};
inline constexpr Schedule kSchedules[] = {Schedule::lockstep, Schedule::greedy_up, Schedule::greedy_down};
const char* name_of(Schedule);

Schedule schedule();          // of the launches of the calling thread; at first lockstep
void set_schedule(Schedule);  // from the next launch on

}  // namespace reid::emu
