// MARS: tracklets as rows of MATLAB matrices that point into lists of file names.

#include <set>

#include "formats/matlab.h"
#include "people/layouts/containers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

// One half of the set: names of frames and, by tracklet, the first and last of them (from 1, inclusive), identity and camera (from 1).
struct MarsHalf {
  std::vector<std::string> names;
  std::vector<std::vector<int64_t>> tracklets;
  fs::path images;
  int64_t first_number = 0;  // of its tracklets within the data set
  std::string what;          // for errors
};

MarsHalf read_half(const fs::path& folder, const std::string& half, int64_t first_number) {
  MarsHalf result;
  const fs::path matrix = folder / "info" / ("tracks_" + half + "_info.mat");
  result.names = read_lines(folder / "info" / (half + "_name.txt"));
  result.tracklets = MatFile(matrix).integer_rows("track_" + half + "_info", 4);
  result.images = folder / ("bbox_" + half);
  result.first_number = first_number;
  result.what = matrix.string();
  check_folder(result.images, "mars");
  return result;
}

// Frames of one tracklet must agree in identity (the first four characters) and camera (the sixth) of their names.
void check_names(const MarsHalf& half, int64_t tracklet, int64_t begin, int64_t end) {
  const std::string& first = half.names[static_cast<size_t>(begin)];
  for (int64_t i = begin; i < end; ++i) {
    const std::string& name = half.names[static_cast<size_t>(i)];
    REID_CHECK(name.size() > 6 && name.compare(0, 4, first, 0, 4) == 0 && name[5] == first[5], half.what, ": tracklet ", tracklet + 1,
               " holds frames of several people or cameras (", first, " and ", name, " in line ", i + 1, " of the list of names)");
  }
}

// Appends the frames of a tracklet; returns how many were left out as junk.
int64_t add_tracklet(const MarsHalf& half, int64_t tracklet, int64_t min_frames, bool keep_distractors, std::vector<Sample>& to) {
  const std::vector<int64_t>& row = half.tracklets[static_cast<size_t>(tracklet)];
  const int64_t begin = row[0] - 1, end = row[1], person = row[2], camera = row[3] - 1;
  REID_CHECK(begin >= 0 && begin < end && end <= static_cast<int64_t>(half.names.size()), half.what, ": tracklet ", tracklet + 1,
             " is frames ", row[0], " to ", end, " of ", half.names.size(), " names");
  REID_CHECK(person >= -1 && camera >= 0 && camera < 6, half.what, ": tracklet ", tracklet + 1, " has identity ", person, " and camera ",
             row[3], "; MARS has identities from -1 and cameras 1 to 6");
  if (person == -1) return end - begin;
  if (end - begin < min_frames || (person == 0 && !keep_distractors)) return 0;
  check_names(half, tracklet, begin, end);
  for (int64_t i = begin; i < end; ++i) {
    const std::string& name = half.names[static_cast<size_t>(i)];
    const fs::path path = half.images / name.substr(0, 4) / name;
    to.push_back({.path = path.string(), .person = person, .camera = camera, .tracklet = half.first_number + tracklet});
  }
  return 0;
}

}  // namespace

Dataset mars(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "mars");
  Dataset data;
  data.name = "mars:" + folder.string();
  if (!is_folder(folder / "info"))
    nothing_found(data.name, "the folders bbox_train, bbox_test and info (with tracks_test_info.mat and others)");
  const std::string gallery = choice_option(options, "gallery", {"all", "without-queries"}, data.name);
  const int64_t min_frames = number_option(options, "min_frames", 1, 1 << 20, 1, data.name);
  const MarsHalf train = read_half(folder, "train", 0);
  const MarsHalf test = read_half(folder, "test", static_cast<int64_t>(train.tracklets.size()));
  const auto tests = static_cast<int64_t>(test.tracklets.size());
  const fs::path chosen = folder / "info" / "query_IDX.mat";
  const std::vector<int64_t> queries = from_one(MatFile(chosen).integers("query_IDX"), tests, chosen.string());
  const std::set<int64_t> left_out = gallery == "all" ? std::set<int64_t>() : std::set<int64_t>(queries.begin(), queries.end());

  for (int64_t i = 0; i < static_cast<int64_t>(train.tracklets.size()); ++i)
    data.junk += add_tracklet(train, i, min_frames, false, data.train);
  for (const int64_t i : queries) add_tracklet(test, i, min_frames, false, data.query);
  for (int64_t i = 0; i < tests; ++i)
    if (!left_out.contains(i)) data.junk += add_tracklet(test, i, min_frames, true, data.gallery);
  data.name = str("mars,gallery=", gallery, ",min_frames=", min_frames, ":", folder.string());
  return data;
}

}  // namespace reid
