#include "reid/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "reid/formats/files.h"
#include "reid/formats/json.h"

namespace reid {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and copied as it is");

constexpr uint64_t kPrefix = 8;                    // the length of the header, u64
constexpr uint64_t kMaxHeader = 100'000'000;       // the limit of the format's own library
constexpr const char* kMetadata = "__metadata__";  // the one key of the header that is no tensor

struct Entry {
  std::string name;
  std::string type;
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes from the start of the data
};

struct Foreign {
  const char* name;
  int64_t size;
  DType dtype;  // in memory
};
constexpr Foreign kTypes[] = {{"F32", 4, DType::f32}, {"F64", 8, DType::f64}, {"F16", 2, DType::f32}, {"BF16", 2, DType::f32},
                              {"I64", 8, DType::i64}, {"I32", 4, DType::i32}, {"U8", 1, DType::u8}};

const Foreign& type_of(const Entry& entry, const std::string& where) {
  for (const Foreign& type : kTypes)
    if (entry.type == type.name) return type;
  fail(where + ": dtype \"" + entry.type + "\" is not supported (F64, F32, F16, BF16, I64, I32 and U8 are)");
}

const char* written_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "F32";
    case DType::bf16: return "BF16";
    case DType::f64: return "F64";
    case DType::i64: return "I64";
    case DType::i32: return "I32";
    case DType::u8: return "U8";
  }
  fail("[safetensors] unknown dtype");
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact in f32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t widened = exponent == 31 ? 255 : exponent + 112;  // bias 15 to bias 127
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

float bf16_to_float(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

int64_t whole_number(const Json& value, const std::string& where, const char* what) {
  REID_CHECK(value.is_integer() && value.integer() >= 0, where, ": ", what, " is ", value.dump(), ", not a whole number");
  return value.integer();
}

const Json& member(const Json& entry, const char* key, const std::string& where) {
  const Json* value = entry.find(key);
  REID_CHECK(value != nullptr, where, ": ", key, " is missing");
  return *value;
}

Shape shape_of(const Json& value, const std::string& where) {
  REID_CHECK(value.is_array() && value.items().size() <= Shape::kMaxRank, where, ": the shape is ", value.dump(),
             ", not a list of at most 6 extents");
  std::vector<int64_t> extents;
  for (const Json& extent : value.items()) extents.push_back(whole_number(extent, where, "an extent"));
  try {
    return Shape(extents);
  } catch (const Error& e) {
    fail(where + ": the shape " + value.dump() + " is too large (" + e.what() + ")");
  }
}

Entry parse_entry(const std::string& name, const Json& json, int64_t data_size, const std::string& file) {
  const std::string where = str(file, ": tensor \"", name, "\"");
  REID_CHECK(json.is_object(), where, ": its header entry is no object");
  Entry entry;
  entry.name = name;
  const Json& type = member(json, "dtype", where);
  REID_CHECK(type.is_string(), where, ": dtype is ", type.dump(), ", not a string");
  entry.type = type.string();
  entry.shape = shape_of(member(json, "shape", where), where);
  const Json& offsets = member(json, "data_offsets", where);
  REID_CHECK(offsets.is_array() && offsets.items().size() == 2, where, ": data_offsets is ", offsets.dump(), ", not [begin, end]");
  entry.begin = whole_number(offsets.items()[0], where, "an offset");
  entry.end = whole_number(offsets.items()[1], where, "an offset");
  REID_CHECK(entry.begin <= entry.end, where, ": data_offsets ", offsets.dump(), " run backwards");
  REID_CHECK(entry.end <= data_size, where, ": its data ends at byte ", entry.end, ", the file has ", data_size,
             " bytes of data (truncated file?)");
  const int64_t size = type_of(entry, where).size, held = entry.end - entry.begin;
  REID_CHECK(entry.shape.numel() <= held && entry.shape.numel() * size == held, where, ": ", entry.type, " of shape ", entry.shape,
             " does not fill its ", held, " bytes");
  return entry;
}

// Every byte of the data belongs to exactly one tensor.
void check_layout(const std::vector<Entry>& entries, int64_t data_size, const std::string& file) {
  std::vector<const Entry*> order;
  for (const Entry& entry : entries) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(),
                   [](const Entry* a, const Entry* b) { return a->begin != b->begin ? a->begin < b->begin : a->end < b->end; });
  int64_t reached = 0;
  const Entry* last = nullptr;
  for (const Entry* entry : order) {
    REID_CHECK(entry->begin >= reached, file, ": tensors \"", last ? last->name : "", "\" and \"", entry->name, "\" overlap");
    REID_CHECK(entry->begin == reached, file, ": ", entry->begin - reached, " bytes before tensor \"", entry->name,
               "\" belong to no tensor");
    reached = entry->end;
    last = entry;
  }
  REID_CHECK(reached == data_size, file, ": the last ", data_size - reached, " bytes belong to no tensor");
}

Tensor load(const Entry& entry, const uint8_t* data, const std::string& file) {
  const Foreign& type = type_of(entry, str(file, ": tensor \"", entry.name, "\""));
  Tensor tensor = Tensor::empty(entry.shape, type.dtype);
  const size_t bytes = static_cast<size_t>(entry.end - entry.begin);
  if (bytes == 0) return tensor;
  const uint8_t* src = data + entry.begin;
  if (type.size == size_of(type.dtype)) {
    std::memcpy(tensor.raw(), src, bytes);
    return tensor;
  }
  const bool half = entry.type == "F16";
  float* dst = tensor.data<float>();
  for (size_t i = 0; i < bytes / 2; ++i) {
    const auto bits = static_cast<uint16_t>(src[2 * i] | src[2 * i + 1] << 8);
    dst[i] = half ? half_to_float(bits) : bf16_to_float(bits);
  }
  return tensor;
}

std::vector<std::pair<std::string, std::string>> parse_metadata(const Json& json, const std::string& file) {
  REID_CHECK(json.is_object(), file, ": ", kMetadata, " is no object");
  std::vector<std::pair<std::string, std::string>> metadata;
  for (const auto& [key, value] : json.members()) {
    REID_CHECK(value.is_string(), file, ": ", kMetadata, " \"", key, "\" is ", value.dump(), ", not a string");
    metadata.emplace_back(key, value.string());
  }
  return metadata;
}

}  // namespace

void NamedTensors::add(std::string name, Tensor tensor) {
  REID_CHECK(find(name) == nullptr, "[safetensors] a tensor \"", name, "\" is there already");
  tensors.emplace_back(std::move(name), std::move(tensor));
}

const Tensor* NamedTensors::find(std::string_view name) const {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return &tensor;
  return nullptr;
}

const Tensor& NamedTensors::at(std::string_view name) const {
  if (const Tensor* tensor = find(name)) return *tensor;
  std::string names;
  for (size_t i = 0; i < tensors.size() && i < 12; ++i) names += (i ? ", " : "") + tensors[i].first;
  if (tensors.size() > 12) names += str(" and ", tensors.size() - 12, " more");
  fail(str(source.empty() ? "[safetensors]" : source, ": there is no tensor \"", name, "\"; there is ",
           names.empty() ? "none at all" : names));
}

const std::string* NamedTensors::note(std::string_view key) const {
  for (const auto& [name, text] : metadata)
    if (name == key) return &text;
  return nullptr;
}

NamedTensors parse_safetensors(std::span<const uint8_t> bytes, const std::string& name) {
  REID_CHECK(bytes.size() >= kPrefix, name, ": ", bytes.size(), " bytes are no safetensors file (truncated?)");
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), kPrefix);
  REID_CHECK(header_size <= bytes.size() - kPrefix && header_size <= kMaxHeader, name, ": the header would be ", header_size,
             " bytes, the file has ", bytes.size(), ": truncated, or no safetensors file");
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kPrefix, header_size);
  const Json json = parse_json(header, name + ": header");
  REID_CHECK(json.is_object(), name, ": the header is ", json.type_name(), ", not an object");
  const std::span<const uint8_t> data = bytes.subspan(kPrefix + header_size);

  NamedTensors content;
  content.source = name;
  std::vector<Entry> entries;
  for (const auto& [key, value] : json.members()) {
    if (key == kMetadata) {
      content.metadata = parse_metadata(value, name);
    } else {
      entries.push_back(parse_entry(key, value, static_cast<int64_t>(data.size()), name));
    }
  }
  check_layout(entries, static_cast<int64_t>(data.size()), name);
  for (const Entry& entry : entries) content.tensors.emplace_back(entry.name, load(entry, data.data(), name));
  return content;
}

NamedTensors read_safetensors(const std::filesystem::path& file) { return parse_safetensors(read_file(file), file.string()); }

std::vector<uint8_t> serialize_safetensors(const NamedTensors& content) {
  std::vector<size_t> layout(content.tensors.size());
  for (size_t i = 0; i < layout.size(); ++i) layout[i] = i;
  const auto element = [&](size_t i) { return size_of(content.tensors[i].second.dtype()); };
  std::stable_sort(layout.begin(), layout.end(), [&](size_t a, size_t b) { return element(a) > element(b); });
  std::vector<int64_t> offset(layout.size());
  int64_t total = 0;
  for (const size_t i : layout) {
    offset[i] = total;
    total += content.tensors[i].second.bytes();
  }

  Json header = Json::object();
  if (!content.metadata.empty()) {
    Json& metadata = header[kMetadata];
    for (const auto& [key, text] : content.metadata) metadata[key] = text;
  }
  for (size_t i = 0; i < content.tensors.size(); ++i) {
    const auto& [name, tensor] = content.tensors[i];
    REID_CHECK(tensor.defined(), "[safetensors] tensor \"", name, "\" holds nothing");
    REID_CHECK(header.find(name) == nullptr && name != kMetadata, "[safetensors] two tensors are named \"", name, "\"");
    Json shape = Json::array();
    for (const int64_t extent : tensor.shape().extents()) shape.push_back(extent);
    header.members().emplace_back(name, Json::object({{"dtype", written_name(tensor.dtype())},
                                                      {"shape", std::move(shape)},
                                                      {"data_offsets", Json::array({offset[i], offset[i] + tensor.bytes()})}}));
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the data starts aligned

  std::vector<uint8_t> bytes(kPrefix + text.size() + static_cast<size_t>(total));
  const uint64_t header_size = text.size();
  std::memcpy(bytes.data(), &header_size, kPrefix);
  std::memcpy(bytes.data() + kPrefix, text.data(), text.size());
  for (size_t i = 0; i < content.tensors.size(); ++i) {
    const Tensor tensor = content.tensors[i].second.to(Device{});
    if (tensor.bytes() > 0)
      std::memcpy(bytes.data() + kPrefix + text.size() + offset[i], tensor.raw(), static_cast<size_t>(tensor.bytes()));
  }
  return bytes;
}

void write_safetensors(const std::filesystem::path& file, const NamedTensors& content) { write_file(file, serialize_safetensors(content)); }

}  // namespace reid
