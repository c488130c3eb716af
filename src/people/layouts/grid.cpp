// QMUL GRID (underground_reid): two folders of images, splits in a MATLAB cell array of structs.

#include <set>

#include "formats/matlab.h"
#include "people/layouts/containers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

fs::path grid_root(const fs::path& folder) { return is_folder(folder / "underground_reid") ? folder / "underground_reid" : folder; }

// The people trained in each split.
std::vector<std::set<int64_t>> read_grid_splits(const fs::path& folder) {
  const fs::path file = grid_root(folder) / "features_and_partitions.mat";
  const MatValue cells = MatFile(file).read("trainIdxAll");
  REID_CHECK(cells.kind == MatValue::Kind::cells && !cells.items.empty(), file.string(), ": the variable trainIdxAll holds no cells");
  std::vector<std::set<int64_t>> splits;
  for (const MatValue& cell : cells.items) {
    const std::string what = str(file.string(), ": trainIdxAll{", splits.size() + 1, "}.personIdx");
    const MatValue* people = cell.find("personIdx");
    REID_CHECK(people != nullptr, what, " is missing");
    const std::vector<int64_t> list = integers_of(*people, what);
    splits.emplace_back(list.begin(), list.end());
    REID_CHECK(!splits.back().empty() && *splits.back().begin() > 0, what, " is empty or holds numbers below 1");
  }
  return splits;
}

Sample grid_sample(const fs::path& path) {
  const std::string name = path.filename().string();
  size_t at = 0;
  const int64_t person = parse_digits(name, at);
  const bool separated = person >= 0 && at < name.size() && name[at++] == '_';
  const int64_t camera = separated ? parse_digits(name, at) : -1;
  REID_CHECK(camera >= 1, path.string(),
             ": the name does not follow the grid layout (PPPP_C_..., as in 0001_1_25004_107_32_106_221.jpeg): rename or remove it");
  return {.path = path.string(), .person = person, .camera = camera - 1};
}

}  // namespace

int64_t grid_splits(const fs::path& folder, const LayoutOptions&) { return static_cast<int64_t>(read_grid_splits(folder).size()); }

Dataset grid(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "grid");
  Dataset data;
  data.name = "grid:" + folder.string();
  const fs::path root = grid_root(folder);
  if (!is_folder(root / "probe") || !is_folder(root / "gallery"))
    nothing_found(data.name, "the folders probe and gallery and features_and_partitions.mat, in underground_reid or directly");
  const std::vector<std::set<int64_t>> splits = read_grid_splits(folder);
  const int64_t split = number_option(options, "split", 0, static_cast<int64_t>(splits.size()) - 1, 0, data.name);
  const std::set<int64_t>& trained = splits[static_cast<size_t>(split)];
  for (const bool probe : {true, false}) {
    std::set<int64_t> missing = trained;
    for (const fs::path& path : list_folder(root / (probe ? "probe" : "gallery")).images) {
      Sample sample = grid_sample(path);
      REID_CHECK(!probe || sample.person > 0, path.string(), ": a distractor (identity 0) among the probes");
      missing.erase(sample.person);
      (trained.contains(sample.person) ? data.train : probe ? data.query : data.gallery).push_back(std::move(sample));
    }
    REID_CHECK(missing.empty(), data.name, ": ", probe ? "probe" : "gallery", " has no image of identity ", *missing.begin(),
               ", which split ", split, " trains");
  }
  data.name = str("grid,split=", split, ":", folder.string());
  return data;
}

}  // namespace reid
