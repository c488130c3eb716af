// What the arguments of a search among rows of features are called, and their shapes.

#include "reid/engine/registry.h"

#include "reid/engine/op_args_pairs.h"

namespace reid {

namespace {

void describe_rows(Visitor& v, const RowSets& r) {
  v.input("x", r.x, {r.m, r.columns}, r.dtype);
  v.input("y", r.y, {r.n, r.columns}, r.dtype);
  v.input("scale_x", r.scale_x, {r.m}, DType::f64);
  v.input("scale_y", r.scale_y, {r.n}, DType::f64);
  v.attribute("form", static_cast<double>(r.form));
}

void describe_found(Visitor& v, const FoundPairs& f) {
  v.attribute("first_row", static_cast<double>(f.first_row));
  v.attribute("first_column", static_cast<double>(f.first_column));
  v.output("pairs", f.pairs, {f.capacity, 2}, DType::i32);
  v.output("found", f.found, {1}, DType::i32);
}

void describe_tile(Visitor& v, const RankedTile& t) {
  v.input("products", t.products, {t.m, t.n}, DType::f32);
  v.input("sure_edge", t.sure_edge, {t.n}, DType::f32);
  v.input("maybe_edge", t.maybe_edge, {t.n}, DType::f32);
  v.input("places", t.places, {t.m + 1}, DType::i32);
  v.input("sure_bar", t.sure_bar, {t.place_count}, DType::f32);
  v.input("maybe_bar", t.maybe_bar, {t.place_count}, DType::f32);
}

}  // namespace

void CenterRowsArgs::describe(Visitor& v) const {
  v.input("x", x, {rows, columns}, dtype);
  v.input("scale", scale, {rows}, DType::f64);
  v.input("center", center, {columns}, DType::f64);
  v.output("high", high, {rows, columns}, DType::bf16);
  v.output("low", low, {rows, columns}, DType::bf16);
  v.output("half", half, {rows}, DType::f64);
}
void PairDistancesArgs::describe(Visitor& v) const {
  describe_rows(v, *this);
  v.input("pairs", pairs, {count, 2}, DType::i32);
  v.output("d", d, {count}, DType::f64);
}
void MergeNearestArgs::describe(Visitor& v) const {
  v.input("products", products, {m, n}, DType::f32);
  v.input("edge", edge, {n}, DType::f32);
  v.input("before", before, {m, count}, DType::i64);
  v.attribute("first_column", static_cast<double>(first_column));
  v.attribute("own_column", static_cast<double>(own_column));
  v.attribute("farthest", farthest);
  v.output("after", after, {m, count}, DType::i64);
}
void RankNearestArgs::describe(Visitor& v) const {
  describe_rows(v, *this);
  v.input("lists", lists, {m, count}, DType::i64);
  v.attribute("slack", slack);
  v.attribute("farthest", farthest);
  v.output("index", index, {m, wanted}, DType::i32);
  v.output("d", d, {m, wanted}, DType::f64);
  v.output("open", open, {m}, DType::u8);
}
void SelectPairsArgs::describe(Visitor& v) const {
  v.input("products", products, {m, n}, DType::f32);
  v.input("edge", edge, {n}, DType::f32);
  v.input("bar", bar, {m}, DType::f32);
  v.attribute("above", above);
  v.attribute("below", below);
  describe_found(v, *this);
}
void CountBeforeArgs::describe(Visitor& v) const {
  describe_tile(v, *this);
  v.output("before", before, {place_count}, DType::i32);
}
void SelectUndecidedArgs::describe(Visitor& v) const {
  describe_tile(v, *this);
  describe_found(v, *this);
}

}  // namespace reid
