// reid embed: images to vectors.

#include "program/inputs.h"
#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"
#include "reid/learning/encoder_file.h"
#include "reid/learning/method.h"

#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string weights, out;
  std::vector<std::string> images;
};

void declare(Flags& f, Options& o) {
  f.option("--weights", o.weights, "FILE", "encoder written by reid train (encoder.safetensors of a run)", Presence::required);
  f.option("--out", o.out, "FILE", "safetensors file to write: 'features' [N, D] f32, paths in the metadata", Presence::required);
  f.arguments("IMAGE|DIR", o.images, "images, and folders whose images are taken in the order of their names", Presence::required);
}

void run(const Context& context, const Options& o) {
  LoadedEncoder encoder(o.weights);
  const std::vector<Sample> samples = list_images(o.images);
  const auto cache = std::make_shared<ImageCache>(0);
  const Tensor features = extract(
      samples, [&](const Tensor& images) { return encoder.embed(images); }, DataSettings{}, encoder.transform(), cache,
      context.threads);  // [N, D]

  Json paths = Json::array();
  for (const Sample& sample : samples) paths.push_back(sample.path);
  NamedTensors content;
  content.add("features", features);
  content.metadata = {{"format", "reid.features.v1"}, {"weights", o.weights}, {"images", image_decoder()}, {"paths", paths.dump()}};
  write_safetensors(o.out, content);
  context.say(features.dim(0), " images -> ", o.out, ": features ", features.shape());
  Json result = Json::object({{"out", o.out}, {"images", features.dim(0)}, {"width", features.dim(1)}});
  result["paths"] = std::move(paths);
  context.write_json(result);
}

}  // namespace

Verb embed_verb() {
  auto o = std::make_shared<Options>();
  return {"embed", "turn images into vectors", "reid embed --weights demo/run/encoder.safetensors --out E.safetensors photos/ one.jpg",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
