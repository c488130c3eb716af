// Pointwise ops (f32, bf16): bound by memory, one read of each operand and one write. Bytes an element in f32: relu 8, relu_backward 12,
// add_scaled 12.
// Every loop is compiled for the vectors of the machine (REID_MULTIVERSION); tasks own disjoint ranges.

#include <algorithm>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements a task: some 10 us, far above the cost of handing out a task

template <class F>
void for_each_range(int64_t count, F&& f) {
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end, int) { f(begin, end - begin); });
}

// The ranges of one kernel call. `out` may be one of the inputs.
template <class T>
struct Range {
  const T *a, *b;
  T* out;
  int64_t count;
  float scale = 0;
};

template <class T>
REID_BODY relu_range_body(const Range<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    const float x = r.a[i];
    r.out[i] = static_cast<T>(x < 0.0f ? 0.0f : x);
  }
}
REID_MULTIVERSION(relu_range, Range<float>)
REID_MULTIVERSION(relu_range, Range<bf16>)

template <class T>
REID_BODY relu_backward_range_body(const Range<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) {
    const float dy = r.a[i];  // loaded before the choice: a load in one branch keeps the loop from becoming vector code
    r.out[i] = static_cast<T>(r.b[i] > 0.0f ? dy : 0.0f);
  }
}
REID_MULTIVERSION(relu_backward_range, Range<float>)
REID_MULTIVERSION(relu_backward_range, Range<bf16>)

template <class T>
REID_BODY add_scaled_range_body(const Range<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) r.out[i] = static_cast<T>(r.a[i] + r.scale * r.b[i]);
}
REID_MULTIVERSION(add_scaled_range, Range<float>)
REID_MULTIVERSION(add_scaled_range, Range<bf16>)

template <class T>
void relu(const ReluArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    relu_range(Range<T>{.a = static_cast<const T*>(a.x) + at, .b = nullptr, .out = static_cast<T*>(a.y) + at, .count = count});
  });
}

template <class T>
void relu_backward(const ReluBackwardArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    relu_backward_range(Range<T>{
        .a = static_cast<const T*>(a.dy) + at, .b = static_cast<const T*>(a.y) + at, .out = static_cast<T*>(a.dx) + at, .count = count});
  });
}

template <class T>
void add_scaled(const AddScaledArgs& a, Stream&) {
  for_each_range(a.count, [&](int64_t at, int64_t count) {
    add_scaled_range(Range<T>{.a = static_cast<const T*>(a.a) + at,
                              .b = static_cast<const T*>(a.b) + at,
                              .out = static_cast<T*>(a.y) + at,
                              .count = count,
                              .scale = static_cast<float>(a.scale)});
  });
}

template <class T>
struct BiasRow {
  const T* x;
  const float* bias;
  T* y;
  int64_t count;
};
template <class T>
REID_BODY bias_row_body(const BiasRow<T>& r) {
  REID_INDEPENDENT
  for (int64_t i = 0; i < r.count; ++i) r.y[i] = static_cast<T>(r.x[i] + r.bias[i]);
}
REID_MULTIVERSION(bias_row, BiasRow<float>)
REID_MULTIVERSION(bias_row, BiasRow<bf16>)

template <class T>
void bias_add(const BiasAddArgs& a, Stream&) {
  const int64_t rows = std::max<int64_t>(1, kGrain / std::max<int64_t>(a.columns, 1));
  parallel_for(a.rows, rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      bias_row(BiasRow<T>{.x = static_cast<const T*>(a.x) + i * a.columns,
                          .bias = static_cast<const float*>(a.bias),
                          .y = static_cast<T*>(a.y) + i * a.columns,
                          .count = a.columns});
    }
  });
}

// Columns are lanes, each summed over the rows in order, in double.
template <class T>
struct ColumnBlock {
  const T* x;
  float* y;
  int64_t rows, stride, count;
};
constexpr int64_t kColumnBlock = 32;

template <class T>
REID_BODY column_block_body(const ColumnBlock<T>& a) {
  double sum[kColumnBlock] = {};
  if (a.count == kColumnBlock) {
    for (int64_t b = 0; b < a.rows; ++b) {
      for (int64_t j = 0; j < kColumnBlock; ++j) sum[j] += double{a.x[b * a.stride + j]};
    }
  } else {
    for (int64_t b = 0; b < a.rows; ++b) {
      for (int64_t j = 0; j < a.count; ++j) sum[j] += double{a.x[b * a.stride + j]};
    }
  }
  for (int64_t j = 0; j < a.count; ++j) a.y[j] = static_cast<float>(sum[j]);
}
REID_MULTIVERSION(column_block, ColumnBlock<float>)
REID_MULTIVERSION(column_block, ColumnBlock<bf16>)

template <class T>
void column_sum(const ColumnSumArgs& a, Stream&) {
  parallel_for(a.columns, kColumnBlock, [&](int64_t begin, int64_t end, int) {
    column_block(ColumnBlock<T>{.x = static_cast<const T*>(a.x) + begin,
                                .y = static_cast<float*>(a.y) + begin,
                                .rows = a.rows,
                                .stride = a.columns,
                                .count = end - begin});
  });
}

}  // namespace

void register_pointwise() {
  add_both<Relu, relu<float>, relu<bf16>>("vectorized");
  add_both<ReluBackward, relu_backward<float>, relu_backward<bf16>>("vectorized");
  add_both<AddScaled, add_scaled<float>, add_scaled<bf16>>("vectorized");
  add_both<BiasAdd, bias_add<float>, bias_add<bf16>>("vectorized");
  add_both<ColumnSum, column_sum<float>, column_sum<bf16>>("vectorized");
}

}  // namespace reid::cpu
