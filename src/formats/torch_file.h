#pragma once
// PyTorch's containers. Facts: torch/serialization.py and caffe2/serialize/inline_container.cc of PyTorch 2.

#include "formats/source.h"
#include "formats/zip.h"
#include "reid/formats/tensor_file.h"

namespace reid {

bool is_torch_stream(const Source& source);  // PyTorch before 1.6, and _use_new_zipfile_serialization=False
bool is_tar(const Source& source);           // PyTorch of 2016
TensorFile read_torch_zip(const ZipReader& zip, const std::string& pickle, const std::string& name, uint64_t file_size);
TensorFile read_torch_stream(const Source& source);
TensorFile read_torch_tar(const Source& source);

}  // namespace reid
