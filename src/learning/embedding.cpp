#include "reid/learning/embedding.h"

#include <algorithm>

#include "reid/engine/ops.h"

namespace reid {
namespace {

// Left and right exchanged.
Tensor mirrored(const Tensor& images) {
  const Tensor out = Tensor::empty(images.shape(), DType::f32);
  const int64_t width = images.dim(2);
  const float* x = images.data<float>();
  float* y = out.data<float>();
  for (int64_t row = 0; row < images.dim(0) * images.dim(1); ++row, x += width * 3, y += width * 3)
    for (int64_t column = 0; column < width; ++column) std::copy_n(x + (width - 1 - column) * 3, 3, y + column * 3);
  return out;
}

}  // namespace

Tensor embed(LoadedEncoder& encoder, const Tensor& images, const EmbedOptions& options) {
  Tensor rows = encoder.embed(images);  // [B, D]
  if (options.flip || options.normalize) rows = rows.to(Device{});
  if (options.flip) rows = ops::scale(ops::add(rows, encoder.embed(mirrored(images)).to(Device{})), 0.5);
  if (options.normalize) rows = ops::l2_normalize(rows).y;
  return rows;
}

}  // namespace reid
