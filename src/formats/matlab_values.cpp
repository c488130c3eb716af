// What the values of a MATLAB file are turned into; nothing here needs libmatio.

#include <cmath>

#include "formats/matlab.h"
#include "reid/engine/base.h"

namespace reid {
namespace {

std::string described(const MatValue& value) {
  constexpr const char* kNames[] = {"numbers", "text", "cells", "a struct", "something else"};
  std::string text = kNames[static_cast<size_t>(value.kind)];
  for (size_t i = 0; i < value.shape.size(); ++i) text += (i == 0 ? " of " : " x ") + std::to_string(value.shape[i]);
  return text;
}

}  // namespace

const MatValue* MatValue::find(const std::string& field) const {
  for (size_t i = 0; i < fields.size(); ++i)
    if (fields[i] == field) return &items[i];
  return nullptr;
}

std::vector<int64_t> integers_of(const MatValue& value, const std::string& what) {
  REID_CHECK(value.kind == MatValue::Kind::numbers, what, " holds ", described(value), " where numbers are expected");
  std::vector<int64_t> integers;
  integers.reserve(value.numbers.size());
  for (const double number : value.numbers) {
    REID_CHECK(std::fabs(number) <= 0x1p53 && number == std::trunc(number), what, ": element ", integers.size() + 1, " is ", number,
               ", not an integer");
    integers.push_back(static_cast<int64_t>(number));
  }
  return integers;
}

std::vector<std::vector<int64_t>> integer_rows_of(const MatValue& value, int64_t columns, const std::string& what) {
  const std::vector<int64_t> all = integers_of(value, what);
  REID_CHECK(value.shape.size() == 2 && value.shape[1] == columns, what, " holds ", described(value), " where a matrix of ", columns,
             " columns is expected");
  const auto rows = static_cast<size_t>(value.rows());
  std::vector<std::vector<int64_t>> result(rows);
  for (size_t i = 0; i < all.size(); ++i) result[i % rows].push_back(all[i]);
  return result;
}

std::vector<std::string> texts_of(const MatValue& value, const std::string& what) {
  REID_CHECK(value.kind == MatValue::Kind::cells, what, " holds ", described(value), " where cells of text are expected");
  std::vector<std::string> texts;
  texts.reserve(value.items.size());
  for (const MatValue& item : value.items) {
    REID_CHECK(item.kind == MatValue::Kind::text, what, ": cell ", texts.size() + 1, " holds ", described(item), " where text is expected");
    texts.push_back(item.text);
  }
  return texts;
}

std::vector<int64_t> MatFile::integers(const std::string& variable) const {
  return integers_of(read(variable), name() + ": the variable " + variable);
}
std::vector<std::vector<int64_t>> MatFile::integer_rows(const std::string& variable, int64_t columns) const {
  return integer_rows_of(read(variable), columns, name() + ": the variable " + variable);
}
std::vector<std::string> MatFile::texts(const std::string& variable) const {
  return texts_of(read(variable), name() + ": the variable " + variable);
}

}  // namespace reid
