// Presets and the settings that a file, a preset and the user's words make.

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "formats/scratch.h"
#include "reid/formats/weight_names.h"
#include "reid/learning/conventions.h"
#include "reid/learning/encoder_file.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;

namespace {

const EncoderConfig kShown{
    .backbone = {.depth = 18, .ibn = "a", .width = 8}, .map_norm = false, .pooling = "gem", .gem_p = 3, .neck = "bn"};

ResolvedSettings resolved(const std::string& convention, const std::vector<std::string>& words = {}) {
  return resolve_settings(kShown, find_convention(convention), {}, {}, words);
}

const SettingSource& source_of(const ResolvedSettings& r, const std::string& key) {
  const auto found = std::find_if(r.sources.begin(), r.sources.end(), [&](const SettingSource& s) { return s.key == key; });
  REQUIRE(found != r.sources.end());
  return *found;
}

}  // namespace

TEST_CASE("conventions: every preset is a valid network and a valid transform, under a name of its own") {
  std::set<std::string> names;
  for (const Convention& c : conventions()) {
    CAPTURE(c.name);
    CHECK(names.insert(c.name).second);
    const ResolvedSettings r = resolved(c.name);
    CHECK_NOTHROW(Encoder(r.settings.model.encoder(), DType::f32, Rng(1)));
    const TransformConfig t = r.settings.transform();
    CHECK(t.height == c.height);
    CHECK(t.mean[0] == static_cast<float>(c.mean[0]));
  }
  CHECK(find_convention("fastreid").max_pool == "ceil");
  CHECK(find_convention("torchvision").last_stride == 2);
  CHECK(find_convention("mgn").height == 384);
  CHECK(find_convention("luperson").mean[0] == doctest::Approx(0.352533));  // 89.896 / 255
  CHECK(contains(failure_of([] { find_convention("fastried"); }), "did you mean 'fastreid'?"));
  CHECK(contains(failure_of([] { find_convention("zzz"); }), "there is no convention 'zzz' (there is reid, torchvision"));
}

TEST_CASE("conventions: what the tensors show, what is assumed and what the user says are told apart") {
  const ResolvedSettings r = resolved("torchreid", {"model.last_stride=1", "data.height=128", "data.mean=[0.5, 0.4, 0.3]"});
  CHECK(r.settings.model.depth == 18);
  CHECK(r.settings.model.pooling == "gem");
  CHECK(r.settings.model.feature == "before");
  CHECK(r.settings.model.last_stride == 1);
  CHECK(r.settings.height == 128);
  CHECK(r.settings.width == 128);
  CHECK(r.settings.transform().filter == Filter::bilinear);
  CHECK(r.settings.transform().mean[1] == 0.4f);
  CHECK(source_of(r, "model.depth").source == Source::detected);
  CHECK(source_of(r, "model.pooling").source == Source::detected);
  CHECK(source_of(r, "model.max_pool").source == Source::assumed);
  CHECK(source_of(r, "model.last_stride").source == Source::given);
  CHECK(source_of(r, "data.width").source == Source::assumed);
  CHECK(source_of(r, "data.mean").source == Source::given);

  const ResolvedSettings own = resolve_settings(kShown, find_convention("bot"), {0.1, 0.2, 0.3}, {1, 1, 1}, {});
  CHECK(own.settings.mean == std::vector<double>{0.1, 0.2, 0.3});
  CHECK(source_of(own, "data.std").source == Source::detected);
}

TEST_CASE("conventions: wrong words are refused by name") {
  CHECK(contains(failure_of([] { resolved("bot", {"model.lst_stride=1"}); }), "model.last_stride"));
  CHECK(contains(failure_of([] { resolved("bot", {"model.last_stride=3"}); }), "model.last_stride"));
  CHECK(contains(failure_of([] { resolved("bot", {"data.mean=[0.5]"}); }), "three numbers"));
  CHECK(contains(failure_of([] { resolved("bot", {"model.weights=x"}); }), "model.weights"));
  CHECK(contains(failure_of([] { resolved("bot", {"optimizer.lr=1"}); }), "optimizer.lr"));
}

TEST_CASE("conventions: every origin's convention exists") {
  for (const char* origin : {"mgn", "bau", "cluster-contrast", "cap", "bot", "openunreid", "cion", "fastreid", "luperson", "luperson-nl",
                             "torchreid", "ibn-net", "torchvision", "reid"})
    CHECK_NOTHROW(find_convention(origin));
}

TEST_CASE("encoder file: non-local blocks are there again") {
  ModelSettings model;
  model.width = 4;
  model.non_local = true;
  model.non_local_width = 2;
  Encoder encoder(model.encoder(), DType::f32, Rng(2));
  for (const auto& [name, p] : inventory(encoder).parameters) {
    if (name.starts_with("NL_") && name.ends_with("W.1.weight")) p->value.fill(0.5);  // it begins at 0, and the block as nothing
  }
  NamedTensors content = exported_encoder(inventory(encoder), model, TransformConfig());
  content.source = "memory";
  LoadedEncoder loaded(content);
  CHECK(loaded.model().non_local);
  CHECK(loaded.model().non_local_width == 2);
  Tensor images = Tensor::empty({2, 64, 32, 3}, DType::f32);
  Rng rng(3);
  for (float& v : images.span<float>()) v = static_cast<float>(rng.normal());
  CHECK(bitwise_equal(loaded.embed(images), encoder(Var(images), loaded.model().inference()).value()));
}

TEST_CASE("encoder file: one in memory loads as one on disk does") {
  EncoderConfig config = kShown;
  config.backbone.width = 4;
  Encoder encoder(config, DType::f32, Rng(2));
  const ResolvedSettings r = resolve_settings(config, find_convention("fastreid"), {}, {}, {"data.height=32", "data.width=16"});
  NamedTensors content = exported_encoder(inventory(encoder), r.settings.model, r.settings.transform());
  content.source = "memory";
  CHECK(is_encoder(content));
  LoadedEncoder loaded(content);
  CHECK(loaded.model().max_pool == "ceil");
  CHECK(loaded.transform().height == 32);
  content.metadata.clear();
  CHECK(contains(failure_of([&] { LoadedEncoder none(content); }), "memory is not an encoder written by this program"));
}
