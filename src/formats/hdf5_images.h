#pragma once
// What libmatio is too slow for in MATLAB files of version 7.3, through HDF5 itself: names of variables, images in cells.

#include <span>

#include "formats/matlab.h"

namespace reid {

// MATLAB keeps [height, width, 3] column after column, one channel after another.
Image image_of_columns(int height, int width, std::span<const uint8_t> columns);

#ifdef REID_WITH_MATIO
std::vector<std::string> hdf5_variables(const std::filesystem::path& file);
void each_hdf5_image(const std::filesystem::path& file, const std::string& variable, const MatFile::VisitImage& visit);
#endif

}  // namespace reid
