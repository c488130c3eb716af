#include "formats/matlab.h"

#include "formats/jpeg.h"
#include "formats/matlab_hdf5.h"
#include "formats/source.h"
#include "reid/engine/base.h"

#ifdef REID_WITH_MATIO
#include <matio.h>
#endif

namespace reid {

#ifndef REID_WITH_MATIO

struct MatFile::State {};

bool has_matlab() { return false; }
MatFile::MatFile(const std::filesystem::path& file) {
  fail(
      file.string() +
      ": this program was built without libmatio, which reads MATLAB files. Install it (Debian: libmatio-dev) and build the program again");
}
MatFile::~MatFile() = default;
const std::string& MatFile::name() const { fail("built without libmatio"); }
std::vector<std::string> MatFile::variables() const { return {}; }
MatValue MatFile::read(const std::string&) const { return {}; }
void MatFile::each_image(const std::string&, const VisitImage&) const {}

#else

void append_utf8(std::string& text, uint16_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else {
    if (c < 0x800) {
      text += static_cast<char>(0xC0 | c >> 6);
    } else {
      text += static_cast<char>(0xE0 | c >> 12);
      text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    }
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

namespace {

uint32_t swapped(uint32_t x) { return x >> 24 | (x >> 8 & 0xFF00) | (x << 8 & 0xFF0000) | x << 24; }

// Version 5: elements of type and size, one after another, to the end of the file.
void check_elements(const ByteSource& in, bool swap) {
  constexpr uint32_t kMatrix = 14, kCompressed = 15;
  for (uint64_t at = 128; at < in.size();) {
    REID_CHECK(in.size() - at >= 8, in.name(), ": truncated MATLAB file (it ends inside the header of a variable, after ", in.size(),
               " bytes)");
    uint32_t type = in.number<uint32_t>(at, "a variable's type"), size = in.number<uint32_t>(at + 4, "a variable's size");
    if (swap) type = swapped(type), size = swapped(size);
    REID_CHECK(type == kMatrix || type == kCompressed, in.name(), ": damaged MATLAB file (no variable begins at byte ", at, ")");
    REID_CHECK(size <= in.size() - at - 8, in.name(), ": truncated MATLAB file (a variable of ", size,
               " bytes reaches past the end of the file, after ", in.size(), " bytes)");
    at += 8 + uint64_t{size};
  }
}

// Version 7.3 is HDF5 behind 512 bytes; its superblock tells where the file ends.
void check_hdf5(const ByteSource& in) {
  constexpr uint64_t kStart = 512, kSignature = 0x0A1A0A0D46444889;  // "\x89HDF\r\n\x1a\n"
  const bool there = in.size() >= kStart + 48 && in.number<uint64_t>(kStart, "the signature") == kSignature;
  REID_CHECK(there, in.name(), ": damaged or truncated MATLAB file (no HDF5 begins at byte 512; it has ", in.size(), " bytes)");
  const auto version = in.number<uint8_t>(kStart + 8, "the version");
  const uint64_t place = version < 2 ? (version == 0 ? 40 : 44) : 28;
  const auto end = in.number<uint64_t>(kStart + place, "the end of the file");
  REID_CHECK(end <= in.size(), in.name(), ": truncated MATLAB file (", in.size(), " of ", end, " bytes)");
}

void check_file(const std::filesystem::path& file) {
  const ByteSource in(file);
  const auto order = in.size() < 128 ? 0 : in.number<uint16_t>(126, "the byte order");  // "IM" as the machine that wrote it has it
  constexpr uint16_t kSame = 'M' << 8 | 'I', kSwapped = 'I' << 8 | 'M';
  REID_CHECK(order == kSame || order == kSwapped, in.name(), ": not a MATLAB file of version 5 to 7.3 (no header of 128 bytes; it has ",
             in.size(), " bytes)");
  const auto version = in.number<uint16_t>(124, "the version");
  if (order == kSame && version == 0x0200) return check_hdf5(in);
  REID_CHECK(version == (order == kSame ? 0x0100 : 0x0001), in.name(), ": a MATLAB file of the unknown version ", version);
  check_elements(in, order == kSwapped);
}

using Variable = std::unique_ptr<matvar_t, void (*)(matvar_t*)>;
Variable owned(matvar_t* variable) { return {variable, Mat_VarFree}; }

[[noreturn]] void damaged(const std::string& what) { fail(what + " cannot be read: the file is damaged"); }

int64_t count_elements(const matvar_t& v, const std::string& what) {
  int64_t count = 1;
  for (int i = 0; i < v.rank; ++i) {
    const auto extent = static_cast<int64_t>(v.dims[i]);
    if (extent < 0 || (extent > 0 && count > (int64_t{1} << 40) / extent)) damaged(what);
    count *= extent;
  }
  return v.rank == 0 ? 0 : count;
}

// The elements as T, after a look whether all of them are there.
template <class T>
const T* elements(const matvar_t& v, int64_t count, const std::string& what) {
  const bool fits = v.data != nullptr && v.data_size == sizeof(T) && v.nbytes / sizeof(T) >= static_cast<size_t>(count);
  if (count > 0 && !fits) damaged(what);
  return static_cast<const T*>(v.data);
}

template <class T>
void copy_numbers(const matvar_t& v, int64_t count, const std::string& what, std::vector<double>& to) {
  const T* from = elements<T>(v, count, what);
  to.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) to.push_back(static_cast<double>(from[i]));
}

bool read_numbers(const matvar_t& v, int64_t count, const std::string& what, std::vector<double>& to) {
  switch (v.class_type) {
    case MAT_C_DOUBLE: copy_numbers<double>(v, count, what, to); return true;
    case MAT_C_SINGLE: copy_numbers<float>(v, count, what, to); return true;
    case MAT_C_INT8: copy_numbers<int8_t>(v, count, what, to); return true;
    case MAT_C_UINT8: copy_numbers<uint8_t>(v, count, what, to); return true;
    case MAT_C_INT16: copy_numbers<int16_t>(v, count, what, to); return true;
    case MAT_C_UINT16: copy_numbers<uint16_t>(v, count, what, to); return true;
    case MAT_C_INT32: copy_numbers<int32_t>(v, count, what, to); return true;
    case MAT_C_UINT32: copy_numbers<uint32_t>(v, count, what, to); return true;
    case MAT_C_INT64: copy_numbers<int64_t>(v, count, what, to); return true;
    case MAT_C_UINT64: copy_numbers<uint64_t>(v, count, what, to); return true;
    default: return false;
  }
}

std::string read_text(const matvar_t& v, int64_t count, const std::string& what) {
  if (count == 0) return {};
  std::string text;
  if (v.data_size == 2) {
    const uint16_t* units = elements<uint16_t>(v, count, what);
    for (int64_t i = 0; i < count; ++i) append_utf8(text, units[i]);
  } else {
    const char* bytes = elements<char>(v, count, what);  // UTF-8 takes more bytes than there are characters
    text.assign(bytes, bytes + (v.data_type == MAT_T_UTF8 ? static_cast<int64_t>(v.nbytes) : count));
  }
  return text;
}

constexpr int kMaxDepth = 64;  // of cells in cells

MatValue converted(const matvar_t* v, const std::string& what, int depth) {
  MatValue value;
  value.kind = MatValue::Kind::numbers;
  value.shape = {0, 0};
  if (v == nullptr || (v->class_type == MAT_C_EMPTY && v->data == nullptr)) return value;
  REID_CHECK(depth < kMaxDepth, what, ": cells are nested deeper than ", kMaxDepth, " levels");
  const int64_t count = count_elements(*v, what);
  value.shape.assign(v->dims, v->dims + v->rank);
  if (v->class_type == MAT_C_CELL) {
    value.kind = MatValue::Kind::cells;
    const auto* cells = elements<matvar_t*>(*v, count, what);
    for (int64_t i = 0; i < count; ++i) value.items.push_back(converted(cells[i], what, depth + 1));
  } else if (v->class_type == MAT_C_STRUCT && count == 1) {
    value.kind = MatValue::Kind::record;
    auto* record = const_cast<matvar_t*>(v);  // libmatio's readers of structs do not change them
    char* const* names = Mat_VarGetStructFieldnames(v);
    for (unsigned i = 0; i < Mat_VarGetNumberOfFields(record); ++i) {
      value.fields.emplace_back(names != nullptr && names[i] != nullptr ? names[i] : "");
      value.items.push_back(converted(Mat_VarGetStructFieldByIndex(record, i, 0), what, depth + 1));
    }
  } else if (v->class_type == MAT_C_CHAR && (v->rank == 2 && v->dims[0] <= 1)) {
    value.kind = MatValue::Kind::text;
    value.text = read_text(*v, count, what);
  } else if (v->isComplex != 0 || !read_numbers(*v, count, what, value.numbers)) {
    value.kind = MatValue::Kind::other;
  }
  return value;
}

// The bytes of a [H, W, 3] variable of which only the description was read so far, rows first.
Image read_pixels(mat_t* file, matvar_t* v, const std::string& what) {
  check_image_size(static_cast<int64_t>(v->dims[1]), static_cast<int64_t>(v->dims[0]), what);
  const int height = static_cast<int>(v->dims[0]), width = static_cast<int>(v->dims[1]);
  int start[3] = {0, 0, 0}, stride[3] = {1, 1, 1}, edge[3] = {height, width, 3};
  std::vector<uint8_t> columns(static_cast<size_t>(height) * static_cast<size_t>(width) * 3);
  if (Mat_VarReadData(file, v, columns.data(), start, stride, edge) != 0) damaged(what);
  return image_of_columns(height, width, columns);
}

}  // namespace

struct MatFile::State {
  std::string name;
  mat_t* file = nullptr;
  ~State() {
    if (file != nullptr) Mat_Close(file);
  }

  void walk(matvar_t* v, const std::string& what, std::vector<MatPlace>& place, const VisitImage& visit) const {
    if (v == nullptr) return;
    const int64_t count = count_elements(*v, what);
    if (v->class_type == MAT_C_CELL) {
      REID_CHECK(place.size() < kMaxDepth, what, ": cells are nested deeper than ", kMaxDepth, " levels");
      auto* const* cells = elements<matvar_t*>(*v, count, what);
      const auto rows = static_cast<int64_t>(v->dims[0]);
      for (int64_t i = 0; i < count; ++i) {
        place.push_back({i % rows, i / rows});
        walk(cells[i], str(what, '{', i % rows + 1, ',', i / rows + 1, '}'), place, visit);
        place.pop_back();
      }
    } else if (count > 0 && v->rank >= 3) {
      REID_CHECK(v->class_type == MAT_C_UINT8 && v->rank == 3 && v->dims[2] == 3, what, " is no image of bytes, height x width x 3");
      visit(place, read_pixels(file, v, what));
    }
  }
};

bool has_matlab() { return true; }

MatFile::MatFile(const std::filesystem::path& file) : state_(std::make_unique<State>()) {
  state_->name = file.string();
  check_file(file);
  Mat_LogInitFunc("reid", [](int, char*) {});  // its complaints would go to the screen; what fails is said below
  state_->file = Mat_Open(file.c_str(), MAT_ACC_RDONLY);
  REID_CHECK(state_->file != nullptr, name(), ": cannot be read as a MATLAB file");
}
MatFile::~MatFile() = default;

const std::string& MatFile::name() const { return state_->name; }

std::vector<std::string> MatFile::variables() const {
  if (Mat_GetVersion(state_->file) == MAT_FT_MAT73) return hdf5_variables(name());
  size_t count = 0;
  char* const* names = Mat_GetDir(state_->file, &count);  // stays the library's
  return names == nullptr ? std::vector<std::string>() : std::vector<std::string>(names, names + count);
}

namespace {

void check_variable(const MatFile& file, const std::string& variable) {
  std::string others;
  for (const std::string& name : file.variables()) {
    if (name == variable) return;
    others += (others.empty() ? "" : ", ") + name;
  }
  fail(str(file.name(), ": has no variable \"", variable, "\"; it has ", others.empty() ? "none" : others));
}

}  // namespace

MatValue MatFile::read(const std::string& variable) const {
  check_variable(*this, variable);
  if (Mat_GetVersion(state_->file) == MAT_FT_MAT73) return read_hdf5_value(name(), variable);
  const std::string what = name() + ": the variable " + variable;
  const Variable v = owned(Mat_VarRead(state_->file, variable.c_str()));
  if (v == nullptr) damaged(what);
  return converted(v.get(), what, 0);
}

void MatFile::each_image(const std::string& variable, const VisitImage& visit) const {
  check_variable(*this, variable);
  if (Mat_GetVersion(state_->file) == MAT_FT_MAT73) return each_hdf5_image(name(), variable, visit);
  const std::string what = name() + ": the variable " + variable;
  const Variable v = owned(Mat_VarReadInfo(state_->file, variable.c_str()));
  if (v == nullptr) damaged(what);
  std::vector<MatPlace> place;
  state_->walk(v.get(), what, place, visit);
}

#endif

}  // namespace reid
