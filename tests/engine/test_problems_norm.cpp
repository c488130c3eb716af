// Problem family of normalization, with its error bounds in units of u = 2^-24.

#include "problems.h"
#include "reid/engine/op_args_rows.h"

namespace reid::test {
namespace {

// Per group and channel of a window: what the bounds are made of.
struct Norm {
  NormWindow w;
  int64_t before = 0;  // channels of the other norm of the same problem: this is the second
  double length() const { return static_cast<double>(w.length); }
  double spread() const { return 4 * std::sqrt(length()) + 4; }  // of a sum over a group, see sum_bound
  size_t x(int64_t g, int64_t l, int64_t c) const { return static_cast<size_t>((g * w.length + l) * w.channels + w.first + c); }
  size_t s(int64_t g, int64_t c) const { return static_cast<size_t>(g * w.count + c); }
  size_t parameter(int64_t c) const { return static_cast<size_t>(before + c); }
  const char* mean() const { return before ? "second mean" : "mean"; }
  const char* variance() const { return before ? "second variance" : "variance"; }
  const char* gamma() const { return before ? "second gamma" : "gamma"; }
  const char* beta() const { return before ? "second beta" : "beta"; }
  template <class F>
  void each(F&& f) const {
    for (int64_t g = 0; g < w.groups; ++g)
      for (int64_t c = 0; c < w.count; ++c) f(g, c);
  }
};

Norm norm_of(const ProblemLine& line) {
  const int64_t channels = line.at("channels"), first = line.get("first", 0);
  return {{.groups = line.at("groups"),
           .length = line.at("length"),
           .channels = channels,
           .first = first,
           .count = line.get("count", channels - first)}};
}

// With second_groups another norm of the channels behind, over the same rows.
std::vector<Norm> norms_of(const ProblemLine& line) {
  const Norm one = norm_of(line);
  const int64_t groups = line.get("second_groups", 0), first = one.w.first + one.w.count;
  if (groups == 0) return {one};
  const NormWindow second{.groups = groups,
                          .length = one.w.groups * one.w.length / groups,
                          .channels = one.w.channels,
                          .first = first,
                          .count = line.get("second_count", one.w.channels - first)};
  return {one, {second, one.w.count}};
}
bool whole(const std::vector<Norm>& norms) {
  int64_t covered = 0;
  for (const Norm& n : norms) covered += n.w.count;
  return covered == norms[0].w.channels;
}

void statistics(const ProblemLine& line, Sweep& sweep) {
  using A = NormStatisticsArgs;
  const Norm n = norm_of(line);
  const NormWindow& w = n.w;
  Problem<NormStatistics> p{.args = {}, .fields = {}, .bound = {}};
  p.args.window = w;
  p.fields = {{"x", Field<A>::input, &A::x, {w.groups, w.length, w.channels}},
              {"mean", Field<A>::wide_output, &A::mean, {w.groups, w.count}},
              {"variance", Field<A>::wide_output, &A::variance, {w.groups, w.count}}};
  p.bound = [n](const Values& in, const Values& oracle) {
    Values b = oracle;
    n.each([&](int64_t g, int64_t c) {
      double magnitude = 0;
      for (int64_t l = 0; l < n.w.length; ++l) magnitude += std::abs(in.at("x")[n.x(g, l, c)]) / n.length();
      b["mean"][n.s(g, c)] = n.spread() * magnitude;
      // Sums of squares about a mean that is off by d are too large by d^2.
      const double d = n.spread() * magnitude * 0x1p-24;
      b["variance"][n.s(g, c)] = (n.spread() + 8) * oracle.at("variance")[n.s(g, c)] + d * d * 0x1p24;
    });
    return b;
  };
  check_problem(p, line, sweep);
}

// Channels outside of the windows belong to another norm and must stay as they are.
template <class Args>
FieldMemory::Kind window_output(const std::vector<Norm>& norms) {
  return whole(norms) ? Field<Args>::output : Field<Args>::both;
}

// The windows in args.slices, and the fields that they point to.
template <class Args>
void add_slices(const std::vector<Norm>& norms, bool with_beta, Args& args, std::vector<Field<Args>>& fields) {
  using F = Field<Args>;
  for (size_t i = 0; i < norms.size(); ++i) {
    const Norm& n = norms[i];
    const Shape s{n.w.groups, n.w.count}, parameters{n.w.count};
    args.slices[i].window = n.w;
    fields.push_back({n.mean(), F::wide_input, [i](Args& a, void* data) { a.slices[i].mean = data; }, s});
    fields.push_back({n.variance(), F::wide_input, [i](Args& a, void* data) { a.slices[i].variance = data; }, s, Content::positive});
    fields.push_back({n.gamma(), F::wide_input, [i](Args& a, void* data) { a.slices[i].gamma = data; }, parameters});
    if (with_beta) fields.push_back({n.beta(), F::wide_input, [i](Args& a, void* data) { a.slices[i].beta = data; }, parameters});
  }
}

void apply(const ProblemLine& line, Sweep& sweep) {
  using A = NormApplyArgs;
  const std::vector<Norm> norms = norms_of(line);
  const Shape x{norms[0].w.groups, norms[0].w.length, norms[0].w.channels};
  Problem<NormApply> p{.args = {}, .fields = {}, .bound = {}};
  p.args.eps = 1e-5, p.args.relu = line.get("relu", 0) != 0;
  const bool residual = line.get("residual", 0) != 0;
  p.fields = {{"x", Field<A>::input, &A::x, x}, {"y", window_output<A>(norms), &A::y, x}};
  add_slices(norms, true, p.args, p.fields);
  if (residual) p.fields.push_back({"residual", Field<A>::input, &A::residual, x});
  if (whole(norms)) p.in_place = {{"y", "x"}};
  p.bound = [norms, residual](const Values& in, const Values& oracle) {
    Values b{{"y", std::vector<double>(oracle.at("y").size())}};
    for (const Norm& n : norms) {
      n.each([&](int64_t g, int64_t c) {
        const auto channel = static_cast<size_t>(c);
        const double scale = std::abs(in.at(n.gamma())[channel]) / std::sqrt(in.at(n.variance())[n.s(g, c)] + 1e-5);
        for (int64_t l = 0; l < n.w.length; ++l) {
          const size_t i = n.x(g, l, c);
          const double r = residual ? std::abs(in.at("residual")[i]) : 0;
          b["y"][i] =
              8 * ((std::abs(in.at("x")[i]) + std::abs(in.at(n.mean())[n.s(g, c)])) * scale + std::abs(in.at(n.beta())[channel]) + r);
        }
      });
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void add_backward_bound(const Norm& n, bool relu, bool constant, const Values& in, Values& b) {
  const double terms = 4 * std::sqrt(n.length() * static_cast<double>(n.w.groups)) + 12;
  n.each([&](int64_t g, int64_t c) {
    const double rstd = 1 / std::sqrt(in.at(n.variance())[n.s(g, c)] + 1e-5);
    const double scale = std::abs(in.at(n.gamma())[static_cast<size_t>(c)]) * rstd;
    const auto passed = [&](size_t i) { return relu && !(in.at("y")[i] > 0) ? 0 : std::abs(in.at("dy")[i]); };
    const auto reach = [&](size_t i) { return (std::abs(in.at("x")[i]) + std::abs(in.at(n.mean())[n.s(g, c)])) * rstd; };
    double sum = 0, product = 0;
    for (int64_t l = 0; l < n.w.length; ++l) {
      const size_t i = n.x(g, l, c);
      sum += passed(i);
      product += passed(i) * reach(i);
    }
    b["dbeta"][n.parameter(c)] += terms * sum;
    b["dgamma"][n.parameter(c)] += terms * product;
    for (int64_t l = 0; l < n.w.length; ++l) {
      const size_t i = n.x(g, l, c);
      const double through = constant ? 0 : (n.spread() + 4) * sum / n.length() + (n.spread() + 16) * reach(i) * product / n.length();
      b["dx"][i] = scale * (8 * passed(i) + through);
    }
  });
}

// y as relu of what norm_apply makes of x alone, in the windows' channels.
void set_output(const std::vector<Norm>& norms, Run& run, DType dtype) {
  const auto values = [&](const char* name, int64_t count, DType type) { return detail::read(run.memory.at(name).data(), count, type); };
  const int64_t elements = norms[0].w.groups * norms[0].w.length * norms[0].w.channels;
  const std::vector<double> x = values("x", elements, dtype);
  Tensor y = Tensor::zeros({elements}, DType::f64);
  for (const Norm& n : norms) {
    const int64_t columns = n.w.groups * n.w.count;
    const std::vector<double> mean = values(n.mean(), columns, wide(dtype)), variance = values(n.variance(), columns, wide(dtype)),
                              gamma = values(n.gamma(), n.w.count, wide(dtype)), beta = values(n.beta(), n.w.count, wide(dtype));
    n.each([&](int64_t g, int64_t c) {
      const double scale = gamma[static_cast<size_t>(c)] / std::sqrt(variance[n.s(g, c)] + 1e-5);
      for (int64_t l = 0; l < n.w.length; ++l) {
        const double value = (x[n.x(g, l, c)] - mean[n.s(g, c)]) * scale + beta[static_cast<size_t>(c)];
        y.span<double>()[n.x(g, l, c)] = std::max(value, 0.0);
      }
    });
  }
  const Tensor narrow = y.to(dtype);
  std::memcpy(run.memory.at("y").data(), narrow.raw(), static_cast<size_t>(narrow.bytes()));
}

// told: whether y may be told from x and beta.
void backward(const ProblemLine& line, Sweep& sweep, bool told) {
  using A = NormBackwardArgs;
  const std::vector<Norm> norms = norms_of(line);
  const Shape x{norms[0].w.groups, norms[0].w.length, norms[0].w.channels};
  const Shape parameters{norms.back().before + norms.back().w.count};
  const bool relu = line.get("relu", 0) != 0;
  const bool constant[2] = {line.get("constant", 0) != 0, line.get("second_constant", 0) != 0};
  Problem<NormBackward> p{.args = {}, .fields = {}, .bound = {}};
  p.args.eps = 1e-5, p.args.relu = relu, p.args.constant_statistics[0] = constant[0], p.args.constant_statistics[1] = constant[1];
  p.fields = {{"dy", Field<A>::input, &A::dy, x},
              {"x", Field<A>::input, &A::x, x},
              {"dx", window_output<A>(norms), &A::dx, x},
              {"dgamma", Field<A>::wide_output, &A::dgamma, parameters},
              {"dbeta", Field<A>::wide_output, &A::dbeta, parameters}};
  add_slices(norms, told, p.args, p.fields);
  if (relu) p.fields.push_back({"y", Field<A>::input, &A::y, x});
  if (line.get("residual", 0) != 0) p.fields.push_back({"dresidual", window_output<A>(norms), &A::dresidual, x});
  if (told) p.adjust = [norms](Run& run, DType dtype) { set_output(norms, run, dtype); };
  if (whole(norms)) p.in_place = {{"dx", "dy"}};
  p.bound = [norms, relu, first = constant[0], second = constant[1]](const Values& in, const Values& oracle) {
    Values b;
    for (const auto& [name, values] : oracle) b[name] = std::vector<double>(values.size());
    for (const Norm& n : norms) add_backward_bound(n, relu, n.before ? second : first, in, b);
    return b;
  };
  check_problem(p, line, sweep);
}

// The second pass of a whole norm's, whatever the sums.
void gradient(const ProblemLine& line, Sweep& sweep) {
  using A = NormGradientArgs;
  const Norm n = norm_of(line);
  const Shape x{n.w.length, n.w.channels}, s{n.w.channels};
  const bool constant = line.get("constant", 0) != 0;
  Problem<NormGradient> p{.args = {}, .fields = {}, .bound = {}, .in_place = {{"dx", "d"}}};
  p.args.length = n.w.length, p.args.channels = n.w.channels, p.args.eps = 1e-5, p.args.constant_statistics = constant;
  p.fields = {{"d", Field<A>::input, &A::d, x},
              {"x", Field<A>::input, &A::x, x},
              {"mean", Field<A>::wide_input, &A::mean, s},
              {"variance", Field<A>::wide_input, &A::variance, s, Content::positive},
              {"gamma", Field<A>::wide_input, &A::gamma, s},
              {"dgamma", Field<A>::wide_input, &A::dgamma, s},
              {"dbeta", Field<A>::wide_input, &A::dbeta, s},
              {"dx", Field<A>::output, &A::dx, x}};
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (size_t i = 0; i < b["dx"].size(); ++i) {
      const size_t c = i % static_cast<size_t>(n.w.channels);
      const auto of = [&](const char* name) { return std::abs(in.at(name)[c]); };
      const double inverse = 1 / std::sqrt(of("variance") + 1e-5), reach = (std::abs(in.at("x")[i]) + of("mean")) * inverse;
      // Roundings on the way of each, those of the scale included: less than 8 of d and of dbeta, 13 of dgamma with the slope and z.
      const double through = constant ? 0 : (8 * of("dbeta") + 13 * reach * of("dgamma")) / n.length();
      b["dx"][i] = of("gamma") * inverse * (8 * std::abs(in.at("d")[i]) + through);
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void norm(const ProblemLine& line, Sweep& sweep) {
  const std::vector<Norm> norms = norms_of(line);
  if (norms.size() == 1) statistics(line, sweep);
  apply(line, sweep);
  backward(line, sweep, false);
  if (whole(norms) && norms.size() == 1 && norms[0].w.groups == 1) gradient(line, sweep);
  if (line.get("relu", 0) != 0) backward(line, sweep, true);
}

void running_update(const ProblemLine& line, Sweep& sweep) {
  using A = RunningUpdateArgs;
  Problem<RunningUpdate> p{.args = {}, .fields = {}, .bound = {}};
  p.args.number = static_cast<int>(line.at("norms"));
  std::vector<std::string> names;
  for (int i = 0; i < p.args.number; ++i) {
    for (const char* name : {"mean ", "variance ", "seen_mean ", "seen_variance "}) names.push_back(name + std::to_string(i));
  }
  for (int i = 0; i < p.args.number; ++i) {
    const int64_t groups = line.at("groups") + i, count = line.at("count") * (p.args.number - i);
    p.args.moves[i].groups = groups, p.args.moves[i].count = count;
    p.args.moves[i].momentum = 0.1 * (i + 1), p.args.moves[i].unbiased = 1.25 + i;
    const std::string* name = &names[static_cast<size_t>(4 * i)];
    p.fields.push_back({name[0].c_str(), Field<A>::both, [i](A& a, void* data) { a.moves[i].mean = data; }, {count}});
    p.fields.push_back({name[1].c_str(), Field<A>::both, [i](A& a, void* data) { a.moves[i].variance = data; }, {count}});
    p.fields.push_back({name[2].c_str(), Field<A>::input, [i](A& a, void* data) { a.moves[i].seen_mean = data; }, {groups, count}});
    p.fields.push_back({name[3].c_str(), Field<A>::input, [i](A& a, void* data) { a.moves[i].seen_variance = data; }, {groups, count}});
  }
  p.bound = [args = p.args](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (int i = 0; i < args.number; ++i) {
      const RunningMove& m = args.moves[i];
      for (const char* kind : {"mean ", "variance "}) {
        const std::string name = kind + std::to_string(i);
        const double taken = m.momentum * (name[0] == 'v' ? m.unbiased : 1);
        for (int64_t c = 0; c < m.count; ++c) {
          double mean = 0;
          for (int64_t g = 0; g < m.groups; ++g)
            mean += std::abs(in.at("seen_" + name)[static_cast<size_t>(g * m.count + c)]) / static_cast<double>(m.groups);
          b[name][static_cast<size_t>(c)] =
              3 * (1 - m.momentum) * std::abs(in.at(name)[static_cast<size_t>(c)]) + (static_cast<double>(m.groups) + 3) * taken * mean;
        }
      }
    }
    return b;
  };
  check_problem(p, line, sweep);
}

// Sums of squares as rows have them, but for every third column: there roundings made them too small, and the variance is 0.
void set_squares(Run& run, int64_t count, double rows, DType dtype) {
  const std::vector<double> sums = detail::read(run.memory.at("sums").data(), count, dtype);
  Tensor squares = Tensor::zeros({count}, DType::f64);
  for (int64_t i = 0; i < count; ++i) {
    const double s = sums[static_cast<size_t>(i)];
    squares.span<double>()[static_cast<size_t>(i)] = s * s / rows + (i % 3 == 2 ? -1 : 1 + std::abs(s));
  }
  const Tensor typed = squares.to(dtype);
  std::memcpy(run.memory.at("squares").data(), typed.raw(), static_cast<size_t>(typed.bytes()));
}

// Both sides compute in double and round once; a device may fuse the difference.
void sums_statistics(const ProblemLine& line, Sweep& sweep) {
  using A = SumsStatisticsArgs;
  Problem<SumsStatistics> p{.args = {}, .fields = {}, .bound = {}};
  p.args.rows = line.at("rows"), p.args.count = line.at("count");
  const Shape s{p.args.count};
  p.fields = {{"sums", Field<A>::input, &A::sums, s},
              {"squares", Field<A>::input, &A::squares, s},
              {"mean", Field<A>::output, &A::mean, s},
              {"variance", Field<A>::output, &A::variance, s}};
  const auto rows = static_cast<double>(p.args.rows);
  p.adjust = [rows, count = p.args.count](Run& run, DType dtype) { set_squares(run, count, rows, dtype); };
  p.bound = [rows](const Values& in, const Values& oracle) {
    Values b = oracle;
    for (size_t i = 0; i < oracle.at("mean").size(); ++i) {
      const double mean = in.at("sums")[i] / rows;
      b["mean"][i] = std::abs(mean);
      b["variance"][i] = std::abs(oracle.at("variance")[i]) + 0x1p-26 * (std::abs(in.at("squares")[i]) / rows + mean * mean);
    }
    return b;
  };
  check_problem(p, line, sweep);
}

// Every second number is not above zero, some are zero.
TEST_CASE("problems: the bits of what a norm made above zero are those of what it stored") {
  initialize();
  const int64_t rows = 70, channels = 72;
  const Device device = tried_device();
  const auto there = [&](const char* name, const Shape& shape, DType dtype) { return normal_tensor(name, shape, dtype).to(device); };
  const Tensor x = there("x", {rows, channels}, DType::bf16), residual = there("residual", {rows, channels}, DType::bf16);
  const Tensor mean = there("mean", {channels}, DType::f32), gamma = there("gamma", {channels}, DType::f32);
  const Tensor variance = Tensor::full({channels}, 2, DType::f32, device), beta = there("beta", {channels}, DType::f32);
  int told = 0;
  for (const auto& found : tried<NormApply>()) {
    const Impl<NormApply>& impl = found.second;
    const NormWindow all{.groups = 1, .length = rows, .channels = channels, .first = 0, .count = channels};
    const Tensor y = Tensor::empty(x.shape(), DType::bf16, device), bits = Tensor::full({rows, channels / 8}, 0xA5, DType::u8, device);
    NormApplyArgs args{.x = x.raw(),
                       .slices = {{all, mean.raw(), variance.raw(), gamma.raw(), beta.raw()}},
                       .residual = residual.raw(),
                       .y = y.raw(),
                       .eps = 1e-5,
                       .relu = true,
                       .dtype = DType::bf16,
                       .positive = bits.raw()};
    if (impl.refuses && impl.refuses(args)) continue;
    ++told;
    impl.run(args, current_stream(device));
    const Tensor stored = y.to(Device{}).to(DType::f32), said = bits.to(Device{});
    int64_t wrong = 0, positive = 0;
    for (int64_t i = 0; i < rows * channels; ++i) {
      const bool bit = (said.data<uint8_t>()[i / 8] >> i % 8 & 1) != 0;
      wrong += bit != (stored.data<float>()[i] > 0), positive += bit;
    }
    CHECK_MESSAGE(wrong == 0, impl.name);
    CHECK(positive > rows * channels / 4);
    CHECK(positive < rows * channels * 3 / 4);
  }
  CHECK(told >= 1);
}

}  // namespace

Families norm_families() { return {{"norm", norm}, {"running_update", running_update}, {"sums_statistics", sums_statistics}}; }

}  // namespace reid::test
