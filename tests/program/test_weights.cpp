// reid weights as a user runs it: look into a file, import it, compare, export.

#include <doctest/doctest.h>

#include "learning/small_run.h"
#include "program/run_program.h"

#include "reid/formats/json.h"
#include "reid/formats/safetensors.h"
#include "reid/formats/weights.h"
#include "reid/learning/encoder_file.h"

#include <filesystem>

using namespace reid;
using namespace reid::test;

namespace {

Encoder small_encoder() {
  EncoderConfig config;
  config.backbone = {.depth = 18, .ibn = "a", .last_stride = 1, .width = 4, .max_pool = "ceil"};
  config.pooling = "gem";
  return {config, DType::f32, Rng(4)};
}

// A checkpoint with the names of fast-reid, and what the network in it embeds.
struct Checkpoint {
  TemporaryFolder folder;
  Encoder encoder = small_encoder();
  std::string file = folder / "fast.safetensors", images = (small_world() / "source" / "query").string();
  Checkpoint() { write_safetensors(file, content()); }
  NamedTensors content() {
    NamedTensors out;
    const NamedTensors ours = module_weights(inventory(encoder));
    for (const auto& [name, tensor] : ours.tensors) {
      const std::string head = name.starts_with("bottleneck.") ? "model.heads.bottleneck.0." + name.substr(11)
                               : name == "pool.p"              ? "model.heads.pool_layer.p"
                                                               : "model.backbone." + name;
      out.add(head, tensor);
    }
    out.add("model.heads.weight", Tensor::zeros({7, 32}, DType::f32));
    return out;
  }
};

Json json_of(const std::string& file) { return parse_json(read_text(file), file); }

const std::vector<std::string> kSize = {"data.height=32", "data.width=16"};

std::vector<std::string> import_words(const Checkpoint& c, const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"weights", "import", c.file, kSize[0], kSize[1], "--out", out};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

void refused(const std::vector<std::string>& words, int status, const std::vector<std::string>& parts) {
  const Outcome r = run_reid(words);
  INFO(r.err);
  CHECK(r.status == status);
  for (const std::string& part : parts) CHECK_MESSAGE(r.says(part), part);
}

}  // namespace

TEST_CASE("reid weights import: the encoder embeds as the network in the checkpoint does") {
  Checkpoint c;
  const std::string out = c.folder / "w.safetensors";
  const Outcome r = run_reid(import_words(c, out, {"--verify", c.images, "--json", c.folder / "r.json"}));
  INFO(r.err);
  REQUIRE(r.status == 0);
  const Json result = json_of(c.folder / "r.json");
  CHECK(result.at("origin").string() == "fastreid");
  CHECK(result.at("convention").string() == "fastreid");
  CHECK(result.at("missing").items().empty());
  CHECK(result.at("unexpected").items().empty());
  CHECK(result.at("settings").at("model.max_pool").at("source").string() == "assumed");
  CHECK(result.at("settings").at("data.height").at("source").string() == "given");
  CHECK(result.at("verified").at("difference").number() == 0);
  CHECK(result.at("verified").at("changed_rankings").integer() == 0);
  CHECK(r.out.find("1 classifier: model.heads.weight") != std::string::npos);

  const NamedTensors written = read_safetensors(out);
  CHECK(*written.note("origin") == "fastreid");
  CHECK(*written.note("source") == "fast.safetensors");
  LoadedEncoder loaded{std::filesystem::path(out)};
  Tensor images = Tensor::empty({3, 32, 16, 3}, DType::f32);
  Rng rng(6);
  for (float& v : images.span<float>()) v = static_cast<float>(rng.normal());
  CHECK(bitwise_equal(loaded.embed(images), c.encoder(Var(images), loaded.model().inference()).value()));
  CHECK(run_reid({"embed", "--weights", out, "--out", c.folder / "e.safetensors", c.images}).status == 0);
}

TEST_CASE("reid weights import: overrides, missing parts and wrong files") {
  Checkpoint c;
  const std::string out = c.folder / "w.safetensors";
  const Outcome r = run_reid(import_words(c, out, {"--convention", "bot", "model.neck=none", "--json", c.folder / "r.json"}));
  INFO(r.err);
  REQUIRE(r.status == 0);
  CHECK(json_of(c.folder / "r.json").at("unexpected").items().size() == 4);
  CHECK(LoadedEncoder{std::filesystem::path(out)}.model().max_pool == "pad");

  refused(import_words(c, out, {"--convention", "fastried"}), 1, {"did you mean 'fastreid'?"});
  refused(import_words(c, out, {"model.lats_stride=2"}), 1, {"model.last_stride"});
  refused(import_words(c, out, {"model.depth=34"}), 1, {"missing: layer1.2."});
  refused({"weights", "import", c.file}, 2, {"--out"});
  refused({"weights", "import", out, "--out", out}, 1, {"already"});
  refused({"weights", "improt", out}, 2, {"info, import, export, compare"});
  refused({"weights", "import", c.folder / "none.pth", "--out", out}, 1, {"none.pth"});

  NamedTensors broken = c.content();
  std::erase_if(broken.tensors, [](const auto& t) { return t.first == "model.backbone.layer2.1.conv1.weight"; });
  write_safetensors(c.folder / "broken.safetensors", broken);
  refused({"weights", "import", c.folder / "broken.safetensors", "--out", out}, 1, {"layer2.1.conv1.weight"});

  NamedTensors cap;  // its stem has no ReLU
  const NamedTensors ours = module_weights(inventory(c.encoder));
  for (const auto& [name, tensor] : ours.tensors) {
    if (name.starts_with("layer")) cap.add("resnet_conv." + std::to_string(name[5] - '0' + 2) + name.substr(6), tensor);
    if (name.starts_with("conv1.")) cap.add("resnet_conv.0." + name.substr(6), tensor);
    if (name.starts_with("bn1.")) cap.add("resnet_conv.1." + name.substr(4), tensor);
  }
  write_safetensors(c.folder / "cap.safetensors", cap);
  refused({"weights", "import", c.folder / "cap.safetensors", "--out", out}, 1, {"no ReLU", "--inexact"});
  const Outcome inexact = run_reid({"weights", "import", c.folder / "cap.safetensors", "--out", out, "--inexact"});
  CHECK(inexact.status == 0);
  CHECK(inexact.out.find("warning: ") != std::string::npos);
}

TEST_CASE("reid weights info: container, tensors, network, or why there is none") {
  Checkpoint c;
  const Outcome r = run_reid({"weights", "info", c.file, "--json", c.folder / "r.json"});
  INFO(r.err);
  REQUIRE(r.status == 0);
  const Json result = json_of(c.folder / "r.json");
  CHECK(result.at("container").string() == "safetensors");
  CHECK(result.at("network").at("origin").string() == "fastreid");
  CHECK(result.at("network").at("depth").integer() == 18);
  CHECK(result.at("tensors").items().size() == c.content().tensors.size());
  CHECK(r.out.find("more (--all)") != std::string::npos);
  CHECK(run_reid({"weights", "info", c.file, "--all"}).out.find("more (--all)") == std::string::npos);

  NamedTensors osnet;
  osnet.add("conv2.0.conv2a.0.conv1.weight", Tensor::zeros({4, 4, 1, 1}, DType::f32));
  write_safetensors(c.folder / "os.safetensors", osnet);
  const Outcome other = run_reid({"weights", "info", c.folder / "os.safetensors"});
  CHECK(other.status == 0);
  CHECK(other.out.find("an OSNet") != std::string::npos);
}

TEST_CASE("reid weights compare: names, shapes, values and embeddings") {
  Checkpoint c;
  const std::string out = c.folder / "w.safetensors", report = c.folder / "r.json";
  REQUIRE(run_reid(import_words(c, out)).status == 0);
  REQUIRE(run_reid({"weights", "compare", out, c.file, "--json", report}).status == 0);
  Json result = json_of(report);
  CHECK(result.at("names").string() == "mapped");
  CHECK(result.at("differing").items().empty());
  CHECK(result.at("only_a").items().empty());
  CHECK(result.at("only_b").items().empty());

  NamedTensors changed = read_safetensors(out);
  for (auto& [name, tensor] : changed.tensors) {
    if (name != "conv1.weight") continue;
    tensor = tensor.clone();
    tensor.fill(0.5);
  }
  const std::string other = c.folder / "other.safetensors";
  write_safetensors(other, changed);
  REQUIRE(run_reid({"weights", "compare", out, other, "--images", c.images, "--json", report}).status == 0);
  result = json_of(report);
  REQUIRE(result.at("differing").items().size() == 1);
  CHECK(result.at("differing").items()[0].at("name").string() == "conv1.weight");
  CHECK(result.at("embeddings").at("difference").number() > 0);

  NamedTensors a, b;
  a.add("x", Tensor::from(std::vector<float>{1, 2, 4}));
  a.add("y", Tensor::from(std::vector<float>{1}));
  a.add("z", Tensor::from(std::vector<float>{1}));
  b.add("x", Tensor::from(std::vector<float>{1, 3, 4}));
  b.add("y", Tensor::from(std::vector<float>{1, 2}));
  b.add("w", Tensor::from(std::vector<float>{1}));
  write_safetensors(c.folder / "a.safetensors", a);
  write_safetensors(c.folder / "b.safetensors", b);
  REQUIRE(run_reid({"weights", "compare", c.folder / "a.safetensors", c.folder / "b.safetensors", "--json", report}).status == 0);
  result = json_of(report);
  CHECK(result.at("names").string() == "raw");
  CHECK(result.at("largest_absolute").number() == 1);
  CHECK(result.at("largest_relative").number() == 0.25);
  CHECK(result.at("only_a").items()[0].string() == "z");
  CHECK(result.at("only_b").items()[0].string() == "w");
  CHECK(result.at("other_shapes").items().size() == 1);
  refused({"weights", "compare", out}, 2, {"two files"});
}

TEST_CASE("reid weights export: the file read back embeds the same") {
  Checkpoint c;
  const std::string out = c.folder / "w.safetensors", report = c.folder / "r.json";
  REQUIRE(run_reid(import_words(c, out)).status == 0);
  for (const std::string format : {"safetensors", "pth"}) {
    CAPTURE(format);
    const std::string target = c.folder / ("export." + format);
    const Outcome r = run_reid({"weights", "export", out, "--out", target, "--format", format, "--verify", c.images, "--json", report});
    INFO(r.err);
    REQUIRE(r.status == 0);
    CHECK(json_of(report).at("verified").at("difference").number() == 0);
    CHECK(run_reid({"weights", "compare", out, target, "--json", report}).status == 0);
    CHECK(json_of(report).at("differing").items().empty());
  }
  refused({"weights", "export", out, "--out", c.folder / "x"}, 2, {"--format"});
  refused({"weights", "export", out, "--out", c.folder / "x", "--format", "pth", "--preprocess"}, 2, {"onnx"});
  refused({"weights", "export", c.file, "--out", c.folder / "x", "--format", "pth"}, 1, {"reid weights import"});
}
