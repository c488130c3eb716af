#include "reid/formats/weight_names.h"

#include "formats/weight_origins.h"
#include "reid/formats/weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace reid {

namespace {

constexpr const char* kPreferred[] = {"state_dict", "state_dict_1", "model", "params_ema", "model_ema", "ema",
                                      "teacher",    "mean_net",     "net",   "encoder_q",  "student"};
// What may stand between a network and its backbone, so that heads are looked for above it.
constexpr const char* kContainers[] = {"module", "backbone", "base", "model", "encoder", "network", "resnet"};

std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words;
  while (!name.empty()) {
    const size_t dot = std::min(name.find('.'), name.size());
    words.emplace_back(name.substr(0, dot));
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return words;
}

// Whether the network at path `a` is taken rather than the one at `b`: the first word in which they differ decides.
bool preferred(std::string_view a, std::string_view b) {
  const auto rank = [](const std::string& word) { return std::find(std::begin(kPreferred), std::end(kPreferred), word); };
  const std::vector<std::string> x = words_of(a), y = words_of(b);
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (x[i] != y[i]) return rank(x[i]) < rank(y[i]);
  }
  return false;
}

bool is_stem(const Tensor& t) { return t.shape().rank() == 4 && t.dim(1) == 3 && t.dim(2) == 7 && t.dim(3) == 7; }

bool any_starts_with(const NamedTensors& file, const std::string& start) {
  return std::any_of(file.tensors.begin(), file.tensors.end(), [&](const auto& entry) { return entry.first.starts_with(start); });
}

struct Found {
  const WeightOrigin* origin = nullptr;
  std::string root, stem;
};

Found origin_at(const NamedTensors& file, const std::string& stem) {
  for (const WeightOrigin& o : weight_origins()) {
    const std::string suffix = str(o.container, o.layout->front().from, "weight");
    if (!stem.ends_with(suffix)) continue;
    const std::string root = stem.substr(0, stem.size() - suffix.size());
    if (!root.empty() && !root.ends_with('.')) continue;
    const std::vector<std::string> path = words_of(root);
    if (!o.within.empty() && std::find(path.begin(), path.end(), o.within) == path.end()) continue;
    const auto there = [&](std::string_view mark) { return any_starts_with(file, root + std::string(mark)); };
    if (std::all_of(o.marks.begin(), o.marks.end(), there)) return {&o, root, stem};
  }
  return {};
}

const ForeignPart* foreign_part(std::string_view name) {
  for (const ForeignPart& part : foreign_parts()) {
    if (name.find(part.piece) != name.npos) return &part;
  }
  return nullptr;
}

Found find_network(const NamedTensors& file) {
  REID_CHECK(!file.tensors.empty(), file.source, ": there are no tensors in it");
  Found best;
  for (const auto& [name, tensor] : file.tensors) {
    if (!is_stem(tensor) || (best.origin && !preferred(name, best.stem))) continue;
    if (Found found = origin_at(file, name); found.origin) best = std::move(found);
  }
  if (best.origin) return best;
  for (const auto& [name, tensor] : file.tensors) {
    const ForeignPart* part = foreign_part(name);
    REID_CHECK(!part, file.source, ": this is ", part->what, " (tensor ", name, "); only ResNets can be run here");
  }
  fail(str(file.source, ": no network is recognized in its ", file.tensors.size(), " tensors (the first is ", file.tensors[0].first,
           "): a ResNet's first convolution, conv1.weight or 0.weight [width, 3, 7, 7], is not there"));
}

// The name below the root, or below what contains the root when only containers lie between: "" when it is elsewhere.
std::string_view below(std::string_view name, const std::string& root) {
  if (name.starts_with(root)) return name.substr(root.size());
  size_t shared = 0;
  for (size_t i = 0; i < std::min(name.size(), root.size()) && name[i] == root[i]; ++i) {
    if (name[i] == '.') shared = i + 1;
  }
  for (const std::string& word : words_of(std::string_view(root).substr(shared))) {
    if (std::find(std::begin(kContainers), std::end(kContainers), word) == std::end(kContainers)) return {};
  }
  return name.substr(shared);
}

const Rename* rule_for(const Layout& rules, std::string_view name) {
  for (const Rename& rule : rules) {
    if (name.starts_with(rule.from)) return &rule;
  }
  return nullptr;
}

std::string renamed(const Rename& rule, std::string_view name) {
  std::string_view rest = name.substr(rule.from.size());
  if (rule.shift == 0) return str(rule.to, rest);
  int block = 0;
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), block);
  if (parsed.ec == std::errc()) rest.remove_prefix(static_cast<size_t>(parsed.ptr - rest.data()));
  return str(rule.to, block + rule.shift, rest);
}

// Fills the fates of one file's tensors.
class Mapper {
 public:
  Mapper(const NamedTensors& file, const Found& found) : file_(file), found_(found) {
    const std::string_view inside = std::string_view(found.stem).substr(found.root.size());
    const size_t end = inside.rfind('.', inside.size() - sizeof(".weight"));  // before the convolution's own name
    container_ = end == inside.npos ? "" : inside.substr(0, end + 1);
    mapped_ = {.origin = std::string(found.origin->name),
               .convention = std::string(found.origin->convention),
               .root = found.root,
               .remark = std::string(found.origin->remark),
               .exact = found.origin->exact,
               .weights = {},
               .mean = {},
               .std = {},
               .fate = {}};
    mapped_.weights.source = file.source;
  }

  MappedWeights run() {
    for (const auto& [name, tensor] : file_.tensors) count_features(name, tensor);
    for (const auto& [name, tensor] : file_.tensors) place(name, tensor);
    REID_CHECK(foreign_.empty(), file_.source, ": the backbone holds what this network does not have: ", foreign_);
    return std::move(mapped_);
  }

 private:
  void give(const std::string& name, Fate fate, std::string note) { mapped_.fate.push_back({name, fate, std::move(note)}); }

  const Rename* backbone_rule(std::string_view& name) const {
    if (!name.starts_with(found_.origin->container)) return nullptr;
    const std::string_view inner = name.substr(found_.origin->container.size());
    const Rename* rule = rule_for(*found_.origin->layout, inner);
    if (rule) name = inner;
    return rule;
  }

  // The length of an embedding: what the last stage puts out. Norms of the neck must fit it.
  void count_features(const std::string& name, const Tensor& tensor) {
    std::string_view local = below(name, found_.root);
    const Rename* rule = name.starts_with(found_.root) ? backbone_rule(local) : nullptr;
    if (!rule || tensor.shape().rank() != 4) return;
    if (renamed(*rule, local).starts_with("layer4.0.conv")) features_ = std::max(features_, tensor.dim(0));
  }

  void place(const std::string& name, const Tensor& tensor) {
    std::string_view local = below(name, found_.root);
    if (local.empty()) return give(name, Fate::outside, str("not of the network at ", found_.root));
    if (name.ends_with("num_batches_tracked")) return give(name, Fate::counter, "nothing depends on it");
    const bool own = name.starts_with(found_.root);
    if (const ForeignPart* part = own ? foreign_part(local) : nullptr) return refuse(name, part->what);
    if (const Rename* rule = own ? backbone_rule(local) : nullptr) return import(name, renamed(*rule, local), tensor);
    if (local == "pixel_mean" || local == "pixel_std") return take_setting(name, local, tensor);
    const std::string_view inner = local.starts_with(container_) ? local.substr(container_.size()) : local;
    for (const std::string_view part : {local, inner}) {
      if (const Rename* rule = rule_for(head_names(), part)) return head(name, *rule, part, tensor);
    }
    if (own && !container_.empty() && local.starts_with(container_)) return refuse(name, "");
    give(name, own ? Fate::unused : Fate::outside, own ? "no part of the network here" : str("not of the network at ", found_.root));
  }

  void refuse(const std::string& name, std::string_view what) {
    if (what.empty() || foreign_.find(what) == foreign_.npos)
      foreign_ += str(foreign_.empty() ? "" : ", ", name, what.empty() ? "" : ": ", what);
  }

  void import(const std::string& name, const std::string& target, const Tensor& tensor) {
    if (mapped_.weights.find(target)) return give(name, Fate::unused, target + " is there already");
    mapped_.weights.add(target, tensor);
    give(name, Fate::imported, target);
  }

  void head(const std::string& name, const Rename& rule, std::string_view local, const Tensor& tensor) {
    if (rule.to.empty()) return give(name, Fate::classifier, "classifiers are not imported");
    const std::string target = renamed(rule, local);
    const bool exponent = rule.to == "pool.p";
    if (exponent && tensor.numel() == 1) return import(name, target, tensor.reshape({1}));
    const std::array<std::string_view, 4> parts = {"weight", "bias", "running_mean", "running_var"};
    const std::string_view part = std::string_view(target).substr(rule.to.size());
    const bool norm = !exponent && std::find(parts.begin(), parts.end(), part) != parts.end();
    if (norm && tensor.shape() == Shape{features_}) return import(name, target, tensor);
    give(name, Fate::unused, str(tensor.shape(), " is no norm of the ", features_, " features: a reduction is not run here"));
  }

  void take_setting(const std::string& name, std::string_view which, const Tensor& tensor) {
    if (tensor.numel() != 3) return give(name, Fate::unused, "not three numbers");
    const Tensor wide = tensor.to(DType::f64);
    std::vector<double>& to = which == "pixel_mean" ? mapped_.mean : mapped_.std;
    for (const double v : wide.span<double>()) to.push_back(v / 255);
    give(name, Fate::setting, "the images' normalization");
  }

  const NamedTensors& file_;
  const Found& found_;
  std::string container_, foreign_;
  int64_t features_ = 0;
  MappedWeights mapped_;
};

// The first word of a tensor's name when it is of a part that a file may lack, else "".
std::string optional_part(const std::string& name) {
  for (const char* part : {"NL_", "map_norm.", "pool.", "bottleneck."}) {
    if (name.starts_with(part)) return part;
  }
  return "";
}

bool has_part(const NamedTensors& weights, const std::string& part) { return any_starts_with(weights, part); }

}  // namespace

const char* name_of(Fate fate) {
  switch (fate) {
    case Fate::imported: return "imported";
    case Fate::counter: return "counter";
    case Fate::classifier: return "classifier";
    case Fate::setting: return "setting";
    case Fate::outside: return "outside";
    case Fate::unused: return "unused";
  }
  return "?";
}

MappedWeights map_weights(const NamedTensors& file) {
  const Found found = find_network(file);
  return Mapper(file, found).run();
}

std::vector<std::string> origin_names() {
  std::vector<std::string> names;
  for (const WeightOrigin& o : weight_origins()) {
    if (std::find(names.begin(), names.end(), o.name) == names.end()) names.emplace_back(o.name);
  }
  return names;
}

EncoderConfig encoder_shown_by(const NamedTensors& weights) {
  std::array<std::set<int>, 4> blocks;
  for (const auto& [name, tensor] : weights.tensors) {
    const std::vector<std::string> words = words_of(name);
    if (words.size() < 3 || words[0].size() != 6 || !words[0].starts_with("layer")) continue;
    const int stage = words[0][5] - '1';
    int block = -1;
    std::from_chars(words[1].data(), words[1].data() + words[1].size(), block);
    if (stage >= 0 && stage < 4 && block >= 0) blocks[static_cast<size_t>(stage)].insert(block);
  }
  struct Plan {
    int depth;
    bool bottleneck;
    std::array<size_t, 4> blocks;
  };
  static const Plan plans[] = {{18, false, {2, 2, 2, 2}},
                               {34, false, {3, 4, 6, 3}},
                               {50, true, {3, 4, 6, 3}},
                               {101, true, {3, 4, 23, 3}},
                               {152, true, {3, 8, 36, 3}}};
  const bool bottleneck = weights.find("layer1.0.conv3.weight") != nullptr;
  EncoderConfig shown;
  shown.backbone.depth = 0;
  for (const Plan& plan : plans) {
    bool same = plan.bottleneck == bottleneck;
    for (size_t i = 0; i < 4; ++i) same = same && blocks[i].size() == plan.blocks[i];
    if (same) shown.backbone.depth = plan.depth;
  }
  REID_CHECK(shown.backbone.depth != 0, weights.source, ": stages of ", blocks[0].size(), ", ", blocks[1].size(), ", ", blocks[2].size(),
             ", ", blocks[3].size(), bottleneck ? " bottleneck" : " basic",
             " blocks (layer1 to layer4) are no ResNet-18, 34, 50, 101 or 152");
  shown.backbone.width = weights.at("conv1.weight").dim(0);
  const bool instance_stem = weights.find("bn1.weight") && !weights.find("bn1.running_mean") && !weights.find("bn1.running_var");
  shown.backbone.ibn = weights.find("layer1.0.bn1.IN.weight") ? "a" : instance_stem ? "b" : "none";
  shown.backbone.non_local = has_part(weights, "NL_");
  if (const Tensor* theta = weights.find("NL_3.0.theta.weight")) shown.backbone.non_local_width = theta->dim(0);
  shown.map_norm = has_part(weights, "map_norm.");
  shown.pooling = has_part(weights, "pool.") ? "gem" : "gap";
  shown.neck = has_part(weights, "bottleneck.") ? "bn" : "none";
  return shown;
}

WeightMatch load_mapped(const Inventory& network, const NamedTensors& weights) {
  WeightMatch match;
  NamedTensors complete = module_weights(network);
  std::string strangers;
  for (const auto& [name, tensor] : weights.tensors) {
    if (complete.find(name)) continue;
    const std::string part = optional_part(name);
    if (part.empty() || (part == "NL_" && has_part(complete, part))) {
      strangers += (strangers.empty() ? "" : ", ") + name;
    } else {
      match.unused.push_back(name);
    }
  }
  REID_CHECK(strangers.empty(), weights.source, ": its backbone has tensors that the network has no place for: ", strangers);
  NamedTensors chosen{{}, {}, weights.source};
  for (const auto& [name, tensor] : complete.tensors) {
    const std::string part = optional_part(name);
    const Tensor* found = weights.find(name);
    const bool fresh = !part.empty() && !has_part(weights, part);
    if (found || fresh) chosen.add(name, found ? *found : tensor);
    if (found || fresh) (fresh ? match.fresh : match.matched).push_back(name);
  }
  load_weights(network, chosen);
  return match;
}

}  // namespace reid
