// A state dict in PyTorch's zip container: data.pkl is a pickle of protocol 2, written instruction by instruction.

#include <string>

#include "formats/zip.h"
#include "reid/formats/files.h"
#include "reid/formats/tensor_file.h"

namespace reid {
namespace {

class PickleWriter {
 public:
  PickleWriter() { code("\x80\x02"); }
  std::string finish() { return out_ + '.'; }

  void code(std::string_view bytes) { out_ += bytes; }
  void global(const std::string& module, const std::string& name) { out_ += "c" + module + "\n" + name + "\n"; }
  void text(const std::string& s) {
    out_ += 'X';
    little(s.size(), 4);
    out_ += s;
  }
  void integer(int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
      out_ += 'J';
      little(static_cast<uint64_t>(value), 4);
    } else {
      out_ += "\x8a\x08";
      little(static_cast<uint64_t>(value), 8);
    }
  }
  void tuple(const std::vector<int64_t>& values) {
    out_ += '(';
    for (const int64_t value : values) integer(value);
    out_ += 't';
  }

 private:
  void little(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out_ += static_cast<char>(value >> (8 * i) & 255);
  }
  std::string out_;
};

const char* storage_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "FloatStorage";
    case DType::f64: return "DoubleStorage";
    case DType::bf16: return "BFloat16Storage";
    case DType::i64: return "LongStorage";
    case DType::i32: return "IntStorage";
    case DType::i16: return "ShortStorage";
    case DType::u8: return "ByteStorage";
  }
  fail("[torch] unknown dtype");
}

// _rebuild_tensor_v2(('storage', type, key, 'cpu', count), 0, shape, strides, False, OrderedDict())
void put_tensor(PickleWriter& out, const Tensor& tensor, size_t key) {
  const std::span<const int64_t> extents = tensor.shape().extents();
  std::vector<int64_t> strides(extents.size(), 1);
  for (size_t axis = strides.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * extents[axis];
  out.global("torch._utils", "_rebuild_tensor_v2");
  out.code("((");
  out.text("storage");
  out.global("torch", storage_of(tensor.dtype()));
  out.text(std::to_string(key));
  out.text("cpu");
  out.integer(tensor.numel());
  out.code("tQ");
  out.integer(0);
  out.tuple({extents.begin(), extents.end()});
  out.tuple(strides);
  out.code("\x89");
  out.global("collections", "OrderedDict");
  out.code(")RtR");
}

}  // namespace

void write_torch(const std::filesystem::path& file, const NamedTensors& content) {
  std::vector<Tensor> tensors;
  PickleWriter pickle;
  pickle.global("collections", "OrderedDict");
  pickle.code(")R(");
  for (const auto& [name, tensor] : content.tensors) {
    REID_CHECK(tensor.defined(), file.string(), ": tensor \"", name, "\" holds nothing");
    pickle.text(name);
    put_tensor(pickle, tensor, tensors.size());
    tensors.push_back(tensor.to(Device{}));
  }
  pickle.code("u");
  const std::string values = pickle.finish(), order = "little", version = "3\n";
  const auto bytes = [](const std::string& text) {
    return std::span<const uint8_t>(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  ZipWriter zip;
  zip.add("archive/data.pkl", bytes(values));
  zip.add("archive/byteorder", bytes(order));
  for (size_t i = 0; i < tensors.size(); ++i)
    zip.add("archive/data/" + std::to_string(i), {static_cast<const uint8_t*>(tensors[i].raw()), static_cast<size_t>(tensors[i].bytes())});
  zip.add("archive/version", bytes(version));
  write_file(file, zip.finish());
}

}  // namespace reid
