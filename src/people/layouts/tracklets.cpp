// Tracklets as folders of frames: people's own, DukeMTMC-VideoReID, the multi-shot part of PRID 2011.

#include <algorithm>
#include <set>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

// Every folder of images below a person's folder is a tracklet, and one camera sees it.
class TrackletReader {
 public:
  explicit TrackletReader(std::string set) : set_(std::move(set)) {}

  // Calls camera_of(frame), which gives -1 where there is none.
  template <class CameraOf>
  void add(std::vector<Sample>& part, const fs::path& person_folder, int64_t person, const CameraOf& camera_of) {
    walk_folders(person_folder, [&](const fs::path&, const std::vector<fs::path>& images) {
      if (images.empty()) return;
      const int64_t camera = camera_of(images.front());
      for (const fs::path& path : images) {
        REID_CHECK(camera_of(path) == camera, path.string(), ": another camera than ", images.front().filename().string(),
                   " of the same tracklet; one camera sees a tracklet: move it into a folder of its own");
        part.push_back({.path = path.string(), .person = person, .camera = cameras_.camera(path, camera), .tracklet = next_});
      }
      ++next_;
    });
  }
  bool cameras_known() const { return cameras_.known(set_); }

 private:
  std::string set_;
  CameraNames cameras_;
  int64_t next_ = 0;
};

// Of the frame, or of the folders it stands in up to the person's.
int64_t named_camera(const fs::path& frame) {
  const int64_t camera = camera_field(frame.stem().string());
  return camera >= 0 ? camera : camera_field(frame.parent_path().filename().string());
}

// 0001C6F0099X30823.jpg or 0001_C6_F0099_X30823.jpg: the camera counts from 1.
int64_t videoreid_camera(const fs::path& frame) {
  const std::string name = frame.filename().string();
  size_t at = 0;
  const bool person = parse_digits(name, at) >= 0;
  at += at < name.size() && name[at] == '_';
  const int64_t camera = person && at < name.size() && name[at] == 'C' ? parse_digits(name, ++at) : -1;
  REID_CHECK(camera > 0, frame.string(),
             ": the name does not follow the dukemtmc-videoreid layout (0001_C6_F0099_X30823.jpg): rename or remove it");
  return camera - 1;
}

// multi_shot/cam_a/person_0001/*.png; empty when the folder is not there.
std::vector<fs::path> prid_frames(const fs::path& camera, int64_t person) {
  std::string number = std::to_string(person);
  number.insert(0, number.size() < 4 ? 4 - number.size() : 0, '0');
  const fs::path folder = camera / ("person_" + number);
  return is_folder(folder) ? list_folder(folder).images : std::vector<fs::path>();
}

// The frames of these people, by whichever of the two cameras.
void add_prid(std::vector<Sample>& part, const fs::path& root, const std::vector<int64_t>& people, std::initializer_list<int> cameras,
              int64_t& tracklet, const std::string& set) {
  for (const int64_t person : people) {
    for (const int camera : cameras) {
      const fs::path folder = root / (camera == 0 ? "cam_a" : "cam_b");
      const std::vector<fs::path> frames = prid_frames(folder, person);
      REID_CHECK(!frames.empty(), set, ": no frames of person ", person, " in ", folder.string());
      for (const fs::path& path : frames) part.push_back({.path = path.string(), .person = person, .camera = camera, .tracklet = tracklet});
      ++tracklet;
    }
  }
}

}  // namespace

// Your own: PERSON/TRACKLET/frames, all for training, or inside train, query and gallery.
Dataset read_tracklets(const fs::path& folder, const LayoutOptions&) {
  check_folder(folder, "tracklets");
  Dataset data;
  data.name = "tracklets:" + folder.string();
  std::vector<std::pair<fs::path, std::vector<Sample>*>> parts = {{folder, &data.train}};
  if (is_folder(folder / "query") && is_folder(folder / "gallery"))
    parts = {{folder / "train", &data.train}, {folder / "query", &data.query}, {folder / "gallery", &data.gallery}};
  std::vector<fs::path> people;
  for (const auto& [part, samples] : parts)
    if (is_folder(part))
      for (const fs::path& person : list_folder(part).folders) people.push_back(person);
  const std::map<std::string, int64_t> persons = number_by_name(people);
  TrackletReader reader(data.name);
  for (const auto& [part, samples] : parts) {
    if (!is_folder(part)) continue;
    for (const fs::path& person : list_folder(part).folders) {
      const Listing inside = list_folder(person);
      REID_CHECK(
          inside.images.empty(), data.name, ": ", inside.images.front().string(),
          " stands outside of any tracklet; this layout wants PERSON/TRACKLET/frames. For a folder of images per person use folder:");
      reader.add(*samples, person, persons.at(person.filename().string()), named_camera);
    }
  }
  if (data.train.empty() && data.query.empty() && data.gallery.empty())
    nothing_found("tracklets", folder, "PERSON/TRACKLET/frames, all together or inside train, query and gallery");
  data.cameras_known = reader.cameras_known();
  return data;
}

// {train,query,gallery}/PPPP/TTTT/frames. Frames of some tracklets count from 2; they are taken as they stand.
Dataset read_dukemtmc_videoreid(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("dukemtmc-videoreid", folder);
  Dataset data;
  data.name = "dukemtmc-videoreid:" + folder.string();
  TrackletReader reader(data.name);
  const std::pair<const char*, std::vector<Sample>*> parts[] = {{"train", &data.train}, {"query", &data.query}, {"gallery", &data.gallery}};
  for (const auto& [part, samples] : parts) {
    for (const fs::path& person : list_folder(root / part).folders) {
      const int64_t number = parse_number(person.filename().string());
      REID_CHECK(number > 0, person.string(), ": the folder's name is no number of a person (0001): rename or remove it");
      reader.add(*samples, person, number, videoreid_camera);
    }
  }
  if (data.train.empty() && data.query.empty() && data.gallery.empty())
    nothing_found("dukemtmc-videoreid", folder, "train, query and gallery with PPPP/TTTT/frames");
  return data;
}

// Everyone whom both cameras filmed.
Dataset read_prid2011_video(const fs::path& folder, const LayoutOptions&) {
  const fs::path root = find_root("prid2011-video", folder) / "multi_shot";
  Dataset data;
  data.name = "prid2011-video:" + folder.string();
  std::vector<int64_t> people;
  for (int64_t person = 1; person <= 200; ++person)
    if (!prid_frames(root / "cam_a", person).empty() && !prid_frames(root / "cam_b", person).empty()) people.push_back(person);
  int64_t tracklet = 0;
  add_prid(data.train, root, people, {0, 1}, tracklet, data.name);
  if (data.train.empty())
    nothing_found("prid2011-video", folder, "multi_shot/cam_a/person_0001 and multi_shot/cam_b/person_0001 with frames");
  return data;
}

// The file of splits decides who takes part: of 200 people, those filmed long enough by both cameras.
std::vector<Dataset> prid2011_video_splits(const fs::path& folder, const LayoutOptions& options) {
  const fs::path root = find_root("prid2011-video", folder);
  Dataset named;
  named.name = "prid2011-video:" + folder.string();
  fs::path file;
  std::error_code error;
  for (const fs::path& place :
       {root / "splits_prid2011.json", root.parent_path() / "splits_prid2011.json", folder / "splits_prid2011.json"})
    if (file.empty() && fs::exists(place, error)) file = place;
  if (options.contains("splits")) file = options.at("splits");
  REID_CHECK(!file.empty(), named.name, ": splits_prid2011.json is missing: it says who takes part in each split. Put torchreid's file ",
             "beside prid_2011, or name one: prid2011-video,splits=FILE.json:PATH");
  return read_split_file(file, named, [&](const PeopleSplit& people) {
    Dataset split;
    int64_t tracklet = 0;
    add_prid(split.train, root / "multi_shot", people.train, {0, 1}, tracklet, named.name);
    add_prid(split.query, root / "multi_shot", people.test, {0}, tracklet, named.name);
    add_prid(split.gallery, root / "multi_shot", people.test, {1}, tracklet, named.name);
    return split;
  });
}

}  // namespace reid
