#include "reid/learning/conventions.h"

#include <algorithm>

namespace reid {

namespace {

constexpr const char* kRange255 = "RGB in [0, 255], normalized inside the network";

std::vector<double> of_pixel(std::vector<double> values) {  // statistics of 0..255 pixels
  for (double& v : values) v /= 255;
  return values;
}

}  // namespace

const std::vector<Convention>& conventions() {
  static const std::vector<Convention> all = [] {
    const std::vector<double> lup_mean = of_pixel({89.896, 79.200, 80.073}), lup_std = of_pixel({63.872, 64.305, 63.839});
    const std::vector<double> nl_mean = of_pixel({88.306, 78.464, 79.560}), nl_std = of_pixel({67.524, 64.056, 63.546});
    return std::vector<Convention>{
        {.name = "reid", .whose = "this program's recipes"},
        {.name = "torchvision", .whose = "ImageNet classifiers", .last_stride = 2, .height = 224, .width = 224, .resize = "bilinear"},
        {.name = "ibn-net", .whose = "IBN-Net's ImageNet classifiers", .last_stride = 2, .height = 224, .width = 224, .resize = "bilinear"},
        {.name = "bot", .whose = "Bag of Tricks (reid-strong-baseline)", .resize = "bilinear"},
        {.name = "fastreid", .whose = "fast-reid: BoT, AGW, SBS", .max_pool = "ceil", .input = kRange255},
        {.name = "mgn", .whose = "fast-reid: MGN's global branch", .max_pool = "ceil", .height = 384, .input = kRange255},
        {.name = "torchreid",
         .whose = "torchreid (deep-person-reid): its ResNets",
         .last_stride = 2,
         .feature = "before",
         .resize = "bilinear"},
        {.name = "cluster-contrast", .whose = "cluster-contrast, SpCL, ICE, MMT"},
        {.name = "openunreid", .whose = "OpenUnReID"},
        {.name = "bau", .whose = "BAU"},
        {.name = "cap", .whose = "CAP"},
        {.name = "luperson", .whose = "LUPerson's pre-training", .last_stride = 2, .mean = lup_mean, .std = lup_std},
        {.name = "luperson-nl", .whose = "LUPerson-NL's pre-training", .last_stride = 2, .mean = nl_mean, .std = nl_std},
        {.name = "cion", .whose = "CION's ReIDZoo: pre-trained ResNets"},
    };
  }();
  return all;
}

const Convention& find_convention(const std::string& name) {
  std::vector<std::string> names;
  std::string list;
  for (const Convention& c : conventions()) {
    if (c.name == name) return c;
    names.push_back(c.name);
    list += (list.empty() ? "" : ", ") + c.name;
  }
  const std::string guess = nearest(name, names);
  fail(str("there is no convention '", name, "'", guess.empty() ? "" : "; did you mean '" + guess + "'?", " (there is ", list, ")"));
}

void EncoderSettings::visit(ConfigKeys& keys) {
  model.visit(keys);
  keys.section("data", "How the network wants its images.");
  keys.key("height", height, Origin::inferred, "input rows", Range::closed(16, 4096));
  keys.key("width", width, Origin::inferred, "input columns", Range::closed(16, 4096));
  keys.choice("resize", resize, {"bilinear", "bicubic"}, Origin::inferred, "Pillow-compatible filter");
  keys.key("mean", mean, Origin::inferred, "of pixel / 255: red, green, blue");
  keys.key("std", std, Origin::inferred, "of pixel / 255: red, green, blue", Range::above(0));
}

TransformConfig EncoderSettings::transform() const {
  TransformConfig t;
  t.height = static_cast<int>(height);
  t.width = static_cast<int>(width);
  t.filter = resize == "bicubic" ? Filter::bicubic : Filter::bilinear;
  t.pad = 0;
  REID_CHECK(mean.size() == 3 && std.size() == 3, "data.mean and data.std need three numbers, not ", mean.size(), " and ", std.size());
  std::copy(mean.begin(), mean.end(), t.mean.begin());
  std::copy(std.begin(), std.end(), t.std.begin());
  t.check();
  return t;
}

const char* name_of(Source source) {
  switch (source) {
    case Source::detected: return "detected";
    case Source::assumed: return "assumed";
    case Source::given: return "given";
  }
  return "?";
}

ResolvedSettings resolve_settings(const EncoderConfig& shown, const Convention& convention, const std::vector<double>& mean,
                                  const std::vector<double>& std, const std::vector<std::string>& words) {
  ResolvedSettings resolved;
  EncoderSettings& s = resolved.settings;
  const ResNetConfig& b = shown.backbone;
  s.model.depth = b.depth;
  s.model.width = b.width;
  s.model.ibn = b.ibn;
  s.model.pooling = shown.pooling;
  s.model.neck = shown.neck;
  s.model.map_norm = shown.map_norm;
  s.model.non_local = b.non_local;
  s.model.non_local_width = b.non_local_width;
  s.model.last_stride = convention.last_stride;
  s.model.max_pool = convention.max_pool;
  s.model.feature = convention.feature;
  s.height = convention.height;
  s.width = convention.width;
  s.resize = convention.resize;
  s.mean = mean.empty() ? convention.mean : mean;
  s.std = std.empty() ? convention.std : std;

  ConfigKeys keys = keys_of(s);
  for (const std::string& word : words) keys.set(word);
  REID_CHECK(s.model.weights.empty(), "model.weights is the file that is imported: leave it out");
  s.transform();
  std::vector<std::string> detected = {"model.depth", "model.width", "model.ibn", "model.neck", "model.map_norm", "model.non_local"};
  if (b.non_local) detected.emplace_back("model.non_local_width");
  if (shown.pooling == "gem") detected.emplace_back("model.pooling");  // without its exponent GeM looks like the average
  if (!mean.empty()) detected.emplace_back("data.mean");
  if (!std.empty()) detected.emplace_back("data.std");
  for (const ConfigKey& key : keys.keys()) {
    if (key.name == "model.weights" || key.name == "model.gem_p") continue;
    const auto gives = [&](const std::string& word) { return word.substr(0, word.find('=')) == key.name; };
    const bool given = std::any_of(words.begin(), words.end(), gives);
    const bool seen = std::find(detected.begin(), detected.end(), key.name) != detected.end();
    const Json value = key.get();
    resolved.sources.push_back({key.name, value.is_string() ? value.string() : value.dump(),
                                given  ? Source::given
                                : seen ? Source::detected
                                       : Source::assumed});
  }
  return resolved;
}

}  // namespace reid
