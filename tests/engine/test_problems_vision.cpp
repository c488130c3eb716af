// Problem families of pooling, non-local blocks, views and colors, with their error bounds in units of u = 2^-24.

#include <bit>
#include <cstring>
#include <limits>

#include "problems.h"
#include "reid/engine/op_args_pixels.h"

namespace reid::test {
namespace {

void max_pool(const ProblemLine& line, Sweep& sweep) {
  PoolShape s{.n = line.at("n"),
              .h = line.at("h"),
              .w = line.at("w"),
              .c = line.at("c"),
              .kernel = line.at("kernel"),
              .stride = line.at("stride"),
              .pad = line.get("pad", 0),
              .ceil = line.get("ceil", 0) != 0};
  const Shape x{s.n, s.h, s.w, s.c}, y{s.n, s.out(s.h), s.out(s.w), s.c};
  {
    using A = MaxPoolArgs;
    Problem<MaxPool> p{.args = {}, .fields = {}, .bound = {}};
    p.args.shape = s;
    p.fields = {{"x", Field<A>::input, &A::x, x},
                {"y", Field<A>::output, &A::y, y},
                {"index", Field<A>::output, &A::index, y, Content::any, DType::i32}};
    p.bound = [](const Values&, const Values& oracle) { return Values{{"y", std::vector<double>(oracle.at("y").size())}}; };
    check_problem(p, line, sweep);
  }
  using A = MaxPoolBackwardArgs;
  Problem<MaxPoolBackward> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.shape = s;
  p.fields = {{"dy", Field<A>::input, &A::dy, y},
              {"index", Field<A>::input, &A::index, y, Content::any, DType::i32},
              {"dx", Field<A>::output, &A::dx, x}};
  p.adjust = [x, s, seed = line.text](Run& run, DType) {
    const ops::MaxPooled pooled =
        ops::max_pool(normal_tensor(seed, x), {.kernel = s.kernel, .stride = s.stride, .pad = s.pad, .ceil = s.ceil});
    std::memcpy(run.memory.at("index").data(), pooled.index.raw(), static_cast<size_t>(pooled.index.bytes()));
  };
  p.bound = [s, y](const Values& in, const Values& oracle) {
    Values b{{"dx", std::vector<double>(oracle.at("dx").size())}};
    const int64_t per_image = y.numel() / s.n;
    for (int64_t i = 0; i < y.numel(); ++i) {  // every window that chose the pixel adds to it
      const int64_t pixel = static_cast<int64_t>(in.at("index")[static_cast<size_t>(i)]);
      b["dx"][static_cast<size_t>((i / per_image * s.h * s.w + pixel) * s.c + i % s.c)] +=
          8 * std::abs(in.at("dy")[static_cast<size_t>(i)]);
    }
    return b;
  };
  check_problem(p, line, sweep);
}

struct Gem {
  int64_t n, length, c;
  double eps = 1e-6;
  bool generalized;
  double at(const Values& in, int64_t i, int64_t l, int64_t k) const {
    return std::max(in.at("x")[static_cast<size_t>((i * length + l) * c + k)], eps);
  }
  // Of a power mean: pow costs p |log x| roundings, the sum sqrt(L), the root as many again.
  double cost(double p) const { return 32 + 4 * std::sqrt(static_cast<double>(length)) + 16 * (p + 1) * std::abs(std::log(eps)); }
};

void global_pool_forward(const Gem& g, const ProblemLine& line, Sweep& sweep) {
  using A = GlobalPoolArgs;
  Problem<GlobalPool> p{.args = {}, .fields = {}, .bound = {}};
  p.args.n = g.n, p.args.length = g.length, p.args.c = g.c, p.args.eps = g.eps;
  p.fields = {{"x", Field<A>::input, &A::x, {g.n, g.length, g.c}}, {"y", Field<A>::output, &A::y, {g.n, g.c}}};
  if (g.generalized) {
    p.fields.push_back({"p", Field<A>::wide_input, &A::p, {1}, Content::positive});
    p.bound = [g](const Values& in, const Values& oracle) {
      Values b{{"y", oracle.at("y")}};
      for (double& v : b["y"]) v *= g.cost(in.at("p")[0]);
      return b;
    };
  } else {
    p.bound = sum_bound(p, static_cast<double>(g.length));
  }
  check_problem(p, line, sweep);
}

void global_pool_backward(const Gem& g, const ProblemLine& line, Sweep& sweep) {
  using A = GlobalPoolBackwardArgs;
  Problem<GlobalPoolBackward> p{.args = {}, .fields = {}, .bound = {}};
  p.args.n = g.n, p.args.length = g.length, p.args.c = g.c, p.args.eps = g.eps;
  p.fields = {{"dy", Field<A>::input, &A::dy, {g.n, g.c}},
              {"x", Field<A>::input, &A::x, {g.n, g.length, g.c}},
              {"dx", Field<A>::output, &A::dx, {g.n, g.length, g.c}}};
  if (!g.generalized) {
    p.bound = [](const Values&, const Values& oracle) {
      Values b{{"dx", oracle.at("dx")}};
      for (double& v : b["dx"]) v = 4 * std::abs(v);
      return b;
    };
    check_problem(p, line, sweep);
    return;
  }
  p.fields.push_back({"p", Field<A>::wide_input, &A::p, {1}, Content::positive});
  p.fields.push_back({"y", Field<A>::input, &A::y, {g.n, g.c}});
  p.fields.push_back({"dp", Field<A>::wide_output, &A::dp, {1}});
  p.adjust = [g](Run& run, DType dtype) {  // y belongs to x and p
    Tensor x = Tensor::empty({g.n, 1, g.length, g.c}, dtype), power = Tensor::empty({1}, wide(dtype));
    std::memcpy(x.raw(), run.memory.at("x").data(), static_cast<size_t>(x.bytes()));
    std::memcpy(power.raw(), run.memory.at("p").data(), static_cast<size_t>(power.bytes()));
    const Tensor y = ops::gem_pool(x.to(DType::f64), power.to(DType::f64), g.eps).to(dtype);
    std::memcpy(run.memory.at("y").data(), y.raw(), static_cast<size_t>(y.bytes()));
  };
  p.bound = [g](const Values& in, const Values& oracle) {
    Values b{{"dx", oracle.at("dx")}, {"dp", {0.0}}};
    const double power = in.at("p")[0], cost = g.cost(power);
    for (double& v : b["dx"]) v = cost * std::abs(v);
    for (int64_t i = 0; i < g.n; ++i) {
      for (int64_t k = 0; k < g.c; ++k) {
        double mean = 0, logs = 0;
        for (int64_t l = 0; l < g.length; ++l) {
          const double z = g.at(in, i, l, k), m = std::pow(z, power) / static_cast<double>(g.length);
          mean += m;
          logs += m * std::abs(std::log(z));
        }
        const size_t at = static_cast<size_t>(i * g.c + k);
        b["dp"][0] +=
            cost * std::abs(in.at("dy")[at]) * in.at("y")[at] * (logs / mean / power + std::abs(std::log(mean)) / (power * power));
      }
    }
    return b;
  };
  check_problem(p, line, sweep);
}

void global_pool(const ProblemLine& line, Sweep& sweep) {
  const Gem g{.n = line.at("n"), .length = line.at("length"), .c = line.at("c"), .generalized = line.get("gem", 0) != 0};
  global_pool_forward(g, line, sweep);
  global_pool_backward(g, line, sweep);
}

void stripe_pool(const ProblemLine& line, Sweep& sweep) {
  const int64_t n = line.at("n"), height = line.at("h"), width = line.at("w"), c = line.at("c"), stripes = line.at("stripes");
  const auto fill = [=](auto& args) { args.n = n, args.height = height, args.width = width, args.c = c, args.stripes = stripes; };
  // Means are no larger than their largest term.
  const auto bound_of = [](const std::vector<double>& in, const std::vector<double>& out, int64_t terms, double share) {
    double top = 0;
    for (const double v : in) top = std::max(top, std::abs(v));
    return std::vector<double>(out.size(), share * top * (4 * std::sqrt(static_cast<double>(terms)) + 8));
  };
  {
    using A = StripePoolArgs;
    Problem<StripePool> p{.args = {}, .fields = {}, .bound = {}};
    fill(p.args);
    p.fields = {{"x", Field<A>::input, &A::x, {n, height, width, c}}, {"y", Field<A>::output, &A::y, {stripes * n, c}}};
    p.bound = [=](const Values& in, const Values& oracle) {
      return Values{{"y", bound_of(in.at("x"), oracle.at("y"), height * width, 1)}};
    };
    check_problem(p, line, sweep);
  }
  using A = StripePoolBackwardArgs;
  Problem<StripePoolBackward> p{.args = {}, .fields = {}, .bound = {}};
  fill(p.args);
  p.fields = {{"dy", Field<A>::input, &A::dy, {stripes * n, c}}, {"dx", Field<A>::output, &A::dx, {n, height, width, c}}};
  p.bound = [=](const Values& in, const Values& oracle) {  // a pixel gets at most `stripes` shares of one row or more
    return Values{{"dx", bound_of(in.at("dy"), oracle.at("dx"), stripes, static_cast<double>(stripes) / static_cast<double>(width))}};
  };
  check_problem(p, line, sweep);
}

// Sums of L D products of three numbers, over L: no larger than D times the largest such product.
void non_local(const ProblemLine& line, Sweep& sweep) {
  const int64_t n = line.at("n"), length = line.at("length"), d = line.at("d");
  const double cost = static_cast<double>(d) * (4 * std::sqrt(static_cast<double>(length * d)) + 8);
  const auto top = [](const std::vector<double>& values) {
    double most = 0;
    for (const double v : values) most = std::max(most, std::abs(v));
    return most;
  };
  {
    using A = NonLocalArgs;
    Problem<NonLocal> p{.args = {}, .fields = {}, .bound = {}};
    p.args.n = n, p.args.length = length, p.args.d = d;
    p.fields = {{"theta", Field<A>::input, &A::theta, {n, length, d}},
                {"phi", Field<A>::input, &A::phi, {n, length, d}},
                {"g", Field<A>::input, &A::g, {n, length, d}},
                {"y", Field<A>::output, &A::y, {n, length, d}}};
    p.bound = [=](const Values& in, const Values& oracle) {
      const double most = cost * top(in.at("theta")) * top(in.at("phi")) * top(in.at("g"));
      return Values{{"y", std::vector<double>(oracle.at("y").size(), most)}};
    };
    check_problem(p, line, sweep);
  }
  using A = NonLocalBackwardArgs;
  Problem<NonLocalBackward> p{.args = {}, .fields = {}, .bound = {}};
  p.args.n = n, p.args.length = length, p.args.d = d;
  p.fields = {{"dy", Field<A>::input, &A::dy, {n, length, d}},          {"theta", Field<A>::input, &A::theta, {n, length, d}},
              {"phi", Field<A>::input, &A::phi, {n, length, d}},        {"g", Field<A>::input, &A::g, {n, length, d}},
              {"dtheta", Field<A>::output, &A::dtheta, {n, length, d}}, {"dphi", Field<A>::output, &A::dphi, {n, length, d}},
              {"dg", Field<A>::output, &A::dg, {n, length, d}}};
  p.bound = [=](const Values& in, const Values& oracle) {
    Values b = oracle;
    const double theta = top(in.at("theta")), phi = top(in.at("phi")), g = top(in.at("g")), dy = cost * top(in.at("dy"));
    std::ranges::fill(b["dtheta"], dy * phi * g);
    std::ranges::fill(b["dphi"], dy * theta * g);
    std::ranges::fill(b["dg"], dy * theta * phi);
    return b;
  };
  check_problem(p, line, sweep);
}

// The images themselves; windows beyond each border, mirrored too; windows and rectangles as far away as there are numbers; rectangles at
// each border, across it and over all; none. Nothing may differ: the definition says where it rounds.
void views(const ProblemLine& line, Sweep& sweep) {
  using A = ViewsFromPixelsArgs;
  const int64_t n = line.at("n"), h = line.at("h"), w = line.at("w");
  const auto rows = static_cast<int32_t>(h), columns = static_cast<int32_t>(w);
  constexpr int32_t kLeast = std::numeric_limits<int32_t>::min(), kMost = std::numeric_limits<int32_t>::max();
  const PixelView kinds[] = {
      {},
      {.down = 1, .right = 2, .top = 0, .left = 0, .height = 1, .width = 2},
      {.down = -2, .right = -1, .mirrored = 1, .top = rows - 1, .left = columns - 2, .height = 1, .width = 2},
      {.down = 2, .right = -3, .mirrored = 1},
      {.down = -1, .right = 1, .top = -1, .left = 1, .height = 2, .width = columns},
      {.down = rows - 1, .right = 1 - columns, .mirrored = 1, .top = 1, .left = -2, .height = rows, .width = 3},
      {.down = rows, .top = kMost, .left = 0, .height = kMost, .width = columns},
      {.down = kLeast, .right = kMost, .mirrored = 1},
      {.down = kMost, .right = kLeast, .top = kLeast, .left = kLeast, .height = kMost, .width = kMost},
      {.right = columns, .top = 0, .left = 0, .height = -1, .width = columns},
      {.mirrored = 1, .top = 0, .left = 0, .height = rows, .width = kLeast},
      {.top = 0, .left = 0, .height = rows, .width = columns},
  };
  Problem<ViewsFromPixels> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.n = n, p.args.h = h, p.args.w = w;
  p.args.colors = {.mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}, .fill = {0.3f, -1.7f, 0.f}};
  p.fields = {{"x", Field<A>::input, &A::x, {n, h, w, 3}, Content::any, DType::u8},
              {"views", Field<A>::input, &A::views, {n, kPixelViewFields}, Content::any, DType::i32},
              {"y", Field<A>::output, &A::y, {n, h, w, 3}}};
  p.adjust = [&](Run& run, DType) {
    Rng rng = Rng(3).at(line.text);
    auto* x = static_cast<uint8_t*>(run.memory.at("x").data());
    for (int64_t i = 0; i < n * h * w * 3; ++i) x[i] = static_cast<uint8_t>(rng.below(256));
    auto* all = static_cast<PixelView*>(run.memory.at("views").data());
    for (int64_t i = 0; i < n; ++i) all[i] = kinds[static_cast<size_t>(i + line.get("from", 0)) % std::size(kinds)];
  };
  p.bound = [](const Values&, const Values& oracle) { return Values{{"y", std::vector<double>(oracle.at("y").size())}}; };
  check_problem(p, line, sweep);
}

// Windows as above, blurs up to the weights that there are and beyond, every order of colors, contrasts first, last, alone and twice, words
// that mean nothing, factors that change nothing, that cut and that overflow.
PixelChange some_change(Rng rng, int64_t away, int64_t radius, int64_t kind) {
  const auto shift = [&] { return static_cast<int32_t>(rng.below(2 * away + 1) - away); };
  PixelChange change;
  change.down = shift(), change.right = shift();
  change.mirrored = static_cast<int32_t>(rng.below(2));
  change.radius = static_cast<int32_t>(kind % 3 == 0 ? 0 : kind % 3 == 1 ? radius : rng.below(radius + 3) - 1);
  std::vector<ColorChange> order = {ColorChange::brightness, ColorChange::contrast, ColorChange::saturation, ColorChange::hue};
  rng.shuffle(order);
  if (kind % 5 == 1) order = {ColorChange::hue, ColorChange::contrast, ColorChange::none, ColorChange::contrast};
  if (kind % 5 == 2) order = {ColorChange::none, ColorChange{5}, ColorChange{-1}, kind % 2 ? ColorChange::contrast : ColorChange::hue};
  if (kind % 5 == 3) order = std::vector<ColorChange>(4, ColorChange::none);
  const float factors[] = {0.f, 0.5f, 1.f, 1.7f, 2.f, -1.f, 1e30f};
  for (size_t i = 0; i < 4; ++i) {
    const float factor = factors[rng.below(std::ssize(factors))];
    const int32_t steps = static_cast<int32_t>(rng.below(600)) - 300;
    change.colors[i] = {static_cast<int32_t>(order[i]), order[i] == ColorChange::hue ? steps : std::bit_cast<int32_t>(factor)};
  }
  return change;
}

void colors(const ProblemLine& line, Sweep& sweep) {
  using A = ColorPixelsArgs;
  const int64_t n = line.at("n"), h = line.at("h"), w = line.at("w"), radius = line.get("radius", 0);
  Problem<ColorPixels> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.n = n, p.args.h = h, p.args.w = w, p.args.weights = radius + 1;
  p.fields = {{"x", Field<A>::input, &A::x, {n, h, w, 3}, Content::any, DType::u8},
              {"changes", Field<A>::input, &A::changes, {n, kPixelChangeFields + radius + 1}, Content::any, DType::i32},
              {"y", Field<A>::output, &A::y, {n, h, w, 3}, Content::any, DType::u8}};
  p.adjust = [&](Run& run, DType) {
    Rng rng = Rng(4).at(line.text);
    auto* x = static_cast<uint8_t*>(run.memory.at("x").data());
    for (int64_t i = 0; i < n * h * w * 3; ++i) x[i] = static_cast<uint8_t>(rng.below(256));
    auto* fields = static_cast<int32_t*>(run.memory.at("changes").data());
    for (int64_t i = 0; i < n; ++i, fields += kPixelChangeFields + radius + 1) {
      PixelChange change =
          some_change(rng.at(static_cast<uint64_t>(i)), std::min<int64_t>(2, std::min(h, w) - 1), radius, i + line.get("from", 0));
      if (line.get("hue", 0) != 0) {  // turned by so much alone: 256 reds, 52 greens and 37 blues
        change = {}, change.colors[0] = {static_cast<int32_t>(ColorChange::hue), static_cast<int32_t>(line.at("hue") + 37 * i)};
        uint8_t* const image = x + i * h * w * 3;
        for (int64_t j = 0; j < h * w; ++j) {
          const int64_t color = i * h * w + j;
          image[3 * j] = static_cast<uint8_t>(color % 256);
          image[3 * j + 1] = static_cast<uint8_t>(color / 256 % 52 * 5), image[3 * j + 2] = static_cast<uint8_t>(color / 256 / 52 % 37 * 7);
        }
      }
      std::memcpy(fields, &change, sizeof change);
      int32_t* const weights = fields + kPixelChangeFields;
      weights[0] = 1 << 15;
      for (int64_t t = 1; t <= radius; ++t) {
        weights[t] = static_cast<int32_t>(rng.below((1 << 14) / radius));
        weights[0] -= 2 * weights[t];
      }
    }
  };
  p.bound = [](const Values&, const Values& oracle) { return Values{{"y", std::vector<double>(oracle.at("y").size())}}; };
  check_problem(p, line, sweep);
}

void mirrors(const ProblemLine& line, Sweep& sweep) {
  using A = MirrorArgs;
  const Shape shape{line.at("n"), line.at("h"), line.at("w"), line.at("c")};
  Problem<Mirror> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.n = shape[0], p.args.h = shape[1], p.args.w = shape[2], p.args.c = shape[3];
  p.fields = {{"x", Field<A>::input, &A::x, shape}, {"y", Field<A>::output, &A::y, shape}};
  p.bound = [](const Values&, const Values& oracle) { return Values{{"y", std::vector<double>(oracle.at("y").size())}}; };
  check_problem(p, line, sweep);
}

}  // namespace

Families vision_families() {
  return {{"max_pool", max_pool}, {"global_pool", global_pool}, {"stripe_pool", stripe_pool}, {"non_local", non_local},
          {"views", views},       {"colors", colors},           {"mirror", mirrors}};
}

}  // namespace reid::test
