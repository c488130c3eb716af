// Folder layouts of data sets to lists of samples. Only the last component of a path is ever parsed: a parent folder named
// "run1_c2" must not change labels.

#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <set>
#include <system_error>

#include "reid/people/data.h"

namespace reid {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.empty() || name[0] == '.' || name == "__MACOSX";  // ._x.jpg and __MACOSX come out of archives made on a Mac
}

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

// What stands directly in a folder, by name.
struct Listing {
  std::vector<fs::path> images, folders;
};

Listing list(const fs::path& folder) {
  Listing listing;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  REID_CHECK(!error, "cannot read the folder ", folder.string(), ": ", error.message());
  for (; entries != fs::directory_iterator(); entries.increment(error)) {
    REID_CHECK(!error, "cannot read the folder ", folder.string(), ": ", error.message());
    const fs::path& path = entries->path();
    if (hidden(path)) continue;
    if (entries->is_directory(error)) {
      listing.folders.push_back(path);
    } else if (is_image(path)) {
      listing.images.push_back(path);
    }
  }
  std::sort(listing.images.begin(), listing.images.end());
  std::sort(listing.folders.begin(), listing.folders.end());
  return listing;
}

// Calls visit(folder, its images) for `top` and everything below, in the order of names.
template <class Visit>
void walk(const fs::path& top, const Visit& visit, int depth = 0) {
  REID_CHECK(depth < 64, "the folder ", top.string(), " is nested deeper than 64 levels");
  const Listing listing = list(top);
  visit(top, listing.images);
  for (const fs::path& folder : listing.folders) walk(folder, visit, depth + 1);
}

void check_folder(const fs::path& folder, const char* layout) {
  std::error_code error;
  REID_CHECK(fs::exists(folder, error), layout, ":", folder.string(), ": there is no such folder");
  REID_CHECK(fs::is_directory(folder, error), layout, ":", folder.string(), ": is a file, not a folder");
}

// Reads digits at `at` and moves behind them; -1 when there are none or too many.
int64_t parse_digits(std::string_view text, size_t& at) {
  const size_t begin = at;
  int64_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9' && at - begin < 18) value = value * 10 + (text[at++] - '0');
  return at == begin || (at < text.size() && text[at] >= '0' && text[at] <= '9') ? -1 : value;
}

// PPPP_cC...: person (-1 for junk) and the camera as written.
bool parse_market(const std::string& name, Sample& sample) {
  size_t at = 0;
  const bool negative = name[0] == '-';
  if (negative) at = 1;
  const int64_t person = parse_digits(name, at);
  if (person < 0 || name.compare(at, 2, "_c") != 0) return false;
  at += 2;
  sample.camera = parse_digits(name, at);
  sample.person = negative ? -1 : person;
  return sample.camera >= 0 && (!negative || person == 1);
}

std::vector<Sample> market_part(const fs::path& folder, bool keep_distractors, int64_t& junk) {
  std::vector<Sample> samples;
  std::error_code error;
  if (!fs::is_directory(folder, error)) return samples;
  for (const fs::path& path : list(folder).images) {
    Sample sample;
    REID_CHECK(parse_market(path.filename().string(), sample), path.string(),
               ": the name does not follow the market1501 layout (PPPP_cC..., as in 0002_c1s1_000451_03.jpg): rename or remove it");
    sample.path = path.string();
    junk += sample.person == -1;
    if (sample.person == -1 || (sample.person == 0 && !keep_distractors)) continue;
    samples.push_back(std::move(sample));
  }
  return samples;
}

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

// The number of a field cN of the name's stem, fields being what underscores separate; -1 without one.
int64_t camera_field(const std::string& stem) {
  for (size_t begin = 0; begin < stem.size();) {
    const size_t end = std::min(stem.find('_', begin), stem.size());
    size_t at = begin + 1;
    if (stem[begin] == 'c') {
      const int64_t camera = parse_digits(stem, at);
      if (camera >= 0 && at == end) return camera;
    }
    begin = end + 1;
  }
  return -1;
}

std::vector<Sample> identity_part(const fs::path& folder, std::map<std::string, int64_t>& persons, int64_t default_camera) {
  std::vector<Sample> samples;
  const Listing listing = list(folder);
  REID_CHECK(listing.images.empty(), "folder:", folder.string(), ": ", listing.images.size(), " images (",
             listing.images.front().filename().string(), ", ...) stand beside the folders of identities: move them into one, or out");
  for (const fs::path& identity : listing.folders) {
    const int64_t person = persons.at(identity.filename().string());
    walk(identity, [&](const fs::path&, const std::vector<fs::path>& images) {
      for (const fs::path& path : images) {
        const int64_t camera = camera_field(path.stem().string());
        samples.push_back({.path = path.string(), .person = person, .camera = camera >= 0 ? camera : default_camera});
      }
    });
  }
  return samples;
}

void number_identities(const std::vector<fs::path>& folders, std::map<std::string, int64_t>& persons) {
  for (const fs::path& folder : folders)
    for (const fs::path& identity : list(folder).folders) persons.emplace(identity.filename().string(), 0);
  int64_t next = 0;
  for (auto& [name, person] : persons) person = ++next;
}

}  // namespace

Dataset market1501(const fs::path& folder) {
  check_folder(folder, "market1501");
  Dataset data;
  data.name = "market1501:" + folder.string();
  std::error_code error;
  fs::path root = folder;
  if (!fs::is_directory(root / "bounding_box_train", error) && fs::is_directory(root / "Market-1501-v15.09.15", error))
    root /= "Market-1501-v15.09.15";
  data.train = market_part(root / "bounding_box_train", false, data.junk);
  data.query = market_part(root / "query", false, data.junk);
  data.gallery = market_part(root / "bounding_box_test", true, data.junk);
  REID_CHECK(!data.train.empty() || !data.query.empty() || !data.gallery.empty(), data.name,
             ": no images found; this layout wants the folders bounding_box_train, query and bounding_box_test with images named like "
             "0002_c1s1_000451_03.jpg. Check the path, or choose another layout");
  bool from_zero = false;
  for (const std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (const Sample& sample : *part) from_zero = from_zero || sample.camera == 0;
  for (std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (Sample& sample : *part) sample.camera -= from_zero ? 0 : 1;
  return data;
}

Dataset video_folders(const fs::path& folder) {
  check_folder(folder, "videos");
  Dataset data;
  data.name = "videos:" + folder.string();
  walk(folder, [&](const fs::path& path, const std::vector<fs::path>& images) {
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
  walk(folder, [&](const fs::path&, const std::vector<fs::path>& images) {
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

Dataset identity_folders(const fs::path& folder) {
  check_folder(folder, "folder");
  Dataset data;
  data.name = "folder:" + folder.string();
  std::error_code error;
  std::map<std::string, int64_t> persons;
  const Listing top = list(folder);
  if (fs::is_directory(folder / "query", error) && fs::is_directory(folder / "gallery", error)) {
    std::vector<fs::path> parts = {folder / "query", folder / "gallery"};
    const bool trains = fs::is_directory(folder / "train", error);
    if (trains) parts.push_back(folder / "train");
    number_identities(parts, persons);
    data.query = identity_part(parts[0], persons, 0);
    data.gallery = identity_part(parts[1], persons, 1);
    if (trains) data.train = identity_part(parts[2], persons, 0);
  } else if (!top.folders.empty()) {
    number_identities({folder}, persons);
    data.train = identity_part(folder, persons, 0);
  } else {
    for (const fs::path& path : top.images) data.train.push_back({.path = path.string()});
  }
  REID_CHECK(!data.train.empty() || !data.query.empty() || !data.gallery.empty(), data.name,
             ": no images found; this layout wants .jpg or .png files, in a folder per identity or directly. Check the path");
  return data;
}

const std::vector<std::string>& dataset_layouts() {
  static const std::vector<std::string> layouts = {"market1501", "videos", "luperson", "folder"};
  return layouts;
}

Dataset read_dataset(const std::string& spec) {
  const size_t colon = spec.find(':');
  REID_CHECK(colon != std::string::npos && colon + 1 < spec.size(), "the data set \"", spec,
             "\" is not LAYOUT:PATH; layouts are market1501, videos, luperson and folder");
  const std::string layout = spec.substr(0, colon);
  const fs::path path = spec.substr(colon + 1);
  if (layout == "market1501") return market1501(path);
  if (layout == "videos") return video_folders(path);
  if (layout == "luperson") return luperson(path);
  if (layout == "folder") return identity_folders(path);
  fail("the data set \"" + spec + "\" has the unknown layout \"" + layout + "\"; layouts are market1501, videos, luperson and folder");
}

}  // namespace reid
