// iLIDS-VID: a folder for each person and camera, splits in a MATLAB matrix of places in the list of people.

#include <set>

#include "formats/matlab.h"
#include "people/layouts/containers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

constexpr const char* kWants = "i-LIDS-VID/sequences/cam1, cam2 (a folder for each person) and train_test_splits_ilidsvid.mat";

std::vector<std::vector<int64_t>> read_ilids_splits(const fs::path& folder) {
  const fs::path file =
      first_existing({folder / "train-test people splits" / "train_test_splits_ilidsvid.mat", folder / "train_test_splits_ilidsvid.mat",
                      folder / "i-LIDS-VID" / "train-test people splits" / "train_test_splits_ilidsvid.mat"},
                     "the file of splits");
  const MatFile mat(file);
  const MatValue matrix = mat.read("ls_set");
  REID_CHECK(matrix.shape.size() == 2, file.string(), ": the variable ls_set is no matrix");
  const std::string what = file.string() + ": the variable ls_set";
  std::vector<std::vector<int64_t>> rows = integer_rows_of(matrix, matrix.shape[1], what);
  for (std::vector<int64_t>& row : rows) {
    row = from_one(std::move(row), matrix.shape[1], what);
    REID_CHECK(std::set<int64_t>(row.begin(), row.end()).size() == row.size(), what, " names a person twice in one row");
  }
  REID_CHECK(!rows.empty(), what, " is empty");
  return rows;
}

std::vector<std::string> people_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& person : list_folder(folder).folders) names.push_back(person.filename().string());
  return names;
}

}  // namespace

int64_t ilids_vid_splits(const fs::path& folder, const LayoutOptions&) { return static_cast<int64_t>(read_ilids_splits(folder).size()); }

Dataset ilids_vid(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "ilids-vid");
  Dataset data;
  data.name = "ilids-vid:" + folder.string();
  fs::path sequences = folder / "i-LIDS-VID" / "sequences";
  if (!is_folder(sequences)) sequences = folder / "sequences";
  if (!is_folder(sequences / "cam1") || !is_folder(sequences / "cam2")) nothing_found(data.name, kWants);
  const std::vector<std::vector<int64_t>> splits = read_ilids_splits(folder);
  const int64_t split = number_option(options, "split", 0, static_cast<int64_t>(splits.size()) - 1, 0, data.name);
  const std::vector<int64_t>& row = splits[static_cast<size_t>(split)];

  const std::vector<std::string> people = people_in(sequences / "cam1");
  REID_CHECK(people == people_in(sequences / "cam2"), data.name, ": cam1 and cam2 do not hold the same people");
  REID_CHECK(people.size() == row.size(), data.name, ": has ", people.size(), " people, its splits are of ", row.size());
  const std::set<int64_t> tested(row.begin(), row.begin() + static_cast<std::ptrdiff_t>(row.size() / 2));
  for (int64_t person = 0; person < static_cast<int64_t>(people.size()); ++person) {
    for (int64_t camera = 0; camera < 2; ++camera) {
      const fs::path frames = sequences / str("cam", camera + 1) / people[static_cast<size_t>(person)];
      const std::vector<fs::path> images = list_folder(frames).images;
      REID_CHECK(!images.empty(), frames.string(), ": holds no images; this layout wants the frames of a person here");
      std::vector<Sample>& to = !tested.contains(person) ? data.train : camera == 0 ? data.query : data.gallery;
      for (const fs::path& path : images)
        to.push_back({.path = path.string(), .person = person + 1, .camera = camera, .tracklet = 2 * person + camera});
    }
  }
  data.name = str("ilids-vid,split=", split, ":", folder.string());
  return data;
}

}  // namespace reid
