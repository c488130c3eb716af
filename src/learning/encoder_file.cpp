#include "reid/learning/encoder_file.h"

#include <charconv>

#include "reid/formats/json.h"
#include "reid/formats/weights.h"

namespace reid {

namespace {

constexpr const char* kFormat = "reid.encoder.v1";

Json to_json(const ModelSettings& m) {
  return Json::object({{"depth", m.depth},
                       {"ibn", m.ibn},
                       {"last_stride", m.last_stride},
                       {"width", m.width},
                       {"max_pool", m.max_pool},
                       {"pooling", m.pooling},
                       {"map_norm", m.map_norm},
                       {"non_local", m.non_local},
                       {"non_local_width", m.non_local_width},
                       {"neck", m.neck},
                       {"feature", m.feature},
                       {"numerics", m.numerics}});
}

ModelSettings model_from(const Json& j) {
  ModelSettings m;
  m.depth = j.at("depth").integer();
  m.ibn = j.at("ibn").string();
  m.last_stride = j.at("last_stride").integer();
  m.width = j.at("width").integer();
  m.max_pool = j.at("max_pool").string();
  m.pooling = j.at("pooling").string();
  // Encoders written before these settings existed have the defaults.
  if (const Json* map_norm = j.find("map_norm")) m.map_norm = map_norm->boolean();
  if (const Json* non_local = j.find("non_local")) m.non_local = non_local->boolean();
  if (const Json* width = j.find("non_local_width")) m.non_local_width = width->integer();
  if (const Json* neck = j.find("neck")) m.neck = neck->string();
  if (const Json* feature = j.find("feature")) m.feature = feature->string();
  if (const Json* numerics = j.find("numerics")) m.numerics = numerics->string();
  return m;
}

// The double that prints as the float does (0.485) and reads back as it.
double shortest(float v) {
  char digits[32];
  const char* end = std::to_chars(digits, digits + sizeof digits, v).ptr;
  double value = 0;
  std::from_chars(digits, end, value);
  return value;
}

Json to_json(const TransformConfig& t) {
  const auto numbers = [](const std::array<float, 3>& v) { return Json::array({shortest(v[0]), shortest(v[1]), shortest(v[2])}); };
  return Json::object({{"height", t.height},
                       {"width", t.width},
                       {"resize", t.filter == Filter::bicubic ? "bicubic" : "bilinear"},
                       {"mean", numbers(t.mean)},
                       {"std", numbers(t.std)}});
}

TransformConfig transform_from(const Json& j) {
  TransformConfig t;
  t.height = static_cast<int>(j.at("height").integer());
  t.width = static_cast<int>(j.at("width").integer());
  t.filter = j.at("resize").string() == "bicubic" ? Filter::bicubic : Filter::bilinear;
  const auto numbers = [](const Json& list) {
    std::array<float, 3> v{};
    REID_CHECK(list.items().size() == 3, "expected three numbers, found ", list.dump());
    for (size_t i = 0; i < 3; ++i) v[i] = static_cast<float>(list.items()[i].number());
    return v;
  };
  t.mean = numbers(j.at("mean"));
  t.std = numbers(j.at("std"));
  t.check();
  return t;
}

}  // namespace

NamedTensors exported_encoder(const Inventory& network, const ModelSettings& model, const TransformConfig& transform) {
  NamedTensors weights = module_weights(network);
  weights.metadata = {
      {"format", kFormat}, {"reid", REID_VERSION}, {"model", to_json(model).dump()}, {"preprocessing", to_json(transform).dump()}};
  return weights;
}

bool is_encoder(const NamedTensors& file) {
  const std::string* format = file.note("format");
  return format && *format == kFormat;
}

LoadedEncoder::LoadedEncoder(const std::filesystem::path& file) : LoadedEncoder(read_safetensors(file)) {}

LoadedEncoder::LoadedEncoder(const NamedTensors& weights) {
  const std::string& file = weights.source;
  REID_CHECK(is_encoder(weights), file, " is not an encoder written by this program (no metadata format = ", kFormat,
             "); reid weights import makes one of another program's file");
  const auto described = [&](const char* key) {
    const std::string* text = weights.note(key);
    REID_CHECK(text, file, ": its metadata lacks '", key, "'");
    return parse_json(*text, file + " (metadata " + key + ")");
  };
  model_ = model_from(described("model"));
  transform_ = transform_from(described("preprocessing"));
  encoder_ = Encoder(model_.encoder(), DType::f32, Rng(0));
  load_weights(inventory(encoder_), weights);
}

LoadedEncoder::LoadedEncoder(const ModelSettings& model, const TransformConfig& transform, uint64_t seed)
    : model_(model), transform_(transform), encoder_(model.encoder(), DType::f32, Rng(seed).at("init")) {
  model.load(encoder_);
}

void LoadedEncoder::move_to(Device device) {
  device_ = device;
  reid::move_to(device, weights());
}

Tensor LoadedEncoder::embed(const Tensor& images) {
  Pass pass = model_.inference();
  pass.cache = &cache_;
  return encoder_(Var(images.to(device_)), pass).value();
}

Inventory LoadedEncoder::weights() {
  cache_.clear();
  return inventory(encoder_);
}

void LoadedEncoder::estimate_statistics(const std::vector<Tensor>& batches) {
  REID_CHECK(!batches.empty(), "[estimate_statistics] needs at least one batch");
  // With momentum 0.1 each pass keeps 0.9 of what was there, so the sums are taken from zeroed buffers and scaled back.
  const Inventory fields = inventory(encoder_);
  std::vector<Tensor> sums;
  for (const NamedBuffer& b : fields.buffers) sums.push_back(Tensor::zeros(b.tensor->shape(), b.tensor->dtype(), device_));
  for (const Tensor& images : batches) {
    for (const NamedBuffer& b : fields.buffers) b.tensor->fill(0);
    encoder_(Var(images.to(device_)), own_statistics_pass());
    for (size_t i = 0; i < sums.size(); ++i) ops::add_into(sums[i], *fields.buffers[i].tensor, 10.0 / static_cast<double>(batches.size()));
  }
  for (size_t i = 0; i < sums.size(); ++i) fields.buffers[i].tensor->copy_from(sums[i]);
}

}  // namespace reid
