// MSMT17, V1 (train, test) and V2 (the same images with faces blurred: mask_train_v2, mask_test_v2), with its four lists; and copies in
// the Market-1501 layout.

#include <algorithm>
#include <sstream>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"
#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kTrainingPeople = 1041;  // test identities follow them, whatever part is there

// The third field of 0000_000_01_0303morning_0015_0.jpg, from 1; -1 when the name is no such name.
int64_t camera_of(const std::string& name) {
  size_t at = 0;
  int64_t number = -1;
  for (int field = 0; field < 3; ++field) {
    if (field > 0 && (at >= name.size() || name[at++] != '_')) return -1;
    number = parse_digits(name, at);
    if (number < 0) return -1;
  }
  return at < name.size() && name[at] == '_' ? number : -1;
}

// Lines "0000/0000_000_01_0303morning_0015_0.jpg 0": a path below `images` and a person from 0 on; the numbers move up by `offset`.
std::vector<Sample> read_list(const fs::path& list, const fs::path& images, int64_t offset) {
  std::error_code error;
  REID_CHECK(
      fs::exists(list, error), "msmt17: the list ", list.string(),
      " is missing; MSMT17 comes with list_train.txt, list_val.txt, list_query.txt and list_gallery.txt beside its folders of images");
  std::istringstream lines(read_text(list));
  std::vector<Sample> samples;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const int64_t person = space == std::string::npos ? -1 : parse_number(std::string_view(line).substr(space + 1));
    REID_CHECK(space > 0 && person >= 0, list.string(), ", line ", number, ": \"", line, "\" is not a path and a number");
    const fs::path path = images / line.substr(0, space);
    const int64_t camera = camera_of(path.filename().string());
    REID_CHECK(camera > 0, list.string(), ", line ", number, ": the name ", path.filename().string(),
               " tells no camera; it should look like 0000_000_01_0303morning_0015_0.jpg");
    REID_CHECK(fs::is_regular_file(path, error), list.string(), ", line ", number, ": there is no file ", path.string(),
               "; is the archive unpacked whole, and are the lists those of this version (V1 or V2)?");
    samples.push_back({.path = path.string(), .person = person + offset, .camera = camera - 1});
  }
  REID_CHECK(!samples.empty(), list.string(), ": the list is empty");
  return samples;
}

// Where the lists are, or should be.
fs::path list_root(const fs::path& folder) {
  const auto fits = [](const fs::path& root) {
    std::error_code error;
    for (const char* name : {"list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"})
      if (fs::exists(root / name, error)) return true;
    return is_folder(root / "mask_train_v2") || (is_folder(root / "train") && is_folder(root / "test"));
  };
  if (fits(folder)) return folder;
  REID_CHECK(!fits(folder / "MSMT17_V1") || !fits(folder / "MSMT17_V2"), "msmt17:", folder.string(),
             ": holds MSMT17_V1 and MSMT17_V2: name one of them");
  for (const char* archive : {"MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17"})
    if (fits(folder / archive)) return folder / archive;
  return {};
}

Dataset read_lists(const fs::path& root, const fs::path& folder, const std::string& val) {
  Dataset data;
  data.name = "msmt17,val=" + val + ":" + folder.string();
  data.edition = "val=" + val;
  const bool masked = is_folder(root / "mask_train_v2");
  const fs::path train = root / (masked ? "mask_train_v2" : "train"), test = root / (masked ? "mask_test_v2" : "test");
  data.train = read_list(root / "list_train.txt", train, 1);
  if (val == "include") {
    const std::vector<Sample> more = read_list(root / "list_val.txt", train, 1);
    data.train.insert(data.train.end(), more.begin(), more.end());
  }
  int64_t people = kTrainingPeople;
  for (const Sample& sample : data.train) people = std::max(people, sample.person);
  data.query = read_list(root / "list_query.txt", test, people + 1);
  data.gallery = read_list(root / "list_gallery.txt", test, people + 1);
  return data;
}

}  // namespace

Dataset read_msmt17(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "msmt17");
  const bool merged = option_value(options, "msmt17", "merged", {"yes", "no"}, "no") == "yes";
  const std::string val = option_value(options, "msmt17", "val", {"include", "exclude"}, "include");
  REID_CHECK(!merged || val == "include", "msmt17: merged=yes takes all images; it does not go with val=exclude");
  const fs::path root = list_root(folder);
  Dataset data;
  if (!root.empty()) {
    data = read_lists(root, folder, val);
  } else {
    fs::path market = folder;
    for (const char* archive : {"MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17"})
      if (!is_folder(market / "bounding_box_train") && is_folder(folder / archive / "bounding_box_train")) market = folder / archive;
    if (!is_folder(market / "bounding_box_train") && !is_folder(market / "query"))
      nothing_found("msmt17", folder, "list_train.txt, list_query.txt and list_gallery.txt, or the folders of the market1501 layout");
    REID_CHECK(!options.contains("val"), "msmt17:", folder.string(),
               ": a copy in the market1501 layout has no list of validation images, so it takes no option val");
    data = market_style(market, "msmt17:" + folder.string(), MarketIds::plain, kTrainingPeople);
    cameras_from_zero(data);
  }
  if (merged) {
    use_everything(data, IdScope::shared);
    data.name = "msmt17,merged=yes:" + folder.string();
    data.edition = "merged=yes";
  }
  return data;
}

}  // namespace reid
