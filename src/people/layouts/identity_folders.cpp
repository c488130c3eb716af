// People's own data: a folder for each identity.

#include "people/layouts/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

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
  const Listing listing = list_folder(folder);
  REID_CHECK(listing.images.empty(), "folder:", folder.string(), ": ", listing.images.size(), " images (",
             listing.images.front().filename().string(), ", ...) stand beside the folders of identities: move them into one, or out");
  for (const fs::path& identity : listing.folders) {
    const int64_t person = persons.at(identity.filename().string());
    walk_folders(identity, [&](const fs::path&, const std::vector<fs::path>& images) {
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
    for (const fs::path& identity : list_folder(folder).folders) persons.emplace(identity.filename().string(), 0);
  int64_t next = 0;
  for (auto& [name, person] : persons) person = ++next;
}

}  // namespace

Dataset identity_folders(const fs::path& folder) {
  check_folder(folder, "folder");
  Dataset data;
  data.name = "folder:" + folder.string();
  std::map<std::string, int64_t> persons;
  const Listing top = list_folder(folder);
  if (is_folder(folder / "query") && is_folder(folder / "gallery")) {
    std::vector<fs::path> parts = {folder / "query", folder / "gallery"};
    const bool trains = is_folder(folder / "train");
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

}  // namespace reid
