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
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".bmp";
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

bool image_exists(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return true;
  const std::string name = path.string();
  const size_t mark = name.rfind('!');
  return mark != std::string::npos && fs::exists(name.substr(0, mark), error);
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

int64_t parse_number(std::string_view text) {
  size_t at = 0;
  const int64_t number = parse_digits(text, at);
  return at == text.size() ? number : -1;
}

void nothing_found(std::string_view layout, const fs::path& path, std::string_view what) {
  fail(str(layout, ":", path.string(), ": no images found; this layout wants ", what, ". Check the path, or choose another layout"));
}

std::string option_value(const LayoutOptions& options, const char* layout, const char* name, std::initializer_list<const char*> allowed,
                         const char* fallback) {
  const auto found = options.find(name);
  if (found == options.end()) return fallback;
  std::string choices;
  for (const char* value : allowed) {
    if (found->second == value) return value;
    choices += (choices.empty() ? "" : "|") + std::string(value);
  }
  fail(str(layout, ": the option ", name, " takes ", choices, ", not \"", found->second, "\""));
}

int64_t camera_field(const std::string& stem) {
  for (size_t begin = 0; begin < stem.size();) {
    const size_t end = std::min(stem.find('_', begin), stem.size());
    const int64_t camera = stem[begin] == 'c' ? parse_number(std::string_view(stem).substr(begin + 1, end - begin - 1)) : -1;
    if (camera >= 0) return camera;
    begin = end + 1;
  }
  return -1;
}

int64_t CameraNames::camera(const fs::path& path, int64_t camera) {
  fs::path& example = camera >= 0 ? with_ : without_;
  if (example.empty()) example = path;
  return std::max<int64_t>(camera, 0);
}

bool CameraNames::known(const std::string& dataset) const {
  REID_CHECK(with_.empty() || without_.empty(), dataset, ": ", with_.string(), " names a camera (a field cN) but ", without_.string(),
             " names none: give every file one, or none (then only a query's own file is removed from its ranking)");
  return !with_.empty();
}

std::map<std::string, int64_t> number_by_name(const std::vector<fs::path>& folders) {
  std::map<std::string, int64_t> numbers;
  for (const fs::path& folder : folders) numbers.emplace(folder.filename().string(), 0);
  int64_t next = 0;
  for (auto& [name, number] : numbers) number = ++next;
  return numbers;
}

}  // namespace reid
