// Problem families of metric learning, with their error bounds in units of u = 2^-24.

#include <algorithm>

#include "problems.h"

namespace reid::test {
namespace {

double spread_of(int64_t terms) { return 4 * std::sqrt(static_cast<double>(terms)) + 8; }

void multiply(const ProblemLine& line, Sweep& sweep) {
  using A = MultiplyArgs;
  Problem<Multiply> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.count = line.at("count");
  p.fields = {{"a", Field<A>::input, &A::a, {p.args.count}},
              {"b", Field<A>::input, &A::b, {p.args.count}},
              {"y", Field<A>::output, &A::y, {p.args.count}}};
  p.in_place = {{"y", "a"}, {"y", "b"}};
  p.bound = [](const Values&, const Values& oracle) {
    Values b = oracle;
    for (double& v : b["y"]) v = std::abs(v);
    return b;
  };
  check_problem(p, line, sweep);
}

void row_distances(const ProblemLine& line, Sweep& sweep) {
  const int64_t m = line.at("m"), n = line.at("n"), k = line.at("k");
  const double floor = line.real("floor", 1e-12);
  {
    using A = RowDistancesArgs;
    Problem<RowDistances> p{.args = {}, .fields = {}, .bound = {}};
    p.args.m = m, p.args.n = n, p.args.k = k, p.args.floor = floor;
    p.fields = {{"x", Field<A>::input, &A::x, {m, k}}, {"y", Field<A>::input, &A::y, {n, k}}, {"d", Field<A>::output, &A::d, {m, n}}};
    p.bound = [k](const Values&, const Values& oracle) {
      Values b = oracle;
      for (double& v : b["d"]) v *= spread_of(k);
      return b;
    };
    check_problem(p, line, sweep);
  }
  using A = RowDistancesBackwardArgs;
  Problem<RowDistancesBackward> p{.args = {}, .fields = {}, .bound = {}};
  p.args.m = m, p.args.n = n, p.args.k = k, p.args.floor = floor;
  p.fields = {{"dd", Field<A>::input, &A::dd, {m, n}},  {"x", Field<A>::input, &A::x, {m, k}},
              {"y", Field<A>::input, &A::y, {n, k}},    {"d", Field<A>::input, &A::d, {m, n}, Content::positive},
              {"dx", Field<A>::output, &A::dx, {m, k}}, {"dy", Field<A>::output, &A::dy, {n, k}}};
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (auto& [name, values] : b) std::fill(values.begin(), values.end(), 0.0);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const size_t at = static_cast<size_t>(i * n + j);
        for (int64_t c = 0; c < k; ++c) {
          const size_t x = static_cast<size_t>(i * k + c), y = static_cast<size_t>(j * k + c);
          const double term = std::abs(in.at("dd")[at]) / in.at("d")[at] * std::abs(in.at("x")[x] - in.at("y")[y]);
          b["dx"][x] += spread_of(n) * term;
          b["dy"][y] += spread_of(m) * term;
        }
      }
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void triplet_rows(const ProblemLine& line, Sweep& sweep) {
  using A = TripletRowsArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  Problem<TripletRows> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns;
  p.args.margin = line.real("margin", 0), p.args.weighted = line.get("weighted", 0) != 0;
  p.fields = {{"d", Field<A>::input, &A::d, {rows, columns}, Content::positive},
              {"mask", Field<A>::input, &A::mask, {rows, columns}, Content::any, DType::u8},
              {"weight", Field<A>::input, &A::weight, {rows}, Content::positive},
              {"loss", Field<A>::output, &A::loss, {rows}},
              {"dd", Field<A>::output, &A::dd, {rows, columns}}};
  p.bound = [rows, columns](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (int64_t r = 0; r < rows; ++r) {
      double top = 0;
      for (int64_t c = 0; c < columns; ++c) top = std::max(top, in.at("d")[static_cast<size_t>(r * columns + c)]);
      // Exponents carry an error of their own size, and the weights one of a sum of exponentials.
      const double error = in.at("weight")[static_cast<size_t>(r)] * (spread_of(columns) + 8 * top) * (1 + 2 * top);
      b["loss"][static_cast<size_t>(r)] = error;
      for (int64_t c = 0; c < columns; ++c) b["dd"][static_cast<size_t>(r * columns + c)] = error;
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void circle_logits(const ProblemLine& line, Sweep& sweep) {
  using A = CircleLogitsArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  const double scale = line.real("scale", 64), margin = line.real("margin", 0.35);
  Problem<CircleLogits> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns, p.args.scale = scale, p.args.margin = margin;
  p.fields = {{"s", Field<A>::input, &A::s, {rows, columns}},
              {"label", Field<A>::input, &A::label, {rows}, Content::any, DType::i32},
              {"y", Field<A>::output, &A::y, {rows, columns}},
              {"slope", Field<A>::output, &A::slope, {rows, columns}}};
  p.adjust = [rows, columns](Run& run, DType) {
    auto* label = static_cast<int32_t*>(run.memory.at("label").data());
    for (int64_t r = 0; r < rows; ++r) label[r] = static_cast<int32_t>((3 * r + 1) % columns);
  };
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (size_t i = 0; i < b["y"].size(); ++i) {
      const double reach = 1 + margin + std::abs(in.at("s")[i]);
      b["slope"][i] = 4 * scale * reach;
      b["y"][i] = 12 * scale * reach * reach;
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void softmax(const ProblemLine& line, Sweep& sweep) {
  using A = SoftmaxArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  Problem<Softmax> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns;
  p.fields = {{"s", Field<A>::input, &A::s, {rows, columns}}, {"q", Field<A>::output, &A::q, {rows, columns}}};
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (int64_t r = 0; r < rows; ++r) {
      const auto row = in.at("s").begin() + r * columns;
      const auto [least, most] = std::minmax_element(row, row + columns);
      const double cost = spread_of(columns) + 4 * (*most - *least);  // an exponent carries an error of its own size
      for (int64_t c = r * columns; c < (r + 1) * columns; ++c) b["q"][static_cast<size_t>(c)] *= cost;
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void soft_target_rows(const ProblemLine& line, Sweep& sweep) {
  using A = SoftTargetRowsArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  Problem<SoftTargetRows> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns;
  p.fields = {{"s", Field<A>::input, &A::s, {rows, columns}},
              {"target", Field<A>::input, &A::target, {rows, columns}, Content::positive},
              {"weight", Field<A>::input, &A::weight, {rows}, Content::positive},
              {"loss", Field<A>::output, &A::loss, {rows}},
              {"ds", Field<A>::output, &A::ds, {rows, columns}}};
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (int64_t r = 0; r < rows; ++r) {
      double mass = 0, top = 0;
      for (int64_t c = 0; c < columns; ++c) {
        const size_t at = static_cast<size_t>(r * columns + c);
        mass += in.at("target")[at];
        top = std::max(top, std::abs(in.at("s")[at]));
      }
      // Logits of size `top` are subtracted from their log-sum, log(columns) larger.
      const double reach = 2 * top + std::log(static_cast<double>(columns));
      const double error = in.at("weight")[static_cast<size_t>(r)] * mass * (spread_of(columns) + 4) * (1 + reach);
      b["loss"][static_cast<size_t>(r)] = error;
      for (int64_t c = 0; c < columns; ++c) b["ds"][static_cast<size_t>(r * columns + c)] = error;
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void mixed_targets(const ProblemLine& line, Sweep& sweep) {
  using A = MixedTargetsArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns"), number = line.at("number");
  Problem<MixedTargets> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.rows = rows, p.args.columns = columns, p.args.number = static_cast<int>(number);
  std::vector<std::string> names;
  for (int64_t n = 0; n < number; ++n) names.push_back(str("q ", n));
  for (size_t n = 0; n < names.size(); ++n)
    p.fields.push_back({names[n].c_str(), Field<A>::input, [n](A& a, void* data) { a.q[n] = data; }, {rows, columns}, Content::positive});
  p.fields.push_back({"share", Field<A>::input, &A::share, {2 + number, rows}, Content::positive, DType::f64});
  p.fields.push_back({"label", Field<A>::input, &A::label, {rows}, Content::any, DType::i32});
  p.fields.push_back({"target", Field<A>::output, &A::target, {rows, columns}});
  p.adjust = [&](Run& run, DType) {
    auto* label = static_cast<int32_t*>(run.memory.at("label").data());
    for (int64_t r = 0; r < rows; ++r) label[r] = static_cast<int32_t>((columns - 1) * (r % 3) / 2);  // the first, one amid, the last
  };
  p.bound = [](const Values&, const Values& oracle) { return oracle; };  // one rounding of a positive sum
  check_problem(p, line, sweep);
}

}  // namespace

Families metric_families() {
  return {{"softmax", softmax},
          {"soft_target_rows", soft_target_rows},
          {"multiply", multiply},
          {"row_distances", row_distances},
          {"triplet_rows", triplet_rows},
          {"circle_logits", circle_logits},
          {"mixed_targets", mixed_targets}};
}

}  // namespace reid::test
