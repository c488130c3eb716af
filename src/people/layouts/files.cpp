#include "people/layouts/files.h"

#include <algorithm>
#include <cctype>
#include <system_error>

namespace reid {

namespace fs = std::filesystem;

namespace {

bool hidden(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.empty() || name[0] == '.' || name == "__MACOSX";  // ._x.jpg and __MACOSX come out of archives made on a Mac
}

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

}  // namespace

Listing list_folder(const fs::path& folder) {
  Listing listing;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  REID_CHECK(!error, "cannot read the folder ", folder.string(), ": ", error.message());
  for (; entries != fs::directory_iterator(); entries.increment(error)) {
    REID_CHECK(!error, "cannot read the folder ", folder.string(), ": ", error.message());
    const fs::path& path = entries->path();
    if (hidden(path)) continue;
    if (entries->is_directory(error)) {
      listing.folders.push_back(path);
    } else if (is_image(path)) {
      listing.images.push_back(path);
    }
  }
  std::sort(listing.images.begin(), listing.images.end());
  std::sort(listing.folders.begin(), listing.folders.end());
  return listing;
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

void check_folder(const fs::path& folder, const char* layout) {
  std::error_code error;
  REID_CHECK(fs::exists(folder, error), layout, ":", folder.string(), ": there is no such folder");
  REID_CHECK(fs::is_directory(folder, error), layout, ":", folder.string(), ": is a file, not a folder");
}

int64_t parse_digits(std::string_view text, size_t& at) {
  const size_t begin = at;
  int64_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9' && at - begin < 18) value = value * 10 + (text[at++] - '0');
  return at == begin || (at < text.size() && text[at] >= '0' && text[at] <= '9') ? -1 : value;
}

}  // namespace reid
