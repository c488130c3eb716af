#pragma once
// Between floats and bf16, and implementations of both: loops over vectors of floats that widen what they load and round what they store.

#include <cstdint>

#include "reid/engine/registry.h"

namespace reid::cpu {

inline const char* refuse_wider(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 ? nullptr : "f32 and bf16 only"; }

// Registers what is written for float and for bf16 as one implementation.
template <class Op, void (*kF32)(const typename Op::Args&, Stream&), void (*kBf16)(const typename Op::Args&, Stream&)>
void add_both(
    const char* name, const char* (*refuses)(const typename Op::Args&) = [](const typename Op::Args& a) { return refuse_wider(a.dtype); }) {
  Registry::add<Op>(DeviceType::cpu, {name, refuses, [](const typename Op::Args& a, Stream& stream) {
                                        (a.dtype == DType::bf16 ? kBf16 : kF32)(a, stream);
                                      }});
}

void widen(const bf16* x, int64_t count, float* y);
void round_to_bf16(const float* x, int64_t count, bf16* y);

}  // namespace reid::cpu
