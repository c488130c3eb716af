// People's own data: a folder for each identity.

#include "people/layouts/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

std::vector<Sample> identity_part(const fs::path& folder, const std::map<std::string, int64_t>& persons, CameraNames& cameras) {
  std::vector<Sample> samples;
  const Listing listing = list_folder(folder);
  REID_CHECK(listing.images.empty(), "folder:", folder.string(), ": ", listing.images.size(), " images (",
             listing.images.front().filename().string(), ", ...) stand beside the folders of identities: move them into one, or out");
  for (const fs::path& identity : listing.folders) {
    const int64_t person = persons.at(identity.filename().string());
    walk_folders(identity, [&](const fs::path&, const std::vector<fs::path>& images) {
      for (const fs::path& path : images) {
        const int64_t camera = cameras.camera(path, camera_field(path.stem().string()));
        samples.push_back({.path = path.string(), .person = person, .camera = camera});
      }
    });
  }
  return samples;
}

// The same name is the same person in every part.
std::map<std::string, int64_t> number_identities(const std::vector<fs::path>& parts) {
  std::vector<fs::path> identities;
  for (const fs::path& part : parts)
    for (const fs::path& identity : list_folder(part).folders) identities.push_back(identity);
  return number_by_name(identities);
}

}  // namespace

Dataset identity_folders(const fs::path& folder) {
  check_folder(folder, "folder");
  Dataset data;
  data.name = "folder:" + folder.string();
  CameraNames cameras;
  const Listing top = list_folder(folder);
  if (is_folder(folder / "query") && is_folder(folder / "gallery")) {
    std::vector<fs::path> parts = {folder / "query", folder / "gallery"};
    const bool trains = is_folder(folder / "train");
    if (trains) parts.push_back(folder / "train");
    const std::map<std::string, int64_t> persons = number_identities(parts);
    data.query = identity_part(parts[0], persons, cameras);
    data.gallery = identity_part(parts[1], persons, cameras);
    if (trains) data.train = identity_part(parts[2], persons, cameras);
  } else if (!top.folders.empty()) {
    data.train = identity_part(folder, number_identities({folder}), cameras);
  } else {
    for (const fs::path& path : top.images) data.train.push_back({.path = path.string()});
  }
  REID_CHECK(!data.train.empty() || !data.query.empty() || !data.gallery.empty(), data.name,
             ": no images found; this layout wants .jpg or .png files, in a folder per identity or directly. Check the path");
  data.cameras_known = cameras.known(data.name);
  return data;
}

}  // namespace reid
