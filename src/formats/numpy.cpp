#include "formats/numpy.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "formats/elements.h"
#include "reid/formats/files.h"

namespace reid {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr uint64_t kMagicSize = 6, kMaxHeader = 64 * 1024;

struct Header {
  std::string descr;  // "<f4"
  bool fortran = false;
  std::vector<int64_t> shape;
};

// The header is a Python dict of three entries, all literals.
class HeaderParser {
 public:
  HeaderParser(std::string text, std::string what) : text_(std::move(text)), what_(std::move(what)) {}

  Header parse() {
    Header header;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        REID_CHECK(peek() != '[', what_, ": has records of several fields; save them as separate arrays");
        header.descr = quoted();
      } else if (key == "fortran_order") {
        header.fortran = word() == "True";
      } else if (key == "shape") {
        header.shape = tuple();
      } else {
        damaged();
      }
      accept(',');
    }
    return header;
  }

 private:
  [[noreturn]] void damaged() const { fail(what_ + ": damaged .npy header: " + text_.substr(0, 200)); }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    if (at_ == text_.size()) damaged();
    return text_[at_];
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) damaged();
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') damaged();
    const size_t end = text_.find(quote, ++at_);
    if (end == std::string::npos) damaged();
    std::string value = text_.substr(at_, end - at_);
    at_ = end + 1;
    return value;
  }
  std::string word() {
    peek();
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= 'A' && text_[at_] <= 'z') ++at_;
    return text_.substr(begin, at_ - begin);
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> values;
    expect('(');
    while (!accept(')')) {
      peek();
      int64_t value = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
      if (error != std::errc()) damaged();
      at_ = static_cast<size_t>(end - text_.data());
      if (peek() == 'L') ++at_;  // Python 2
      values.push_back(value);
      accept(',');
    }
    return values;
  }

  std::string text_, what_;
  size_t at_ = 0;
};

// "<f4" -> float32; null when it is of another kind.
const ElementType* array_type(const std::string& descr) {
  constexpr std::pair<const char*, const char*> kTypes[] = {{"f4", "float32"}, {"f8", "float64"}, {"f2", "float16"},
                                                            {"i8", "int64"},   {"i4", "int32"},   {"i2", "int16"},
                                                            {"i1", "int8"},    {"u1", "uint8"},   {"b1", "bool"}};
  if (descr.size() != 3 || (descr[0] != '<' && descr[0] != '|' && descr[0] != '=')) return nullptr;
  for (const auto& [code, name] : kTypes)
    if (descr.substr(1) == code) return element_type(name);
  return nullptr;
}

struct Array {
  Tensor tensor;
  const ElementType* type;
};

Array read_array(const ByteSource& source, const std::string& what) {
  REID_CHECK(is_npy(source), what, ": is no .npy array");
  const auto version = source.number<uint8_t>(kMagicSize, what);
  REID_CHECK(version >= 1 && version <= 3, what, ": .npy version ", int{version}, " is unknown (1 to 3 are known)");
  const uint64_t length = version == 1 ? source.number<uint16_t>(8, what) : source.number<uint32_t>(8, what);
  const uint64_t begin = version == 1 ? 10 : 12;
  REID_CHECK(length <= kMaxHeader, what, ": a .npy header of ", length, " bytes");
  const std::vector<uint8_t> text = source.bytes(begin, length, what);
  Header header = HeaderParser({text.begin(), text.end()}, what).parse();
  const ElementType* type = array_type(header.descr);
  REID_CHECK(type, what, ": elements of type '", header.descr,
             "' are not supported (little-endian f2, f4, f8, i1, i2, i4, i8, u1 and b1 are)");
  REID_CHECK(header.shape.size() <= Shape::kMaxRank, what, ": ", header.shape.size(), " dimensions; at most 6 are supported");
  const Shape shape = shape_from(header.shape, what);
  const Tensor flat = read_elements(source, begin + length, shape.numel(), *type, what);
  REID_CHECK(begin + length + static_cast<uint64_t>(shape.numel() * type->size) == source.size(), what, ": ", shape, " of ", header.descr,
             " does not fill the file of ", source.size(), " bytes");
  if (!header.fortran || shape.rank() < 2) return {flat.reshape(shape), type};
  std::vector<int64_t> strides(header.shape.size(), 1);
  for (size_t axis = 1; axis < strides.size(); ++axis) strides[axis] = strides[axis - 1] * std::max<int64_t>(header.shape[axis - 1], 1);
  int64_t budget = flat.bytes();
  return {strided_view(flat, 0, header.shape, strides, what, budget), type};
}

std::string descr_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "<f4";
    case DType::f64: return "<f8";
    case DType::i64: return "<i8";
    case DType::i32: return "<i4";
    case DType::i16: return "<i2";
    case DType::u8: return "|u1";
    case DType::bf16: break;
  }
  fail("[npy] NumPy has no bf16; convert to f32 first");
}

}  // namespace

bool is_npy(const ByteSource& source) {
  if (source.size() < kMagicSize + 4) return false;
  return std::memcmp(source.bytes(0, kMagicSize, "the head").data(), kMagic, kMagicSize) == 0;
}

TensorFile read_npy(const ByteSource& source) {
  TensorFile file;
  file.container = "NumPy array";
  file.content.source = source.name();
  Array array = read_array(source, source.name());
  file.content.add("array", std::move(array.tensor));
  file.dtypes.emplace_back(array.type->name);
  return file;
}

TensorFile read_npz(const ZipReader& zip, const std::string& name, uint64_t file_size) {
  TensorFile file;
  file.container = "NumPy archive";
  file.content.source = name;
  // Members are unpacked one at a time, but all stay; deflate alone would allow a thousand times the file.
  const uint64_t bound = file_size * 64 + (uint64_t{64} << 20);
  uint64_t total = 0;
  for (const ZipReader::Member& member : zip.members()) {
    const std::string what = str(name, ": ", member.name);
    if (!member.name.ends_with(".npy")) {
      file.skipped.push_back(member.name + ": no array");
      continue;
    }
    total += member.size;
    REID_CHECK(total <= bound, what, ": the archive unpacks to more than 64 times its size; refused");
    const ByteSource content = zip.open(member);
    Array array;
    try {
      array = read_array(content, what);
    } catch (const Error& e) {  // objects and dates among the arrays
      file.skipped.emplace_back(std::string(e.what()).substr(name.size() + 2));
      continue;
    }
    const std::string key = member.name.substr(0, member.name.size() - 4);
    file.content.add(key, std::move(array.tensor));
    file.dtypes.emplace_back(array.type->name);
  }
  REID_CHECK(!file.content.tensors.empty(), name, ": holds no array that can be read",
             file.skipped.empty() ? "" : "; passed over: ", file.skipped.empty() ? "" : file.skipped.front());
  return file;
}

void write_npy(const std::filesystem::path& file, const Tensor& array) {
  const Tensor values = array.to(Device{});
  std::string shape;
  for (const int64_t extent : values.shape().extents()) shape += std::to_string(extent) + ", ";
  if (values.shape().rank() > 1) shape.resize(shape.size() - 2);
  std::string header = "{'descr': '" + descr_of(values.dtype()) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (kMagicSize + 4 + header.size()) % 64, ' ');  // the data starts at a multiple of 64
  header += '\n';
  std::string head(kMagic, kMagicSize);
  head += {1, 0, static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  head += header;
  const std::span<const uint8_t> start(reinterpret_cast<const uint8_t*>(head.data()), head.size());
  const std::span<const uint8_t> data(static_cast<const uint8_t*>(values.raw()), static_cast<size_t>(values.bytes()));
  write_file(file, std::vector{start, data});
}

}  // namespace reid
