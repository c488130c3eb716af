#include "reid/learning/embedding.h"

#include "reid/engine/ops.h"

namespace reid {
Tensor embed(LoadedEncoder& encoder, const Tensor& images, const EmbedOptions& options) {
  Tensor rows = encoder.embed(images);  // [B, D]
  if (options.flip) rows = ops::scale(ops::add(rows, encoder.embed(ops::mirror(images))), 0.5);
  if (options.normalize) rows = ops::l2_normalize(rows).y;
  return rows;
}

}  // namespace reid
