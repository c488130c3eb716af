// The same of what pools maps or relates their pixels: see describe.cpp.

#include "reid/engine/op_args_vision.h"

namespace reid {

namespace {

void describe_pool(Visitor& v, const PoolShape& s) {
  v.attribute("kernel", static_cast<double>(s.kernel));
  v.attribute("stride", static_cast<double>(s.stride));
  v.attribute("pad", static_cast<double>(s.pad));
  v.attribute("ceil", s.ceil);
}
Shape x_shape(const PoolShape& s) { return {s.n, s.h, s.w, s.c}; }
Shape y_shape(const PoolShape& s) { return {s.n, s.out(s.h), s.out(s.w), s.c}; }

}  // namespace

int64_t PoolShape::out(int64_t extent) const {
  const int64_t span = extent + 2 * pad - kernel;
  int64_t outputs = (ceil ? span + stride - 1 : span) / stride + 1;
  if (ceil && (outputs - 1) * stride >= extent + pad) --outputs;  // the last window must start inside the image or its near padding
  return outputs;
}
void MaxPoolArgs::describe(Visitor& v) const {
  v.input("x", x, x_shape(shape), dtype);
  describe_pool(v, shape);
  v.output("y", y, y_shape(shape), dtype);
  v.output("index", index, y_shape(shape), DType::i32);
}
void MaxPoolBackwardArgs::describe(Visitor& v) const {
  v.input("dy", dy, y_shape(shape), dtype);
  v.input("index", index, y_shape(shape), DType::i32);
  describe_pool(v, shape);
  v.output("dx", dx, x_shape(shape), dtype);
}
void GlobalPoolArgs::describe(Visitor& v) const {
  v.input("x", x, {n, length, c}, dtype);
  v.input("p", p, {1}, wide(dtype));
  v.attribute("eps", eps);
  v.output("y", y, {n, c}, dtype);
}
void GlobalPoolBackwardArgs::describe(Visitor& v) const {
  v.input("dy", dy, {n, c}, dtype);
  v.input("x", x, {n, length, c}, dtype);
  v.input("p", p, {1}, wide(dtype));
  v.input("y", y, {n, c}, dtype);
  v.attribute("eps", eps);
  v.output("dx", dx, {n, length, c}, dtype);
  v.output("dp", dp, {1}, wide(dtype));
}

void StripePoolArgs::describe(Visitor& v) const {
  v.input("x", x, {n, height, width, c}, dtype);
  v.attribute("stripes", static_cast<double>(stripes));
  v.output("y", y, {stripes * n, c}, dtype);
}
void StripePoolBackwardArgs::describe(Visitor& v) const {
  v.input("dy", dy, {stripes * n, c}, dtype);
  v.attribute("stripes", static_cast<double>(stripes));
  v.output("dx", dx, {n, height, width, c}, dtype);
}
void NonLocalArgs::describe(Visitor& v) const {
  for (const auto& [name, pointer] : {std::pair{"theta", theta}, {"phi", phi}, {"g", g}}) v.input(name, pointer, {n, length, d}, dtype);
  v.output("y", y, {n, length, d}, dtype);
}
void NonLocalBackwardArgs::describe(Visitor& v) const {
  for (const auto& [name, pointer] : {std::pair{"dy", dy}, {"theta", theta}, {"phi", phi}, {"g", g}})
    v.input(name, pointer, {n, length, d}, dtype);
  for (const auto& [name, pointer] : {std::pair{"dtheta", dtheta}, {"dphi", dphi}, {"dg", dg}})
    v.output(name, pointer, {n, length, d}, dtype);
}

}  // namespace reid
