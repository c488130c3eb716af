#pragma once
// For destructors: what a device refuses then, it has refused before, to someone who could be told.

#include "reid/engine/base.h"

namespace reid {

template <class F>
void quietly(F&& f) noexcept {
  try {
    f();
  } catch (const Error&) {
  }
}

}  // namespace reid
