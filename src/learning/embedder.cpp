// The C interface over the encoder: checks what a caller of C can get wrong, and turns exceptions into text.

#include "reid/embedder.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <shared_mutex>

#include "reid/learning/embedding.h"

struct reid_embedder {
  reid::LoadedEncoder encoder;
  reid::EmbedOptions options;
  reid::Normalizer normalize{encoder.transform()};
  char error[1024] = "";
};

namespace reid {
namespace {

constexpr size_t kFirstOptionsSize = 24;  // of reid_embedder_options in version 0.1.0
static_assert(sizeof(reid_embedder_options) >= kFirstOptionsSize);
constexpr int64_t kChunk = 64;  // images through the network at once; bounds memory, and results do not depend on it

// Held shared while the engine works, alone while the size of its pool changes: operations take scratch for every worker beforehand.
std::shared_mutex& pool_size() {
  static std::shared_mutex mutex;
  return mutex;
}

// Runs `action`; when it throws, returns 1 and leaves the text in `error`. Allocates nothing then: memory may be what is missing.
template <class Action>
int guarded(char* error, size_t size, Action&& action) {
  const auto report = [&](const char* text) {
    if (error != nullptr && size > 0) std::snprintf(error, size, "%s", text);
    return 1;
  };
  try {
    action();
    return 0;
  } catch (const std::bad_alloc&) {
    return report("out of memory");
  } catch (const std::exception& e) {
    return report(e.what());
  } catch (...) {
    return report("an error of unknown kind");
  }
}

// What the caller knows of the options, over the defaults. A caller that knows more than we do may not use it.
reid_embedder_options read_options(const reid_embedder_options* given) {
  reid_embedder_options known = REID_EMBEDDER_OPTIONS_INIT;
  if (given == nullptr) return known;
  const size_t size = given->struct_size;
  REID_CHECK(size >= kFirstOptionsSize && size <= 4096, "reid_embedder_options: struct_size is ", size,
             "; start from REID_EMBEDDER_OPTIONS_INIT");
  const auto* bytes = reinterpret_cast<const char*>(given);
  REID_CHECK(std::all_of(bytes + std::min(size, sizeof known), bytes + size, [](char c) { return c == 0; }),
             "reid_embedder_options: an option is set that version ", REID_VERSION, " of the library does not know");
  std::memcpy(&known, given, std::min(size, sizeof known));
  REID_CHECK(known.reserved == 0, "reid_embedder_options: reserved is ", known.reserved, ", not 0");
  REID_CHECK(known.threads >= 0 && known.threads <= 1024, "reid_embedder_options: threads is ", known.threads, ", not in 0..1024");
  return known;
}

void check_image(const reid_image& image, size_t index) {
  constexpr int64_t kMaxPixels = int64_t{1} << 27;  // as for files
  REID_CHECK(image.rgb != nullptr, "image ", index, ": its pixels are NULL");
  REID_CHECK(image.height > 0 && image.width > 0 && image.width <= kMaxPixels / image.height, "image ", index, ": ", image.width, " x ",
             image.height, " pixels; at least 1 x 1 and at most 134 million");
  REID_CHECK(image.stride == 0 || image.stride >= int64_t{3} * image.width, "image ", index, ": a stride of ", image.stride,
             " bytes is less than a row of ", image.width, " pixels");
}

Image copy_of(const reid_image& image) {
  Image copy(image.height, image.width);
  const int64_t row = int64_t{3} * image.width, stride = image.stride == 0 ? row : image.stride;
  for (int y = 0; y < image.height; ++y) std::copy_n(image.rgb + y * stride, row, copy.at(y, 0));
  return copy;
}

void embed_images(reid_embedder& e, const reid_image* images, size_t count, float* out) {
  if (count == 0) return;
  REID_CHECK(images != nullptr, "the list of images is NULL");
  REID_CHECK(out != nullptr, "the place for the vectors is NULL");
  for (size_t i = 0; i < count; ++i) check_image(images[i], i);
  const std::shared_lock lock(pool_size());
  const TransformConfig& t = e.encoder.transform();
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const int64_t size = std::min<int64_t>(kChunk, static_cast<int64_t>(count - begin));
    const Tensor batch = Tensor::empty({size, t.height, t.width, 3}, DType::f32);
    parallel_for(size, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        const Image image = resize(copy_of(images[begin + static_cast<size_t>(i)]), t.height, t.width, t.filter);
        weak_view(image, e.normalize, batch.rows(i, i + 1).data<float>());
      }
    });
    const Tensor rows = embed(e.encoder, batch, e.options);  // [size, D]
    out = std::copy_n(rows.data<float>(), rows.numel(), out);
  }
}

}  // namespace
}  // namespace reid

const char* reid_version(void) { return REID_VERSION; }

reid_embedder* reid_embedder_load(const char* path, const reid_embedder_options* options, char* error, size_t error_size) {
  reid_embedder* loaded = nullptr;
  reid::guarded(error, error_size, [&] {
    REID_CHECK(path != nullptr, "the path of the encoder is NULL");
    const reid_embedder_options o = reid::read_options(options);
    auto made = std::unique_ptr<reid_embedder>(
        new reid_embedder{reid::LoadedEncoder(path), reid::EmbedOptions{.flip = o.flip != 0, .normalize = o.normalize != 0}});
    if (o.threads > 0) {
      const std::unique_lock lock(reid::pool_size());
      reid::set_threads(o.threads);
    }
    loaded = made.release();
  });
  return loaded;
}

int64_t reid_embedder_width(const reid_embedder* embedder) { return embedder == nullptr ? 0 : embedder->encoder.width(); }

int reid_embedder_embed_rgb(reid_embedder* embedder, const uint8_t* rgb, int32_t height, int32_t width, int64_t stride, float* out) {
  const reid_image image{rgb, height, width, stride};
  return reid_embedder_embed_batch(embedder, &image, 1, out);
}

int reid_embedder_embed_batch(reid_embedder* embedder, const reid_image* images, size_t count, float* out) {
  if (embedder == nullptr) return 1;
  return reid::guarded(embedder->error, sizeof embedder->error, [&] { reid::embed_images(*embedder, images, count, out); });
}

const char* reid_embedder_error(const reid_embedder* embedder) { return embedder == nullptr ? "the embedder is NULL" : embedder->error; }

void reid_embedder_free(reid_embedder* embedder) { delete embedder; }
