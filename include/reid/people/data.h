#pragma once
// Batches: explicit plans of them, and the loader that turns a plan into tensors on worker threads.
//
// Design: a plan is data (which image, under which label, in which batch), made by a sampler from a generator; the loader
// decides nothing. So batches depend on neither worker count nor timing, and a run can start at any batch of a plan.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "reid/engine/tensor.h"
#include "reid/people/dataset.h"
#include "reid/people/transform.h"

namespace reid {

// ---- Plans and samplers -------------------------------------------------------------------------------------------------

enum class DataKind : uint8_t { multi, single };  // labeled multi-camera, or pseudo-labeled single-camera

struct PlanEntry {
  int64_t sample = 0;  // index into the loader's samples
  int64_t label = -1;
  int64_t camera = 0;
  DataKind kind = DataKind::multi;
  friend bool operator==(const PlanEntry&, const PlanEntry&) = default;
};

struct BatchPlan {
  std::vector<std::vector<PlanEntry>> batches;
  int64_t images() const;
};

// Entries of samples [0, labels.size()), which stand at first_sample in the loader's list; labels below 0 are left out.
std::vector<PlanEntry> labeled_entries(std::span<const Sample> samples, std::span<const int64_t> labels, DataKind kind,
                                       int64_t first_sample = 0);
int64_t count_labels(std::span<const PlanEntry> entries);

// `people` identities a batch, `images` of each.
struct PK {
  int64_t people = 16, images = 4;
};

// Exactly `batches` batches. Identities are drawn without repetition until all had their turn, then anew; those of one batch
// are distinct. Fewer identities than `people` throw. The images of an identity:
//   multi_camera_plan   one random image from every camera that has the identity; of more than K cameras a random K; fewer are
//                       filled up with other images of the identity, without repetition while they last
//   anchor_plan         a random image, and K - 1 from other cameras than its own, without repetition when there are enough; where no
//                       other camera has the identity, other images (RandomMultipleGallerySampler of SpCL, Cluster Contrast and PPLR)
//   random_plan         K random images, without repetition when there are enough
// An identity with fewer images repeats some: the draws of augmentation differ.
BatchPlan multi_camera_plan(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng);
BatchPlan anchor_plan(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng);
BatchPlan random_plan(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng, const char* whom = "pseudo labels");

// Each batch: a multi-camera part, then a single-camera part. A part with people = 0 is left out.
BatchPlan mixed_plan(std::span<const PlanEntry> multi, PK multi_pk, std::span<const PlanEntry> single, PK single_pk, int64_t batches,
                     const Rng& rng);

// Samples first, first + 1, ... in order, for extraction: label -1, camera of the sample.
BatchPlan sequential_plan(std::span<const Sample> samples, int64_t batch_size, int64_t first_sample = 0);

// ---- Loading ------------------------------------------------------------------------------------------------------------

// Decoded and resized images, shared by loaders and threads. When the limit is reached, further images are not kept (evicting
// would serve no epoch order). Keys are path and size, so a file must not change during a run.
class ImageCache {
 public:
  explicit ImageCache(int64_t max_bytes);  // 0: keeps nothing
  ~ImageCache();
  ImageCache(const ImageCache&) = delete;
  ImageCache& operator=(const ImageCache&) = delete;

  // The image of the file at the transform's size. Throws what read_image() throws.
  std::shared_ptr<const Image> load(const std::string& path, const TransformConfig& transform);
  int64_t bytes() const;
  int64_t hits() const;
  int64_t misses() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// 8-bit images instead of views, for ops::color_pixels and ops::views_from_pixels to make these where a network computes. All are undefined
// in a batch of views.
struct BatchPixels {
  Tensor images;   // [B, H, W, 3] u8: resized; both views are of them
  Tensor changes;  // [B, change_fields()] i32: of the images for the augmented view; undefined where nothing is blurred or colored
  Tensor views;    // [B, 7] i32: the augmented view of that, a PixelView each; undefined when the loader makes weak views only
};

// One batch of a plan.
struct Batch {
  int64_t index = 0;               // in the plan
  Tensor augmented;                // [B, H, W, 3] f32; undefined when the loader makes weak views only
  Tensor original;                 // [B, H, W, 3] f32: resized and normalized
  BatchPixels pixels;              // instead of both, when the loader was asked for pixels
  std::vector<PlanEntry> entries;  // [B]: what was loaded
  int64_t size() const { return static_cast<int64_t>(entries.size()); }
  std::vector<int64_t> samples() const;
  std::vector<int64_t> labels() const;
  std::vector<int64_t> cameras() const;
  std::vector<DataKind> kinds() const;
};

// What becomes of an image that cannot be read.
enum class OnDamage : uint8_t {
  fail,     // the error, naming the file
  replace,  // the next image of the plan with the same label takes its place, else the next entry of the same kind (with its own
            // label); in the order of samples, so every run replaces alike
  drop      // its batch is smaller, and left out when nothing remains
};

struct LoaderOptions {
  TransformConfig transform;
  bool augment = true;  // make the augmented view
  bool pixels = false;  // make BatchPixels instead of views
  int workers = 1;      // threads; 0: loading happens inside next()
  int prefetch = 2;     // batches ready or in work beyond the one handed out; bounds memory
  OnDamage on_damage = OnDamage::fail;
  std::shared_ptr<ImageCache> cache = {};  // none: every image is decoded each time
};

// Yields the batches of a plan in order. The augmented view of the entry at position p of the plan (counted over all batches)
// draws from rng.at(p).at("augmented") only; `rng` is that of the run's seed and epoch.
// `samples` must outlive the loader. One consumer thread. Destroying a loader early is fine.
class Loader {
 public:
  Loader(std::span<const Sample> samples, BatchPlan plan, LoaderOptions options, const Rng& rng, int64_t first_batch = 0);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch, nothing after the last. An error met by a worker is thrown in the turn of its batch.
  std::optional<Batch> next();

  // Files that could not be read in the batches handed out so far, sorted, each with its error.
  std::vector<std::string> damaged() const;
  // The error of one of them; null when it was not met.
  const std::string* damage_of(const std::string& path) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// All of `samples` in order as weak views: a Loader over sequential_plan() without augmentation. Damaged images fail or drop.
Loader evaluation_loader(std::span<const Sample> samples, int64_t batch_size, LoaderOptions options);

}  // namespace reid
