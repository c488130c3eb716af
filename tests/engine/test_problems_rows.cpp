// Problem families of embedding rows and of the optimizers, with their error bounds in units of u = 2^-24.

#include "problems.h"

namespace reid::test {
namespace {

void l2_normalize(const ProblemLine& line, Sweep& sweep) {
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  const double eps = line.real("eps", 1e-12), spread = 4 * std::sqrt(static_cast<double>(columns)) + 8;
  {
    using A = L2NormalizeArgs;
    Problem<L2Normalize> p{.args = {}, .fields = {}, .bound = {}};
    p.args.rows = rows, p.args.columns = columns, p.args.eps = eps;
    p.fields = {{"x", Field<A>::input, &A::x, {rows, columns}},
                {"y", Field<A>::output, &A::y, {rows, columns}},
                {"norm", Field<A>::output, &A::norm, {rows}}};
    p.bound = [spread](const Values&, const Values& oracle) {
      Values b = oracle;
      for (double& v : b["y"]) v = spread * std::abs(v);
      for (double& v : b["norm"]) v *= spread;
      return b;
    };
    check_problem(p, line, sweep);
  }
  using A = L2NormalizeBackwardArgs;
  Problem<L2NormalizeBackward> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns, p.args.eps = eps;
  p.fields = {{"dy", Field<A>::input, &A::dy, {rows, columns}},
              {"y", Field<A>::input, &A::y, {rows, columns}},
              {"norm", Field<A>::input, &A::norm, {rows}, Content::positive},
              {"dx", Field<A>::output, &A::dx, {rows, columns}}};
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b{{"dx", oracle.at("dx")}};
    const size_t d = static_cast<size_t>(columns);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      double dot = 0;
      for (size_t i = r * d; i < (r + 1) * d; ++i) dot += std::abs(in.at("dy")[i] * in.at("y")[i]);
      const double length = std::max(in.at("norm")[r], eps);
      for (size_t i = r * d; i < (r + 1) * d; ++i)
        b["dx"][i] = (8 * std::abs(in.at("dy")[i]) + (spread + 4) * std::abs(in.at("y")[i]) * dot) / length;
    }
    return b;
  };
  check_problem(p, line, sweep);
}

// Logits s / tau carry an error of their own size times u, sums of exponentials sqrt(M) more; shares are at most one.
template <class Op>
void row_loss(const ProblemLine& line, Sweep& sweep, bool labels = false) {
  using A = typename Op::Args;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  Problem<Op> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = rows, p.args.columns = columns;
  if constexpr (std::is_same_v<Op, SoftmaxRows>) p.args.smoothing = line.real("smoothing", 0);
  p.fields = {{"s", Field<A>::input, &A::s, {rows, columns}},
              {"mask", Field<A>::input, &A::mask, {rows, columns}, Content::any, DType::u8},
              {"tau", Field<A>::input, &A::tau, {rows}, Content::positive},
              {"weight", Field<A>::input, &A::weight, {rows}, Content::positive},
              {"loss", Field<A>::output, &A::loss, {rows}},
              {"ds", Field<A>::output, &A::ds, {rows, columns}}};
  if constexpr (std::is_same_v<Op, SoftmaxRows>) {
    if (labels) p.fields[1] = {"label", Field<A>::input, &A::label, {rows}, Content::any, DType::i32};
    if (labels)
      p.adjust = [rows, columns](Run& run, DType) {
        auto* label = static_cast<int32_t*>(run.memory.at("label").data());
        for (int64_t i = 0; i < rows; ++i) label[i] = static_cast<int32_t>(i * 5 % (columns + 1));  // `columns`: a row without a positive
      };
  }
  p.bound = [rows, columns](const Values& in, const Values& oracle) {
    Values b = oracle;
    const size_t m = static_cast<size_t>(columns);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      double top = 0;
      for (size_t i = r * m; i < (r + 1) * m; ++i) top = std::max(top, std::abs(in.at("s")[i]) / in.at("tau")[r]);
      const double weight = in.at("weight")[r], spread = 4 * std::sqrt(static_cast<double>(m)) + 16;
      b["loss"][r] = weight * (spread + 8 * top) + spread * std::abs(oracle.at("loss")[r]);
      for (size_t i = r * m; i < (r + 1) * m; ++i) b["ds"][i] = weight / in.at("tau")[r] * (spread + 8 * top);
    }
    return b;
  };
  check_problem(p, line, sweep);
}

// Similarities that are often equal, zeros of both signs among them.
void hardest_negatives(const ProblemLine& line, Sweep& sweep) {
  using A = HardestNegativesArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  Problem<HardestNegatives> p{.args = {}, .fields = {}, .bound = [](const Values&, const Values& oracle) { return oracle; }};
  p.args.rows = rows, p.args.columns = columns, p.args.count = line.at("count");
  p.fields = {{"s", Field<A>::input, &A::s, {rows, columns}},
              {"mask", Field<A>::input, &A::mask, {rows, columns}, Content::any, DType::u8},
              {"kept", Field<A>::output, &A::kept, {rows, columns}, Content::any, DType::u8}};
  p.adjust = [&](Run& run, DType) {
    auto* s = static_cast<float*>(run.memory.at("s").data());
    for (int64_t i = 0; i < rows * columns; ++i) s[i] = i % 7 == 0 ? -0.0f : i % 5 == 0 ? 0.0f : std::round(2 * s[i]);
  };
  check_problem(p, line, sweep);
}

// Logits that are often equal, every other label right, the others before or behind it.
void top_share(const ProblemLine& line, Sweep& sweep) {
  using A = TopShareArgs;
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  Problem<TopShare> p{.args = {}, .fields = {}, .bound = [](const Values&, const Values& oracle) { return oracle; }};
  p.args.rows = rows, p.args.columns = columns;
  p.fields = {{"s", Field<A>::input, &A::s, {rows, columns}},
              {"label", Field<A>::input, &A::label, {rows}, Content::any, DType::i32},
              {"share", Field<A>::output, &A::share, {1}, Content::any, DType::f64}};
  p.adjust = [&](Run& run, DType) {
    auto* s = static_cast<float*>(run.memory.at("s").data());
    for (int64_t i = 0; i < rows * columns; ++i) s[i] = std::round(s[i]);
    for (int64_t i = 0; i < rows; ++i) {
      const auto top = static_cast<int32_t>(std::max_element(s + i * columns, s + (i + 1) * columns) - (s + i * columns));
      static_cast<int32_t*>(run.memory.at("label").data())[i] =
          i % 2 == 0 ? top : static_cast<int32_t>((top + (i % 4 == 1 ? 1 : columns - 1)) % columns);
    }
  };
  check_problem(p, line, sweep);
}

// Unit vectors without a negative entry: what moves is at least sqrt(0.2^2 + 0.8^2) long (momentum 0.2), so that the error of a vector,
// whose rounding is at most 1 in length, shrinks to a fourth of it before the next row's rounding joins it: 1 / (1 - 0.243) < 1.34.
void memory_update(const ProblemLine& line, Sweep& sweep) {
  using A = MemoryUpdateArgs;
  const int64_t rows = line.at("rows"), clusters = line.at("clusters"), columns = line.at("columns");
  for (const MemoryRule rule : {MemoryRule::all, MemoryRule::hard, MemoryRule::mean}) {
    Problem<MemoryUpdate> p{.args = {}, .fields = {}, .bound = {}};
    p.args.rows = rows, p.args.clusters = clusters, p.args.columns = columns, p.args.momentum = 0.2, p.args.rule = rule;
    p.fields = {{"f", Field<A>::input, &A::f, {rows, columns}, Content::positive},
                {"label", Field<A>::input, &A::label, {rows}, Content::any, DType::i32},
                {"c", Field<A>::both, &A::c, {clusters, columns}, Content::positive}};
    p.adjust = [&](Run& run, DType) {
      for (const auto& [name, count] : {std::pair{"f", rows}, {"c", clusters}}) {
        auto* x = static_cast<float*>(run.memory.at(name).data());
        for (int64_t i = 0; i < count; ++i, x += columns) {
          double squares = 0;
          for (int64_t d = 0; d < columns; ++d) squares += double{x[d]} * double{x[d]};
          for (int64_t d = 0; d < columns; ++d) x[d] = static_cast<float>(double{x[d]} / std::sqrt(squares));
        }
      }
      auto* label = static_cast<int32_t*>(run.memory.at("label").data());
      for (int64_t i = 0; i < rows; ++i) label[i] = static_cast<int32_t>(i * 3 % std::max<int64_t>(1, clusters - 1));  // the last has none
    };
    p.bound = [rule](const Values&, const Values& oracle) {
      Values b = oracle;
      for (double& v : b["c"]) v = rule == MemoryRule::all ? 1.34 : 1.01 * v;
      return b;
    };
    check_problem(p, line, sweep);
  }
}

void row_losses(const ProblemLine& line, Sweep& sweep) {
  row_loss<OnePositiveRows>(line, sweep);
  row_loss<SoftmaxRows>(line, sweep);
  row_loss<SoftmaxRows>(line, sweep, true);
}

// Three segments: plain, frozen, and one with factors of its own.
std::vector<Segment> segments_of(int64_t count) {
  const int64_t a = count / 3, b = count / 2;
  return {{.offset = 0, .count = a},
          {.offset = a, .count = b - a, .trainable = false},
          {.offset = b, .count = count - b, .lr_factor = 0.5, .decay_factor = 2}};
}

// Calls f(index, lr, decay) for the elements that move.
template <class F>
void moving(const std::vector<Segment>& segments, double lr, double decay, F&& f) {
  for (const Segment& s : segments) {
    if (!s.trainable) continue;
    for (int64_t i = s.offset; i < s.offset + s.count; ++i) f(static_cast<size_t>(i), lr * s.lr_factor, decay * s.decay_factor);
  }
}

Values zeros_like(const Values& oracle) {
  Values b;
  for (const auto& [name, values] : oracle) b[name] = std::vector<double>(values.size());
  return b;
}

void sgd(const ProblemLine& line, Sweep& sweep) {
  using A = SgdArgs;
  const int64_t count = line.at("count");
  const std::vector<Segment> segments = segments_of(count);
  Problem<SgdStep> p{.args = {}, .fields = {}, .bound = {}};
  p.args.segments = segments.data(), p.args.segment_count = 3;
  p.args.lr = 0.1, p.args.decay = 0.01, p.args.momentum = line.real("momentum", 0.9), p.args.nesterov = line.get("nesterov", 0) != 0;
  p.fields = {{"w", Field<A>::both, &A::w, {count}}, {"g", Field<A>::input, &A::g, {count}}, {"v", Field<A>::both, &A::v, {count}}};
  p.bound = [segments, momentum = p.args.momentum](const Values& in, const Values& oracle) {
    Values b = zeros_like(oracle);
    moving(segments, 0.1, 0.01, [&](size_t i, double lr, double decay) {
      const double w = std::abs(in.at("w")[i]), g = std::abs(in.at("g")[i]) + decay * w, v = momentum * std::abs(in.at("v")[i]) + g;
      b["v"][i] = 8 * v;
      b["w"][i] = 4 * w + 12 * lr * (g + (1 + momentum) * v);
    });
    return b;
  };
  check_problem(p, line, sweep);
}

void adam(const ProblemLine& line, Sweep& sweep) {
  using A = AdamArgs;
  const int64_t count = line.at("count"), step = line.get("step", 1);
  std::vector<Segment> segments = segments_of(count);
  for (Segment& segment : segments) segment.step = step;
  Problem<AdamStep> p{.args = {}, .fields = {}, .bound = {}};
  p.args.segments = segments.data(), p.args.segment_count = 3, p.args.decoupled = line.get("decoupled", 0) != 0;
  p.args.lr = 0.1, p.args.decay = 0.01, p.args.beta1 = 0.9, p.args.beta2 = 0.999, p.args.eps = 1e-8;
  p.fields = {{"w", Field<A>::both, &A::w, {count}},
              {"g", Field<A>::input, &A::g, {count}},
              {"m", Field<A>::both, &A::m, {count}},
              {"v", Field<A>::both, &A::v, {count}, Content::positive}};
  p.bound = [segments, step, decoupled = p.args.decoupled](const Values& in, const Values& oracle) {
    Values b = zeros_like(oracle);
    const double c1 = 1 - std::pow(0.9, static_cast<double>(step)), c2 = std::sqrt(1 - std::pow(0.999, static_cast<double>(step)));
    moving(segments, 0.1, 0.01, [&](size_t i, double lr, double decay) {
      const double w = std::abs(in.at("w")[i]), g = std::abs(in.at("g")[i]) + (decoupled ? 0 : decay * w);
      const double m = 0.9 * std::abs(in.at("m")[i]) + 0.1 * g, v = 0.999 * in.at("v")[i] + 0.001 * g * g;
      b["m"][i] = 8 * m;
      b["v"][i] = 8 * v;
      // The step is m over sqrt(v); v's own error enters by half its size relative to v.
      const double root = std::sqrt(oracle.at("v")[i]), relative = 32 + 8 * v / oracle.at("v")[i];
      b["w"][i] = 8 * w + relative * lr / c1 * m / (root / c2 + 1e-8);
    });
    return b;
  };
  check_problem(p, line, sweep);
}

void ema(const ProblemLine& line, Sweep& sweep) {
  using A = EmaArgs;
  Problem<EmaUpdate> p{.args = {}, .fields = {}, .bound = {}};
  p.args.count = line.at("count"), p.args.momentum = line.real("momentum", 0.999);
  p.fields = {{"average", Field<A>::both, &A::average, {p.args.count}}, {"w", Field<A>::input, &A::w, {p.args.count}}};
  p.bound = [momentum = p.args.momentum](const Values& in, const Values& oracle) {
    Values b = zeros_like(oracle);
    // 1 - momentum may itself be rounded: one u of w.
    for (size_t i = 0; i < b["average"].size(); ++i)
      b["average"][i] = 4 * (momentum * std::abs(in.at("average")[i]) + (1 - momentum) * std::abs(in.at("w")[i])) + std::abs(in.at("w")[i]);
    return b;
  };
  check_problem(p, line, sweep);
}

// Arrays of 1 x, 2 x, ... `count` elements.
void add_pairs(const ProblemLine& line, Sweep& sweep) {
  using A = AddPairsArgs;
  Problem<AddPairs> p{.args = {}, .fields = {}, .bound = {}};
  p.args.number = static_cast<int>(line.at("pairs"));
  std::vector<std::string> names;
  for (int i = 0; i < p.args.number; ++i) {
    for (const char* name : {"to ", "from "}) names.push_back(name + std::to_string(i));
  }
  for (int i = 0; i < p.args.number; ++i) {
    const int64_t count = line.at("count") * i;  // none, first
    p.args.pairs[i].count = count;
    p.fields.push_back(
        {names[static_cast<size_t>(2 * i)].c_str(), Field<A>::both, [i](A& a, void* data) { a.pairs[i].to = data; }, {count}});
    p.fields.push_back(
        {names[static_cast<size_t>(2 * i + 1)].c_str(), Field<A>::input, [i](A& a, void* data) { a.pairs[i].from = data; }, {count}});
  }
  p.bound = [](const Values&, const Values& oracle) {
    Values b = oracle;
    for (auto& [name, values] : b) {
      for (double& v : values) v = std::abs(v);
    }
    return b;
  };
  check_problem(p, line, sweep);
}

}  // namespace

Families rows_families() {
  return {{"l2_normalize", l2_normalize},
          {"row_losses", row_losses},
          {"hardest_negatives", hardest_negatives},
          {"top_share", top_share},
          {"memory_update", memory_update},
          {"sgd", sgd},
          {"adam", adam},
          {"ema", ema},
          {"add_pairs", add_pairs}};
}

}  // namespace reid::test
