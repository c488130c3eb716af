// The catalog: products, convolutions, pointwise ops.

#include "program/op.h"

namespace reid::program {
namespace {

std::vector<OpAttribute> geometry(std::vector<OpAttribute> more = {}) {
  std::vector<OpAttribute> all = {{"stride", OpAttribute::integer, "1", "step between windows, rows and columns alike"},
                                  {"pad", OpAttribute::integer, "0", "zeros on each side"},
                                  {"dilation", OpAttribute::integer, "1", "step inside a window"},
                                  {"groups", OpAttribute::integer, "1", "blocks of channels that do not see each other"},
                                  {"other_sums", OpAttribute::flag, "false", "allow minimal filtering, and floats in parts of bf16"}};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

ops::ConvGeometry geometry_of(const OpCall& call) {
  return {.stride = call.integer("stride"),
          .pad = call.integer("pad"),
          .dilation = call.integer("dilation"),
          .groups = call.integer("groups"),
          .other_sums = call.flag("other_sums")};
}

OpEntry code_products_entry() {
  return {.name = "code_products",
          .summary = "scalar products of rows of 16-bit codes with a scale each; blocks of 64 codes exactly, their sums in f32",
          .inputs = {constant("a", "[M, K]", "codes", "i64"), constant("b", "[N, K]", "codes", "i64"),
                     constant("scale_a", "[M]", "of the rows of a"), constant("scale_b", "[N]", "of the rows of b")},
          .attributes = {},
          .results = {{"y", "[M, N]", "f32"}},
          .kernels = {"code_products"},
          .run = [](OpCall& c) {
            const auto codes = [&](const char* name) { return c.tensor(name).to(DType::i16); };
            const auto scales = [&](const char* name) { return c.tensor(name).to(DType::f32); };
            c.result("y", ops::code_products(codes("a"), codes("b"), scales("scale_a"), scales("scale_b")));
          }};
}

std::vector<OpEntry> products() {
  return {
      {.name = "matmul",
       .summary = "matrix product op(a) op(b)",
       .inputs = {differentiable("a", "[., .]", "[M, K], or [K, M] with transpose_a"),
                  differentiable("b", "[., .]", "[K, N], or [N, K] with transpose_b")},
       .attributes = {{"transpose_a", OpAttribute::flag, "false", "a is stored transposed"},
                      {"transpose_b", OpAttribute::flag, "false", "b is stored transposed"},
                      {"other_sums", OpAttribute::flag, "false", "allow floats in parts of bf16"}},
       .results = {{"y", "[M, N]", "the product"}},
       .kernels = {"matmul"},
       .run =
           [](OpCall& c) {
             c.result("y", matmul(c.var("a"), c.var("b"), c.flag("transpose_a"), c.flag("transpose_b"), c.flag("other_sums")));
           }},
      {.name = "linear",
       .summary = "x w^T + bias",
       .inputs = {differentiable("x", "[B, D]", "rows"), differentiable("w", "[K, D]", "weights"),
                  optional(differentiable("bias", "[K]", "added to each row"))},
       .attributes = {},
       .results = {{"y", "[B, K]", ""}},
       .kernels = {"matmul", "bias_add", "column_sum"},
       .run = [](OpCall& c) { c.result("y", linear(c.var("x"), c.var("w"), c.var("bias"))); }},
      {.name = "conv_forward",
       .summary = "two-dimensional convolution, NHWC",
       .inputs = {differentiable("x", "[N, H, W, C]", "images or maps"), differentiable("w", "[K, R, S, C/groups]", "filters")},
       .attributes = geometry(),
       .results = {{"y", "[N, P, Q, K]", "P = (H + 2 pad - dilation (R - 1) - 1) / stride + 1"}},
       .kernels = {"conv_forward", "conv_backward_data", "conv_backward_weight"},
       .run = [](OpCall& c) { c.result("y", conv(c.var("x"), c.var("w"), geometry_of(c))); }},
      {.name = "conv_backward_data",
       .summary = "the gradient of a convolution with respect to its input",
       .inputs = {constant("dy", "[N, P, Q, K]", "gradient of the output"), constant("w", "[K, R, S, C/groups]", "filters")},
       .attributes = geometry({{"height", OpAttribute::integer, "0", "rows of x"}, {"width", OpAttribute::integer, "0", "columns of x"}}),
       .results = {{"dx", "[N, height, width, C]", ""}},
       .kernels = {"conv_backward_data"},
       .run =
           [](OpCall& c) {
             const Tensor &dy = c.tensor("dy"), &w = c.tensor("w");
             const ops::ConvGeometry g = geometry_of(c);
             c.result("dx", ops::conv_backward_data(dy, w, {dy.dim(0), c.integer("height"), c.integer("width"), w.dim(3) * g.groups}, g));
           }},
      {.name = "conv_backward_weight",
       .summary = "the gradient of a convolution with respect to its filters",
       .inputs = {constant("x", "[N, H, W, C]", "input"), constant("dy", "[N, P, Q, K]", "gradient of the output")},
       .attributes = geometry(
           {{"rows", OpAttribute::integer, "1", "rows of a filter, R"}, {"columns", OpAttribute::integer, "1", "columns of a filter, S"}}),
       .results = {{"dw", "[K, R, S, C/groups]", ""}},
       .kernels = {"conv_backward_weight"},
       .run =
           [](OpCall& c) {
             const Tensor &x = c.tensor("x"), &dy = c.tensor("dy");
             const ops::ConvGeometry g = geometry_of(c);
             REID_CHECK(g.groups >= 1, "[conv_backward_weight] groups = ", g.groups, " must be at least 1");
             c.result("dw", ops::conv_backward_weight(x, dy, {dy.dim(3), c.integer("rows"), c.integer("columns"), x.dim(3) / g.groups}, g));
           }},
  };
}

std::vector<OpEntry> pointwise() {
  return {
      {.name = "relu",
       .summary = "max(x, 0)",
       .inputs = {differentiable("x", "[...]", "")},
       .attributes = {},
       .results = {{"y", "like x", ""}},
       .kernels = {"relu", "relu_backward"},
       .run = [](OpCall& c) { c.result("y", relu(c.var("x"))); }},
      {.name = "relu_backward",
       .summary = "dy where y > 0, else 0",
       .inputs = {constant("dy", "[...]", "gradient of the output"), constant("y", "[...]", "the output")},
       .attributes = {},
       .results = {{"dx", "like y", ""}},
       .kernels = {"relu_backward"},
       .run = [](OpCall& c) { c.result("dx", ops::relu_backward(c.tensor("dy"), c.tensor("y"))); }},
      {.name = "add",
       .summary = "a + scale b",
       .inputs = {differentiable("a", "[...]", ""), differentiable("b", "[...]", "shaped like a")},
       .attributes = {{"scale", OpAttribute::number, "1", "factor of b"}},
       .results = {{"y", "like a", ""}},
       .kernels = {"add_scaled"},
       .run = [](OpCall& c) { c.result("y", add(c.var("a"), c.var("b"), c.number("scale"))); }},
      {.name = "scale",
       .summary = "factor x",
       .inputs = {differentiable("x", "[...]", "")},
       .attributes = {{"factor", OpAttribute::number, "1", ""}},
       .results = {{"y", "like x", ""}},
       .kernels = {"add_scaled"},
       .run = [](OpCall& c) { c.result("y", scale(c.var("x"), c.number("factor"))); }},
      {.name = "multiply",
       .summary = "a b, element by element",
       .inputs = {constant("a", "[...]", ""), constant("b", "[...]", "shaped like a")},
       .attributes = {},
       .results = {{"y", "like a", ""}},
       .kernels = {"multiply"},
       .run = [](OpCall& c) { c.result("y", ops::multiply(c.tensor("a"), c.tensor("b"))); }},
      {.name = "cast",
       .summary = "rounds to bf16, to nearest, ties to even",
       .inputs = {constant("x", "[...]", "")},
       .attributes = {},
       .results = {{"y", "like x", "in bf16"}},
       .kernels = {"cast"},
       .run = [](OpCall& c) { c.result("y", ops::cast(c.tensor("x"), DType::bf16)); }},
  };
}

std::vector<OpEntry> columns() {
  return {
      {.name = "bias_add",
       .summary = "adds a vector to each row",
       .inputs = {constant("x", "[B, D]", "rows"), constant("bias", "[D]", "")},
       .attributes = {},
       .results = {{"y", "[B, D]", ""}},
       .kernels = {"bias_add"},
       .run = [](OpCall& c) { c.result("y", ops::bias_add(c.tensor("x"), c.tensor("bias"))); }},
      {.name = "column_sum",
       .summary = "the sum of the rows",
       .inputs = {constant("x", "[B, D]", "rows")},
       .attributes = {},
       .results = {{"y", "[D]", ""}},
       .kernels = {"column_sum"},
       .run = [](OpCall& c) { c.result("y", ops::column_sum(c.tensor("x"))); }},
      {.name = "sum",
       .summary = "the sum of all elements",
       .inputs = {differentiable("x", "[...]", "")},
       .attributes = {},
       .results = {{"y", "[]", ""}},
       .kernels = {"column_sum"},
       .run = [](OpCall& c) { c.result("y", sum(c.var("x"))); }},
  };
}

}  // namespace

std::vector<OpEntry> dense_ops() {
  std::vector<OpEntry> all = products();
  all.push_back(code_products_entry());
  for (OpEntry& entry : pointwise()) all.push_back(std::move(entry));
  for (OpEntry& entry : columns()) all.push_back(std::move(entry));
  return all;
}

}  // namespace reid::program
