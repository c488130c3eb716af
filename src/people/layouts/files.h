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
void check_folder(const std::filesystem::path& folder, const char* layout);  // throws unless it is one

// Reads digits at `at` and moves behind them; -1 when there are none or too many.
int64_t parse_digits(std::string_view text, size_t& at);

}  // namespace reid
