#pragma once
// The rows of the matrix a convolution multiplies: for each point of a grid, the image values its filter taps meet.
//
//   row (n, y, x), column ((i, j), c)  =  image[n, y * step_y + rows[i], x * step_x + columns[j], c],  zero outside the image
//
// Forward and weight gradient read the input so (offsets r * dilation - pad, steps = stride); the data gradient reads dy.
// The matrix is never stored: parts of it are written straight into packed panels. Where neighboring taps lie side by side in
// memory (columns[j + 1] = columns[j] + 1), they are copied as one run, so a 7x7 filter on 3 channels moves 21 floats at a time.

#include <cstdint>
#include <vector>

#include "reid/engine/base.h"

namespace reid::cpu {

class Patches {
 public:
  struct Image {
    const void* data;  // [n, h, w, c] f32 or bf16
    DType dtype;
    int64_t h, w, c;
  };
  struct Grid {
    int64_t p, q;  // points of an image
    int64_t step_y, step_x;
  };
  Patches(Image image, Grid grid, std::vector<int64_t> rows, std::vector<int64_t> columns);

  int64_t width() const { return static_cast<int64_t>(rows_.size() * columns_.size()) * image_.c; }

  // Points [point, point + points) of columns [first, first + count). Column j of point i is written to
  // out[j / tile * panel + i * stride + j % tile]: one row a point (tile >= count), or panels of `tile` columns. To floats, to which bf16
  // is widened, or from bf16 to bf16.
  template <class Out>
  void copy(int64_t point, int64_t points, int64_t first, int64_t count, Out* out, int64_t stride, int64_t tile, int64_t panel) const;

  struct Run {       // values that lie side by side in the image and in the output
    int64_t row;     // offset of the image row
    int64_t offset;  // of the run's first value from the grid point's, along the row
    int64_t to;      // of its first float in the output
    int64_t length;
  };

 private:
  template <class T, class Out>
  void copy_as(int64_t point, int64_t points, const std::vector<Run>& runs, Out* out, int64_t stride) const;
  void cut(int64_t first, int64_t count, int64_t tile, int64_t panel, std::vector<Run>& runs) const;

  Image image_;
  Grid grid_;
  std::vector<int64_t> rows_, columns_;
  int64_t joined_;  // taps of one filter row that are copied together: all or one
};

}  // namespace reid::cpu
