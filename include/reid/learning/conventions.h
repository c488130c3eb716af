#pragma once
// What weights do not say about themselves: the strides, the pooling, the size and normalization of images, where the embedding is
// taken. A preset for each program whose files are read, and the settings that result from a file, a preset and the user's words.

#include <string>
#include <vector>

#include "reid/engine/nn.h"
#include "reid/learning/config.h"
#include "reid/learning/settings.h"

namespace reid {

struct Convention {
  std::string name, whose;
  int64_t last_stride = 1;
  std::string max_pool = "pad", feature = "after";
  int64_t height = 256, width = 128;
  std::string resize = "bicubic";
  std::vector<double> mean = {0.485, 0.456, 0.406}, std = {0.229, 0.224, 0.225};  // of pixel / 255
  std::string input = "RGB in [0, 1]";  // what its own network is fed; ours always takes RGB in [0, 1]
};
const std::vector<Convention>& conventions();
const Convention& find_convention(const std::string& name);  // throws, with the nearest name and all names

// A network and its images, with the keys model.* and data.* of a run's configuration.
struct EncoderSettings {
  ModelSettings model;
  int64_t height = 256, width = 128;
  std::string resize = "bicubic";
  std::vector<double> mean, std;
  void visit(ConfigKeys& keys);
  TransformConfig transform() const;
};

// Where a value comes from: the file's tensors, the convention (assumed), or the user.
enum class Source : uint8_t { detected, assumed, given };
const char* name_of(Source);

struct SettingSource {
  std::string key, value;
  Source source;
};

struct ResolvedSettings {
  EncoderSettings settings;
  std::vector<SettingSource> sources;  // one for each key
};

// `shown` is what the tensors show; `mean` and `std` are the file's own, or empty. `words` are key=value; a wrong one throws.
ResolvedSettings resolve_settings(const EncoderConfig& shown, const Convention& convention, const std::vector<double>& mean,
                                  const std::vector<double>& std, const std::vector<std::string>& words);

}  // namespace reid
