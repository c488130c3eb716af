// describe() of the operations of k-reciprocal encodings.

#include "reid/engine/op_args_jaccard.h"

namespace reid {

void ReciprocalMembersArgs::describe(Visitor& v) const {
  v.input("index", index, {rows, width}, DType::i32);
  v.attribute("half", static_cast<double>(half));
  v.output("member", member, {rows, full}, DType::u8);
  v.output("joins", joins, {rows, full}, DType::u8);
}
void ReciprocalRowsArgs::describe(Visitor& v) const {
  v.input("x", x, {rows, depth}, dtype);
  v.input("scale", scale, {rows}, DType::f64);
  v.input("largest", largest, {rows}, DType::f64);
  v.input("index", index, {rows, width}, DType::i32);
  v.input("distance", distance, {rows, width}, DType::f64);
  v.input("member", member, {rows, full}, DType::u8);
  v.input("joins", joins, {rows, full}, DType::u8);
  v.input("offset", offset, {rows + 1}, DType::i64);
  v.attribute("half", static_cast<double>(half));
  v.attribute("power", power);
  v.output("made", made, {rows + 1}, DType::i64);
  v.output("column", column, {entries}, DType::i32);
  v.output("value", value, {entries}, DType::f64);
}
void MeanRowsArgs::describe(Visitor& v) const {
  v.input("index", index, {rows, width}, DType::i32);
  v.input("in_offset", in_offset, {rows + 1}, DType::i64);
  v.input("in_column", in_column, {in_entries}, DType::i32);
  v.input("in_value", in_value, {in_entries}, DType::f64);
  v.input("offset", offset, {rows + 1}, DType::i64);
  v.attribute("terms", static_cast<double>(terms));
  v.output("made", made, {rows + 1}, DType::i64);
  v.output("column", column, {entries}, DType::i32);
  v.output("value", value, {entries}, DType::f64);
}
void TransposeRowsArgs::describe(Visitor& v) const {
  v.input("in_offset", in_offset, {rows + 1}, DType::i64);
  v.input("in_column", in_column, {entries}, DType::i32);
  v.input("in_value", in_value, {entries}, DType::f64);
  v.output("offset", offset, {rows + 1}, DType::i64);
  v.output("column", column, {entries}, DType::i32);
  v.output("value", value, {entries}, DType::f64);
}
void JaccardWithinArgs::describe(Visitor& v) const {
  v.input("offset", offset, {total + 1}, DType::i64);
  v.input("column", column, {entries}, DType::i32);
  v.input("value", value, {entries}, DType::f64);
  v.input("inverse_offset", inverse_offset, {total + 1}, DType::i64);
  v.input("inverse_column", inverse_column, {entries}, DType::i32);
  v.input("inverse_value", inverse_value, {entries}, DType::f64);
  v.attribute("first", static_cast<double>(first));
  v.attribute("first_column", static_cast<double>(first_column));
  v.attribute("radius", radius);
  v.output("count", count, {rows}, DType::i32);
  v.output("found", found, {rows, capacity}, DType::i32);
  v.output("distance", distance, {rows, capacity}, DType::f64);
}

}  // namespace reid
