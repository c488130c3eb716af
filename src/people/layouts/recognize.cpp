// Which layout a path has, by what stands there.

#include <algorithm>
#include <optional>

#include "people/layouts/places.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

Recognition as(const std::string& layout, const fs::path& path, std::string evidence) {
  return {layout + ":" + path.string(), std::move(evidence)};
}

bool is_video_frame(const std::string& name) {  // 0001C6F0099X30823.jpg, 0001_C6_F0099_X30823.jpg
  size_t at = 0;
  if (parse_digits(name, at) < 0) return false;
  at += at < name.size() && name[at] == '_';
  return at < name.size() && name[at] == 'C';
}

// The first image at any depth, following the first folders.
fs::path first_image(const fs::path& folder, int depth = 0) {
  const Listing listing = list_folder(folder);
  if (!listing.images.empty()) return listing.images.front();
  for (const fs::path& below : listing.folders) {
    const fs::path found = depth < 8 ? first_image(below, depth + 1) : fs::path();
    if (!found.empty()) return found;
  }
  return {};
}

// Among the sets that copied Market-1501's folders, names tell: 0001_c2_f0046182.jpg is DukeMTMC, PNG files are CUHK03-NP, numbers from 0
// or cameras up to 15 are MSMT17.
std::optional<Recognition> market_family(const fs::path& folder) {
  fs::path root = folder;
  const auto fits = [](const fs::path& at) { return is_folder(at / "bounding_box_train") || is_folder(at / "bounding_box_test"); };
  for (const char* below :
       {"Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "DukeMTMC-reID", "MSMT17", "MSMT17_V1", "CUHK-SYSU"})
    if (!fits(root) && fits(folder / below)) root = folder / below;
  if (!fits(root)) return {};
  const fs::path part = root / (is_folder(root / "bounding_box_train") ? "bounding_box_train" : "bounding_box_test");
  const Listing listing = list_folder(part);
  if (listing.images.empty()) return {};
  bool zero = false, duke = true, png = true;
  int64_t cameras = 0;
  for (const fs::path& path : listing.images) {
    const std::string name = path.filename().string();
    size_t at = name[0] == '-';
    const int64_t person = parse_digits(name, at);
    at += 2;
    if (at < name.size()) cameras = std::max(cameras, parse_digits(name, at));
    zero = zero || person == 0;
    duke = duke && name.compare(std::min(at, name.size()), 2, "_f") == 0;
    png = png && path.extension() == ".png";
  }
  const std::string example = part.filename().string() + " with names like " + listing.images.front().filename().string();
  if (duke) return as("dukemtmc", folder, example);
  if (png && cameras == 2) return as("cuhk03-np", folder, example + ", PNG files of two cameras");
  const bool training = part.filename() == "bounding_box_train";
  if (cameras > 12 || (training && zero))
    return as("msmt17", folder, str(example, ", ", cameras, " cameras", zero ? ", people from 0" : ""));
  return as("market1501", folder, example);
}

// People's own folders.
std::optional<Recognition> own_data(const fs::path& folder) {
  const fs::path image = first_image(folder);
  if (image.empty()) return {};
  const std::string example = image.lexically_relative(folder).generic_string();
  const bool parts = is_folder(folder / "query") && is_folder(folder / "gallery");
  const auto depth = std::count(example.begin(), example.end(), '/');
  if (depth == (parts ? 3 : 2)) return as("tracklets", folder, "frames in folders of folders: " + example);
  if (parts) return as("folder", folder, "query and gallery with a folder per identity: " + example);
  if (depth == 0) return as("folder", folder, "images of unknown people: " + example);
  fail(str(folder.string(), ": a folder of folders with images (", example, "); say what they are: folder:", folder.string(),
           " for a folder per identity, videos:", folder.string(), " for a folder per video"));
}

bool is_luperson_key(const std::string& stem) {  // CC_TT_VVVV_IIIIIIII
  return std::count(stem.begin(), stem.end(), '_') == 3 && stem.find_first_not_of("0123456789_") == std::string::npos;
}

}  // namespace

Recognition recognize_layout(const fs::path& path) {
  std::error_code error;
  REID_CHECK(fs::exists(path, error), path.string(), ": there is no such file or folder");
  if (!fs::is_directory(path, error)) {
    const std::string extension = path.extension().string();
    REID_CHECK(extension == ".csv" || extension == ".jsonl", path.string(), ": is a file, but no manifest (.csv, .jsonl)");
    return as("manifest", path, "a file " + extension);
  }
  for (const Place& place : places()) {
    for (const std::string& below : place.below) {
      if (!holds(path / below, place)) continue;
      if (place.layout == "dukemtmc-videoreid" && !is_video_frame(first_image(path / below / "train").filename().string())) continue;
      REID_CHECK(place.layout != "cuhk03-np", path.string(),
                 ": CUHK03-NP holds detected and labeled boxes; say which: cuhk03-np,boxes=detected:", path.string(),
                 " or cuhk03-np,boxes=labeled:", path.string());
      std::string evidence;
      for (const std::string& child : place.children) evidence += (evidence.empty() ? "" : ", ") + child;
      return as(place.layout, path, evidence);
    }
  }
  if (const auto market = market_family(path)) return *market;
  const fs::path image = first_image(path);
  if (is_luperson_key(image.stem().string())) return as("luperson", path, "names like " + image.filename().string());
  if (const auto own = own_data(path)) return *own;
  fail(path.string() + ": holds no images, so its layout cannot be told");
}

}  // namespace reid
