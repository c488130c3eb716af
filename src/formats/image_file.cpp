// Where an image's bytes come from: a file, or an entry of a container. Apart from image.cpp, so that programs which only decode do not
// link what reads containers.

#include <system_error>

#include "formats/lmdb.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"

namespace reid {
namespace {

struct Entry {
  const LmdbFile* database = nullptr;  // null: the name means a file
  std::string key;
};

Entry find_entry(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::error_code ignored;
  if (name.find('!') == std::string::npos || std::filesystem::exists(file, ignored)) return {};
  for (size_t mark = name.rfind('!'); mark != std::string::npos && mark > 0; mark = name.rfind('!', mark - 1))
    if (const LmdbFile* database = shared_lmdb(name.substr(0, mark))) return {database, name.substr(mark + 1)};
  return {};
}

}  // namespace

std::vector<uint8_t> read_image_bytes(const std::filesystem::path& file) {
  const Entry entry = find_entry(file);
  return entry.database != nullptr ? entry.database->get(entry.key) : read_file(file);
}

Image read_image(const std::filesystem::path& file) { return decode_image(read_image_bytes(file), file.string()); }

bool has_image(const std::filesystem::path& file) {
  const Entry entry = find_entry(file);
  std::error_code ignored;
  return entry.database != nullptr ? entry.database->contains(entry.key) : std::filesystem::exists(file, ignored);
}

}  // namespace reid
