#pragma once
// Which vector instructions this machine has, asked once. Builds carry no -march flags: functions name their own target.

#include <cstdint>
#include <cstring>

namespace reid::cpu {

// `lanes` floats, in whatever registers the target has.
template <int64_t lanes>
struct VectorOf {
  typedef float type __attribute__((vector_size(lanes * sizeof(float))));
};
template <int64_t lanes>
using Vector = typename VectorOf<lanes>::type;
template <class V>
inline __attribute__((always_inline)) void load(V& v, const float* p) {
  std::memcpy(&v, p, sizeof v);
}
template <class V>
inline __attribute__((always_inline)) void store(float* p, const V& v) {
  std::memcpy(p, &v, sizeof v);
}

enum class Isa { portable, avx2, avx512, avx512_vnni, avx512_bf16, amx };

bool tiles_allowed();  // x86 only: the processor has AMX for bf16 and 8-bit integers, and the system lets this process use it

inline bool supports(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::amx: return tiles_allowed();
    case Isa::avx512_bf16: return supports(Isa::avx512) && __builtin_cpu_supports("avx512bf16");
    case Isa::avx512_vnni: return supports(Isa::avx512) && __builtin_cpu_supports("avx512vnni");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw");
    case Isa::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::portable: return true;
  }
#endif
  return isa == Isa::portable;
}

inline Isa best_isa() {
  static const Isa best = supports(Isa::avx512) ? Isa::avx512 : supports(Isa::avx2) ? Isa::avx2 : Isa::portable;
  return best;
}

// The value, of which the compiler knows nothing: what is computed from it in a loop is not computed ahead and kept on the stack.
inline __attribute__((always_inline)) int64_t opaque(int64_t value) {
  __asm__("" : "+r"(value));
  return value;
}

}  // namespace reid::cpu

// REID_MULTIVERSION(name, Args): defines `static void name(const Args&)`, which runs name##_body compiled for this machine's
// vectors. The body is an always-inline function of plain loops; contraction is off, so every version gives the same bits as
// long as the body fixes the order of its sums.
#define REID_BODY static inline __attribute__((always_inline)) void
#if defined(__x86_64__)
#if defined(__clang__)
#define REID_TARGET_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw")))
#else
#define REID_TARGET_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")))
#endif
#define REID_MULTIVERSION(name, Args)                                                        \
  REID_TARGET_AVX512 static void name##_avx512(const Args& a) { name##_body(a); }            \
  __attribute__((target("avx2"))) static void name##_avx2(const Args& a) { name##_body(a); } \
  static void name##_portable(const Args& a) { name##_body(a); }                             \
  static void name(const Args& a) {                                                          \
    switch (::reid::cpu::best_isa()) {                                                       \
      case ::reid::cpu::Isa::avx512: return name##_avx512(a);                                \
      case ::reid::cpu::Isa::avx2: return name##_avx2(a);                                    \
      default: return name##_portable(a);                                                    \
    }                                                                                        \
  }
#else
#define REID_MULTIVERSION(name, Args) \
  static void name(const Args& a) { name##_body(a); }
#endif

// In front of a loop whose pointers are either the same or apart: element i never meets element j. clang checks at run time.
#if defined(__GNUC__) && !defined(__clang__)
#define REID_INDEPENDENT _Pragma("GCC ivdep")
#else
#define REID_INDEPENDENT
#endif
