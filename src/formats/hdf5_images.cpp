// libmatio asks for the name of everything that a cell refers to, and HDF5 finds one by searching the file: time grows with the square
// of the number of images, even to list variables. So variables are listed and cells of images followed here, without names of contents.

#include "formats/hdf5_images.h"

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

// HDF5 has the extents in reverse.
void walk(hid_t item, const std::string& what, std::vector<MatPlace>& place, const MatFile::VisitImage& visit) {
  if (H5Iget_type(item) != H5I_DATASET) return;
  const Handle space(H5Dget_space(item), H5Sclose, what), type(H5Dget_type(item), H5Tclose, what);
  hsize_t extents[H5S_MAX_RANK] = {};
  const int rank = H5Sget_simple_extent_dims(space.get(), extents, nullptr);
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind == H5T_REFERENCE) {
    constexpr hsize_t kMaxCells = 1 << 24;
    REID_CHECK(rank == 2 && extents[0] <= kMaxCells && extents[1] <= kMaxCells / std::max<hsize_t>(extents[0], 1) && place.size() < 64,
               what, " is no matrix of cells of a sane size");
    std::vector<hobj_ref_t> cells(extents[0] * extents[1]);
    REID_CHECK(H5Dread(item, H5T_STD_REF_OBJ, H5S_ALL, H5S_ALL, H5P_DEFAULT, cells.data()) >= 0, what,
               " cannot be read: the file is damaged");
    const auto rows = static_cast<int64_t>(extents[1]);
    for (int64_t i = 0; i < static_cast<int64_t>(cells.size()); ++i) {
      const std::string inside = str(what, '{', i % rows + 1, ',', i / rows + 1, '}');
      const Handle cell(H5Rdereference2(item, H5P_DEFAULT, H5R_OBJECT, &cells[static_cast<size_t>(i)]), H5Oclose, inside);
      place.push_back({i % rows, i / rows});
      walk(cell.get(), inside, place, visit);
      place.pop_back();
    }
  } else if (rank >= 3) {
    REID_CHECK(rank == 3 && extents[0] == 3 && kind == H5T_INTEGER && H5Tget_size(type.get()) == 1, what,
               " is no image of bytes, height x width x 3");
    check_image_size(static_cast<int64_t>(extents[1]), static_cast<int64_t>(extents[2]), what);
    std::vector<uint8_t> columns(3 * extents[1] * extents[2]);
    REID_CHECK(H5Dread(item, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, columns.data()) >= 0, what,
               " cannot be read: the file is damaged");
    visit(place, image_of_columns(static_cast<int>(extents[2]), static_cast<int>(extents[1]), columns));
  }
}

}  // namespace

std::vector<std::string> hdf5_variables(const std::filesystem::path& file) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // its complaints would go to the screen; what fails is said here
  const Handle open(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, file.string() + ":");
  H5G_info_t info{};
  REID_CHECK(H5Gget_info(open.get(), &info) >= 0, file.string(), ": cannot be read: the file is damaged");
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    char name[256] = {};  // MATLAB's names have 63 characters at most
    const ssize_t length = H5Lget_name_by_idx(open.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
    REID_CHECK(length >= 0, file.string(), ": cannot be read: the file is damaged");
    if (name[0] != '#') names.emplace_back(name);  // #refs#, #subsystem#
  }
  return names;
}

void each_hdf5_image(const std::filesystem::path& file, const std::string& variable, const MatFile::VisitImage& visit) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  const std::string what = file.string() + ": the variable " + variable;
  const Handle open(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, what);
  const Handle item(H5Oopen(open.get(), variable.c_str(), H5P_DEFAULT), H5Oclose, what);
  std::vector<MatPlace> place;
  walk(item.get(), what, place, visit);
}

#endif

}  // namespace reid
