// Rows of embeddings on the unit sphere: y = x / max(|x|, eps), dx = (dy - <dy, y> y) / max(|x|, eps), f32.
// A row is summed in double in kLanes fixed lanes, folded in order: the same bits for every vector width, batch and thread.

#include <algorithm>
#include <cmath>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kLanes = 16;

struct Dot {
  const float *a, *b;
  int64_t count;
  double* result;
};
REID_BODY dot_body(const Dot& d) {
  double lanes[kLanes] = {};
  const int64_t whole = d.count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += double{d.a[i + j]} * double{d.b[i + j]};
  }
  for (int64_t i = whole; i < d.count; ++i) lanes[i - whole] += double{d.a[i]} * double{d.b[i]};
  double sum = 0;
  for (int64_t j = 0; j < kLanes; ++j) sum += lanes[j];
  *d.result = sum;
}
REID_MULTIVERSION(dot, Dot)

// out = (a - factor * b) / divisor; b null: a / divisor
struct Row {
  const float *a, *b;
  float* out;
  int64_t count;
  double factor, divisor;
};
REID_BODY divide_row_body(const Row& r) {
  if (r.b) {
    REID_INDEPENDENT
    for (int64_t i = 0; i < r.count; ++i) r.out[i] = static_cast<float>((double{r.a[i]} - r.factor * double{r.b[i]}) / r.divisor);
  } else {
    REID_INDEPENDENT
    for (int64_t i = 0; i < r.count; ++i) r.out[i] = static_cast<float>(double{r.a[i]} / r.divisor);
  }
}
REID_MULTIVERSION(divide_row, Row)

int64_t rows_of_task(int64_t columns) { return std::max<int64_t>(1, (int64_t{1} << 14) / std::max<int64_t>(columns, 1)); }

void l2_normalize(const L2NormalizeArgs& a, Stream&) {
  parallel_for(a.rows, rows_of_task(a.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b) {
      const float* x = static_cast<const float*>(a.x) + b * a.columns;
      double squares = 0;
      dot({.a = x, .b = x, .count = a.columns, .result = &squares});
      const double norm = std::sqrt(squares);
      divide_row({.a = x,
                  .b = nullptr,
                  .out = static_cast<float*>(a.y) + b * a.columns,
                  .count = a.columns,
                  .factor = 0,
                  .divisor = std::max(norm, a.eps)});
      static_cast<float*>(a.norm)[b] = static_cast<float>(norm);
    }
  });
}

// Below eps the divisor is a constant and the projection falls away.
void l2_normalize_backward(const L2NormalizeBackwardArgs& a, Stream&) {
  parallel_for(a.rows, rows_of_task(a.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b) {
      const float* dy = static_cast<const float*>(a.dy) + b * a.columns;
      const float* y = static_cast<const float*>(a.y) + b * a.columns;
      const double norm = double{static_cast<const float*>(a.norm)[b]};
      double along = 0;
      dot({.a = dy, .b = y, .count = a.columns, .result = &along});
      divide_row({.a = dy,
                  .b = y,
                  .out = static_cast<float*>(a.dx) + b * a.columns,
                  .count = a.columns,
                  .factor = norm < a.eps ? 0 : along,
                  .divisor = std::max(norm, a.eps)});
    }
  });
}

template <class Args>
const char* refuses(const Args& args) {
  return args.dtype == DType::f32 ? nullptr : "f32 only";
}

}  // namespace

void register_rows() {
  Registry::add<L2Normalize>(DeviceType::cpu, {"vectorized", refuses<L2NormalizeArgs>, l2_normalize});
  Registry::add<L2NormalizeBackward>(DeviceType::cpu, {"vectorized", refuses<L2NormalizeBackwardArgs>, l2_normalize_backward});
}

}  // namespace reid::cpu
