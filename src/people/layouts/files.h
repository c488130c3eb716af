#pragma once
// Inside the layouts: listing folders and reading numbers out of file names. Only the last component of a path is ever parsed: a parent
// folder named "run1_c2" must not change labels.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "reid/people/dataset.h"

namespace reid {

// What stands directly in a folder, by name; without dot files and __MACOSX.
struct Listing {
  std::vector<std::filesystem::path> images, folders;
};
Listing list_folder(const std::filesystem::path& folder);

// Calls visit(folder, its images) for `top` and everything below, in the order of names.
template <class Visit>
void walk_folders(const std::filesystem::path& top, const Visit& visit, int depth = 0) {
  REID_CHECK(depth < 64, "the folder ", top.string(), " is nested deeper than 64 levels");
  const Listing listing = list_folder(top);
  visit(top, listing.images);
  for (const std::filesystem::path& folder : listing.folders) walk_folders(folder, visit, depth + 1);
}

bool is_folder(const std::filesystem::path& path);
bool image_exists(const std::filesystem::path& path);                        // a file, or CONTAINER!KEY where there is such a container
void check_folder(const std::filesystem::path& folder, const char* layout);  // throws unless it is one

// Throws "LAYOUT:PATH: no images found; this layout wants WHAT. ...".
[[noreturn]] void nothing_found(std::string_view layout, const std::filesystem::path& path, std::string_view what);

// The root of a set: `folder`, or the folder below it that archives make, whichever holds what the layout wants (layouts/places.cpp);
// throws when none does.
std::filesystem::path find_root(const char* layout, const std::filesystem::path& folder);

// Reads digits at `at` and moves behind them; -1 when there are none or too many.
int64_t parse_digits(std::string_view text, size_t& at);
int64_t parse_number(std::string_view text);  // the whole text as digits, else -1

// The value of an option, one of `allowed` (else it throws); `fallback` when it is not given.
std::string option_value(const LayoutOptions& options, const char* layout, const char* name, std::initializer_list<const char*> allowed,
                         const char* fallback);

// The number of a field cN of a name's stem ("c3_001", "x_c3"), fields being what underscores separate; -1 without one.
int64_t camera_field(const std::string& stem);

// Names that may or may not tell the camera: all must, or none.
class CameraNames {
 public:
  int64_t camera(const std::filesystem::path& path, int64_t camera);  // notes whether there is one (>= 0); returns it, or 0
  bool known(const std::string& dataset) const;                       // throws naming a file with a camera and one without
 private:
  std::filesystem::path with_, without_;
};

// Folders of one name are one identity, numbered from 1 in the order of names.
std::map<std::string, int64_t> number_by_name(const std::vector<std::filesystem::path>& folders);

}  // namespace reid
