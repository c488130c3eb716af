#pragma once
// Stacks of their own for the threads of an emulated block, and the switch between them.
//
// Design: fibers know nothing of blocks and barriers. One host context runs one fiber at a time, which gives the turn back by yield().
// Stacks are recycled: a thread that ends without ever waiting leaves its warm stack to the next.

#include <cstddef>
#include <memory>
#include <vector>

// Elsewhere, and on demand, glibc's slower contexts serve.
#if defined(__x86_64__) && !defined(REID_EMU_UCONTEXT)
#define REID_EMU_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

namespace reid::emu {

class Stack;

class Fibers {
 public:
  Fibers();
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  struct Fiber {
    Stack* stack = nullptr;  // null: not started, or ended
    bool done = false;
#ifdef REID_EMU_ASSEMBLY
    void* stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
    void* fake_stack = nullptr;  // AddressSanitizer's
  };

  void (*body)() = nullptr;    // what every fiber runs; must not throw
  void resume(Fiber& fiber);   // from the host: runs it until it yields or ends
  void yield();                // from a fiber: back to the host
  void abandon(Fiber& fiber);  // it will not be resumed; its stack is reused, destructors on it do not run

 private:
  static void enter();
  void start(Fiber& fiber);
  void to_host(bool last);
  void recycle(Fiber& fiber);

  std::vector<std::unique_ptr<Stack>> stacks_;
  std::vector<Stack*> free_;
  Fiber* running_ = nullptr;
  Fiber host_;
  [[maybe_unused]] const void* host_bottom_ = nullptr;  // of the host's stack, as AddressSanitizer wants to know
  [[maybe_unused]] size_t host_size_ = 0;
};

Fibers& fibers();  // the calling thread's

}  // namespace reid::emu
