// Where sets keep their images: the folders by which a reader finds its root, and by which a layout is recognized.

#include <algorithm>

#include "people/layouts/places.h"

namespace reid {

namespace fs = std::filesystem;

const std::vector<Place>& places() {
  const std::vector<std::string> msmt17 = {"", "MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17"};
  static const std::vector<Place> table = {
      {"msmt17", msmt17, {"list_train.txt"}},
      {"msmt17", msmt17, {"list_gallery.txt"}},
      {"msmt17", msmt17, {"mask_train_v2"}},
      {"cuhk03-np", {"", "cuhk03-np", "CUHK03-NP"}, {"detected/bounding_box_train", "labeled/bounding_box_train"}},
      {"cuhk01", {"", "CUHK01", "cuhk01"}, {"campus"}},
      {"cuhk02", {"", "Dataset", "CUHK02/Dataset", "cuhk02/Dataset"}, {"P1/cam1", "P5/cam1"}},
      {"cuhk-sysu", {"", "CUHK-SYSU", "cuhksysu", "cuhk_sysu"}, {"cropped_images"}},
      {"viper", {"", "VIPeR", "viper/VIPeR"}, {"cam_a", "cam_b"}},
      {"prid", {"", "prid_2011", "prid2011/prid_2011"}, {"single_shot/cam_a", "single_shot/cam_b"}},
      {"prid2011-video", {"", "prid_2011", "prid2011/prid_2011"}, {"multi_shot/cam_a", "multi_shot/cam_b"}},
      {"ilids", {"", "i-LIDS_Pedestrian", "ilids/i-LIDS_Pedestrian"}, {"Persons"}},
      {"dukemtmc-videoreid", {"", "DukeMTMC-VideoReID", "dukemtmc-vidreid/DukeMTMC-VideoReID"}, {"train", "query", "gallery"}},
      {"mars", {"", "mars", "MARS"}, {"info/tracks_train_info.mat"}},
      {"ilids-vid", {"", "ilids-vid", "iLIDS-VID"}, {"i-LIDS-VID/sequences"}},
      {"grid", {"", "grid"}, {"underground_reid"}},
      {"cuhk03", {"", "cuhk03", "CUHK03"}, {"cuhk03_release"}},
      {"cion-al", {""}, {"cional_annos.json"}},
  };
  return table;
}

bool holds(const fs::path& folder, const Place& place) {
  std::error_code error;
  return std::all_of(place.children.begin(), place.children.end(),
                     [&](const std::string& child) { return fs::exists(folder / child, error); });
}

fs::path find_root(const char* layout, const fs::path& folder) {
  check_folder(folder, layout);
  const auto place = std::find_if(places().begin(), places().end(), [&](const Place& p) { return p.layout == layout; });
  REID_CHECK(place != places().end(), "[layouts] ", layout, " has no place");
  for (const std::string& below : place->below)
    if (holds(folder / below, *place)) return below.empty() ? folder : folder / below;
  std::string wants;
  for (const std::string& child : place->children) wants += (wants.empty() ? "" : ", ") + child;
  nothing_found(layout, folder, wants);
}

}  // namespace reid
