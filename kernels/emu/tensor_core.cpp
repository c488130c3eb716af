#include "emu/tensor_core.h"

#include <cstring>

namespace reid::emu::detail {

// Products are exact in f32; the sums are rounded one by one, where a tensor core rounds in its own way.
void multiply_fragments(const unsigned char* lanes, size_t stride, unsigned lane, float (&d)[4]) {
  float rows[2][16], columns[2][16];
  for (unsigned t = 0; t < 4; ++t) {
    Fragments left, first, second;  // of the row's lanes, and of two columns'
    std::memcpy(&left, lanes + (lane / 4 * 4 + t) * stride, sizeof left);
    std::memcpy(&first, lanes + (lane % 4 * 8 + t) * stride, sizeof first);
    std::memcpy(&second, lanes + (lane % 4 * 8 + 4 + t) * stride, sizeof second);
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned k = i / 2 * 8 + 2 * t + i % 2;
      rows[0][k] = left.a[i / 2 * 4 + i % 2], rows[1][k] = left.a[i / 2 * 4 + 2 + i % 2];
      columns[0][k] = first.b[i], columns[1][k] = second.b[i];
    }
  }
  float sums[4] = {d[0], d[1], d[2], d[3]};
  for (unsigned k = 0; k < 16; ++k) {
    for (unsigned i = 0; i < 4; ++i) sums[i] += rows[i / 2][k] * columns[i % 2][k];
  }
  std::memcpy(d, sums, sizeof sums);
}

}  // namespace reid::emu::detail
