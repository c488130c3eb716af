// What moves bytes rather than multiplies: norms, pools, losses, optimizers, each called alone, beside the time that its bytes take at the
// bandwidth measured here. And by every implementation, with products and convolutions: what a new version is worth.

#include <algorithm>
#include <bit>

#include "program/bench_rows.h"
#include "reid/engine/op_args_fused.h"
#include "reid/engine/op_args_pixels.h"

namespace reid::program {
namespace {

std::string map_text(const ConvShape& s) { return str(s.k, " x ", s.p(), " x ", s.q()); }

// The arguments of one norm of a map or of two, forward and backward.
struct NormCase {
  NormStatisticsArgs statistics[2];
  NormApplyArgs apply;
  NormBackwardArgs backward;
};

NormCase norm_case(BenchRows& rows, const std::vector<NormWindow>& windows, bool residual, const Shape& map) {
  const DType dtype = rows.dtype(), f32 = DType::f32;
  void *x = rows.random(map, dtype), *y = rows.random(map, dtype), *dy = rows.random(map, dtype);
  NormCase c{};
  c.apply = {.x = x,
             .slices = {},
             .residual = residual ? rows.random(map, dtype) : nullptr,
             .y = rows.zeros(map, dtype),
             .eps = 1e-5,
             .relu = true,
             .dtype = dtype};
  c.backward = {.dy = dy,
                .x = x,
                .y = y,
                .slices = {},
                .dx = rows.zeros(map, dtype),
                .dresidual = residual ? rows.zeros(map, dtype) : nullptr,
                .dgamma = rows.zeros({map[-1]}, f32),
                .dbeta = rows.zeros({map[-1]}, f32),
                .eps = 1e-5,
                .relu = true,
                .constant_statistics = {},
                .dtype = dtype};
  for (size_t i = 0; i < windows.size(); ++i) {
    const NormWindow& window = windows[i];
    const Shape groups{window.groups, window.count}, channels{window.count};
    void *mean = rows.zeros(groups, f32), *variance = rows.ones(groups);
    c.statistics[i] = {x, mean, variance, window, dtype};
    c.apply.slices[i] = {window, mean, variance, rows.random(channels, f32), rows.random(channels, f32)};
    c.backward.slices[i] = c.apply.slices[i];
    if (residual) c.backward.slices[i].beta = nullptr;
  }
  return c;
}

void norm_rows(BenchRows& rows, const ConvShape& s, const char* kind, int64_t groups) {
  const Shape map{s.n, s.p(), s.q(), s.k};
  const NormWindow window{groups, s.n * s.p() * s.q() / groups, s.k, 0, s.k};
  const std::string of = str(kind, " norm ", map_text(s), ": ");
  rows.time<NormStatistics>(of + "statistics", norm_case(rows, {window}, false, map).statistics[0]);
  rows.time<NormApply>(of + "apply, ReLU", norm_case(rows, {window}, false, map).apply);
  rows.time<NormApply>(of + "apply, residual, ReLU", norm_case(rows, {window}, true, map).apply);
  rows.time<NormBackward>(of + "backward, ReLU", norm_case(rows, {window}, false, map).backward);
  rows.time<NormBackward>(of + "backward, residual, ReLU", norm_case(rows, {window}, true, map).backward);
  if (groups > 1 || Registry::implementations<NormGradient>(rows.options().device.type).size() < 2) return;  // on a CPU nobody asks for it
  const NormBackwardArgs b = norm_case(rows, {window}, true, map).backward;
  const auto& [all, mean, variance, gamma, beta] = b.slices[0];
  rows.time<NormGradient>(of + "backward behind a convolution's sums",
                          {b.dy, b.x, mean, variance, gamma, b.dgamma, b.dbeta, b.dx, all.length, s.k, b.eps, false, b.dtype});
}

// The first half of the channels by image, the second over the batch (Pan et al., ECCV 2018), with the ReLU behind it.
void ibn_rows(BenchRows& rows, const ConvShape& s) {
  const Shape map{s.n, s.p(), s.q(), s.k};
  const int64_t pixels = s.p() * s.q(), half = s.k / 2;
  const std::vector<NormWindow> halves{{s.n, pixels, s.k, 0, half}, {1, s.n * pixels, s.k, half, s.k - half}};
  const NormCase c = norm_case(rows, halves, false, map);
  const Device device = rows.options().device;
  const double once = static_cast<double>(map.numel() * size_of(rows.dtype()));
  rows.together(str("IBN ", map_text(s), ": statistics and apply, ReLU"), 3 * once, [&] {
    for (const NormStatisticsArgs& statistics : c.statistics) dispatch<NormStatistics>(device, statistics);
    dispatch<NormApply>(device, c.apply);
  });
  rows.time<NormBackward>(str("IBN ", map_text(s), ": backward, ReLU"), norm_case(rows, halves, false, map).backward);
}

// Distinct maps behind the network's convolutions.
std::vector<ConvLayer> distinct_maps(const std::vector<ConvLayer>& layers) {
  std::vector<ConvLayer> maps;
  for (const ConvLayer& layer : layers) {
    const auto alike = [&](const ConvLayer& other) { return other.shape.k == layer.shape.k && other.shape.p() == layer.shape.p(); };
    if (std::ranges::none_of(maps, alike)) maps.push_back(layer);
  }
  return maps;
}

void pool_rows(BenchRows& rows, const ConvShape& stem, const ConvShape& last) {
  const DType dtype = rows.dtype(), f32 = DType::f32;
  const PoolShape window{.n = stem.n, .h = stem.p(), .w = stem.q(), .c = stem.k, .kernel = 3, .stride = 2, .pad = 1, .ceil = false};
  const Shape in{window.n, window.h, window.w, window.c}, out{window.n, window.out(window.h), window.out(window.w), window.c};
  const auto index = [&] { return static_cast<int32_t*>(rows.zeros(out, DType::i32)); };
  const std::string of = "max pool " + map_text(stem);
  const Device device = rows.options().device;
  rows.time<MaxPool>(of, {rows.random(in, dtype), rows.zeros(out, dtype), index(), window, dtype});
  int32_t* const maxima = index();
  dispatch<MaxPool>(device, {rows.random(in, dtype), rows.zeros(out, dtype), maxima, window, dtype});
  rows.time<MaxPoolBackward>(of + ": backward", {rows.random(out, dtype), maxima, rows.zeros(in, dtype), window, dtype});
  const int64_t n = last.n, length = last.p() * last.q(), c = last.k;
  for (const bool generalized : {false, true}) {
    const std::string kind = str(generalized ? "generalized mean " : "mean ", map_text(last));
    const auto exponent = [&] { return generalized ? rows.from(std::vector<float>{3}) : nullptr; };
    rows.time<GlobalPool>(kind, {rows.random({n, length, c}, dtype), exponent(), rows.zeros({n, c}, dtype), n, length, c, 1e-6, dtype});
    const GlobalPoolArgs made{rows.random({n, length, c}, dtype), exponent(), rows.zeros({n, c}, dtype), n, length, c, 1e-6, dtype};
    dispatch<GlobalPool>(device, made);
    rows.time<GlobalPoolBackward>(kind + ": backward",
                                  {rows.random({n, c}, dtype), made.x, made.p, made.y, rows.zeros({n, length, c}, dtype),
                                   generalized ? rows.zeros({1}, f32) : nullptr, n, length, c, 1e-6, dtype});
  }
}

// A batch's images, each as it is: where a window lies changes nothing of what is written. Blurred over six pixels either way and with all
// four changes of colors, of which training draws half each.
void view_rows(BenchRows& rows, const ConvShape& images) {
  const Shape x{images.n, images.h, images.w, 3};
  rows.time<ViewsFromPixels>(str("views of ", images.h, " x ", images.w),
                             {.x = static_cast<const uint8_t*>(rows.zeros(x, DType::u8)),
                              .views = static_cast<const int32_t*>(rows.zeros({images.n, kPixelViewFields}, DType::i32)),
                              .y = rows.zeros(x, rows.dtype()),
                              .n = images.n,
                              .h = images.h,
                              .w = images.w,
                              .colors = {.mean = {0.5f, 0.5f, 0.5f}, .std = {0.25f, 0.25f, 0.25f}},
                              .dtype = rows.dtype()});
  const int32_t twice = std::bit_cast<int32_t>(2.0f);
  const std::vector<int32_t> change = {0, 0, 0, 6, 1, twice, 3, twice, 2, twice, 4, 20, 8192, 4096, 4096, 2048, 1024, 512, 512};
  std::vector<int32_t> changes;
  for (int64_t i = 0; i < images.n; ++i) changes.insert(changes.end(), change.begin(), change.end());
  rows.time<ColorPixels>(str("colors of ", images.h, " x ", images.w), {.x = static_cast<const uint8_t*>(rows.zeros(x, DType::u8)),
                                                                        .changes = static_cast<const int32_t*>(rows.from(changes)),
                                                                        .y = static_cast<uint8_t*>(rows.zeros(x, DType::u8)),
                                                                        .n = images.n,
                                                                        .h = images.h,
                                                                        .w = images.w,
                                                                        .weights = std::ssize(change) - kPixelChangeFields});
}

// Sizes of a cluster-contrast run on Market-1501: a memory of 12,936 images, some thousand clusters.
void loss_rows(BenchRows& rows, int64_t features) {
  const DType f32 = DType::f32;
  const int64_t batch = rows.batch(), images = 12936, clusters = 10000;
  const auto b = static_cast<double>(batch), d = static_cast<double>(features);
  const auto ones = [&] { return rows.ones({batch}); };
  const auto labels = [&](int64_t count) {
    std::vector<int32_t> all;
    for (int64_t i = 0; i < count; ++i) all.push_back(static_cast<int32_t>(i));
    return static_cast<const int32_t*>(rows.from(all));
  };
  const auto same = [&](int64_t value) {
    return static_cast<const int32_t*>(rows.from(std::vector<int32_t>(static_cast<size_t>(batch), static_cast<int32_t>(value))));
  };
  std::vector<uint8_t> mask(static_cast<size_t>(batch * images), kNegative);
  for (int64_t i = 0; i < batch; ++i) std::fill_n(mask.begin() + i * images + i, std::min<int64_t>(4, images - i), kPositive);
  rows.time<OnePositiveRows>(str("instance loss, ", batch, " x ", images),
                             {rows.random({batch, images}, f32), static_cast<const uint8_t*>(rows.from(mask)), ones(), ones(),
                              rows.zeros({batch}, f32), rows.zeros({batch, images}, f32), batch, images, f32});
  rows.time<SoftmaxRows>(str("softmax loss, ", batch, " x ", images),
                         {rows.random({batch, images}, f32), static_cast<const uint8_t*>(rows.from(mask)), nullptr, ones(), ones(),
                          rows.zeros({batch}, f32), rows.zeros({batch, images}, f32), batch, images, 0.0, f32});
  rows.time<CentroidRows>(
      str("centroid loss, ", batch, " x ", clusters, " x ", features),
      {rows.random({batch, features}, f32), rows.random({clusters, features}, f32), labels(batch), nullptr, same(0), same(clusters), ones(),
       ones(), rows.zeros({batch}, f32), rows.zeros({batch, features}, f32), batch, clusters, features, 0.0, f32},
      4 * b * static_cast<double>(clusters) * d);
  rows.time<HardestNegatives>(
      str("hardest 50 of ", batch, " x ", clusters),
      {rows.random({batch, clusters}, f32),
       static_cast<const uint8_t*>(rows.from(std::vector<uint8_t>(static_cast<size_t>(batch * clusters), kNegative))),
       static_cast<uint8_t*>(rows.zeros({batch, clusters}, DType::u8)), batch, clusters, 50, f32});
  rows.time<L2Normalize>(
      str("unit rows, ", batch, " x ", features),
      {rows.random({batch, features}, f32), rows.zeros({batch, features}, f32), rows.zeros({batch}, f32), batch, features, 1e-12, f32});
}

void optimizer_rows(BenchRows& rows, int64_t count) {
  const DType f32 = DType::f32;
  const Segment all{.offset = 0, .count = count};
  const auto flat = [&] { return rows.random({count}, f32); };
  const auto once = static_cast<double>(count * size_of(f32));
  const std::string of = str(", ", count, " parameters");
  rows.time<AdamStep>(
      "Adam" + of,
      {flat(), flat(), rows.zeros({count}, f32), rows.zeros({count}, f32), &all, 1, 3.5e-4, 0.9, 0.999, 1e-8, 5e-4, false, f32}, 0,
      3 * once);
  const StepBehind behind{.average = flat(),
                          .momentum = 0.999,
                          .rounded = rows.zeros({count}, DType::bf16),
                          .average_rounded = rows.zeros({count}, DType::bf16),
                          .clear = true};
  rows.time<AdamStep>(
      "Adam with average, bf16 copies, cleared gradient" + of,
      {flat(), flat(), rows.zeros({count}, f32), rows.zeros({count}, f32), &all, 1, 3.5e-4, 0.9, 0.999, 1e-8, 5e-4, false, f32, behind}, 0,
      4 * once);
  rows.time<SgdStep>("SGD" + of, {flat(), flat(), rows.zeros({count}, f32), &all, 1, 0.01, 0.9, 5e-4, false, f32}, 0, 2 * once);
  rows.time<EmaUpdate>("moving average" + of, {flat(), flat(), count, 0.999, f32}, 0, once);
  rows.time<Cast>("weights to bf16" + of, {flat(), rows.zeros({count}, DType::bf16), count, f32, DType::bf16});
}

// What else it does where a block's input has a gradient already and came out of a norm: where the fastest does so in passing.
void data_gradient_rows(BenchRows& rows, const ConvLayer& layer, const std::string& of, const ConvBackwardDataArgs& plain, const Shape& x) {
  rows.time<ConvBackwardData>(of + "data gradient", plain, layer.flop());
  if (!layer.name.ends_with("conv1")) return;
  const DType dtype = rows.dtype();
  const auto time = [&](const char* what, const ConvBackwardDataArgs& args) {
    if (Registry::accepts_more<ConvBackwardData>(rows.options().device.type, plain, args))
      rows.time<ConvBackwardData>(of + what, args, layer.flop());
  };
  ConvBackwardDataArgs fuller = plain;
  fuller.addend = rows.random(x, dtype);
  time("data gradient, addend", fuller);
  const auto channels = [&] { return rows.ones({x[3]}); };
  fuller.norm = {rows.random(x, dtype), rows.random(x, dtype), channels(), channels(), channels(), channels(), 1e-5};
  time("data gradient, addend, sums of the norm before", fuller);
}

void conv_rows(BenchRows& rows, const ConvLayer& layer) {
  const ConvShape& s = layer.shape;
  const DType dtype = rows.dtype();
  const Shape x{s.n, s.h, s.w, s.c}, w{s.k, s.r, s.s, s.c}, y{s.n, s.p(), s.q(), s.k};
  const std::string of = str("convolution ", layer.name, " ", s.r, " x ", s.s, ": ");
  rows.time<ConvForward>(of + "forward", {rows.random(x, dtype), rows.random(w, dtype), rows.zeros(y, dtype), s, dtype}, layer.flop());
  if (!layer.first) data_gradient_rows(rows, layer, of, {rows.random(y, dtype), rows.random(w, dtype), rows.zeros(x, dtype), s, dtype}, x);
  rows.time<ConvBackwardWeight>(of + "weight gradient",
                                {rows.random(x, dtype), rows.random(y, dtype), rows.zeros(w, wide(dtype)), s, dtype}, layer.flop());
}

void product_rows(BenchRows& rows, const BenchOptions& o) {
  const DType dtype = rows.dtype();
  const auto [m, n, k] = o.sizes.empty() ? MatrixSize{4096, 4096, 4096} : parse_size(o.sizes.front());
  rows.time<Gemm>(str("product ", m, " x ", n, " x ", k),
                  {.a = rows.random({m, k}, dtype),
                   .b = rows.random({k, n}, dtype),
                   .c = rows.zeros({m, n}, wide(dtype)),
                   .m = m,
                   .n = n,
                   .k = k,
                   .dtype = dtype},
                  2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}

// The map that the network ends with.
const ConvShape& last_map(const std::vector<ConvLayer>& layers) {
  return std::ranges::max_element(layers, {}, [](const ConvLayer& layer) { return layer.shape.k; })->shape;
}

int64_t parameters(const std::vector<ConvLayer>& layers) {
  int64_t count = 0;
  for (const ConvLayer& layer : layers) count += layer.count * layer.shape.k * layer.shape.r * layer.shape.s * layer.shape.c;
  return count;
}

}  // namespace

Json bench_ops(const Context& context, const BenchOptions& o) {
  const std::vector<ConvLayer> layers = conv_layers(o);
  BenchRows rows(context, o, false);
  view_rows(rows, layers.front().shape);
  for (const ConvLayer& layer : distinct_maps(layers)) {
    norm_rows(rows, layer.shape, "batch", 1);
    if (!layer.name.ends_with(".conv1") || o.model.ibn == "none") continue;
    norm_rows(rows, layer.shape, "instance", layer.shape.n);
    ibn_rows(rows, layer.shape);
  }
  pool_rows(rows, layers.front().shape, last_map(layers));
  loss_rows(rows, last_map(layers).k);
  search_rows(rows, last_map(layers).k);
  optimizer_rows(rows, parameters(layers));
  return rows.json();
}

// The problems that docs/kernels.md shows progressions on.
Json bench_kernels(const Context& context, const BenchOptions& o) {
  const std::vector<ConvLayer> layers = conv_layers(o);
  BenchRows rows(context, o, true);
  product_rows(rows, o);
  for (const char* name : {"conv1", "layer1.0.conv2", "layer1.0.conv3", "layer3.1.conv2"}) {
    const auto layer = std::ranges::find_if(layers, [&](const ConvLayer& l) { return l.name == name; });
    if (layer != layers.end()) conv_rows(rows, *layer);
  }
  const std::vector<ConvLayer> maps = distinct_maps(layers);
  norm_rows(rows, maps[std::min<size_t>(2, maps.size() - 1)].shape, "batch", 1);
  pool_rows(rows, layers.front().shape, last_map(layers));
  loss_rows(rows, last_map(layers).k);
  optimizer_rows(rows, parameters(layers));
  return rows.json();
}

}  // namespace reid::program
