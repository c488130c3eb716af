// Where an image's bytes come from: a file, or an entry of a container. Apart from image.cpp, so that programs which only decode do not
// link what reads containers.

#include <system_error>

#include "formats/lmdb.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"

namespace reid {

std::vector<uint8_t> read_image_bytes(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::error_code ignored;
  if (name.find('!') != std::string::npos && !std::filesystem::exists(file, ignored)) {
    for (size_t mark = name.rfind('!'); mark != std::string::npos && mark > 0; mark = name.rfind('!', mark - 1))
      if (const LmdbFile* database = shared_lmdb(name.substr(0, mark))) return database->get(std::string_view(name).substr(mark + 1));
  }
  return read_file(file);
}

Image read_image(const std::filesystem::path& file) { return decode_image(read_image_bytes(file), file.string()); }

}  // namespace reid
