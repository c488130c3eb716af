// From files to views on one thread: decoding alone, decoding and augmenting, and the whole loader as training has it.

#include "program/bench.h"
#include "program/inputs.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"
#include "reid/people/data.h"
#include "reid/people/transform.h"

#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace reid::program {
namespace {

namespace fs = std::filesystem;

// The sizes of two data sets' crops: Market-1501's all alike, MSMT17's as they come, here the mean one. Grain is the deviation of the
// noise that makes the files as long as theirs, about 2.6 and 12 kB.
struct Kind {
  const char* name;
  int height, width;
  double grain;
};
constexpr Kind kKinds[] = {{"market", 128, 64, 3.0}, {"msmt17", 256, 110, 8.2}};
constexpr int kImages = 64, kQuality = 90;

// Clothes are patches of color, which an enlarged mosaic resembles; cameras add grain.
Image draw(const Kind& kind, Rng rng) {
  Image mosaic(kind.height / 12, kind.width / 12);
  for (uint8_t& v : mosaic.rgb) v = static_cast<uint8_t>(rng.below(256));
  Image image = resize_bicubic(mosaic, kind.height, kind.width);
  for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(std::clamp(v + kind.grain * rng.normal(), 0.0, 255.0));
  return image;
}

void draw_all(const fs::path& folder) {
  for (const Kind& kind : kKinds) {
    make_folder(folder / kind.name);
    for (int i = 0; i < kImages; ++i) {
      const Rng rng = Rng(1).at(kind.name).at(static_cast<uint64_t>(i));
      char name[32];
      std::snprintf(name, sizeof name, "%02d.jpg", i);
      write_file(folder / kind.name / name, encode_jpeg(draw(kind, rng), kQuality));
    }
  }
}

// The folder of the images: the one named, or one that goes with the object.
class Folder {
 public:
  explicit Folder(const std::string& named) : path_(named), owned_(named.empty()) {
    if (owned_) {
      std::string name = (fs::temp_directory_path() / "reid_bench_XXXXXX").string();
      REID_CHECK(mkdtemp(name.data()) != nullptr, "cannot make a temporary folder ", name);
      path_ = name;
    }
    if (owned_ || !fs::exists(path_)) draw_all(path_);
  }
  ~Folder() {
    std::error_code ignored;
    if (owned_) fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::vector<fs::path> sets() const {
    std::vector<fs::path> all;
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.is_directory()) all.push_back(entry.path());
    }
    std::ranges::sort(all);
    REID_CHECK(!all.empty(), path_.string(), ": no folders in it; each folder is a set of images");
    return all;
  }

 private:
  fs::path path_;
  bool owned_;
};

// The strong baseline's augmentation (Luo et al., CVPRW 2019): flip, pad, crop, erase. ReMix's adds blur and color jitter.
TransformConfig standard_augmentation() {
  TransformConfig t;
  t.blur = t.jitter = 0;
  t.erase = 0.5;
  return t;
}

// Decodes and augments each image from memory, as one worker of the loader does.
Times time_views(const BenchOptions& o, const std::vector<std::vector<uint8_t>>& files, const TransformConfig& t) {
  const Normalizer normalize(t);
  std::vector<float> view(static_cast<size_t>(t.height) * static_cast<size_t>(t.width) * 3);
  return measure(o, [&] {
    for (size_t i = 0; i < files.size(); ++i) {
      const Image resized = resize(decode_image(files[i], "image"), t.height, t.width, t.filter);
      augmented_view(resized, t, normalize, Rng(1).at(i), view.data());
    }
  });
}

// The loader itself: files, the weak view and the augmented one of each image, loaded inside next().
Times time_loader(const BenchOptions& o, const std::vector<Sample>& samples, const TransformConfig& t) {
  return measure(o, [&] {
    Loader loader(samples, sequential_plan(samples, 32), {.transform = t, .workers = 0}, Rng(1));
    while (loader.next()) {
    }
  });
}

Json bench_set(const Context& context, const BenchOptions& o, const fs::path& folder) {
  std::vector<Sample> samples;
  add_images(samples, folder.string());
  std::vector<std::vector<uint8_t>> files;
  size_t bytes = 0;
  for (const Sample& sample : samples) {
    files.push_back(read_image_bytes(sample.path));
    bytes += files.back().size();
  }
  const auto images = static_cast<double>(files.size());
  const TransformConfig standard = standard_augmentation();
  const std::pair<const char*, Times> all[] = {{"decode", measure(o,
                                                                  [&] {
                                                                    for (const auto& file : files) decode_image(file, "image");
                                                                  })},
                                               {"augment", time_views(o, files, standard)},
                                               {"remix", time_views(o, files, {})},
                                               {"loader", time_loader(o, samples, standard)}};
  Json row = Json::object({{"name", folder.filename().string()},
                           {"images", static_cast<int64_t>(files.size())},
                           {"bytes", static_cast<double>(bytes) / images}});
  char text[160];
  std::snprintf(text, sizeof text, "%-10s %7.1f kB", folder.filename().c_str(), static_cast<double>(bytes) / images / 1e3);
  std::string line = text;
  for (const auto& [name, times] : all) {
    const double each = times.median() / images;
    row[name] = Json::object({{"microseconds", 1e6 * each}, {"images_per_second", 1 / each}, {"times", times.json()}});
    std::snprintf(text, sizeof text, " %8.1f us %7.0f/s", 1e6 * each, 1 / each);
    line += text;
  }
  context.say(line);
  return row;
}

}  // namespace

Json bench_loader(const Context& context, const BenchOptions& o) {
  context.say("loading with ", image_decoder(), ", one thread: an image's time, images a second");
  context.say("set         an image |  decode            |  + standard views  |  + ReMix's views   |  loader, two views");
  const Folder folder(o.images);
  Json rows = Json::array();
  set_threads(1);
  for (const fs::path& set : folder.sets()) rows.push_back(bench_set(context, o, set));
  set_threads(context.threads);
  return Json::object({{"decoder", image_decoder()}, {"rows", rows}});
}

}  // namespace reid::program
