#pragma once
// Factors of products that pipelines with planted bugs make, and what became of the sums.

#include "planted.h"
#include "sm90/hopper.cuh"

namespace reid::emu::test {

// Small integers: sums are exact.
struct Factors {
  struct alignas(16) Eight {
    bf16 v[8];
  };
  explicit Factors(int width_) : width(width_), a(static_cast<size_t>(64 * width / 8)), b(static_cast<size_t>(128 * width / 8)) {
    Rng rng(1);
    for (auto* side : {&a, &b}) {
      for (Eight& eight : *side) {
        for (bf16& v : eight.v) v = to_bf16(static_cast<float>(rng.below(15) - 7));
      }
    }
    for (int i = 0; i < 64 * 128; ++i) {
      for (int k = 0; k < width; ++k) {
        if (k % 64 < 16) product[static_cast<size_t>(i)] += at(a, i / 128, k) * at(b, i % 128, k);
      }
    }
  }
  float at(const std::vector<Eight>& side, int row, int k) const {
    return to_float(side[static_cast<size_t>(row * width + k) / 8].v[k % 8]);
  }
  int width;
  std::vector<Eight> a, b;
  std::vector<float> product = std::vector<float>(64 * 128);
};

inline TensorMap rows_of(const std::vector<Factors::Eight>& side, int rows, int width) {
  return tensor_map(side[0].v, {{width, rows, 1, 1}, {1, width, width * rows, width * rows}, {64, rows, 1, 1}});
}

inline std::string verdict_of(const std::vector<float>& sums, const std::vector<float>& right) {
  if (std::any_of(sums.begin(), sums.end(), [](float v) { return std::isnan(v); })) return "NaN";
  return sums == right ? "right" : "other sums";
}

}  // namespace reid::emu::test
