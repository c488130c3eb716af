// CION-AL: images of LUPerson-NL in folders sec0, sec1, ... with identities in one JSON list.

#include <system_error>

#include "people/layouts/containers.h"
#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

std::string keys_of(const Json& item) {
  if (!item.is_object()) return item.type_name();
  std::string keys;
  for (const auto& [key, value] : item.members()) keys += (keys.empty() ? "the keys " : ", ") + key;
  return keys.empty() ? "no keys" : keys;
}

}  // namespace

Dataset cion_al(const fs::path& folder) {
  check_folder(folder, "cion-al");
  Dataset data;
  data.name = "cion-al:" + folder.string();
  data.cameras_known = false;
  const fs::path list = folder / "cional_annos.json";
  std::error_code ignored;
  if (!fs::exists(list, ignored)) nothing_found(data.name, "cional_annos.json and the folders sec0, sec1, ... that it names");
  bool from_zero = false;
  each_json_item(read_text(list), list.string(), [&](const Json& item) {
    const Json *path = item.find("file_path"), *id = item.find("id");
    const bool fits = path != nullptr && path->is_string() && id != nullptr && id->is_integer() && id->integer() >= 0;
    REID_CHECK(fits, list.string(), ": entry ", data.train.size(), " has ", keys_of(item),
               "; this layout wants file_path (text) and id (a whole number from 0)");
    from_zero = from_zero || id->integer() == 0;
    data.train.push_back({.path = (folder / path->string()).string(), .person = id->integer()});
  });
  REID_CHECK(!data.train.empty(), list.string(), ": lists no images");
  REID_CHECK(fs::exists(data.train.front().path, ignored), list.string(), ": its first image, ", data.train.front().path,
             ", is not there: the folders sec0, sec1, ... have to stand beside the list");
  if (from_zero)
    for (Sample& sample : data.train) ++sample.person;
  return data;
}

}  // namespace reid
