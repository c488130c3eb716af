// Every distinct convolution of the network: forward, data gradient, weight gradient, each called alone on warm memory.

#include "program/bench.h"
#include "reid/engine/registry.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace reid::program {

double ConvLayer::flop() const {
  const ConvShape& s = shape;
  return 2.0 * static_cast<double>(s.n * s.p() * s.q() * s.k * s.r * s.s * s.c);
}

std::string ConvLayer::kind() const { return str(shape.r, "x", shape.s, "/", shape.stride[0]); }

namespace {

bool same(const ConvShape& a, const ConvShape& b) {
  return a.h == b.h && a.w == b.w && a.c == b.c && a.k == b.k && a.r == b.r && a.stride[0] == b.stride[0];
}

// Adds one convolution of a map of `input`'s size; returns the shape.
ConvShape add(std::vector<ConvLayer>& layers, const std::string& name, const ConvPlan& plan, const ConvShape& input) {
  const int64_t pad = plan.kernel / 2;
  const ConvShape shape{.n = input.n,
                        .h = input.h,
                        .w = input.w,
                        .c = plan.in,
                        .k = plan.out,
                        .r = plan.kernel,
                        .s = plan.kernel,
                        .stride = {plan.stride, plan.stride},
                        .pad = {pad, pad},
                        .other_sums = input.other_sums};
  const auto found = std::ranges::find_if(layers, [&](const ConvLayer& layer) { return same(layer.shape, shape); });
  if (found != layers.end()) {
    ++found->count;
  } else {
    layers.push_back({name, 1, layers.empty(), shape});
  }
  return shape;
}

ConvShape behind(const ConvShape& s) {
  return {.n = s.n, .h = s.p(), .w = s.q(), .c = s.k, .k = 0, .r = 0, .s = 0, .other_sums = s.other_sums};
}

}  // namespace

std::vector<ConvLayer> conv_layers(const BenchOptions& o) {
  const ResNetPlan plan = plan_of(o.model.encoder().backbone);
  std::vector<ConvLayer> layers;
  ConvShape map = behind(
      add(layers, "conv1", plan.stem,
          {.n = o.batch, .h = o.height, .w = o.width, .c = 3, .k = 0, .r = 0, .s = 0, .other_sums = o.model.numerics == "deterministic"}));
  const PoolShape pool{.n = map.n, .h = map.h, .w = map.w, .c = map.c, .kernel = 3, .stride = 2, .pad = 1, .ceil = false};
  map.h = pool.out(map.h);
  map.w = pool.out(map.w);
  for (const BlockPlan& block : plan.blocks) {
    ConvShape inner = map;
    for (size_t i = 0; i < block.convs.size(); ++i) inner = behind(add(layers, str(block.name(), ".conv", i + 1), block.convs[i], inner));
    if (block.shortcut) add(layers, block.name() + ".downsample", *block.shortcut, map);
    map = inner;
  }
  return layers;
}

namespace {

constexpr const char* kPasses[] = {"forward", "data", "weight"};

std::vector<Cell> time_layer(const BenchOptions& o, const ConvLayer& layer) {
  const ConvShape& s = layer.shape;
  const DType dtype = dtype_named(o.dtype);
  const auto random = [&](const Shape& shape, uint64_t seed) { return random_normal(shape, Rng(seed), dtype, o.device); };
  const Tensor x = random({s.n, s.h, s.w, s.c}, 1), w = random({s.k, s.r, s.s, s.c}, 2), dy = random({s.n, s.p(), s.q(), s.k}, 3);
  const auto zeros = [&](const Shape& shape, DType type) { return Tensor::zeros(shape, type, o.device); };
  const Tensor y = zeros(dy.shape(), dtype), dx = zeros(x.shape(), dtype), dw = zeros(w.shape(), wide(dtype));
  std::vector<Cell> cells;
  cells.push_back(time_op<ConvForward>(o, {x.raw(), w.raw(), y.raw(), s, dtype}));
  if (layer.first) {
    cells.push_back({"", "the image wants no gradient", {}});
  } else {
    cells.push_back(time_op<ConvBackwardData>(o, {dy.raw(), w.raw(), dx.raw(), s, dtype}));
  }
  cells.push_back(time_op<ConvBackwardWeight>(o, {x.raw(), dy.raw(), dw.raw(), s, dtype}));
  return cells;
}

// Sums of flop, of median and least seconds and of what they were at least over layers, each as often as the network has it.
struct Sum {
  double flop = 0, median = 0, least = 0, floor = 0;
  void add(const ConvLayer& layer, const Cell& cell, const Peak& peak) {
    if (cell.times.seconds.empty()) return;
    const auto count = static_cast<double>(layer.count);
    const double seconds = cell.times.median();
    flop += count * layer.flop();
    median += count * seconds;
    least += count * cell.times.least();
    floor += count * seconds * peak.share(cell.bytes, layer.flop(), seconds);
  }
  double share() const { return floor / median; }
  Json json(const Peak& peak) const {
    Json sum = Json::object(
        {{"median", median}, {"least", least}, {"gflops", flop / median / 1e9}, {"share_of_peak", flop / median / peak.rate()}});
    sum[str("share_of_", peak.whole())] = share();
    return sum;
  }
};

std::string cell_text(double flop, double seconds, double share) {
  char text[64];
  std::snprintf(text, sizeof text, " |%8.*f %6.0f %3.0f%%", seconds < 1e-3 ? 4 : 2, 1e3 * seconds, flop / seconds / 1e9, 100 * share);
  return seconds > 0 ? text : " |                    ";
}

// Sums by kind of convolution and pass; "all" is every convolution, or every pass.
using Sums = std::map<std::string, std::map<std::string, Sum>>;

void add_to(Sums& sums, const ConvLayer& layer, const char* pass, const Cell& cell, const Peak& peak) {
  for (const std::string& kind : {layer.kind(), std::string("all")}) {
    for (const char* which : {pass, "all"}) sums[kind][which].add(layer, cell, peak);
  }
}

Json say_sums(const Context& context, const Sums& sums, const Peak& peak) {
  Json json = Json::object();
  for (const auto& [kind, passes] : sums) {
    char name[64];
    std::snprintf(name, sizeof name, "%-39s", kind == "all" ? "all convolutions" : ("all " + kind).c_str());
    std::string line = name;
    json[kind] = Json::object();
    for (const char* pass : {"forward", "data", "weight", "all"}) {
      const auto found = passes.find(pass);
      const Sum sum = found == passes.end() ? Sum() : found->second;
      if (sum.median > 0) json[kind][pass] = sum.json(peak);
      line += cell_text(sum.flop, sum.median, sum.share());
    }
    context.say(line);
  }
  return json;
}

template <class Op>
void add_names(std::vector<std::string>& names, Device device) {
  for (const Impl<Op>& impl : Registry::implementations<Op>(device.type)) {
    if (std::ranges::find(names, impl.name) == names.end()) names.emplace_back(impl.name);
  }
}

void check_implementation(const BenchOptions& o) {
  initialize();
  std::vector<std::string> names;
  add_names<ConvForward>(names, o.device);
  add_names<ConvBackwardData>(names, o.device);
  add_names<ConvBackwardWeight>(names, o.device);
  if (o.implementation.empty() || std::ranges::find(names, o.implementation) != names.end()) return;
  const std::string guess = nearest(o.implementation, names);
  std::string all;
  for (const std::string& name : names) all += str(all.empty() ? "" : ", ", name);
  throw UsageError(str("convolutions have no implementation '", o.implementation, "' on ", o.device,
                       guess.empty() ? "" : "; did you mean '" + guess + "'?", " (they have: ", all, ")"));
}

using Cells = std::vector<Cell>;  // of a layer: one for each of kPasses

void say_layer(const Context& context, const ConvLayer& layer, const Cells& cells, const Peak& peak) {
  char name[96];
  std::snprintf(name, sizeof name, "%2d x %-19s %4d>%-4d %-5s", static_cast<int>(layer.count), layer.name.c_str(),
                static_cast<int>(layer.shape.c), static_cast<int>(layer.shape.k), layer.kind().c_str());
  std::string line = name;
  for (const Cell& cell : cells) {
    const double seconds = cell.refused.empty() ? cell.times.median() : 0;
    line += cell_text(layer.flop(), seconds, peak.share(cell.bytes, layer.flop(), seconds));
  }
  context.say(line);
}

Json layer_json(const ConvLayer& layer, const Cells& cells, const Peak& peak) {
  const ConvShape& s = layer.shape;
  Json row = Json::object({{"name", layer.name},
                           {"count", layer.count},
                           {"kind", layer.kind()},
                           {"in", s.c},
                           {"out", s.k},
                           {"height", s.h},
                           {"width", s.w},
                           {"gflop", layer.flop() / 1e9}});
  for (size_t i = 0; i < cells.size(); ++i) {
    const Cell& cell = cells[i];
    if (!cell.refused.empty()) {
      row[kPasses[i]] = Json::object({{"refused", cell.refused}});
      continue;
    }
    const double rate = layer.flop() / cell.times.median();
    row[kPasses[i]] = Json::object({{"implementation", cell.implementation},
                                    {"gflops", rate / 1e9},
                                    {"share_of_peak", rate / peak.rate()},
                                    {"bytes", cell.bytes},
                                    {"times", cell.times.json()}});
    peak.add_floor(row[kPasses[i]], cell.bytes, layer.flop(), cell.times.median());
  }
  return row;
}

}  // namespace

std::vector<std::string> conv_dtypes() {
  initialize();
  std::vector<std::string> names;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const ConvForwardArgs args{nullptr, nullptr, nullptr, {.n = 1, .h = 8, .w = 8, .c = 64, .k = 64, .r = 1, .s = 1}, dtype};
    const auto& all = Registry::implementations<ConvForward>(DeviceType::cpu);
    const bool there = std::ranges::any_of(all, [&](const Impl<ConvForward>& impl) {
      return std::string_view(impl.name) != "reference" && !(impl.refuses && impl.refuses(args));
    });
    if (there) names.emplace_back(name_of(dtype));
  }
  return names;
}

Json bench_layers(const Context& context, const BenchOptions& o) {
  check_implementation(o);
  Peak peak(o.device, dtype_named(o.dtype));
  context.say("convolutions of ResNet-", o.model.depth, ", ", o.height, "x", o.width, ", last stride ", o.model.last_stride, ", batch ",
              o.batch, ", ", o.dtype, ": milliseconds, GFLOP/s, share of the ", peak.whole());
  char heading[160];
  std::snprintf(heading, sizeof heading, "%-39s | %-19s | %-19s | %-19s", " x layer               in>out  size/stride", "forward",
                "data gradient", "weight gradient");
  context.say(heading);
  const std::vector<ConvLayer> layers = conv_layers(o);
  std::vector<Cells> cells;
  for (const ConvLayer& layer : layers) {
    peak.follow();
    cells.push_back(time_layer(o, layer));
    say_layer(context, layer, cells.back(), peak);
  }
  Sums sums;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t i = 0; i < cells[l].size(); ++i) add_to(sums, layers[l], kPasses[i], cells[l][i], peak);
  }
  const Json sums_json = say_sums(context, sums, peak);
  Json rows = Json::array();
  for (size_t i = 0; i < layers.size(); ++i) rows.push_back(layer_json(layers[i], cells[i], peak));
  for (const std::string& line : peak.text()) context.say(line);
  return Json::object({{"dtype", o.dtype}, {"batch", o.batch}, {"rows", rows}, {"sums", sums_json}, {"peak", peak.json()}});
}

}  // namespace reid::program
