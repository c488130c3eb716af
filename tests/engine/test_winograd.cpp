// Convolutions by minimal filtering: within the roundings of their own sums, element by element; bitwise independent of threads and
// batch; only where it is allowed.

#include <array>
#include <functional>

#include "engine/fast_cpu.h"

using namespace reid;
using namespace reid::fast_test;

namespace {

ConvShape filter3(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, int64_t pad) {
  return {.n = n, .h = h, .w = w, .c = c, .k = k, .r = 3, .s = 3, .stride = {1, 1}, .pad = {pad, pad}, .other_sums = true};
}

// Calls check(run, name) for every implementation by minimal filtering.
template <class Op, class Check>
int for_each_winograd(const typename Op::Args& args, Check&& check) {
  int count = 0;
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    if (!std::string_view(impl.name).starts_with("winograd") || impl.refuses(args)) continue;
    check([&](const typename Op::Args& a) { impl.run(a, current_stream(Device{})); }, impl.name);
    ++count;
  }
  return count;
}

// F(4, 3) and F(3, 4) of the points 0, +-a, +-b, infinity by their definition (Toom-Cook): rows j of B^T are the coefficients of
// prod_{i != j} (x - p_i), of G the powers of p_j over prod_{i != j} (p_j - p_i), columns of A^T the powers of p_j.
struct Matrices {
  double input[6][6] = {}, filter[6][3] = {}, output[4][6] = {};  // F(4, 3)
  double gradient[6][4] = {}, weight[3][6] = {};                  // F(3, 4), the input as before
  Matrices() {
    const double points[5] = {0, std::sqrt(0.5), -std::sqrt(0.5), std::sqrt(2.0), -std::sqrt(2.0)};
    const auto times = [](std::array<double, 6> p, double root) {  // p(x) (x - root)
      std::array<double, 6> out{};
      for (size_t i = 0; i < 6; ++i) out[i] = (i > 0 ? p[i - 1] : 0) - root * p[i];
      return out;
    };
    for (int j = 0; j < 6; ++j) {
      std::array<double, 6> product{1, 0, 0, 0, 0, 0};
      double scale = 1;
      for (int i = 0; i < 5; ++i) {
        if (i == j) continue;
        product = times(product, points[i]);
        if (j < 5) scale *= points[j] - points[i];
      }
      for (int i = 0; i < 6; ++i) input[j][i] = product[static_cast<size_t>(i)];
      for (int i = 0; i < 3; ++i) filter[j][i] = j < 5 ? std::pow(points[j], i) / scale : i == 2;
      for (int i = 0; i < 4; ++i) output[i][j] = j < 5 ? std::pow(points[j], i) : i == 3;
      for (int i = 0; i < 4; ++i) gradient[j][i] = j < 5 ? std::pow(points[j], i) / scale : i == 3;
      for (int i = 0; i < 3; ++i) weight[i][j] = j < 5 ? std::pow(points[j], i) : i == 2;
    }
  }
};

// The squares of the terms of a transformed input tile: [c][36].
std::vector<double> squared_tile(const Matrices& m, const ConvShape& s, const Floats& x, int64_t n, int64_t top, int64_t left) {
  std::vector<double> tile(static_cast<size_t>(s.c * 36));
  for (int64_t c = 0; c < s.c; ++c) {
    double patch[36] = {};
    for (int i = 0; i < 36; ++i) {
      const int64_t y = top - s.pad[0] + i / 6, z = left - s.pad[1] + i % 6;
      if (y >= 0 && y < s.h && z >= 0 && z < s.w)
        patch[i] = std::pow(double{x[static_cast<size_t>(((n * s.h + y) * s.w + z) * s.c + c)]}, 2);
    }
    for (int i = 0; i < 36; ++i) {
      double sum = 0;
      for (int j = 0; j < 36; ++j) sum += std::pow(m.input[i / 6][j / 6] * m.input[i % 6][j % 6], 2) * patch[j];
      tile[static_cast<size_t>(c * 36 + i)] = sum;
    }
  }
  return tile;
}

double deviations(double roundings, double squares) { return 6 / std::sqrt(3.0) * 0x1p-24 * std::sqrt(roundings * squares); }

// How far each output may be from the exact one when inputs are independent normal numbers. A term meets `roundings` roundings, each of
// a partial sum whose root mean square is at most that of all terms together; 6 standard deviations (of uniform roundings, 1 / sqrt(3)).
std::vector<double> error_bound(const ConvShape& s, const Floats& x, const Floats& w) {
  static const Matrices m;
  const auto at = [](const double(*matrix)[6], int i, int j) { return std::fabs(matrix[i][j]); };
  std::vector<double> bound(static_cast<size_t>(s.n * s.p() * s.q() * s.k));
  std::vector<double> filters(static_cast<size_t>(s.k * s.c * 36));
  for (int64_t k = 0; k < s.k; ++k) {
    for (int64_t c = 0; c < s.c; ++c) {
      for (int i = 0; i < 36; ++i) {
        double sum = 0;
        for (int t = 0; t < 9; ++t) {
          sum += std::pow(m.filter[i / 6][t / 3] * m.filter[i % 6][t % 3] * double{w[static_cast<size_t>((k * 9 + t) * s.c + c)]}, 2);
        }
        filters[static_cast<size_t>((k * s.c + c) * 36 + i)] = sum;
      }
    }
  }
  // In each of two passes 4 over the input, 3 over the filter, 5 over the output, rounded constants among them; C + 1 in the products.
  const double roundings = 2 * (4 + 3 + 5) + static_cast<double>(s.c) + 1;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t top = 0; top < s.p(); top += 4) {
      for (int64_t left = 0; left < s.q(); left += 4) {
        const std::vector<double> tile = squared_tile(m, s, x, n, top, left);
        for (int64_t k = 0; k < s.k; ++k) {
          double products[36] = {};
          for (int64_t c = 0; c < s.c; ++c) {
            for (int i = 0; i < 36; ++i)
              products[i] += tile[static_cast<size_t>(c * 36 + i)] * filters[static_cast<size_t>((k * s.c + c) * 36 + i)];
          }
          for (int64_t i = top; i < std::min(top + 4, s.p()); ++i) {
            for (int64_t j = left; j < std::min(left + 4, s.q()); ++j) {
              double sum = 0;
              for (int z = 0; z < 36; ++z) sum += at(m.output, int(i - top), z / 6) * at(m.output, int(j - left), z % 6) * products[z];
              bound[static_cast<size_t>(((n * s.p() + i) * s.q() + j) * s.k + k)] = deviations(roundings, sum);
            }
          }
        }
      }
    }
  }
  return bound;
}

// The same for the weight gradient: terms are tiles.
std::vector<double> weight_error_bound(const ConvShape& s, const Floats& x, const Floats& dy) {
  static const Matrices m;
  std::vector<double> products(static_cast<size_t>(s.k * s.c * 36)), bound(static_cast<size_t>(s.k * 9 * s.c));
  double tiles = 0;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t top = 0; top < s.p(); top += 4) {
      for (int64_t left = 0; left < s.q(); left += 4, ++tiles) {
        const std::vector<double> tile = squared_tile(m, s, x, n, top, left);
        for (int64_t k = 0; k < s.k; ++k) {
          for (int i = 0; i < 36; ++i) {
            double sum = 0;
            for (int j = 0; j < 16; ++j) {
              if (top + j / 4 >= s.p() || left + j % 4 >= s.q()) continue;
              const double value = double{dy[static_cast<size_t>(((n * s.p() + top + j / 4) * s.q() + left + j % 4) * s.k + k)]};
              sum += std::pow(m.gradient[i / 6][j / 4] * m.gradient[i % 6][j % 4] * value, 2);
            }
            for (int64_t c = 0; c < s.c; ++c) {
              products[static_cast<size_t>((k * s.c + c) * 36 + i)] += sum * tile[static_cast<size_t>(c * 36 + i)];
            }
          }
        }
      }
    }
  }
  for (int64_t k = 0; k < s.k; ++k) {
    for (int64_t c = 0; c < s.c; ++c) {
      for (int t = 0; t < 9; ++t) {
        double sum = 0;
        for (int i = 0; i < 36; ++i) {
          sum += std::pow(m.weight[t / 3][i / 6] * m.weight[t % 3][i % 6], 2) * products[static_cast<size_t>((k * s.c + c) * 36 + i)];
        }
        bound[static_cast<size_t>((k * 9 + t) * s.c + c)] = deviations(2 * (4 + 4 + 5) + tiles + 1, sum);
      }
    }
  }
  return bound;
}

// The filters of the data gradient as filters of a forward convolution on dy.
Floats mirrored(const ConvShape& s, const Floats& w) {
  Floats out(w.size());
  for (int64_t k = 0; k < s.k; ++k) {
    for (int64_t t = 0; t < 9; ++t) {
      for (int64_t c = 0; c < s.c; ++c) out[static_cast<size_t>((c * 9 + 8 - t) * s.k + k)] = w[static_cast<size_t>((k * 9 + t) * s.c + c)];
    }
  }
  return out;
}

Floats forward(const std::function<void(const ConvForwardArgs&)>& run, const ConvShape& s, const Floats& x, const Floats& w) {
  Guarded y(s.n * s.p() * s.q() * s.k);
  run({x.data(), w.data(), y.data(), s, DType::f32});
  return y.take();
}

}  // namespace

TEST_CASE("winograd: every output within the roundings of its sums") {
  initialize();
  for (const ConvShape& s :
       {filter3(2, 8, 8, 32, 32, 1), filter3(1, 7, 5, 32, 64, 1), filter3(1, 1, 1, 32, 32, 1), filter3(1, 6, 9, 64, 32, 0),
        filter3(1, 5, 6, 32, 32, 2), filter3(3, 17, 13, 32, 160, 1), filter3(1, 4, 6, 288, 32, 1)}) {
    const Floats x = normals(s.n * s.h * s.w * s.c, Rng(1)), w = normals(s.k * 9 * s.c, Rng(2));
    const std::vector<double> x64 = doubled(x), w64 = doubled(w), bound = error_bound(s, x, w);
    std::vector<double> expected(bound.size());
    run_reference<ConvForward>({x64.data(), w64.data(), expected.data(), s, DType::f64});
    const int count = for_each_winograd<ConvForward>({nullptr, nullptr, nullptr, s, DType::f32}, [&](auto&& run, const char* name) {
      CHECK_MESSAGE(first_far(forward(run, s, x, w), expected, bound) == -1, name, " ", s.h, "x", s.w);
    });
    CHECK(count >= 1);

    // The data gradient of a convolution from K to C channels is such a convolution.
    ConvShape back = s;
    back.h = s.p(), back.w = s.q(), back.c = s.k, back.k = s.c, back.pad[0] = back.pad[1] = 2 - s.pad[0];
    const Floats filters = mirrored(s, w), dy = normals(s.n * s.p() * s.q() * s.k, Rng(3));
    const std::vector<double> dy64 = doubled(dy), dx_bound = error_bound(back, dy, filters);
    std::vector<double> dx(x.size());
    run_reference<ConvBackwardData>({dy64.data(), w64.data(), dx.data(), s, DType::f64});
    const int back_count =
        for_each_winograd<ConvBackwardData>({nullptr, nullptr, nullptr, s, DType::f32}, [&](auto&& run, const char* name) {
          Guarded out(s.n * s.h * s.w * s.c);
          run({dy.data(), w.data(), out.data(), s, DType::f32});
          CHECK_MESSAGE(first_far(out.take(), dx, dx_bound) == -1, name, " data ", s.h, "x", s.w);
        });
    CHECK(back_count == count);
  }
}

TEST_CASE("winograd: every weight gradient within the roundings of its sums, the same for any number of threads") {
  initialize();
  const Threads restore;
  for (const ConvShape& s : {filter3(2, 8, 8, 32, 32, 1), filter3(3, 7, 5, 32, 64, 1), filter3(1, 1, 1, 32, 32, 1),
                             filter3(2, 6, 9, 64, 32, 0), filter3(1, 5, 6, 32, 32, 2), filter3(24, 17, 13, 32, 32, 1)}) {
    const Floats x = normals(s.n * s.h * s.w * s.c, Rng(1)), dy = normals(s.n * s.p() * s.q() * s.k, Rng(2));
    const std::vector<double> x64 = doubled(x), dy64 = doubled(dy), bound = weight_error_bound(s, x, dy);
    std::vector<double> expected(bound.size());
    run_reference<ConvBackwardWeight>({x64.data(), dy64.data(), expected.data(), s, DType::f64});
    const int count = for_each_winograd<ConvBackwardWeight>({nullptr, nullptr, nullptr, s, DType::f32}, [&](auto&& run, const char* name) {
      Floats first;
      for (int thread_count : {1, 2, 3}) {
        set_threads(thread_count);
        Guarded dw(s.k * 9 * s.c);
        run({x.data(), dy.data(), dw.data(), s, DType::f32});
        const Floats got = dw.take();
        if (thread_count == 1) first = got;
        CHECK_MESSAGE(same_bits(got, first), name, " threads ", thread_count);
      }
      CHECK_MESSAGE(first_far(first, expected, bound) == -1, name, " ", s.h, "x", s.w);
    });
    CHECK(count >= 1);
  }
}

TEST_CASE("winograd: an image's bits depend on neither its batch nor the threads") {
  initialize();
  const Threads restore;
  const ConvShape whole = filter3(23, 8, 12, 32, 544, 1), one = filter3(1, 8, 12, 32, 544, 1);
  const Floats x = normals(whole.n * whole.h * whole.w * whole.c, Rng(1)), w = normals(whole.k * 9 * whole.c, Rng(2));
  for_each_winograd<ConvForward>({nullptr, nullptr, nullptr, whole, DType::f32}, [&](auto&& run, const char* name) {
    set_threads(1);
    const Floats expected = forward(run, whole, x, w);
    for (int count : {2, 3}) {
      set_threads(count);
      CHECK_MESSAGE(same_bits(forward(run, whole, x, w), expected), name, " threads ", count);
    }
    const size_t in = x.size() / 23, out = expected.size() / 23;
    for (const size_t i : {size_t{0}, size_t{7}, size_t{22}}) {
      const Floats image(x.begin() + static_cast<int64_t>(i * in), x.begin() + static_cast<int64_t>((i + 1) * in));
      const Floats alone(expected.begin() + static_cast<int64_t>(i * out), expected.begin() + static_cast<int64_t>((i + 1) * out));
      CHECK_MESSAGE(same_bits(forward(run, one, image, w), alone), name, " image ", i);
    }
  });
}

TEST_CASE("winograd: the vector versions agree bit for bit") {
  initialize();
  const ConvShape s = filter3(2, 9, 7, 64, 96, 1);
  const Floats x = normals(s.n * s.h * s.w * s.c, Rng(1)), w = normals(s.k * 9 * s.c, Rng(2));
  std::vector<Floats> results;
  for_each_winograd<ConvForward>({nullptr, nullptr, nullptr, s, DType::f32}, [&](auto&& run, const char* name) {
    if (std::string_view(name) != "winograd_portable") results.push_back(forward(run, s, x, w));  // that one has no fused multiply-add
  });
  for (const Floats& r : results) CHECK(same_bits(r, results.front()));
}

TEST_CASE("winograd: what it refuses") {
  const auto picked = [](const ConvShape& s) {
    return std::string(Registry::pick<ConvForward>(DeviceType::cpu, {nullptr, nullptr, nullptr, s, DType::f32}).name);
  };
  const auto is_winograd = [](const std::string& name) { return name.starts_with("winograd"); };
  const ConvShape fit = filter3(1, 8, 8, 32, 32, 1);
  CHECK(is_winograd(picked(fit)));
  ConvShape other = fit;
  other.other_sums = false;
  CHECK(!is_winograd(picked(other)));
  other = fit;
  other.stride[1] = 2;
  CHECK(!is_winograd(picked(other)));
  other = fit, other.dilation[0] = 2;
  CHECK(!is_winograd(picked(other)));
  CHECK(!is_winograd(picked(filter3(1, 8, 8, 48, 32, 1))));
  CHECK(!is_winograd(picked(filter3(1, 8, 8, 32, 33, 1))));
  CHECK(!is_winograd(picked(filter3(1, 8, 8, 32, 32, 3))));
}
