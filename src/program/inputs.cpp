#include "program/inputs.h"

#include "reid/engine/base.h"
#include "reid/formats/image.h"
#include "reid/formats/json.h"
#include "reid/formats/safetensors.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace reid::program {
namespace {

namespace fs = std::filesystem;

Tensor features_of(const NamedTensors& file, const std::string& name) {
  const Tensor& features = file.at("features");
  const bool floating = features.dtype() == DType::f32 || features.dtype() == DType::f64;
  REID_CHECK(features.shape().rank() == 2 && floating, name, ": 'features' is ", features.dtype(), " ", features.shape(),
             "; expected f32 or f64 [N, D]");
  REID_CHECK(features.numel() > 0, name, ": 'features' ", features.shape(), " is empty");
  return features;
}

std::vector<int64_t> integers_of(const NamedTensors& file, const char* tensor, int64_t count, const std::string& name) {
  const Tensor& values = file.at(tensor);
  const bool integral = values.dtype() == DType::i64 || values.dtype() == DType::i32;
  REID_CHECK(integral && values.shape() == Shape{count}, name, ": '", tensor, "' is ", values.dtype(), " ", values.shape(),
             "; expected i64 [", count, "], one for each row of 'features'");
  const Tensor wide = values.to(DType::i64);
  const auto span = wide.span<int64_t>();
  return {span.begin(), span.end()};
}

NamedFeatures named_features_of(const NamedTensors& file, const std::string& name) {
  NamedFeatures out{features_of(file, name), {}};
  const std::string* text = file.note("paths");
  if (text == nullptr) return out;
  const Json list = parse_json(*text, name + " (metadata 'paths')");
  for (const Json& path : list.items()) out.paths.push_back(path.string());
  REID_CHECK(static_cast<int64_t>(out.paths.size()) == out.features.dim(0), name, ": the metadata names ", out.paths.size(), " paths for ",
             out.features.dim(0), " rows of 'features'");
  return out;
}

bool is_image_name(const fs::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return !file.filename().string().starts_with(".") && (extension == ".jpg" || extension == ".jpeg" || extension == ".png");
}

}  // namespace

Tensor read_features(const std::string& file) { return features_of(read_safetensors(file), file); }

NamedFeatures read_named_features(const std::string& file) { return named_features_of(read_safetensors(file), file); }

LabeledFeatures read_labeled_features(const std::string& file) {
  const NamedTensors content = read_safetensors(file);
  LabeledFeatures out{named_features_of(content, file), {}, {}};
  out.ids = integers_of(content, "ids", out.features.dim(0), file);
  if (content.find("cameras") != nullptr) out.cameras = integers_of(content, "cameras", out.features.dim(0), file);
  return out;
}

void add_images(std::vector<Sample>& samples, const std::string& name) {
  std::error_code ignored;  // whatever it is, reading the image will meet it too and say so
  if (!fs::is_directory(name, ignored)) {
    samples.push_back({name});
    return;
  }
  std::vector<std::string> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(name)) {
    if (entry.is_regular_file() && is_image_name(entry.path())) found.push_back(entry.path().string());
  }
  REID_CHECK(!found.empty(), name, ": holds no images (.jpg, .jpeg, .png)");
  std::sort(found.begin(), found.end());
  for (std::string& path : found) samples.push_back({std::move(path)});
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of("\",\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::vector<Sample> list_images(const std::vector<std::string>& names) {
  std::vector<Sample> samples;
  for (const std::string& name : names) {
    REID_CHECK(has_image(name), name, ": there is no such file or folder");
    add_images(samples, name);
  }
  return samples;
}

}  // namespace reid::program
