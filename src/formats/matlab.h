#pragma once
// MATLAB's .mat files, versions 5 to 7.3, as plain values. Through libmatio and (7.3) the HDF5 library below it, so only in builds that
// have them.
//
// Design: whole variables as trees of values, for lists and splits; one image at a time where a variable holds gigabytes of them.
// A file is checked for its length before a library sees it. Neither library is hardened against bytes changed on purpose: read files that
// come from where data sets come from. For one thread at a time: HDF5 has global state.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reid/formats/image.h"

namespace reid {

bool has_matlab();  // whether this build reads .mat files; without, opening one says what to install

struct MatValue {
  enum class Kind : uint8_t { numbers, text, cells, record, other };
  Kind kind = Kind::other;
  std::vector<int64_t> shape;       // as MATLAB shows it; elements are column-major
  std::vector<double> numbers;      // real numbers and truth values of any width; an empty cell is numbers of shape [0, 0]
  std::string text;                 // a row of characters, as UTF-8
  std::vector<MatValue> items;      // cells: [element]; record (a 1 x 1 struct): [field]
  std::vector<std::string> fields;  // record: their names

  int64_t rows() const { return shape.empty() ? 0 : shape[0]; }
  const MatValue* find(const std::string& field) const;  // null when there is none
};

// Zero-based place of an element of a matrix.
struct MatPlace {
  int64_t row = 0, column = 0;
};

class MatFile {
 public:
  explicit MatFile(const std::filesystem::path& file);  // throws when it is missing, truncated, or no MATLAB file
  ~MatFile();
  MatFile(const MatFile&) = delete;
  MatFile& operator=(const MatFile&) = delete;

  const std::string& name() const;
  std::vector<std::string> variables() const;
  MatValue read(const std::string& variable) const;  // throws, naming the variables there are

  // For cells of cells ... of images (uint8, [H, W, 3]): calls visit(place in each level of cells, the image), one image in memory at a
  // time. Cells with fewer than three dimensions or without elements are passed over.
  using VisitImage = std::function<void(const std::vector<MatPlace>& cell, const Image& image)>;
  void each_image(const std::string& variable, const VisitImage& visit) const;

  // Variables of one kind; each throws, naming file, variable and what was found.
  std::vector<int64_t> integers(const std::string& variable) const;                                    // all elements, column-major
  std::vector<std::vector<int64_t>> integer_rows(const std::string& variable, int64_t columns) const;  // a matrix of so many columns
  std::vector<std::string> texts(const std::string& variable) const;                                   // a cell array of rows of characters

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same of a value; `what` stands in the error: "FILE: the variable x".
std::vector<int64_t> integers_of(const MatValue& value, const std::string& what);
std::vector<std::vector<int64_t>> integer_rows_of(const MatValue& value, int64_t columns, const std::string& what);
std::vector<std::string> texts_of(const MatValue& value, const std::string& what);

}  // namespace reid
