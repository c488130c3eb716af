#pragma once
// The way of images from a loader to a network, and of embeddings back.
//
// Design: on the CPU a batch is what the loader made, and nothing here costs anything. An accelerator is sent 8-bit images, one for both
// views, an eighth of the bytes of two views in f32, and what was drawn. It makes the views itself, with the CPU's bits. While it computes
// with one batch the next is loaded and travels, and the rows of the one before come back.

#include <optional>

#include "reid/engine/transfer.h"
#include "reid/people/data.h"

namespace reid {

class Feed {
 public:
  // dtype: of the views that an accelerator makes; bf16 for networks that round their images to it, which are the same bits.
  Feed(Device device, const TransformConfig& transform, DType dtype = DType::f32);

  Device device() const { return device_; }
  const TransformConfig& transform() const { return transform_; }
  bool pixels() const { return device_.type != DeviceType::cpu; }  // the LoaderOptions::pixels of its loaders

  // The batches of a loader, which must outlive this; those of one loader at a time.
  class Batches {
   public:
    Batches(Feed& feed, Loader& loader) : feed_(feed), loader_(loader) {}
    std::optional<Batch> next();  // as Loader::next; whatever the device is given from now on finds the batch there

   private:
    std::optional<Batch> send();
    Feed& feed_;
    Loader& loader_;
    std::optional<Batch> ahead_;
    bool begun_ = false;
  };

  // The batch where replayed steps look for it: at addresses that are the same for all batches of its size, until the next call.
  Batch in_place(const Batch& batch);
  // The batch with its views, made of its pixels. Within a replayed step this is work of its graph.
  Batch with_views(const Batch& batch) const;

  // `host` has the numbers of `rows`, which lie wherever they were computed, when fetched() has returned. Not within a replayed step.
  void fetch(const Tensor& rows, const Tensor& host) { downloads_.start(rows, host); }
  void fetched() { downloads_.finish(); }

 private:
  Device device_;
  TransformConfig transform_;
  DType dtype_;
  Uploads uploads_;
  Downloads downloads_;
  BatchPixels places_;
};

}  // namespace reid
