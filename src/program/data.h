#pragma once
// What the actions of reid data share.

#include "program/verb.h"

#include "reid/people/dataset_check.h"

#include <string>
#include <vector>

namespace reid::program {

struct DataOptions {
  std::string action, set, to = "manifest", out;
  bool names_only = false, decode = false;
};

void list_layouts(const Context& context);
void check_data(const Context& context, const DataOptions& o);
void convert_data(const Context& context, const DataOptions& o);

// A specification as it is, or the one that a path alone is recognized as.
Recognition resolve_dataset(const std::string& set);
const DatasetLayout& layout_of(const std::string& spec);

// Rows of one length as lines: the first column to the left, the others to the right; columns that are empty below the head are left out.
std::vector<std::string> table(std::vector<std::vector<std::string>> rows);
std::string with_commas(int64_t number);  // "12,936"; "" for 0

}  // namespace reid::program
