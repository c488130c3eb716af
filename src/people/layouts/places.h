#pragma once
// Where sets keep their images: shared by the readers and by the recognition of layouts.

#include <string>
#include <vector>

#include "people/layouts/files.h"

namespace reid {

struct Place {
  std::string layout;
  std::vector<std::string> below;     // the root is the path given, or one of these folders in it; "" is the path itself
  std::vector<std::string> children;  // what the root holds, all of it
};
const std::vector<Place>& places();
bool holds(const std::filesystem::path& folder, const Place& place);

}  // namespace reid
