// libmatio asks for the name of everything that a cell refers to, and HDF5 finds one by searching the file: time grows with the square
// of the number of cells, to an hour for CUHK03, even to list variables. So cells are followed here without names.

#include "formats/matlab_hdf5.h"

#include <algorithm>

#include "formats/jpeg.h"
#include "reid/engine/base.h"

#ifdef REID_WITH_MATIO
#include <hdf5.h>
#endif

namespace reid {

Image image_of_columns(int height, int width, std::span<const uint8_t> columns) {
  Image image(height, width);
  size_t i = 0;
  for (int channel = 0; channel < 3; ++channel)
    for (int x = 0; x < width; ++x)
      for (int y = 0; y < height; ++y) image.at(y, x)[channel] = columns[i++];
  return image;
}

#ifdef REID_WITH_MATIO

namespace {

class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
    REID_CHECK(id >= 0, what, " cannot be read: the file is damaged");
  }
  ~Handle() { close_(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  hid_t get() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

constexpr size_t kMaxDepth = 64;  // of cells in cells

[[noreturn]] void damaged(const std::string& what) { fail(what + " cannot be read: the file is damaged"); }

// A dataset, with its extents as MATLAB has them: HDF5 has them in reverse, which makes its order of elements MATLAB's.
struct Description {
  std::vector<int64_t> shape;
  int64_t count = 1;
  H5T_class_t kind = H5T_NO_CLASS;
  size_t width = 0;  // bytes of an element
};
Description describe(hid_t item, const std::string& what) {
  const Handle space(H5Dget_space(item), H5Sclose, what), type(H5Dget_type(item), H5Tclose, what);
  hsize_t extents[H5S_MAX_RANK] = {};
  const int rank = H5Sget_simple_extent_dims(space.get(), extents, nullptr);
  Description d;
  for (int i = rank - 1; i >= 0; --i) {
    constexpr int64_t kMaxElements = int64_t{1} << 30;
    const auto extent = static_cast<int64_t>(extents[i]);
    if (extent < 0 || (extent > 0 && d.count > kMaxElements / extent)) damaged(what);
    d.count *= extent;
    d.shape.push_back(extent);
  }
  d.kind = H5Tget_class(type.get());
  d.width = H5Tget_size(type.get());
  return d;
}

// Calls visit(item, what, place) for every cell.
template <class Visit>
void each_cell(hid_t item, const Description& d, const std::string& what, const Visit& visit) {
  std::vector<hobj_ref_t> cells(static_cast<size_t>(d.count));
  if (H5Dread(item, H5T_STD_REF_OBJ, H5S_ALL, H5S_ALL, H5P_DEFAULT, cells.data()) < 0) damaged(what);
  const int64_t rows = d.shape.empty() ? 1 : d.shape[0];
  for (int64_t i = 0; i < d.count; ++i) {
    const std::string inside = str(what, '{', i % rows + 1, ',', i / rows + 1, '}');
    const Handle cell(H5Rdereference2(item, H5P_DEFAULT, H5R_OBJECT, &cells[static_cast<size_t>(i)]), H5Oclose, inside);
    visit(cell.get(), inside, MatPlace{i % rows, i / rows});
  }
}

std::string class_of(hid_t item, const std::string& what) {
  if (H5Aexists(item, "MATLAB_class") <= 0) return {};
  const Handle attribute(H5Aopen(item, "MATLAB_class", H5P_DEFAULT), H5Aclose, what), type(H5Aget_type(attribute.get()), H5Tclose, what);
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0 || H5Tget_size(type.get()) > 64) return {};
  std::string name(H5Tget_size(type.get()), ' ');
  return H5Aread(attribute.get(), type.get(), name.data()) < 0 ? std::string() : name;
}

std::vector<std::string> names_in(hid_t group, const std::string& what) {
  H5G_info_t info{};
  if (H5Gget_info(group, &info) < 0) damaged(what);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    char name[256] = {};  // MATLAB's names have 63 characters at most
    if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) < 0) damaged(what);
    if (name[0] != '#') names.emplace_back(name);  // #refs#, #subsystem#
  }
  return names;
}

MatValue value_of(hid_t item, const std::string& what, size_t depth) {
  REID_CHECK(depth < kMaxDepth, what, ": cells are nested deeper than ", kMaxDepth, " levels");
  MatValue value;
  if (H5Iget_type(item) == H5I_GROUP) {
    value.kind = MatValue::Kind::record;
    value.shape = {1, 1};
    value.fields = names_in(item, what);
    for (const std::string& field : value.fields) {
      const Handle content(H5Oopen(item, field.c_str(), H5P_DEFAULT), H5Oclose, what);
      value.items.push_back(value_of(content.get(), what + "." + field, depth + 1));
    }
    return value;
  }
  if (H5Iget_type(item) != H5I_DATASET) return value;
  const Description d = describe(item, what);
  value.shape = d.shape;
  if (H5Aexists(item, "MATLAB_empty") > 0) {
    value.kind = class_of(item, what) == "char" ? MatValue::Kind::text : MatValue::Kind::numbers;
    value.shape = {0, 0};
  } else if (d.kind == H5T_REFERENCE) {
    value.kind = MatValue::Kind::cells;
    each_cell(item, d, what,
              [&](hid_t cell, const std::string& inside, MatPlace) { value.items.push_back(value_of(cell, inside, depth + 1)); });
  } else if (d.kind == H5T_INTEGER || d.kind == H5T_FLOAT) {
    value.kind = MatValue::Kind::numbers;
    value.numbers.resize(static_cast<size_t>(d.count));
    if (H5Dread(item, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, value.numbers.data()) < 0) damaged(what);
    if (class_of(item, what) == "char") {
      value.kind = value.rows() == 1 ? MatValue::Kind::text : MatValue::Kind::other;
      for (const double unit : value.numbers) append_utf8(value.text, static_cast<uint16_t>(std::clamp(unit, 0.0, 65535.0)));
      value.numbers.clear();
    }
  }
  return value;
}

void walk(hid_t item, const std::string& what, std::vector<MatPlace>& place, const MatFile::VisitImage& visit) {
  if (H5Iget_type(item) != H5I_DATASET) return;
  REID_CHECK(place.size() < kMaxDepth, what, ": cells are nested deeper than ", kMaxDepth, " levels");
  const Description d = describe(item, what);
  if (d.kind == H5T_REFERENCE) {
    each_cell(item, d, what, [&](hid_t cell, const std::string& inside, MatPlace at) {
      place.push_back(at);
      walk(cell, inside, place, visit);
      place.pop_back();
    });
  } else if (d.shape.size() >= 3) {
    REID_CHECK(d.shape.size() == 3 && d.shape[2] == 3 && d.kind == H5T_INTEGER && d.width == 1, what,
               " is no image of bytes, height x width x 3");
    check_image_size(d.shape[1], d.shape[0], what);
    std::vector<uint8_t> columns(static_cast<size_t>(d.count));
    if (H5Dread(item, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, columns.data()) < 0) damaged(what);
    visit(place, image_of_columns(static_cast<int>(d.shape[0]), static_cast<int>(d.shape[1]), columns));
  }
}

// Calls action(variable, what) with a variable of a file.
template <class Action>
void with_variable(const std::filesystem::path& file, const std::string& variable, const Action& action) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // its complaints would go to the screen; what fails is said here
  const std::string what = file.string() + ": the variable " + variable;
  const Handle open(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, what);
  const Handle item(H5Oopen(open.get(), variable.c_str(), H5P_DEFAULT), H5Oclose, what);
  action(item.get(), what);
}

}  // namespace

std::vector<std::string> hdf5_variables(const std::filesystem::path& file) {
  std::vector<std::string> names;
  with_variable(file, "/", [&](hid_t root, const std::string& what) { names = names_in(root, what); });
  return names;
}

MatValue read_hdf5_value(const std::filesystem::path& file, const std::string& variable) {
  MatValue value;
  with_variable(file, variable, [&](hid_t item, const std::string& what) { value = value_of(item, what, 0); });
  return value;
}

void each_hdf5_image(const std::filesystem::path& file, const std::string& variable, const MatFile::VisitImage& visit) {
  std::vector<MatPlace> place;
  with_variable(file, variable, [&](hid_t item, const std::string& what) { walk(item, what, place, visit); });
}

#endif

}  // namespace reid
