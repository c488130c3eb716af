#pragma once
// MATLAB files of version 7.3, which are HDF5, read through HDF5 itself: libmatio takes a time that grows with the square of their cells.

#include <span>

#include "formats/matlab.h"

namespace reid {

// MATLAB keeps [height, width, 3] column after column, one channel after another.
Image image_of_columns(int height, int width, std::span<const uint8_t> columns);

#ifdef REID_WITH_MATIO
void append_utf8(std::string& text, uint16_t unit);

std::vector<std::string> hdf5_variables(const std::filesystem::path& file);
MatValue read_hdf5_value(const std::filesystem::path& file, const std::string& variable);
void each_hdf5_image(const std::filesystem::path& file, const std::string& variable, const MatFile::VisitImage& visit);
#endif

}  // namespace reid
