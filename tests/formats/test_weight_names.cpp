// Networks under the names of other programs: mapped back they are bitwise the same and embed the same.

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "formats/scratch.h"
#include "reid/formats/weight_names.h"
#include "reid/formats/weights.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;

namespace {

using Renames = std::vector<std::pair<std::string, std::string>>;

EncoderConfig small(int depth, const std::string& ibn, bool gem, bool neck, bool map_norm = false) {
  return {.backbone = {.depth = depth, .ibn = ibn, .width = 4},
          .map_norm = map_norm,
          .pooling = gem ? "gem" : "gap",
          .gem_p = 2.5,
          .neck = neck ? "bn" : "none"};
}

// Random everywhere, statistics included, so that no two tensors are alike.
Encoder random_encoder(const EncoderConfig& config) {
  Encoder encoder(config, DType::f32, Rng(3));
  uint64_t stream = 0;
  const Inventory all = inventory(encoder);
  const auto shake = [&](const Tensor& t) {
    Rng rng = Rng(5).at(++stream);
    for (float& v : t.span<float>()) v += 0.3f * static_cast<float>(rng.uniform());
  };
  for (const NamedParameter& p : all.parameters) shake(p.parameter->value);
  for (const NamedBuffer& b : all.buffers) shake(*b.tensor);
  return encoder;
}

// The first rename that fits decides; "layer3." -> {"b1.0.", shifted} is spelled "layer3.+1".
NamedTensors renamed(const NamedTensors& ours, const Renames& renames) {
  NamedTensors out;
  out.source = "foreign.pth";
  for (const auto& [name, tensor] : ours.tensors) {
    std::string target = name;
    for (const auto& [from, to] : renames) {
      if (!name.starts_with(from)) continue;
      target = to + name.substr(from.size());
      break;
    }
    out.add(target, tensor);
    if (name.ends_with("running_var")) out.add(target.substr(0, target.size() - 11) + "num_batches_tracked", Tensor::zeros({}, DType::i64));
  }
  return out;
}

Renames sequential(const std::string& before, const std::vector<std::string>& numbers) {
  static const char* kOurs[] = {"conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."};
  Renames renames;
  for (size_t i = 0; i < numbers.size(); ++i) renames.emplace_back(kOurs[i], before + numbers[i] + ".");
  return renames;
}

Renames named(const std::string& before) {
  return {{"conv1.", before + "conv1."},   {"bn1.", before + "bn1."},       {"layer1.", before + "layer1."},
          {"layer2.", before + "layer2."}, {"layer3.", before + "layer3."}, {"layer4.", before + "layer4."}};
}

struct Family {
  std::string origin, convention;
  EncoderConfig config;
  Renames renames;
  std::vector<std::pair<std::string, Fate>> extras;  // added to the file, with what must become of them
  bool exact = true;
};

Renames joined(Renames a, const Renames& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

EncoderConfig with_non_local(EncoderConfig config) {
  config.backbone.non_local = true;
  config.backbone.non_local_width = 2;
  return config;
}

std::vector<Family> families() {
  using enum Fate;
  const std::string lup = "state_dict.module.encoder_q.";
  Renames mgn = {{"layer3.0.", "model.backbone.6."}};
  for (int block = 1; block < 6; ++block) mgn.emplace_back(str("layer3.", block, "."), str("model.b1.0.", block - 1, "."));
  mgn = joined(mgn, {{"layer4.", "model.b1.1."},
                     {"layer1.", "model.backbone.4."},
                     {"layer2.", "model.backbone.5."},
                     {"conv1.", "model.backbone.0."},
                     {"bn1.", "model.backbone.1."},
                     {"map_norm.", "model.heads_extra_bn_b1."},
                     {"pool.p", "model.b1_head.pool_layer.p"},
                     {"bottleneck.", "model.b1_head.bottleneck.0."}});
  return {
      {"torchvision", "torchvision", small(18, "none", false, false), {}, {{"fc.weight", classifier}, {"fc.bias", classifier}}},
      {"ibn-net", "ibn-net", small(50, "a", false, false), {}, {{"fc.weight", classifier}}},
      {"ibn-net",
       "ibn-net",
       small(50, "b", false, false),
       joined(named("state_dict.module."), {}),
       {{"state_dict.module.fc.weight", classifier}}},
      {"torchreid", "torchreid", small(18, "a", false, false), named("state_dict."), {{"state_dict.classifier.weight", classifier}}},
      {"bot", "bot", small(50, "none", false, true), named("base."), {{"classifier.weight", classifier}}},
      {"bot",  // AGW
       "bot",
       with_non_local(small(50, "none", true, true)),
       joined(named("base."), {{"NL_", "base.NL_"}, {"bottleneck.", "bottleneck."}, {"pool.p", "global_pool.p"}}),
       {{"classifier.weight", classifier}}},
      {"fastreid",
       "fastreid",
       small(50, "a", true, true, true),
       joined(
           named("model.backbone."),
           {{"bottleneck.", "model.heads.bottleneck.0."}, {"pool.p", "model.heads.pool_layer.p"}, {"map_norm.", "model.heads_extra_bn."}}),
       {{"model.heads.weight", classifier}, {"optimizer.state.0.momentum_buffer", outside}}},
      {"mgn",
       "mgn",
       small(50, "a", true, true, true),
       mgn,
       {{"model.b2.0.0.conv1.weight", unused}, {"model.b2_head.bottleneck.0.weight", unused}, {"model.b1_head.weight", classifier}}},
      {"cluster-contrast",
       "cluster-contrast",
       small(50, "a", true, true),
       joined(sequential("state_dict.module.base.", {"0", "1", "4", "5", "6", "7"}),
              {{"bottleneck.", "state_dict.module.feat_bn."}, {"pool.p", "state_dict.module.gap.p"}}),
       {{"state_dict.module.classifier.weight", classifier}}},
      {"mmt",
       "cluster-contrast",
       small(18, "none", false, true),
       joined(sequential("state_dict.base.", {"0", "1", "3", "4", "5", "6"}), {{"bottleneck.", "state_dict.feat_bn."}}),
       {},
       false},
      {"bau",
       "bau",
       small(50, "none", true, true),
       joined(sequential("state_dict.module.base.", {"0", "1", "4", "6", "8", "10"}),
              {{"bottleneck.", "state_dict.module.bn_neck."}, {"pool.p", "state_dict.module.base.11.p"}}),
       {{"state_dict.module.pool.p", unused}, {"state_dict.module.classifier.weight", classifier}},
       false},
      {"cap",
       "cap",
       small(18, "none", false, true),
       joined(sequential("module.resnet_conv.", {"0", "1", "3", "4", "5", "6"}), {{"bottleneck.", "module.bottleneck."}}),
       {},
       false},
      {"openunreid",
       "openunreid",
       small(18, "none", true, true),
       joined(named("state_dict_1.mean_net.backbone."),
              {{"bottleneck.", "state_dict_1.mean_net.head.feat_bn."}, {"pool.p", "state_dict_1.mean_net.global_pooling.p"}}),
       {{"state_dict_1.mean_net.classifier.weight", classifier}, {"state_dict_1.net.head.feat_bn.weight", outside}}},
      {"luperson",
       "luperson",
       small(50, "none", false, false),
       named(lup),
       {{lup + "fc.0.weight", classifier}, {"state_dict.module.queue", outside}, {"state_dict.module.encoder_k.conv1.weight", outside}}},
      {"luperson-nl", "luperson-nl", small(18, "none", false, false), named(lup), {{lup + "fc1.weight", classifier}}},
      {"cion",
       "cion",
       small(50, "a", false, false),
       named("teacher.module.backbone."),
       {{"teacher.module.head.mlp.0.weight", classifier}, {"student.module.backbone.conv1.weight", outside}}},
      {"reid", "reid", small(34, "a", true, true), {}, {}},
      {"resnet", "torchvision", small(18, "none", false, false), {}, {}},
      {"resnet", "torchvision", small(18, "none", false, false), named("module.backbone."), {}},
      {"sequential", "torchvision", small(18, "none", false, false), sequential("module.backbone.", {"0", "1", "4", "5", "6", "7"}), {}},
  };
}

NamedTensors file_of(const Family& family, Encoder& encoder) {
  NamedTensors file = renamed(module_weights(inventory(encoder)), family.renames);
  for (const auto& [name, fate] : family.extras) {
    const Shape shape = name.ends_with("conv1.weight") ? Shape{4, 3, 7, 7} : Shape{5, 4};
    file.add(name, Tensor::full(name.ends_with(".p") ? Shape{1} : shape, 1, DType::f32));
  }
  return file;
}

Tensor pictures() {
  Tensor images = Tensor::empty({2, 32, 16, 3}, DType::f32);
  Rng rng(9);
  for (float& v : images.span<float>()) v = static_cast<float>(rng.normal());
  return images;
}

Family plain_resnet() { return families().front(); }

NamedTensors without(const NamedTensors& file, const std::string& part) {
  NamedTensors out{{}, {}, file.source};
  for (const auto& [name, tensor] : file.tensors) {
    if (!contains(name, part)) out.add(name, tensor);
  }
  return out;
}

}  // namespace

TEST_CASE("weight names: every family maps back to the same bits and the same embedding") {
  for (const Family& family : families()) {
    CAPTURE(family.origin);
    Encoder encoder = random_encoder(family.config);
    const NamedTensors ours = module_weights(inventory(encoder));
    const NamedTensors file = file_of(family, encoder);
    const MappedWeights mapped = map_weights(file);
    CHECK(mapped.origin == family.origin);
    CHECK(mapped.convention == family.convention);
    CHECK(mapped.exact == family.exact);
    REQUIRE(mapped.weights.tensors.size() == ours.tensors.size());
    for (const auto& [ours_name, tensor] : ours.tensors) {
      const std::string& name = ours_name;
      CHECK_MESSAGE(bitwise_equal(mapped.weights.at(name), tensor), name);
    }

    REQUIRE(mapped.fate.size() == file.tensors.size());
    for (size_t i = 0; i < mapped.fate.size(); ++i) CHECK(mapped.fate[i].name == file.tensors[i].first);
    for (const auto& [extra, fate] : family.extras) {
      const std::string name = extra;
      const auto found = std::find_if(mapped.fate.begin(), mapped.fate.end(), [&](const SourceTensor& t) { return t.name == name; });
      REQUIRE(found != mapped.fate.end());
      CHECK_MESSAGE(name_of(found->fate) == std::string(name_of(fate)), name);
    }

    EncoderConfig shown = encoder_shown_by(mapped.weights);
    CHECK(shown.backbone.depth == family.config.backbone.depth);
    CHECK(shown.backbone.width == 4);
    CHECK(shown.backbone.ibn == family.config.backbone.ibn);
    CHECK(shown.backbone.non_local == family.config.backbone.non_local);
    CHECK(shown.backbone.non_local_width == family.config.backbone.non_local_width);
    CHECK(shown.pooling == family.config.pooling);
    CHECK(shown.neck == family.config.neck);
    CHECK(shown.map_norm == family.config.map_norm);
    Encoder loaded(shown, DType::f32, Rng(77));
    const WeightMatch match = load_mapped(inventory(loaded), mapped.weights);
    CHECK(match.matched.size() == ours.tensors.size());
    CHECK(match.fresh.empty());
    CHECK(match.unused.empty());
    CHECK(bitwise_equal(loaded(Var(pictures()), inference_pass()).value(), encoder(Var(pictures()), inference_pass()).value()));
  }
}

TEST_CASE("weight names: every origin of the table is tested") {
  std::map<std::string, int> seen;
  for (const Family& family : families()) ++seen[family.origin];
  for (const std::string& name : origin_names()) CHECK_MESSAGE(seen[name] > 0, name);
}

TEST_CASE("weight names: of several networks the preferred one is taken, wherever it stands in the file") {
  Encoder teacher = random_encoder(small(18, "none", false, false));
  const NamedTensors ours = module_weights(inventory(teacher));
  Encoder other(small(18, "none", false, false), DType::f32, Rng(8));
  const auto both = [&](const std::string& good, const std::string& bad) {
    NamedTensors file = renamed(module_weights(inventory(other)), named(bad));
    const NamedTensors wanted = renamed(ours, named(good));
    for (const auto& [name, tensor] : wanted.tensors) file.add(name, tensor);
    return map_weights(file);
  };
  for (const auto& [preferred, bad] : Renames{{"teacher.backbone.", "student.backbone."},
                                              {"state_dict.teacher.", "state_dict.student."},
                                              {"state_dict_1.mean_net.module.base.", "state_dict_1.net.module.base."},
                                              {"state_dict_1.mean_net.", "state_dict_2.mean_net."},
                                              {"module.encoder_q.", "module.encoder_k."},
                                              {"params_ema.", "params."}}) {
    const std::string good = preferred;
    CAPTURE(good);
    CHECK(bitwise_equal(both(good, bad).weights.at("layer4.0.conv2.weight"), ours.at("layer4.0.conv2.weight")));
  }
}

TEST_CASE("weight names: the normalization that a file carries is read") {
  Family family = plain_resnet();
  Encoder encoder = random_encoder(family.config);
  family.renames = named("model.backbone.");
  family.extras = {};
  NamedTensors file = file_of(family, encoder);
  file.add("model.heads.weight", Tensor::zeros({3, 32}, DType::f32));
  file.add("model.pixel_mean", Tensor::from(std::vector<float>{51, 102, 153}, Shape{1, 3, 1, 1}));
  file.add("model.pixel_std", Tensor::from(std::vector<float>{25.5f, 51, 255}, Shape{1, 3, 1, 1}));
  const MappedWeights mapped = map_weights(file);
  CHECK(mapped.origin == "fastreid");
  CHECK(mapped.mean == std::vector<double>{0.2, 0.4, 0.6});
  CHECK(mapped.std == std::vector<double>{0.1, 0.2, 1.0});
}

TEST_CASE("weight names: a reduction of the embedding is listed, not run") {
  Family family = plain_resnet();
  Encoder encoder = random_encoder(family.config);
  family.renames = named("model.backbone.");
  family.extras = {};
  NamedTensors file = file_of(family, encoder);
  file.add("model.heads.bottleneck.0.weight", Tensor::zeros({8, 32, 1, 1}, DType::f32));
  for (const char* part : {"weight", "bias", "running_mean", "running_var"})
    file.add(std::string("model.heads.bottleneck.1.") + part, Tensor::zeros({8}, DType::f32));
  const MappedWeights mapped = map_weights(file);
  CHECK(encoder_shown_by(mapped.weights).neck == "none");
  CHECK(std::count_if(mapped.fate.begin(), mapped.fate.end(), [](const SourceTensor& t) { return t.fate == Fate::unused; }) == 5);
}

TEST_CASE("weight names: parts after the backbone may be missing or left over") {
  Encoder with_neck = random_encoder(small(18, "none", true, true));
  Encoder plain = random_encoder(small(18, "none", false, false));
  const NamedTensors neck = module_weights(inventory(with_neck)), bare = module_weights(inventory(plain));
  const WeightMatch fresh = load_mapped(inventory(with_neck), bare);
  CHECK(fresh.fresh ==
        std::vector<std::string>{"pool.p", "bottleneck.weight", "bottleneck.bias", "bottleneck.running_mean", "bottleneck.running_var"});
  const WeightMatch left = load_mapped(inventory(plain), neck);
  CHECK(left.unused.size() == 5);
  CHECK(left.fresh.empty());
}

TEST_CASE("weight names: what cannot be run is refused by name") {
  const Family family = plain_resnet();
  Encoder encoder = random_encoder(family.config);
  const NamedTensors file = file_of(family, encoder);
  const auto load = [&](const NamedTensors& content) {
    return failure_of([&] {
      const MappedWeights mapped = map_weights(content);
      Encoder target(encoder_shown_by(mapped.weights), DType::f32, Rng(1));
      load_mapped(inventory(target), mapped.weights);
    });
  };
  CHECK(load(file).empty());
  CHECK(contains(load(without(file, "layer2.1.bn1.bias")), "foreign.pth: tensors of the network are missing: layer2.1.bn1.bias"));
  CHECK(contains(load(without(file, "layer4.1.")), "stages of 2, 2, 2, 1 basic blocks"));
  CHECK(contains(load(without(file, "conv1.weight")), "no network is recognized"));
  CHECK(contains(load(NamedTensors{{}, {}, "foreign.pth"}), "foreign.pth: there are no tensors"));

  NamedTensors wide = without(file, "layer3.0.conv1.weight");
  wide.add("layer3.0.conv1.weight", Tensor::zeros({16, 8, 5, 5}, DType::f32));
  CHECK(contains(load(wide), "layer3.0.conv1.weight is [16, 8, 5, 5]"));
  NamedTensors stranger = file;
  stranger.add("layer1.0.conv9.weight", Tensor::zeros({4, 4, 3, 3}, DType::f32));
  CHECK(contains(load(stranger), "no place for: layer1.0.conv9.weight"));
  NamedTensors attentive =
      module_weights(inventory(*std::make_unique<Encoder>(with_non_local(small(50, "none", false, false)), DType::f32, Rng(1))));
  attentive.source = "foreign.pth";
  attentive.add("NL_3.3.g.weight", Tensor::zeros({2, 64, 1, 1}, DType::f32));  // a block more than the network has
  CHECK(contains(load(attentive), "no place for: NL_3.3.g.weight"));
  NamedTensors half_neck = file;
  half_neck.add("feat_bn.weight", Tensor::zeros({32}, DType::f32));
  CHECK(contains(load(half_neck), "missing: bottleneck.bias, bottleneck.running_mean, bottleneck.running_var"));

  for (const auto& [part, what] : Renames{{"layer1.0.se.fc.0.weight", "squeeze"}, {"bn1.bat_n.weight", "MetaBIN"}}) {
    const std::string name = part;
    NamedTensors other = file;
    other.add(name, Tensor::zeros({4}, DType::f32));
    CHECK_MESSAGE(contains(load(other), what), name);
    CHECK_MESSAGE(contains(load(other), name), name);
  }
  for (const auto& [part, what] :
       Renames{{"state_dict.conv2.0.conv2a.0.conv1.weight", "an OSNet"}, {"module.patch_embed.proj.weight", "a vision transformer"}}) {
    const std::string name = part;
    NamedTensors other{{}, {}, "foreign.pth"};
    other.add(name, Tensor::zeros({4, 4, 1, 1}, DType::f32));
    CHECK_MESSAGE(contains(load(other), what), name);
  }
  NamedTensors backbone = renamed(module_weights(inventory(encoder)), named("model.backbone."));
  backbone.add("model.backbone.attention.weight", Tensor::zeros({4, 4}, DType::f32));
  CHECK(contains(load(backbone), "the backbone holds what this network does not have: model.backbone.attention.weight"));
}
