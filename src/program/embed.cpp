// reid embed: images to vectors.

#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"
#include "reid/learning/encoder_file.h"
#include "reid/learning/method.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>

namespace reid::program {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string weights, out;
  std::vector<std::string> images;
};

void declare(Flags& f, Options& o) {
  f.option("--weights", o.weights, "FILE", "encoder written by reid train (encoder.safetensors of a run)", Presence::required);
  f.option("--out", o.out, "FILE", "safetensors file to write: 'features' [N, D] f32, paths in the metadata", Presence::required);
  f.arguments("IMAGE|DIR", o.images, "images, and folders whose images are taken in the order of their names", Presence::required);
}

bool is_image_name(const fs::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return !file.filename().string().starts_with(".") && (extension == ".jpg" || extension == ".jpeg" || extension == ".png");
}

std::vector<Sample> list_images(const std::vector<std::string>& names) {
  std::vector<Sample> samples;
  for (const std::string& name : names) {
    REID_CHECK(fs::exists(name), name, ": there is no such file or folder");
    if (!fs::is_directory(name)) {
      samples.push_back({name});
      continue;
    }
    std::vector<std::string> found;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(name)) {
      if (entry.is_regular_file() && is_image_name(entry.path())) found.push_back(entry.path().string());
    }
    REID_CHECK(!found.empty(), name, ": holds no images (.jpg, .jpeg, .png)");
    std::sort(found.begin(), found.end());
    for (std::string& path : found) samples.push_back({std::move(path)});
  }
  return samples;
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
