#include "emu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "reid/engine/base.h"

#if defined(__SANITIZE_ADDRESS__)
#define REID_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REID_ASAN 1
#endif
#endif
#ifdef REID_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace reid::emu {

#ifdef REID_EMU_ASSEMBLY

// Saves the registers that a call preserves, stores the stack pointer and continues on the other stack. 15 instructions, where
// glibc's swapcontext asks the kernel for the signal mask. Kernels leave the floating-point control words alone.
extern "C" void reid_emu_switch(void** save, void* load);
asm(R"(
.text
.globl reid_emu_switch
.hidden reid_emu_switch
.type reid_emu_switch, @function
reid_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size reid_emu_switch, .-reid_emu_switch
)");

#endif

// 64 KB, and more where sanitizers widen every frame; an unreadable page below, so that an overflow stops the program.
class Stack {
 public:
#ifdef REID_ASAN
  static constexpr size_t kBytes = 256 << 10;
#else
  static constexpr size_t kBytes = 64 << 10;
#endif
  Stack() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    memory_ = mmap(nullptr, kBytes + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REID_CHECK(memory_ != MAP_FAILED, "[emulator] no memory for the stack of a thread: ", kBytes, " bytes");
    mprotect(memory_, page_, PROT_NONE);
  }
  ~Stack() { munmap(memory_, kBytes + page_); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  char* bottom() const { return static_cast<char*>(memory_) + page_; }
  char* top() const { return bottom() + kBytes; }

 private:
  size_t page_;
  void* memory_;
};

Fibers::Fibers() = default;
Fibers::~Fibers() = default;

Fibers& fibers() {
  static thread_local Fibers of_this_thread;
  return of_this_thread;
}

void Fibers::enter() {
  Fibers& all = fibers();
#ifdef REID_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &all.host_bottom_, &all.host_size_);
#endif
  all.body();
  all.running_->done = true;
  all.to_host(true);
}

void Fibers::start(Fiber& fiber) {
  if (free_.empty()) {
    stacks_.push_back(std::make_unique<Stack>());
    free_.push_back(stacks_.back().get());
  }
  fiber.stack = free_.back();
  free_.pop_back();
#ifdef REID_EMU_ASSEMBLY
  // What reid_emu_switch takes from a stack: six registers, then where to go on. A function expects (stack pointer + 8) % 16 == 0.
  auto** top = reinterpret_cast<void**>(fiber.stack->top());
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fibers::enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack->bottom();
  fiber.context.uc_stack.ss_size = Stack::kBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, &Fibers::enter, 0);
#endif
}

void Fibers::resume(Fiber& fiber) {
  if (!fiber.stack) start(fiber);
  running_ = &fiber;
#ifdef REID_ASAN
  __sanitizer_start_switch_fiber(&host_.fake_stack, fiber.stack->bottom(), Stack::kBytes);
#endif
#ifdef REID_EMU_ASSEMBLY
  reid_emu_switch(&host_.stack_pointer, fiber.stack_pointer);
#else
  swapcontext(&host_.context, &fiber.context);
#endif
#ifdef REID_ASAN
  __sanitizer_finish_switch_fiber(host_.fake_stack, nullptr, nullptr);
#endif
  running_ = nullptr;
  if (fiber.done) recycle(fiber);
}

void Fibers::yield() { to_host(false); }

void Fibers::to_host(bool last) {
  Fiber& self = *running_;
  static_cast<void>(last);
#ifdef REID_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &self.fake_stack, host_bottom_, host_size_);
#endif
#ifdef REID_EMU_ASSEMBLY
  reid_emu_switch(&self.stack_pointer, host_.stack_pointer);
#else
  swapcontext(&self.context, &host_.context);
#endif
#ifdef REID_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, &host_bottom_, &host_size_);
#endif
}

void Fibers::abandon(Fiber& fiber) {
  if (!fiber.stack) return;
#ifdef REID_ASAN
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack->bottom(), Stack::kBytes);  // frames that never returned
#endif
  recycle(fiber);
}

void Fibers::recycle(Fiber& fiber) {
  free_.push_back(fiber.stack);
  fiber.stack = nullptr;
}

}  // namespace reid::emu
