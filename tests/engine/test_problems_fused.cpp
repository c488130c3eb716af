// Problem families of the operations that pass over a matrix without holding it, with their error bounds in units of u = 2^-24.

#include <limits>

#include "problems.h"
#include "reid/engine/op_args_fused.h"

namespace reid::test {
namespace {

// Labels run through `labels` values; a row's last label belongs to no column, so that it has no positive. With ranges=1 rows are over all
// columns, the first third, the others, the last three, and none in turn. With numbered=1 columns have no labels but their numbers.
void centroid_rows(const ProblemLine& line, Sweep& sweep) {
  using A = CentroidRowsArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns"), depth = line.at("depth"), labels = line.at("labels");
  const bool ranges = line.get("ranges", 0) != 0, numbered = line.get("numbered", 0) != 0;
  Problem<CentroidRows> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns, p.args.depth = depth, p.args.smoothing = line.real("smoothing", 0);
  p.fields = {{"x", Field<A>::input, &A::x, {rows, depth}},
              {"c", Field<A>::input, &A::c, {columns, depth}},
              {"row_label", Field<A>::input, &A::row_label, {rows}, Content::any, DType::i32},
              {"first_column", Field<A>::input, &A::first_column, {rows}, Content::any, DType::i32},
              {"end_column", Field<A>::input, &A::end_column, {rows}, Content::any, DType::i32},
              {"tau", Field<A>::wide_input, &A::tau, {rows}, Content::positive},
              {"weight", Field<A>::wide_input, &A::weight, {rows}, Content::positive},
              {"loss", Field<A>::wide_output, &A::loss, {rows}},
              {"dx", Field<A>::wide_output, &A::dx, {rows, depth}}};
  if (!numbered) p.fields.push_back({"column_label", Field<A>::input, &A::column_label, {columns}, Content::any, DType::i32});
  bool narrow = false;
  p.adjust = [&](Run& run, DType dtype) {
    narrow = dtype == DType::bf16;
    const auto of = [&](const char* name) { return static_cast<int32_t*>(run.memory.at(name).data()); };
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t third = (columns + 2) / 3, last = std::max<int64_t>(columns - 3, 0), kind = ranges ? i % 5 : 0;
      of("row_label")[i] = static_cast<int32_t>((i * 1639 + 2) % (labels + 1));
      of("first_column")[i] = static_cast<int32_t>(kind < 2 ? 0 : kind == 2 ? third : last);
      of("end_column")[i] = static_cast<int32_t>(kind == 1 ? third : kind == 4 ? last : columns);
    }
    for (int64_t j = 0; !numbered && j < columns; ++j) of("column_label")[j] = static_cast<int32_t>(j * 5 % labels);
  };
  // z = s / tau is off by `off`; so is the logarithm of the sum of exponentials, and sums of z by the spread of M terms of the largest z.
  // A softmax is off by twice that, relative to itself, a target by a few roundings. With bf16 a gradient of s may be held in two parts,
  // which lack 2^-16 of it, or 256 u.
  p.bound = [&](const Values& in, const Values& oracle) {
    Values b = oracle;
    const double over_d = 4 * std::sqrt(static_cast<double>(depth)) + 4, over_m = 4 * std::sqrt(static_cast<double>(columns)) + 16;
    const size_t d_end = static_cast<size_t>(depth);
    std::vector<double> z(static_cast<size_t>(columns));
    for (size_t i = 0; i < static_cast<size_t>(rows); ++i) {
      const double tau = in.at("tau")[i], weight = in.at("weight")[i], own = in.at("row_label")[i];
      const auto first = static_cast<size_t>(in.at("first_column")[i]), end = static_cast<size_t>(in.at("end_column")[i]);
      const auto positive = [&](size_t j) { return (numbered ? static_cast<double>(j) : in.at("column_label")[j]) == own; };
      double top = 0, sum = 0, positives = 0, highest = -std::numeric_limits<double>::infinity();
      for (size_t j = first; j < end; ++j) {
        double s = 0, size = 0;
        for (size_t d = 0; d < d_end; ++d) {
          const double term = in.at("x")[i * d_end + d] * in.at("c")[j * d_end + d];
          s += term, size += std::abs(term);
        }
        z[j] = s / tau;
        top = std::max(top, size / tau), highest = std::max(highest, z[j]), positives += positive(j);
      }
      for (size_t j = first; j < end; ++j) sum += std::exp(z[j] - highest);
      const double off = (over_d + 8) * top + over_m;
      b["loss"][i] = positives > 0 ? weight * (2 * off + over_m * top) : 0;
      std::fill_n(b["dx"].begin() + static_cast<std::ptrdiff_t>(i * d_end), d_end, 0.0);
      for (size_t j = first; positives > 0 && j < end; ++j) {
        const double floor = p.args.smoothing / static_cast<double>(end - first), p_j = std::exp(z[j] - highest) / sum;
        const double target = floor + (positive(j) ? (1 - p.args.smoothing) / positives : 0);
        const double share = p_j * (2 * off + 8) + target * 8 + std::abs(p_j - target) * (over_m + (narrow ? 256 : 0));
        for (size_t d = 0; d < d_end; ++d) b["dx"][i * d_end + d] += weight / tau * share * std::abs(in.at("c")[j * d_end + d]);
      }
    }
    return b;
  };
  check_problem(p, line, sweep);
}

}  // namespace

Families fused_families() { return {{"centroid_rows", centroid_rows}}; }

}  // namespace reid::test
