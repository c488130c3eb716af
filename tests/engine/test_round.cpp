// Rounding to bf16 by the processor's instruction is bf16(float), but for sums that multiplications of bf16 do not make.

#include <bit>
#include <cmath>
#include <iterator>
#include <vector>

#include "backends/cpu/isa.h"
#include "harness.h"
#include "reid/engine/base.h"
#if defined(__x86_64__)
#include "backends/cpu/x86/round.h"

namespace reid::cpu {
namespace {

// Any bits, those beside the middle between two neighbors, and what is no number.
std::vector<float> values(size_t count) {
  Rng rng(7);
  std::vector<float> v(count);
  for (size_t i = 0; i < count; ++i) {
    auto bits = static_cast<uint32_t>(rng.bits());
    if (i % 3 == 1) bits = (bits & 0xFFFF0000u) | (0x7FFFu + bits % 3);
    v[i] = std::bit_cast<float>(bits);
  }
  const uint32_t special[] = {0x00000000u, 0x80000000u, 0x7F800000u, 0xFF800000u, 0x7F800001u, 0xFFFFFFFFu,
                              0x7F7FFFFFu, 0x7F7F8000u, 0x7F7F7FFFu, 0x00800000u, 0x007FFFFFu, 0x80000001u};
  for (size_t i = 0; i < std::size(special); ++i) v[i] = std::bit_cast<float>(special[i]);
  return v;
}

bf16 expected(float sum) { return bf16(std::fabs(sum) < 0x1p-126f ? std::copysign(0.0f, sum) : sum); }

bool same(bf16 a, bf16 b) { return a.bits == b.bits || (std::isnan(float{a}) && std::isnan(float{b})); }

TEST_CASE("rounding by instruction: every kind of value, every width, with and without what is added to") {
  if (!supports(Isa::avx512_bf16)) return;
  constexpr int64_t kWidth = 32, kRows = 512;
  const std::vector<float> tile = values(kWidth * kRows);
  for (int64_t columns = 1; columns <= kWidth; ++columns) {
    for (const bool add : {false, true}) {
      std::vector<float> c(kRows * 40, -1.5f);
      std::vector<bf16> out(kRows * 40, bf16(3.0f));
      float* rows[kRows];
      bf16* rounded[kRows];
      for (int64_t i = 0; i < kRows; ++i) rows[i] = c.data() + i * 40, rounded[i] = out.data() + i * 40;
      round_by_instruction({.tile = tile.data(),
                            .width = kWidth,
                            .rows = kRows,
                            .columns = columns,
                            .c = rows,
                            .column = 5,
                            .add = add,
                            .rounded = rounded});
      int64_t wrong = 0;
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t j = 0; j < 40; ++j) {
          const bool inside = j >= 5 && j < 5 + columns;
          const float of_tile = inside ? tile[static_cast<size_t>(i * kWidth + j - 5)] : 0, sum = add ? of_tile - 1.5f : of_tile;
          wrong += !same(rounded[i][j], inside ? expected(sum) : bf16(3.0f));
        }
      }
      CHECK_MESSAGE(wrong == 0, columns, " columns, add ", add);
    }
  }
}

}  // namespace
}  // namespace reid::cpu
#endif
