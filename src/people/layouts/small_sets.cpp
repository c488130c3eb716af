// VIPeR, PRID (single shot) and iLIDS: small sets, evaluated on ten random halves of their people.

#include <algorithm>
#include <map>
#include <set>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kSplits = 10;

// The number before the first underscore of VIPeR's names (000_45.bmp); -1 without one.
int64_t viper_number(const fs::path& path) {
  const std::string name = path.filename().string();
  return parse_number(std::string_view(name).substr(0, std::min(name.find('_'), name.size())));
}

// person_0001.png
int64_t prid_number(const fs::path& path, const std::string& set) {
  const std::string stem = path.stem().string();
  const int64_t person = stem.starts_with("person_") ? parse_number(std::string_view(stem).substr(7)) : -1;
  REID_CHECK(person > 0, path.string(), ": the name does not follow the layout of ", set, " (person_0001.png): rename or remove it");
  return person;
}

constexpr int64_t kPridBoth = 200;  // people 1 to 200 stand in both cameras; a higher number is somebody else in each camera

std::vector<Sample> prid_camera(const fs::path& folder, int64_t camera, int64_t last, const std::string& set) {
  std::vector<Sample> samples;
  for (const fs::path& path : list_folder(folder).images) {
    const int64_t person = prid_number(path, set);
    if (person <= last) samples.push_back({.path = path.string(), .person = person, .camera = camera});
  }
  return samples;
}

}  // namespace

// cam_a, cam_b: images of one person have the same place in the order of names (angles in the names differ).
Dataset read_viper(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("viper", folder);
  Dataset data;
  data.name = "viper:" + folder.string();
  const std::vector<fs::path> a = list_folder(root / "cam_a").images, b = list_folder(root / "cam_b").images;
  REID_CHECK(a.size() == b.size(), data.name, ": ", a.size(), " images in cam_a but ", b.size(),
             " in cam_b; each person has one in either: unpack the archive again");
  for (size_t i = 0; i < a.size(); ++i) {
    REID_CHECK(viper_number(a[i]) == viper_number(b[i]), data.name, ": ", a[i].filename().string(), " of cam_a and ",
               b[i].filename().string(), " of cam_b should be one person: a file is missing");
    data.train.push_back({.path = a[i].string(), .person = static_cast<int64_t>(i) + 1, .camera = 0});
    data.train.push_back({.path = b[i].string(), .person = static_cast<int64_t>(i) + 1, .camera = 1});
  }
  if (data.train.empty()) nothing_found("viper", folder, "cam_a and cam_b with an image of each person");
  return data;
}

std::vector<Dataset> viper_splits(const fs::path& folder, const LayoutOptions& options) {
  const Dataset pool = read_viper(folder, options);
  if (options.contains("splits")) return read_split_file(options.at("splits"), pool);
  const bool both = option_value(options, "viper", "directions", {"both", "a"}, "both") == "both";
  const auto people = static_cast<int64_t>(pool.train.size() / 2);
  std::vector<Dataset> splits;
  for (const std::vector<int64_t>& half : random_halves("viper", people, people / 2, kSplits)) {
    Dataset split;
    for (const Sample& sample : pool.train) {
      const bool trains = std::binary_search(half.begin(), half.end(), sample.person - 1);
      (trains ? split.train : sample.camera == 0 ? split.query : split.gallery).push_back(sample);
    }
    add_both_directions(splits, std::move(split), both);
  }
  return splits;
}

// The people who stand in both cameras.
Dataset read_prid(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("prid", folder) / "single_shot";
  Dataset data;
  data.name = "prid:" + folder.string();
  data.train = prid_camera(root / "cam_a", 0, kPridBoth, data.name);
  const std::vector<Sample> b = prid_camera(root / "cam_b", 1, kPridBoth, data.name);
  data.train.insert(data.train.end(), b.begin(), b.end());
  if (data.train.empty()) nothing_found("prid", folder, "single_shot/cam_a and single_shot/cam_b with names like person_0001.png");
  return data;
}

// 100 people train; of the others cam_a asks, and cam_b answers, with the people it alone has.
std::vector<Dataset> prid_splits(const fs::path& folder, const LayoutOptions& options) {
  const Dataset pool = read_prid(folder, options);
  const std::vector<Sample> b = prid_camera(find_root("prid", folder) / "single_shot" / "cam_b", 1, INT64_MAX, pool.name);
  const auto make = [&](const PeopleSplit& people) {
    const std::set<int64_t> train(people.train.begin(), people.train.end()), test(people.test.begin(), people.test.end());
    Dataset split;
    for (const Sample& sample : pool.train) {
      if (train.contains(sample.person)) split.train.push_back(sample);
      if (test.contains(sample.person) && sample.camera == 0) split.query.push_back(sample);
    }
    for (const Sample& sample : b)
      if (sample.person > kPridBoth || test.contains(sample.person)) split.gallery.push_back(sample);
    return split;
  };
  if (options.contains("splits")) return read_split_file(options.at("splits"), pool, make);
  std::vector<Dataset> splits;
  for (const std::vector<int64_t>& half : random_halves("prid", kPridBoth, kPridBoth / 2, kSplits)) {
    PeopleSplit people;
    for (int64_t person = 1; person <= kPridBoth; ++person)
      (std::binary_search(half.begin(), half.end(), person - 1) ? people.train : people.test).push_back(person);
    splits.push_back(make(people));
  }
  return splits;
}

// Persons/PPPPCCC.jpg. The last three digits count the images of a person, so every image passes for a camera of its own.
Dataset read_ilids(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("ilids", folder);
  Dataset data;
  data.name = "ilids:" + folder.string();
  for (const fs::path& path : list_folder(root / "Persons").images) {
    const std::string stem = path.stem().string();
    const int64_t person = parse_number(stem.substr(0, 4)), image = stem.size() == 7 ? parse_number(stem.substr(4)) : -1;
    REID_CHECK(person > 0 && image > 0, path.string(),
               ": the name does not follow the ilids layout (0001001.jpg: person 0001, image 001): rename or remove it");
    data.train.push_back({.path = path.string(), .person = person, .camera = image - 1});
  }
  if (data.train.empty()) nothing_found("ilids", folder, "Persons with names like 0001001.jpg");
  return data;
}

// Half of the people train with all their images; of each other person one image asks and another answers.
std::vector<Dataset> ilids_splits(const fs::path& folder, const LayoutOptions& options) {
  const Dataset pool = read_ilids(folder, options);
  if (options.contains("splits")) return read_split_file(options.at("splits"), pool);
  std::map<int64_t, std::vector<Sample>> images_of;
  for (const Sample& sample : pool.train) images_of[sample.person].push_back(sample);
  const auto people = static_cast<int64_t>(images_of.size());
  const std::vector<std::vector<int64_t>> halves = random_halves("ilids", people, people / 2, kSplits);
  std::vector<Dataset> splits(halves.size());
  for (size_t i = 0; i < halves.size(); ++i) {
    int64_t index = 0;
    for (const auto& [person, images] : images_of) {
      if (std::binary_search(halves[i].begin(), halves[i].end(), index++)) {
        splits[i].train.insert(splits[i].train.end(), images.begin(), images.end());
        continue;
      }
      REID_CHECK(images.size() >= 2, pool.name, ": person ", person, " has one image only (", images[0].path,
                 "), and a test needs two: a file is missing");
      std::vector<Sample> drawn = images;
      Rng(kSplitSeed).at("ilids images").at(i).at(static_cast<uint64_t>(person)).shuffle(drawn);
      splits[i].query.push_back(drawn[0]);
      splits[i].gallery.push_back(drawn[1]);
    }
  }
  return splits;
}

}  // namespace reid
