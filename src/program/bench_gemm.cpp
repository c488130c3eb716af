// Products of matrices: square ones, and the tall and the flat ones of 1x1 convolutions of the network's first stages at batch 64.

#include "program/bench.h"
#include "reid/engine/registry.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace reid::program {

MatrixSize parse_size(const std::string& text) {
  MatrixSize size{};
  const char* at = text.data();
  const char* end = at + text.size();
  for (size_t i = 0; i < 3; ++i) {
    const auto [stopped, error] = std::from_chars(at, end, size[i]);
    const bool ends = i == 2 ? stopped == end : stopped != end && *stopped == 'x';
    if (error != std::errc{} || !ends || size[i] < 1 || size[i] > (1 << 24))
      throw UsageError("--size takes MxNxK, each in [1, 2^24], not '" + text + "'");
    at = stopped + 1;
  }
  return size;
}

namespace {

constexpr MatrixSize kSizes[] = {{1024, 1024, 1024}, {2048, 2048, 2048}, {4096, 4096, 4096},
                                 {131072, 64, 256},  {32768, 256, 64},   {64, 131072, 256}};

const Impl<Gemm>& implementation(const BenchOptions& o, Device device, const GemmArgs& args) {
  if (o.implementation.empty()) return Registry::pick<Gemm>(device.type, args);
  std::string names;
  for (const Impl<Gemm>& impl : Registry::implementations<Gemm>(device.type)) {
    if (o.implementation == impl.name) return impl;
    names += str(names.empty() ? "" : ", ", impl.name);
  }
  throw UsageError(str("matmul has no implementation '", o.implementation, "' (it has: ", names, ")"));
}

Json bench_size(const Context& context, const BenchOptions& o, const MatrixSize& size, Peak& peak) {
  const auto [m, n, k] = size;
  const DType dtype = dtype_named(o.dtype);
  const Tensor a = random_normal({m, k}, Rng(1), dtype, o.device), b = random_normal({k, n}, Rng(2), dtype, o.device);
  const Tensor c = Tensor::zeros({m, n}, wide(dtype), o.device);
  const GemmArgs args{.a = a.raw(), .b = b.raw(), .c = c.raw(), .m = m, .n = n, .k = k, .other_sums = o.model.other_sums(), .dtype = dtype};
  const Impl<Gemm>& impl = implementation(o, context.device, args);
  if (const char* reason = impl.refuses ? impl.refuses(args) : nullptr) {
    context.say(str(m, "x", n, "x", k), ": ", impl.name, " ", reason);
    return Json::object({{"m", m}, {"n", n}, {"k", k}, {"implementation", impl.name}, {"refused", reason}});
  }
  peak.follow();
  const Times times = measure(o, [&] { impl.run(args, current_stream(context.device)); });
  const double flop = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k), rate = flop / times.median();
  char text[128];
  std::snprintf(text, sizeof text, "%-20s %9.2f ms %7.0f GFLOP/s %4.0f %%", str(m, "x", n, "x", k).c_str(), 1e3 * times.median(),
                rate / 1e9, 100 * peak.share(traffic(args), flop, times.median()));
  context.say(text);
  Json row = Json::object({{"m", m},
                           {"n", n},
                           {"k", k},
                           {"implementation", impl.name},
                           {"gflops", rate / 1e9},
                           {"share_of_peak", rate / peak.rate()},
                           {"times", times.json()}});
  peak.add_floor(row, traffic(args), flop, times.median());
  return row;
}

}  // namespace

std::vector<std::string> gemm_dtypes() {
  initialize();
  std::vector<std::string> names;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const GemmArgs args{.a = nullptr, .b = nullptr, .c = nullptr, .m = 64, .n = 64, .k = 64, .dtype = dtype};
    const auto& all = Registry::implementations<Gemm>(DeviceType::cpu);
    const bool there = std::ranges::any_of(
        all, [&](const Impl<Gemm>& impl) { return std::string_view(impl.name) != "reference" && !(impl.refuses && impl.refuses(args)); });
    if (there) names.emplace_back(name_of(dtype));
  }
  return names;
}

Json bench_gemm(const Context& context, const BenchOptions& o) {
  Peak peak(o.device, dtype_named(o.dtype));
  context.say("products [M, K] x [K, N], ", o.dtype, ": MxNxK, time, rate, share of the ", peak.whole());
  std::vector<MatrixSize> sizes(std::begin(kSizes), std::end(kSizes));
  if (!o.sizes.empty()) {
    sizes.clear();
    for (const std::string& text : o.sizes) sizes.push_back(parse_size(text));
  }
  Json rows = Json::array();
  for (const MatrixSize& size : sizes) rows.push_back(bench_size(context, o, size, peak));
  for (const std::string& line : peak.text()) context.say(line);
  return Json::object({{"dtype", o.dtype}, {"rows", rows}, {"peak", peak.json()}});
}

}  // namespace reid::program
