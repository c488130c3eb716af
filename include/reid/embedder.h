#pragma once
/* The embedder: person images in memory to vectors, from C, C++17 and anything that can call C.
 *
 * Design: the interface of libreid.so. It is C, so that no compiler or standard library is shared with the caller; the C++ class at
 * the end is made of nothing but these functions. This header needs no other of the project. Images take the way they take in
 * `reid embed`: the encoder's file says to which size and how they are resized and how they are normalized, and the same pixels give
 * the same bits here and there.
 *
 *   char error[256];
 *   reid_embedder* e = reid_embedder_load("encoder.safetensors", NULL, error, sizeof error);
 *   float* vector = malloc(sizeof(float) * (size_t)reid_embedder_width(e));
 *   if (reid_embedder_embed_rgb(e, pixels, height, width, 0, vector) != 0) puts(reid_embedder_error(e));
 *   reid_embedder_free(e);
 *
 * Errors: functions that can fail return 0 when they are done and something else when not, and leave one line of text (ASCII or the
 * bytes of a file name) that says what was wrong. No exception leaves them, and nothing is printed.
 *
 * Threads: an embedder serves one thread at a time; different embedders may work on different threads at the same time. Inside, all
 * embedders of a process share one pool of worker threads; results do not depend on it. Loading with another number of threads waits
 * until no embedder is at work. The pool does not survive fork(): a process that has embedded must not do so in children that it
 * forks (start them with exec, or load and embed in the children only).
 */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define REID_API __attribute__((visibility("default")))
#else
#define REID_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reid_embedder reid_embedder;

/* How to embed. Start from REID_EMBEDDER_OPTIONS_INIT; fields added by later versions are 0 then, and mean what was done before. */
typedef struct reid_embedder_options {
  size_t struct_size; /* sizeof(reid_embedder_options) as the caller was compiled */
  int32_t threads;    /* workers of the pool that the whole process shares, 1 to 1024; 0: as it is (first the number of cores) */
  int32_t flip;       /* not 0: the mean of the embeddings of the image and of its mirror image; takes twice the time */
  int32_t normalize;  /* not 0: vectors of length 1 */
  int32_t reserved;   /* 0 */
} reid_embedder_options;

#define REID_EMBEDDER_OPTIONS_INIT \
  { sizeof(reid_embedder_options), 0, 0, 0, 0 }

/* Somebody else's pixels: rows top to bottom, three bytes red, green, blue a pixel. Height times width is at most 134 million. */
typedef struct reid_image {
  const uint8_t* rgb;
  int32_t height, width; /* pixels, at least 1 */
  int64_t stride;        /* bytes from the start of a row to that of the next, at least 3 * width; 0: 3 * width */
} reid_image;

/* "0.1.0": the version of the library at run time. Lives as long as the library. */
REID_API const char* reid_version(void);

/* Reads an encoder, as `reid train` writes it (encoder.safetensors of a run). `options` may be NULL: no flip, not normalized.
 * Returns NULL when that fails, and then writes what was wrong into `error`, cut to `error_size` bytes with the closing 0
 * (`error` may be NULL). The file is not needed afterwards. */
REID_API reid_embedder* reid_embedder_load(const char* path, const reid_embedder_options* options, char* error, size_t error_size);

/* The number of floats in a vector; 0 for NULL. */
REID_API int64_t reid_embedder_width(const reid_embedder* embedder);

/* One image into out[width]. The pixels are only read, and not needed afterwards. `stride` as in reid_image. */
REID_API int reid_embedder_embed_rgb(reid_embedder* embedder, const uint8_t* rgb, int32_t height, int32_t width, int64_t stride,
                                     float* out);

/* `count` images, which may differ in size, into out[count * width], in their order; no image does nothing. Vectors are bitwise those
 * of single calls, but come faster. Every image is checked before work starts: an error of the caller leaves `out` untouched, any
 * other leaves it undefined. Memory beyond the encoder's grows with the network and not with `count`. */
REID_API int reid_embedder_embed_batch(reid_embedder* embedder, const reid_image* images, size_t count, float* out);

/* What was wrong in the last call with this embedder that failed; "" before the first. Belongs to the embedder, and changes with
 * the next call that fails. */
REID_API const char* reid_embedder_error(const reid_embedder* embedder);

/* Gives back all that the embedder holds. NULL does nothing. */
REID_API void reid_embedder_free(reid_embedder* embedder);

#ifdef __cplusplus
} /* extern "C" */

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace reid {

// The same for C++17 and later. Movable; an embedder that was moved from may only be assigned to or destroyed. Throws
// std::runtime_error with the text of the C functions.
class Embedder {
 public:
  struct Options {
    int threads = 0;  // as in reid_embedder_options
    bool flip = false, normalize = false;
  };

  explicit Embedder(const std::string& path) : Embedder(path, Options()) {}
  Embedder(const std::string& path, const Options& options) {
    reid_embedder_options o = REID_EMBEDDER_OPTIONS_INIT;
    o.threads = options.threads;
    o.flip = options.flip ? 1 : 0;
    o.normalize = options.normalize ? 1 : 0;
    char error[1024];
    handle_.reset(reid_embedder_load(path.c_str(), &o, error, sizeof error));
    if (!handle_) throw std::runtime_error(error);
  }

  int64_t width() const { return reid_embedder_width(handle_.get()); }

  // One image: [width()] floats.
  std::vector<float> embed(const uint8_t* rgb, int32_t height, int32_t width, int64_t stride = 0) {
    std::vector<float> out(static_cast<size_t>(this->width()));
    check(reid_embedder_embed_rgb(handle_.get(), rgb, height, width, stride, out.data()));
    return out;
  }

  // Many: [images.size(), width()] floats, row after row.
  std::vector<float> embed(const std::vector<reid_image>& images) {
    std::vector<float> out(images.size() * static_cast<size_t>(width()));
    check(reid_embedder_embed_batch(handle_.get(), images.data(), images.size(), out.data()));
    return out;
  }

 private:
  struct Free {
    void operator()(reid_embedder* embedder) const { reid_embedder_free(embedder); }
  };
  void check(int status) const {
    if (status != 0) throw std::runtime_error(reid_embedder_error(handle_.get()));
  }
  std::unique_ptr<reid_embedder, Free> handle_;
};

}  // namespace reid
#endif
