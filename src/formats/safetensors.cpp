#include "reid/formats/safetensors.h"

#include <algorithm>
#include <cstring>

#include "formats/elements.h"
#include "formats/safetensors_reader.h"
#include "reid/formats/files.h"
#include "reid/formats/json.h"

namespace reid {
namespace {

constexpr uint64_t kPrefix = 8;                    // the length of the header, u64
constexpr uint64_t kMaxHeader = 100'000'000;       // the limit of the format's own library
constexpr const char* kMetadata = "__metadata__";  // the one key of the header that is no tensor

struct Entry {
  std::string name;
  std::string type;
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes from the start of the data
};

// The format's names and NumPy's.
constexpr std::pair<const char*, const char*> kTypes[] = {{"F32", "float32"}, {"F64", "float64"}, {"F16", "float16"}, {"BF16", "bfloat16"},
                                                          {"I64", "int64"},   {"I32", "int32"},   {"I16", "int16"},   {"I8", "int8"},
                                                          {"U8", "uint8"},    {"BOOL", "bool"}};

const ElementType& type_of(const Entry& entry, const std::string& where) {
  for (const auto& [name, element] : kTypes)
    if (entry.type == name) return *element_type(element);
  fail(where + ": dtype \"" + entry.type + "\" is not supported (F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL are)");
}

const char* written_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "F32";
    case DType::bf16: return "BF16";
    case DType::f64: return "F64";
    case DType::i64: return "I64";
    case DType::i32: return "I32";
    case DType::i16: return "I16";
    case DType::u8: return "U8";
  }
  fail("[safetensors] unknown dtype");
}

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
  return shape_from(extents, str(where, ": the shape ", value.dump(), " is too large"));
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

bool is_safetensors(const ByteSource& source) {
  return source.size() > kPrefix && source.number<uint64_t>(0, "the head") <= source.size() &&
         source.number<uint8_t>(kPrefix, "the head") == '{';
}

NamedTensors read_safetensors(const ByteSource& source, std::vector<std::string>* dtypes) {
  const std::string& name = source.name();
  REID_CHECK(source.size() >= kPrefix, name, ": ", source.size(), " bytes are no safetensors file (truncated?)");
  const auto header_size = source.number<uint64_t>(0, "the header's size");
  REID_CHECK(header_size <= source.size() - kPrefix && header_size <= kMaxHeader, name, ": the header would be ", header_size,
             " bytes, the file has ", source.size(), ": truncated, or no safetensors file");
  const std::vector<uint8_t> header = source.bytes(kPrefix, header_size, "the header");
  const Json json = parse_json({reinterpret_cast<const char*>(header.data()), header.size()}, name + ": header");
  REID_CHECK(json.is_object(), name, ": the header is ", json.type_name(), ", not an object");
  const uint64_t begin = kPrefix + header_size;
  const auto data_size = static_cast<int64_t>(source.size() - begin);

  NamedTensors content;
  content.source = name;
  std::vector<Entry> entries;
  for (const auto& [key, value] : json.members()) {
    if (key == kMetadata) {
      content.metadata = parse_metadata(value, name);
    } else {
      entries.push_back(parse_entry(key, value, data_size, name));
    }
  }
  check_layout(entries, data_size, name);
  for (const Entry& entry : entries) {
    const std::string what = "tensor \"" + entry.name + "\"";
    const ElementType& type = type_of(entry, what);
    const Tensor flat = read_elements(source, begin + static_cast<uint64_t>(entry.begin), entry.shape.numel(), type, what);
    content.tensors.emplace_back(entry.name, flat.reshape(entry.shape));
    if (dtypes) dtypes->emplace_back(type.name);
  }
  return content;
}

NamedTensors parse_safetensors(std::span<const uint8_t> bytes, const std::string& name) {
  return read_safetensors(ByteSource(bytes, name));
}

NamedTensors read_safetensors(const std::filesystem::path& file) { return read_safetensors(ByteSource(file)); }

namespace {

// A file about to be written: its head, and the tensors in the order of their data.
struct Written {
  std::vector<uint8_t> head;
  std::vector<Tensor> data;
};

Written lay_out(const NamedTensors& content) {
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

  Written written;
  const uint64_t header_size = text.size();
  written.head.resize(kPrefix + text.size());
  std::memcpy(written.head.data(), &header_size, kPrefix);
  std::memcpy(written.head.data() + kPrefix, text.data(), text.size());
  for (const size_t i : layout) written.data.push_back(content.tensors[i].second.to(Device{}));
  return written;
}

std::vector<std::span<const uint8_t>> parts_of(const Written& written) {
  std::vector<std::span<const uint8_t>> parts = {written.head};
  for (const Tensor& t : written.data) parts.emplace_back(static_cast<const uint8_t*>(t.raw()), static_cast<size_t>(t.bytes()));
  return parts;
}

}  // namespace

std::vector<uint8_t> serialize_safetensors(const NamedTensors& content) {
  const Written written = lay_out(content);
  std::vector<uint8_t> bytes;
  for (const std::span<const uint8_t> part : parts_of(written)) bytes.insert(bytes.end(), part.begin(), part.end());
  return bytes;
}

void write_safetensors(const std::filesystem::path& file, const NamedTensors& content) {
  const Written written = lay_out(content);
  write_file(file, parts_of(written));
}

}  // namespace reid
