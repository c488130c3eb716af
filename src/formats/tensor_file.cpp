#include "reid/formats/tensor_file.h"

#include <algorithm>
#include <array>

#include "formats/numpy.h"
#include "formats/safetensors_reader.h"
#include "formats/torch_file.h"
#include "formats/zip.h"

namespace reid {
namespace {

// What people have by accident in place of weights.
[[noreturn]] void refuse(const Source& source) {
  const uint64_t count = std::min<uint64_t>(source.size(), 64);
  const std::vector<uint8_t> bytes = source.bytes(0, count, "the head");
  const std::string head(bytes.begin(), bytes.end());
  const auto starts = [&](std::string_view text) { return head.starts_with(text); };
  const std::string name = source.name() + ": ";
  if (count == 0) fail(name + "an empty file");
  if (starts("<!") || starts("<htm") || starts("<HTM")) fail(name + "a web page, not weights (a download that asked for a login?)");
  if (starts("version https://git-lfs")) fail(name + "a Git LFS pointer, not the weights themselves (git lfs pull fetches them)");
  if (starts("\x1f\x8b")) fail(name + "compressed by gzip; unpack it first (gunzip)");
  if (starts("\xfd"
             "7zXZ") ||
      starts("BZh") || starts("7z\xbc\xaf"))
    fail(name + "a compressed archive; unpack it first");
  if (starts("\x89HDF")) fail(name + "HDF5, which is not supported; save safetensors or .npz");
  if (head.size() > 1 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5)
    fail(name + "a pickle that torch.save did not write; save it with torch.save, as safetensors or as .npz");
  fail(name + "of no known kind (PyTorch, safetensors and NumPy files can be read)");
}

TensorFile read_zip(const Source& source) {
  const ZipReader zip(source);
  for (const ZipReader::Member& member : zip.members()) {
    if (member.name == "data.pkl" || (member.name.ends_with("/data.pkl") && std::count(member.name.begin(), member.name.end(), '/') == 1))
      return read_torch_zip(zip, member.name, source.name(), source.size());
  }
  const auto array = [](const ZipReader::Member& member) { return member.name.ends_with(".npy"); };
  REID_CHECK(std::any_of(zip.members().begin(), zip.members().end(), array), source.name(),
             ": a zip archive with neither PyTorch's data.pkl nor NumPy's arrays in it; unpack it first");
  return read_npz(zip, source.name(), source.size());
}

TensorFile read_any(const Source& source) {
  if (source.size() >= 4) {
    const auto signature = source.number<uint32_t>(0, "the head");
    if (signature == 0x04034b50 || signature == 0x06054b50) return read_zip(source);
  }
  if (is_npy(source)) return read_npy(source);
  if (is_torch_stream(source)) return read_torch_stream(source);
  if (is_tar(source)) return read_torch_tar(source);
  if (is_safetensors(source)) {
    TensorFile file;
    file.container = "safetensors";
    file.content = read_safetensors(source, &file.dtypes);
    return file;
  }
  refuse(source);
}

}  // namespace

TensorFile read_tensor_file(const std::filesystem::path& file) { return read_any(Source(file)); }

TensorFile parse_tensor_file(std::span<const uint8_t> bytes, const std::string& name) { return read_any(Source(bytes, name)); }

}  // namespace reid
