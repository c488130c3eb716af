#pragma once
// Embeddings as they are handed out: of the image alone or with its mirror image, as the network gives them or of unit length.

#include "reid/learning/encoder_file.h"

namespace reid {

struct EmbedOptions {
  bool flip = false;       // the plain mean of the embeddings of an image and of its mirror image
  bool normalize = false;  // unit rows; a row of zeros stays one. After the mean, so that both options together give unit rows too
};

// [B, H, W, 3] -> [B, D]. A row depends on its image alone: neither on the rest of the batch nor on threads. `flip` takes twice the time.
// Rows are where the encoder computes.
Tensor embed(LoadedEncoder& encoder, const Tensor& images, const EmbedOptions& options);

}  // namespace reid
