/* Embeds person images and compares them: embed ENCODER IMAGE.ppm [IMAGE.ppm ...]
 *
 * Prints the first numbers of every vector and its cosine with the vector of the first image. Pure C11; needs libreid alone. Images are
 * binary PPM (P6), which any program writes: `convert photo.jpg photo.ppm`, `djpeg photo.jpg >photo.ppm`. */

#include <math.h>
#include <reid/embedder.h>
#include <stdio.h>
#include <stdlib.h>

/* Pixels of a P6 file, for the caller to free; NULL when it is none. */
static uint8_t* read_ppm(const char* path, int32_t* height, int32_t* width) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) return NULL;
  int w = 0, h = 0, most = 0;
  uint8_t* rgb = NULL;
  if (fscanf(file, "P6 %d %d %d", &w, &h, &most) == 3 && most == 255 && w > 0 && h > 0 && w <= 65535 && h <= 65535) {
    const size_t bytes = (size_t)w * (size_t)h * 3;
    fgetc(file); /* the one white space after the header */
    rgb = malloc(bytes);
    if (rgb != NULL && fread(rgb, 1, bytes, file) != bytes) {
      free(rgb);
      rgb = NULL;
    }
  }
  fclose(file);
  *height = h;
  *width = w;
  return rgb;
}

static double cosine(const float* a, const float* b, int64_t width) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < width; ++i) {
    ab += (double)a[i] * (double)b[i];
    aa += (double)a[i] * (double)a[i];
    bb += (double)b[i] * (double)b[i];
  }
  return ab / sqrt(aa * bb);
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s ENCODER IMAGE.ppm [IMAGE.ppm ...]\n", argv[0]);
    return 2;
  }
  char error[1024];
  reid_embedder_options options = REID_EMBEDDER_OPTIONS_INIT;
  options.flip = 1;
  reid_embedder* embedder = reid_embedder_load(argv[1], &options, error, sizeof error);
  if (embedder == NULL) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  const int64_t width = reid_embedder_width(embedder);
  printf("libreid %s, vectors of %lld numbers\n", reid_version(), (long long)width);

  int status = 0;
  float* first = malloc((size_t)width * sizeof(float));
  float* vector = malloc((size_t)width * sizeof(float));
  for (int i = 2; i < argc && status == 0; ++i) {
    int32_t h = 0, w = 0;
    uint8_t* rgb = read_ppm(argv[i], &h, &w);
    float* out = i == 2 ? first : vector;
    if (rgb == NULL || out == NULL || first == NULL) {
      fprintf(stderr, "%s: not a binary PPM (P6) of 8 bits\n", argv[i]);
      status = 1;
    } else if (reid_embedder_embed_rgb(embedder, rgb, h, w, 0, out) != 0) {
      fprintf(stderr, "%s: %s\n", argv[i], reid_embedder_error(embedder));
      status = 1;
    } else {
      printf("%s: %.9g %.9g %.9g ...  cosine with the first image %.6f\n", argv[i], out[0], out[1], out[2], cosine(first, out, width));
    }
    free(rgb);
  }
  free(first);
  free(vector);
  reid_embedder_free(embedder);
  return status;
}
