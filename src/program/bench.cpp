// reid bench: how fast the network, its convolutions, products of matrices and the loading of images are on this machine.

#include "program/bench.h"

#include <algorithm>
#include <memory>

#include "reid/formats/image.h"

namespace reid::program {

namespace {

std::vector<std::string> all_dtypes() {
  std::vector<std::string> all;
  for (const auto& some : {network_dtypes(), conv_dtypes(), gemm_dtypes()}) {
    for (const std::string& name : some) {
      if (std::ranges::find(all, name) == all.end()) all.push_back(name);
    }
  }
  return all;
}

void declare(Flags& f, BenchOptions& o) {
  f.argument(
      "WHAT", o.what,
      "network: a training step, inference of a batch and of one image (the default); layers: each convolution of the network; gemm: "
      "products of matrices; ops: norms, pools, losses, optimizers; kernels: ops, products and convolutions by every implementation; "
      "loader: decoding and augmenting, on one thread; search: clustering, evaluation, neighbors and re-ranking of features; "
      "machine: the ceilings, and what there is; all: network, layers, gemm, loader, machine");
  f.choice("--dtype", o.dtype, all_dtypes(), "all but loader, search: numbers to compute with; all measures every one");
  f.option("--steps", o.steps, "steps, or calls, measured", Range::at_least(1));
  f.option("--warmup", o.warmup, "steps, or calls, before", Range::at_least(0));
  f.option("--patience", o.patience, "seconds after which a call was measured often enough, be it once", Range::above(0));
  f.option("--batch", o.batch, "all but gemm, loader, search: images in a step", Range::at_least(2));
  f.option("--height", o.height, "all but gemm, loader, search: rows of an image", Range::closed(16, 4096));
  f.option("--width", o.width, "all but gemm, loader, search: columns of an image", Range::closed(16, 4096));
  f.option("--depth", o.model.depth, "all but gemm, loader, search: ResNet depth");
  f.choice("--ibn", o.model.ibn, {"none", "a", "b"}, "network, layers, ops: instance-batch norm variant");
  f.option("--last-stride", o.model.last_stride, "all but gemm, loader, search: stride of the fourth stage", Range::closed(1, 2));
  f.choice("--numerics", o.model.numerics, {"deterministic", "strict"},
           "network, layers, gemm: any fixed sums, or those of the definition alone");
  f.option("--channels", o.model.width, "all but gemm, loader, search: channels of the first stage", Range::closed(2, 1024));
  f.option("--impl", o.implementation, "NAME",
           "layers, gemm, ops, kernels: this implementation and no other; an unknown one lists what the device has");
  f.options("--size", o.sizes, "MxNxK", "gemm, kernels: sizes of [M, K] x [K, N]; default: square ones and those of 1x1 convolutions");
  f.choice("--scale", o.scale, search_scales(), "search: as many rows as a data set's training and test images");
  f.option("--images", o.images, "DIR",
           "loader: each folder in it is a set of images; drawn when DIR is absent; default: drawn and removed again");
}

Json names_json(const std::vector<std::string>& names) {
  Json all = Json::array();
  for (const std::string& name : names) all.push_back(name);
  return all;
}

Json machine_json(const Context& context) {
  return Json::object({{"device", describe_cpu()},
                       {"computed_on", describe(context.device)},
                       {"threads", static_cast<int64_t>(context.threads)},
                       {"program", version()},
                       {"decoder", image_decoder()}});
}

void say_peak(const Context& context, const Peak& peak) {
  for (const std::string& line : peak.text()) context.say(line);
}

// The ceilings of the CPU, or of the accelerator that was asked for.
Json bench_machine(const Context& context) {
  Peak peak(context.device);
  for (int i = 0; i < 20; ++i) peak.sample();
  static_cast<void>(peak.bandwidth());
  say_peak(context, peak);
  Json peak_bf16;
  if (context.device.type != DeviceType::cpu) {
    Peak tensor_cores(context.device, DType::bf16);
    for (int i = 0; i < 20; ++i) tensor_cores.sample();
    say_peak(context, tensor_cores);
    peak_bf16 = tensor_cores.json();
  }
  Json implementations = Json::object();
  for (const OpInfo& op : Registry::ops()) implementations[op.name] = names_json(op.implementations);
  return Json::object({{"peak", peak.json()},
                       {"peak_bf16", peak_bf16},
                       {"dtypes", Json::object({{"network", names_json(network_dtypes())},
                                                {"layers", names_json(conv_dtypes())},
                                                {"gemm", names_json(gemm_dtypes())}})},
                       {"implementations", implementations}});
}

using Measurement = Json (*)(const Context&, const BenchOptions&);

void check_dtype(const BenchOptions& o, const std::vector<std::string>& there) {
  if (std::ranges::find(there, o.dtype) == there.end()) throw UsageError(str(o.what, " has no measurement in ", o.dtype));
}

// A measurement in each of its dtypes.
Json in_each(const Context& context, BenchOptions o, const std::vector<std::string>& dtypes, Measurement measurement) {
  Json all = Json::array();
  for (const std::string& dtype : dtypes) {
    o.dtype = dtype;
    all.push_back(measurement(context, o));
    context.say("");
  }
  return all;
}

Json bench_all(const Context& context, const BenchOptions& o) {
  return Json::object({{"machine", bench_machine(context)},
                       {"network", in_each(context, o, network_dtypes(), bench_network)},
                       {"layers", in_each(context, o, conv_dtypes(), bench_layers)},
                       {"gemm", in_each(context, o, gemm_dtypes(), bench_gemm)},
                       {"loader", bench_loader(context, o)}});
}

Json measured(const Context& context, const BenchOptions& o) {
  if (o.what == "machine") return bench_machine(context);
  if (o.what == "all") return bench_all(context, o);
  if (o.what == "loader") return bench_loader(context, o);
  if (o.what == "network") return check_dtype(o, network_dtypes()), bench_network(context, o);
  if (o.what == "layers") return check_dtype(o, conv_dtypes()), bench_layers(context, o);
  if (o.what == "gemm") return check_dtype(o, gemm_dtypes()), bench_gemm(context, o);
  if (o.what == "ops") return check_dtype(o, network_dtypes()), bench_ops(context, o);
  if (o.what == "search") return bench_search(context, o);
  if (o.what == "kernels") return check_dtype(o, network_dtypes()), bench_kernels(context, o);
  throw UsageError(str("'", o.what, "' is not one of network, layers, gemm, ops, kernels, loader, search, machine, all"));
}

void run(const Context& context, BenchOptions o) {
  o.device = context.device;
  context.say(describe_cpu(), ", ", context.threads, " threads");
  if (o.device.type != DeviceType::cpu) context.say("computing on ", o.device, ": ", describe(o.device));
  Json result = machine_json(context);
  const Json measurement = measured(context, o);
  for (const auto& [key, value] : measurement.members()) result[key] = value;
  context.write_json(result);
  REID_CHECK(failures().empty(), failures().size(), " measurements failed; the first, ", failures().front());
}

}  // namespace

Verb bench_verb() {
  auto o = std::make_shared<BenchOptions>();
  return {"bench",
          "how fast the network, its layers and the loading of images are here",
          "reid bench layers --batch 32 --json layers.json",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
