#pragma once
// Steps that repeat, as graphs: what a step asks of an accelerator is written down once, and then queued as a few graphs instead of
// hundreds of launches.
//
// Design: the step's code runs every time, on the host; only its work is replayed. In a replayed step every op, copy and fill is compared
// with what was recorded (implementation, addresses, shapes, attributes). Equal work runs as a graph, once the last of its graph was
// compared. What differs in every step runs anew, between the graphs: optimizer steps (learning rates), values read back to the host.
// Copies from the host go to memory of their own, at once. The first work that is not as recorded ends the replay: what was compared
// but not yet queued runs, the rest of the step follows as if there were no graphs, and the next step is recorded again. So a step may
// branch, change shapes or wait in its middle: it becomes slower, never wrong. Addresses repeat because a recorded step's tensors come from
// a pool of their own, which gives a replayed step the same blocks in the same order; what steps before left cached goes back to the
// system when one is recorded, which waits for the device.
// Limits: a tensor that is made in a step must not outlive it (what outlives it is copied into tensors made before); steps that keep one
// are not replayed. After eight recordings in a row without a replayed step, steps run without. One step at a time, on the thread that
// computes.

#include <memory>
#include <string>

#include "reid/engine/device.h"

namespace reid {

class Replay {
 public:
  explicit Replay(Device device);
  ~Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  void run(FunctionRef<void()> step);  // on the CPU: calls it

  struct Counts {
    int64_t eager = 0, recorded = 0, replayed = 0, ended = 0;  // steps; ended: replays that met other work than recorded
    int64_t graphs = 0;                                        // of the recorded step
  };
  const Counts& counts() const { return counts_; }
  const std::string& reason() const { return reason_; }  // why the last step was not replayed from end to end; empty when it was

 private:
  struct Recorded;
  void record(FunctionRef<void()> step);
  void replay(FunctionRef<void()> step);
  void forget(std::string reason);

  Device device_;
  std::unique_ptr<Recorded> recorded_;
  Counts counts_;
  std::string reason_;
  int64_t given_up_ = 0;  // in a row: steps that could not be replayed
};

}  // namespace reid
