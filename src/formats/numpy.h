#pragma once
// NumPy's .npy arrays (numpy/lib/format.py) and .npz archives of them.

#include "formats/source.h"
#include "formats/zip.h"
#include "reid/formats/tensor_file.h"

namespace reid {

bool is_npy(const Source& source);
TensorFile read_npy(const Source& source);  // named "array"
TensorFile read_npz(const ZipReader& zip, const std::string& name, uint64_t file_size);

}  // namespace reid
