#include "reid/learning/feed.h"

#include <utility>

#include "reid/engine/ops.h"

namespace reid {

Feed::Feed(Device device, const TransformConfig& transform, DType dtype)
    : device_(device), transform_(transform), dtype_(dtype), uploads_(device), downloads_(device) {}

std::optional<Batch> Feed::Batches::send() {
  std::optional<Batch> batch = loader_.next();
  if (!batch) return batch;
  for (Tensor* t : {&batch->augmented, &batch->original, &batch->pixels.images, &batch->pixels.changes, &batch->pixels.views})
    *t = feed_.uploads_.start(*t);
  return batch;
}

std::optional<Batch> Feed::Batches::next() {
  if (!feed_.pixels()) return loader_.next();
  if (!std::exchange(begun_, true)) ahead_ = send();
  std::optional<Batch> batch = std::exchange(ahead_, std::nullopt);
  if (!batch) return batch;
  feed_.uploads_.arrive();
  ahead_ = send();
  return batch;
}

Batch Feed::in_place(const Batch& batch) {
  Batch here = batch;
  const auto move = [&](Tensor BatchPixels::*part) {
    const Tensor& from = batch.pixels.*part;
    if (!from.defined()) return;
    Tensor& place = places_.*part;
    if (!place.defined() || place.shape() != from.shape()) place = Tensor::empty(from.shape(), from.dtype(), device_);
    place.copy_from(from);
    here.pixels.*part = place;
  };
  move(&BatchPixels::images), move(&BatchPixels::changes), move(&BatchPixels::views);
  return here;
}

Batch Feed::with_views(const Batch& batch) const {
  const BatchPixels& pixels = batch.pixels;
  if (!pixels.images.defined()) return batch;
  Batch made;
  made.index = batch.index, made.entries = batch.entries;
  const PixelColors colors = pixel_colors(transform_);
  const Tensor whole = Tensor::zeros({batch.size(), kPixelViewFields}, DType::i32, device_);  // of each image the image itself
  made.original = ops::views_from_pixels(pixels.images, whole, colors, dtype_);
  if (!pixels.views.defined()) return made;
  const Tensor changed = pixels.changes.defined() ? ops::color_pixels(pixels.images, pixels.changes) : pixels.images;
  made.augmented = ops::views_from_pixels(changed, pixels.views, colors, dtype_);
  return made;
}

}  // namespace reid
