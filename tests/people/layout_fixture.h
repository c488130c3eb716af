#pragma once
// Data sets of empty files: readers look at names only.

#include <filesystem>
#include <string>
#include <vector>

#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/people/dataset.h"

namespace reid::test {

inline void touch(const std::filesystem::path& file) {
  make_folder(file.parent_path());
  write_file(file, std::string_view(""));
}

// "0002_c1.jpg p2 c0" for each sample; of tracklets also "t0".
inline std::vector<std::string> shown(const std::vector<Sample>& samples) {
  std::vector<std::string> lines;
  for (const Sample& s : samples) {
    lines.push_back(str(std::filesystem::path(s.path).filename().string(), " p", s.person, " c", s.camera));
    if (s.tracklet >= 0) lines.back() += str(" t", s.tracklet);
  }
  return lines;
}

using Lines = std::vector<std::string>;

inline std::string spec_of(const std::string& layout, const std::filesystem::path& path) { return layout + ":" + path.string(); }

inline std::string refusal(const std::string& spec) {
  return failure_of([&] { read_splits(spec); });
}

}  // namespace reid::test
