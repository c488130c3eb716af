#pragma once
// Ground truth of videos: read for measuring pseudo labels, never for making them.

#include <filesystem>
#include <vector>

#include "reid/people/data.h"

namespace reid {

// A CSV of path,identity (header `path,identity`; paths relative to the file's folder). Returns an identity for each sample from
// `first` on, -1 for those the file does not name; entries before `first` are -1.
std::vector<int64_t> read_truth(const std::filesystem::path& csv, const std::vector<Sample>& samples, size_t first);

}  // namespace reid
