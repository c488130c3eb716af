// CUHK-SYSU as a source of training images, CUHK01, CUHK02.

#include <algorithm>
#include <set>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

// p11422_s16929_1.jpg, p00001_n01_s00001_hard0.png: the number behind the p; -1 for other names.
int64_t sysu_person(const std::string& name) {
  size_t at = 1;
  if (name[0] != 'p') return -1;
  const int64_t person = parse_digits(name, at);
  return at < name.size() && name[at] == '_' ? person : -1;
}

std::vector<fs::path> images_of(const fs::path& folder, const std::string& set) {
  REID_CHECK(is_folder(folder), set, ": the folder ", folder.string(), " is missing");
  std::vector<fs::path> images = list_folder(folder).images;
  REID_CHECK(!images.empty(), set, ": no images in ", folder.string());
  return images;
}

}  // namespace

// Three variants: cropped_images as torchreid uses it, the names of MetaBIN, a copy in the Market-1501 layout. None knows cameras.
Dataset read_cuhk_sysu(const fs::path& folder, const LayoutOptions&) {
  check_folder(folder, "cuhk-sysu");
  fs::path root = folder;
  for (const char* archive : {"CUHK-SYSU", "cuhksysu", "cuhk_sysu"})
    if (is_folder(folder / archive)) root = folder / archive;
  if (is_folder(root / "cropped_images")) root /= "cropped_images";
  Dataset data;
  data.name = "cuhk-sysu:" + folder.string();
  if (is_folder(root / "bounding_box_train")) {
    data.train = market_style(root, data.name, MarketIds::plain).train;
  } else {
    for (const fs::path& path : list_folder(root).images) {
      const int64_t person = sysu_person(path.filename().string());
      REID_CHECK(
          person >= 0, path.string(),
          ": the name does not follow the cuhk-sysu layout (p11422_s16929_1.jpg or p00001_n01_s00001_hard0.png): rename or remove it");
      data.train.push_back({.path = path.string(), .person = person + 1});
    }
  }
  if (data.train.empty())
    nothing_found("cuhk-sysu", folder, "cropped_images with names like p11422_s16929_1.jpg, or bounding_box_train with 0001_c0_1.jpg");
  for (Sample& sample : data.train) sample.camera = 0;
  data.cameras_known = false;
  return data;
}

// Dataset/P1..P5/cam1|cam2/PID_*.png. Numbers restart in each pair of cameras, so the pairs are kept apart; P1 to P4 are for training.
Dataset read_cuhk02(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("cuhk02", folder);
  Dataset data;
  data.name = "cuhk02:" + folder.string();
  int64_t before = 0;
  for (int64_t pair = 0; pair < 5; ++pair) {
    int64_t last = before;
    for (int64_t view = 0; view < 2; ++view) {
      std::vector<Sample>& part = pair < 4 ? data.train : view == 0 ? data.query : data.gallery;
      for (const fs::path& path : images_of(root / str("P", pair + 1) / str("cam", view + 1), data.name)) {
        size_t at = 0;
        const std::string name = path.filename().string();
        const int64_t person = parse_digits(name, at);
        REID_CHECK(person >= 0 && at < name.size() && name[at] == '_', path.string(),
                   ": the name does not follow the cuhk02 layout (PID_*.png): rename or remove it");
        part.push_back({.path = path.string(), .person = before + person + 1, .camera = 2 * pair + view});
        last = std::max(last, before + person + 1);
      }
    }
    before = last;
  }
  return data;
}

// campus/0001001.png: four digits of the person, three of the image; images 1 and 2 are of the first camera.
Dataset read_cuhk01(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("cuhk01", folder);
  Dataset data;
  data.name = "cuhk01:" + folder.string();
  for (const fs::path& path : images_of(root / "campus", data.name)) {
    const std::string stem = path.stem().string();
    const int64_t person = parse_number(stem.substr(0, 4)), image = stem.size() == 7 ? parse_number(stem.substr(4)) : -1;
    REID_CHECK(person > 0 && image >= 1 && image <= 4, path.string(),
               ": the name does not follow the cuhk01 layout (0001001.png: person 0001, image 001 to 004): rename or remove it");
    data.train.push_back({.path = path.string(), .person = person, .camera = (image - 1) / 2});
  }
  return data;
}

// Half of the people train. Ten halves, each with either camera as query.
std::vector<Dataset> cuhk01_splits(const fs::path& folder, const LayoutOptions& options) {
  const Dataset pool = read_cuhk01(folder, options);
  if (options.contains("splits")) return read_split_file(options.at("splits"), pool);
  const bool both = option_value(options, "cuhk01", "directions", {"both", "a"}, "both") == "both";
  std::set<int64_t> persons;
  for (const Sample& sample : pool.train) persons.insert(sample.person);
  const std::vector<int64_t> people(persons.begin(), persons.end());
  const auto count = static_cast<int64_t>(people.size());
  std::vector<Dataset> splits;
  for (const std::vector<int64_t>& half : random_halves("cuhk01", count, count / 2, 10)) {
    std::set<int64_t> training;
    for (const int64_t index : half) training.insert(people[static_cast<size_t>(index)]);
    Dataset split;
    for (const Sample& sample : pool.train)
      (training.contains(sample.person) ? split.train : sample.camera == 0 ? split.query : split.gallery).push_back(sample);
    add_both_directions(splits, std::move(split), both);
  }
  return splits;
}

}  // namespace reid
