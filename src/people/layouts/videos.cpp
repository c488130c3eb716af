// Unlabeled images by video: a folder for each, or keys of LUPerson.

#include "people/layouts/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

// CC_TT_VVVV_IIIIIIII: the first three fields, empty when the name is no key.
std::string video_of_key(const std::string& stem) {
  size_t at = 0, third = 0;
  for (int field = 0; field < 4; ++field) {
    if (field == 3) third = at - 1;
    if (parse_digits(stem, at) < 0) return {};
    if (field < 3 && (at >= stem.size() || stem[at++] != '_')) return {};
  }
  return at == stem.size() ? stem.substr(0, third) : std::string();
}

}  // namespace

Dataset video_folders(const fs::path& folder) {
  check_folder(folder, "videos");
  Dataset data;
  data.name = "videos:" + folder.string();
  walk_folders(folder, [&](const fs::path& path, const std::vector<fs::path>& images) {
    if (images.empty()) return;
    REID_CHECK(path != folder, data.name, ": ", images.size(), " images (", images.front().filename().string(),
               ", ...) stand outside of any video; this layout wants a folder per video: move them into folders, or use luperson:");
    const auto video = static_cast<int64_t>(data.videos.size());
    data.videos.push_back(path.lexically_relative(folder).generic_string());
    for (const fs::path& image : images) data.train.push_back({.path = image.string(), .camera = video, .video = video});
  });
  REID_CHECK(!data.train.empty(), data.name,
             ": no images found; this layout wants a folder per video with .jpg or .png files. Check the path");
  return data;
}

Dataset luperson(const fs::path& folder) {
  check_folder(folder, "luperson");
  Dataset data;
  data.name = "luperson:" + folder.string();
  std::map<std::string, std::vector<std::string>> by_video;
  walk_folders(folder, [&](const fs::path&, const std::vector<fs::path>& images) {
    for (const fs::path& path : images) {
      const std::string video = video_of_key(path.stem().string());
      REID_CHECK(
          !video.empty(), path.string(),
          ": the name is no LUPerson key (CC_TT_VVVV_IIIIIIII.jpg, as in 01_02_0003_00000004.jpg): rename or remove it, or use videos:");
      by_video[video].push_back(path.string());
    }
  });
  for (const auto& [name, paths] : by_video) {
    const auto video = static_cast<int64_t>(data.videos.size());
    data.videos.push_back(name);
    for (const std::string& path : paths) data.train.push_back({.path = path, .camera = video, .video = video});
  }
  REID_CHECK(!data.train.empty(), data.name, ": no images found; this layout wants files named CC_TT_VVVV_IIIIIIII.jpg. Check the path");
  return data;
}

}  // namespace reid
