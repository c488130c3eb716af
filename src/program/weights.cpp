// reid weights: other programs' weights in and out. Here: looking into files, and the verb itself.

#include "program/weights.h"

#include <filesystem>
#include <memory>

namespace reid::program {
namespace {

void declare(Flags& f, WeightsOptions& o) {
  std::string presets;
  for (const Convention& c : conventions()) presets += (presets.empty() ? "" : ", ") + c.name;
  f.argument("ACTION", o.action, "info FILE; import FILE; export FILE; compare A B", Presence::required);
  f.argument("FILE", o.file, "weights: PyTorch, safetensors or NumPy; export: an encoder of this program", Presence::required);
  f.arguments("B|KEY=VALUE", o.words, "compare: the second file. import: settings, e.g. model.last_stride=2 data.height=384");
  f.option("--out", o.out, "FILE", "import, export: the file to write");
  f.choice("--format", o.format, {"safetensors", "pth", "onnx"}, "export: what to write");
  f.option("--convention", o.convention, "NAME", "import, compare: " + presets + "; default: by the tensors' names");
  f.flag("--inexact", o.inexact, "import, compare: also networks that this program runs a little differently");
  f.flag("--preprocess", o.preprocess, "export to onnx: pixels 0..255 in, the normalization inside");
  f.options("--verify", o.images, "IMAGE|DIR", "import, export: embed these before and after, and compare");
  f.options("--images", o.images, "IMAGE|DIR", "compare: embed these with both, and compare");
  f.flag("--all", o.all, "print long lists whole");
}

int64_t elements(const NamedTensors& content) {
  int64_t sum = 0;
  for (const auto& [name, tensor] : content.tensors) sum += tensor.numel();
  return sum;
}

Json extents(const Shape& shape) {
  Json list = Json::array();
  for (const int64_t extent : shape.extents()) list.push_back(extent);
  return list;
}

// Which network the tensors are, in a line.
Json recognize(const Context& context, const TensorFile& file) {
  if (is_encoder(file.content)) {
    context.say("an encoder of this program: ", *file.content.note("model"), "\n  images: ", *file.content.note("preprocessing"));
    return Json::object({{"origin", "reid"}, {"encoder", true}});
  }
  try {
    const MappedWeights mapped = map_weights(file.content);
    const EncoderConfig shown = encoder_shown_by(mapped.weights);
    const ResNetConfig& b = shown.backbone;
    context.say("origin: ", mapped.origin, " (", mapped.remark, "), at '", mapped.root, "'\nnetwork: ResNet-", b.depth, ", width ", b.width,
                ", IBN ", b.ibn, ", pooling ", shown.pooling, ", neck ", shown.neck, shown.map_norm ? ", a norm on the map" : "");
    return Json::object({{"origin", mapped.origin},
                         {"convention", mapped.convention},
                         {"root", mapped.root},
                         {"exact", mapped.exact},
                         {"depth", b.depth},
                         {"width", b.width},
                         {"ibn", b.ibn},
                         {"pooling", shown.pooling},
                         {"neck", shown.neck},
                         {"map_norm", shown.map_norm}});
  } catch (const Error& e) {
    context.say("no network to import: ", e.what());
    return Json::object({{"origin", Json()}, {"why", e.what()}});
  }
}

void info(const Context& context, const WeightsOptions& o) {
  const TensorFile file = read_tensor_file(o.file);
  const auto& tensors = file.content.tensors;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(o.file));
  context.say(o.file, ": ", file.container, ", ", tensors.size(), " tensors, ", elements(file.content), " numbers, ", bytes, " bytes");
  constexpr size_t kHead = 12, kTail = 4;
  Json table = Json::array();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    const bool shown = o.all || tensors.size() <= kHead + kTail + 1 || i < kHead || i + kTail >= tensors.size();
    if (shown) context.say("  ", column(name, 48), column(file.dtypes.at(i), 10), tensor.shape());
    if (!shown && i == kHead) context.say("  ... ", tensors.size() - kHead - kTail, " more (--all)");
    table.push_back(Json::object({{"name", name}, {"dtype", file.dtypes.at(i)}, {"shape", extents(tensor.shape())}}));
  }
  Json values = Json::object();
  for (const auto& [key, value] : file.content.metadata) {
    if (!is_encoder(file.content)) context.say("  ", column(key, 48), value);
    values[key] = value;
  }
  if (!file.skipped.empty()) context.say("passed over: ", listed(file.skipped, o.all));
  Json result = Json::object({{"file", o.file}, {"container", file.container}, {"bytes", bytes}, {"elements", elements(file.content)}});
  result["tensors"] = std::move(table);
  result["values"] = std::move(values);
  result["skipped"] = name_list(file.skipped);
  result["network"] = recognize(context, file);
  context.write_json(result);
}

void run(const Context& context, const WeightsOptions& o) {
  if (o.action == "import") return import_weights(context, o);
  if (o.action == "export") return export_weights(context, o);
  if (o.action == "compare") return compare_weights(context, o);
  if (o.action != "info") throw UsageError(str("'", o.action, "' is not one of info, import, export, compare"));
  if (!o.words.empty()) throw UsageError("'" + o.words[0] + "' is one argument too many");
  info(context, o);
}

}  // namespace

std::string column(std::string text, size_t width) {
  text.resize(std::max(width, text.size() + 2), ' ');
  return text;
}

std::string listed(const std::vector<std::string>& names, bool all) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!all && i == kShown && names.size() > kShown + 1) return text + str(" and ", names.size() - i, " more (--all)");
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return text;
}

Json name_list(const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const std::string& name : names) list.push_back(name);
  return list;
}

Verb weights_verb() {
  auto o = std::make_shared<WeightsOptions>();
  return {"weights", "read, import, export and compare weights",
          "reid weights info resnet50_ibn_a.pth\n"
          "  reid weights import market_bot_R50.pth --out W.safetensors --verify photos/\n"
          "  reid weights import lup_moco_r50.pth --convention luperson model.last_stride=1 --out W.safetensors\n"
          "  reid weights export W.safetensors --format onnx --preprocess --out W.onnx --verify photos/\n"
          "  reid weights compare W.safetensors market_bot_R50.pth --images photos/",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
