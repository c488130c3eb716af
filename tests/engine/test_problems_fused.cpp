// Problem families of the operations that pass over a matrix without holding it, with their error bounds in units of u = 2^-24.

#include "problems.h"
#include "reid/engine/op_args_fused.h"

namespace reid::test {
namespace {

// Labels run through `labels` values; a row's last label belongs to no column, so that it has no positive.
void centroid_rows(const ProblemLine& line, Sweep& sweep) {
  using A = CentroidRowsArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns"), depth = line.at("depth"), labels = line.at("labels");
  Problem<CentroidRows> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns, p.args.depth = depth, p.args.smoothing = line.real("smoothing", 0);
  p.fields = {{"x", Field<A>::input, &A::x, {rows, depth}},
              {"c", Field<A>::input, &A::c, {columns, depth}},
              {"row_label", Field<A>::input, &A::row_label, {rows}, Content::any, DType::i32},
              {"column_label", Field<A>::input, &A::column_label, {columns}, Content::any, DType::i32},
              {"tau", Field<A>::input, &A::tau, {rows}, Content::positive},
              {"weight", Field<A>::input, &A::weight, {rows}, Content::positive},
              {"loss", Field<A>::output, &A::loss, {rows}},
              {"dx", Field<A>::output, &A::dx, {rows, depth}}};
  p.adjust = [=](Run& run, DType) {
    auto* row = static_cast<int32_t*>(run.memory.at("row_label").data());
    auto* column = static_cast<int32_t*>(run.memory.at("column_label").data());
    for (int64_t i = 0; i < rows; ++i) row[i] = static_cast<int32_t>((i * 7 + 3) % (labels + 1));
    for (int64_t j = 0; j < columns; ++j) column[j] = static_cast<int32_t>(j * 5 % labels);
  };
  // z = s / tau is off by `off`; so is the logarithm of the sum of exponentials, and sums of z by the spread of M terms of the largest z.
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    const double over_d = 4 * std::sqrt(static_cast<double>(depth)) + 4, over_m = 4 * std::sqrt(static_cast<double>(columns)) + 16;
    for (size_t i = 0; i < static_cast<size_t>(rows); ++i) {
      const double tau = in.at("tau")[i], weight = in.at("weight")[i];
      double top = 0;
      std::vector<double> mass(static_cast<size_t>(depth));
      for (size_t j = 0; j < static_cast<size_t>(columns); ++j) {
        double s = 0;
        for (size_t d = 0; d < mass.size(); ++d) {
          const double c = std::abs(in.at("c")[j * mass.size() + d]);
          s += std::abs(in.at("x")[i * mass.size() + d]) * c;
          mass[d] += c;
        }
        top = std::max(top, s / tau);
      }
      const double off = (over_d + 8) * top + over_m;
      b["loss"][i] = weight * (2 * off + over_m * top);
      // A share of the softmax and its target are at most one each, and each off by less than `off` of itself.
      for (size_t d = 0; d < mass.size(); ++d) b["dx"][i * mass.size() + d] = weight / tau * (4 * off + 2 * over_m) * mass[d];
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void nearest_rows(const ProblemLine& line, Sweep& sweep) {
  using A = NearestRowsArgs;
  const int64_t m = line.at("m"), n = line.at("n"), k = line.at("k"), count = line.at("count");
  Problem<NearestRows> p{.args = {}, .fields = {}, .bound = {}};
  p.args.m = m, p.args.n = n, p.args.k = k, p.args.count = count;
  p.fields = {{"x", Field<A>::input, &A::x, {m, k}},
              {"y", Field<A>::input, &A::y, {n, k}},
              {"d", Field<A>::output, &A::d, {m, count}},
              {"index", Field<A>::output, &A::index, {m, count}, Content::any, DType::i32}};
  p.bound = [k](const Values&, const Values& oracle) {
    Values b = oracle;
    for (double& v : b["d"]) v *= 4 * std::sqrt(static_cast<double>(k)) + 8;
    return b;
  };
  check_problem(p, line, sweep);
}

}  // namespace

Families fused_families() { return {{"centroid_rows", centroid_rows}, {"nearest_rows", nearest_rows}}; }

}  // namespace reid::test
