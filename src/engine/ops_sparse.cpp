// Ops of k-reciprocal encodings: sparse matrices of which nobody knows the size before.

#include <utility>

#include "op_checks.h"
#include "reid/engine/op_args_jaccard.h"
#include "reid/engine/ops.h"

namespace reid::ops {

namespace {

void require(const char* op, const char* name, const Tensor& t, const Shape& shape, DType dtype) {
  require_shape(op, name, t, shape);
  REID_CHECK(t.dtype() == dtype, "[", op, "] ", name, " is ", t.dtype(), ", expected ", dtype);
}
void require_rows(const char* op, const SparseRows& rows) {
  REID_CHECK(rows.offset.defined() && rows.offset.shape().rank() == 1 && rows.offset.dim(0) >= 1, "[", op, "] offset must be [N + 1]");
  require(op, "offset", rows.offset, rows.offset.shape(), DType::i64);
  REID_CHECK(rows.column.defined() && rows.column.shape().rank() == 1, "[", op, "] column must be [entries]");
  require(op, "column", rows.column, rows.column.shape(), DType::i32);
  require(op, "value", rows.value, rows.column.shape(), DType::f64);
}
void require_lists(const char* op, const Tensor& index) {
  REID_CHECK(index.defined() && index.shape().rank() == 2 && index.dtype() == DType::i32, "[", op, "] index must be [N, width] i32");
  REID_CHECK(index.dim(1) >= 1 && index.dim(1) <= index.dim(0), "[", op, "] lists of ", index.dim(1), " among ", index.dim(0), " rows");
}

// Dispatches Op twice: for the places of entries, then for the entries themselves.
template <class Op>
SparseRows counted(Device device, typename Op::Args args) {
  SparseRows result{Tensor::empty({args.rows + 1}, DType::i64, device), {}, {}};
  args.made = result.offset.template address<int64_t>();
  dispatch<Op>(device, args);
  args.entries = static_cast<int64_t>(result.offset.rows(args.rows, args.rows + 1).item());
  result.column = Tensor::empty({args.entries}, DType::i32, device);
  result.value = Tensor::empty({args.entries}, DType::f64, device);
  args.offset = std::exchange(args.made, nullptr);
  args.column = result.column.template address<int32_t>();
  args.value = result.value.template address<double>();
  dispatch<Op>(device, args);
  return result;
}

}  // namespace

ReciprocalSets reciprocal_members(const Tensor& index, int64_t full, int64_t half) {
  constexpr const char* op = "reciprocal_members";
  require_lists(op, index);
  REID_CHECK(half >= 1 && half <= full && full <= index.dim(1), "[", op, "] list lengths ", full, " and ", half, " of lists of ",
             index.dim(1));
  const Shape shape{index.dim(0), full};
  ReciprocalSets sets{Tensor::empty(shape, DType::u8, index.device()), Tensor::empty(shape, DType::u8, index.device()), half};
  dispatch<ReciprocalMembers>(index.device(), {.index = index.address<int32_t>(),
                                               .member = sets.member.address<uint8_t>(),
                                               .joins = sets.joins.address<uint8_t>(),
                                               .rows = index.dim(0),
                                               .width = index.dim(1),
                                               .full = full,
                                               .half = half});
  return sets;
}

SparseRows reciprocal_rows(const Tensor& x, const Tensor& scale, const Tensor& index, const Tensor& distance, const ReciprocalSets& sets,
                           const Tensor& largest, int power) {
  constexpr const char* op = "reciprocal_rows";
  require_lists(op, index);
  REID_CHECK(x.defined() && x.shape().rank() == 2 && x.dim(0) == index.dim(0), "[", op, "] x must be [", index.dim(0), ", D]");
  require(op, "scale", scale, {x.dim(0)}, DType::f64);
  require(op, "distance", distance, index.shape(), DType::f64);
  REID_CHECK(sets.member.defined() && sets.member.shape().rank() == 2 && sets.member.dim(1) <= index.dim(1), "[", op,
             "] sets are not those of the lists");
  if (largest.defined()) require(op, "largest", largest, {x.dim(0)}, DType::f64);
  REID_CHECK(power == 2 || power == 4, "[", op, "] power is ", power, ", expected 2 or 4");
  const int64_t full = sets.member.dim(1);
  require(op, "member", sets.member, {x.dim(0), full}, DType::u8);
  require(op, "joins", sets.joins, {x.dim(0), full}, DType::u8);
  return counted<ReciprocalRows>(x.device(), {.x = x.raw(),
                                              .scale = scale.address<double>(),
                                              .largest = largest.defined() ? largest.address<double>() : nullptr,
                                              .index = index.address<int32_t>(),
                                              .distance = distance.address<double>(),
                                              .member = sets.member.address<uint8_t>(),
                                              .joins = sets.joins.address<uint8_t>(),
                                              .offset = nullptr,
                                              .made = nullptr,
                                              .column = nullptr,
                                              .value = nullptr,
                                              .rows = x.dim(0),
                                              .width = index.dim(1),
                                              .full = full,
                                              .half = sets.half,
                                              .depth = x.dim(1),
                                              .entries = 0,
                                              .power = power,
                                              .dtype = x.dtype()});
}

SparseRows mean_rows(const SparseRows& rows, const Tensor& index, int64_t terms) {
  constexpr const char* op = "mean_rows";
  require_rows(op, rows);
  require_lists(op, index);
  REID_CHECK(terms >= 1 && terms <= index.dim(1) && rows.offset.dim(0) == index.dim(0) + 1, "[", op, "] means of ", terms, " of ",
             rows.offset.dim(0) - 1, " rows by lists ", index.shape());
  return counted<MeanRows>(index.device(), {.index = index.address<int32_t>(),
                                            .in_offset = rows.offset.address<int64_t>(),
                                            .in_column = rows.column.address<int32_t>(),
                                            .in_value = rows.value.address<double>(),
                                            .offset = nullptr,
                                            .made = nullptr,
                                            .column = nullptr,
                                            .value = nullptr,
                                            .rows = index.dim(0),
                                            .width = index.dim(1),
                                            .terms = terms,
                                            .in_entries = rows.column.dim(0),
                                            .entries = 0});
}

SparseRows transpose_rows(const SparseRows& rows) {
  require_rows("transpose_rows", rows);
  const Device device = rows.offset.device();
  SparseRows result{Tensor::empty(rows.offset.shape(), DType::i64, device), Tensor::empty(rows.column.shape(), DType::i32, device),
                    Tensor::empty(rows.value.shape(), DType::f64, device)};
  dispatch<TransposeRows>(device, {.in_offset = rows.offset.address<int64_t>(),
                                   .in_column = rows.column.address<int32_t>(),
                                   .in_value = rows.value.address<double>(),
                                   .offset = result.offset.address<int64_t>(),
                                   .column = result.column.address<int32_t>(),
                                   .value = result.value.address<double>(),
                                   .rows = rows.offset.dim(0) - 1,
                                   .entries = rows.column.dim(0)});
  return result;
}

RowsWithin jaccard_within(const SparseRows& v, const SparseRows& inverse, int64_t first, int64_t end, double radius, int64_t capacity,
                          int64_t first_column, bool distances) {
  constexpr const char* op = "jaccard_within";
  require_rows(op, v);
  require_rows(op, inverse);
  const int64_t total = v.offset.dim(0) - 1;
  REID_CHECK(inverse.offset.shape() == v.offset.shape() && inverse.column.shape() == v.column.shape(), "[", op,
             "] v and inverse differ in size");
  REID_CHECK(first >= 0 && first <= end && end <= total && capacity >= 1, "[", op, "] rows ", first, "..", end, " of ", total,
             ", capacity ", capacity);
  REID_CHECK(radius < 1, "[", op, "] all pairs lie within ", radius);
  REID_CHECK(first_column >= 0 && first_column <= total, "[", op, "] columns from ", first_column, " on of ", total);
  const Device device = v.offset.device();
  const Shape shape{end - first, capacity};
  RowsWithin r{Tensor::empty({end - first}, DType::i32, device), Tensor::empty(shape, DType::i32, device), {}};
  if (distances) r.distance = Tensor::empty(shape, DType::f64, device);
  dispatch<JaccardWithin>(device, {.offset = v.offset.address<int64_t>(),
                                   .column = v.column.address<int32_t>(),
                                   .value = v.value.address<double>(),
                                   .inverse_offset = inverse.offset.address<int64_t>(),
                                   .inverse_column = inverse.column.address<int32_t>(),
                                   .inverse_value = inverse.value.address<double>(),
                                   .count = r.count.address<int32_t>(),
                                   .found = r.found.address<int32_t>(),
                                   .distance = distances ? r.distance.address<double>() : nullptr,
                                   .total = total,
                                   .first = first,
                                   .rows = end - first,
                                   .capacity = capacity,
                                   .entries = v.column.dim(0),
                                   .first_column = first_column,
                                   .radius = radius});
  return r;
}

}  // namespace reid::ops
