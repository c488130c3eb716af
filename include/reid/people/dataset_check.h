#pragma once
// A data set held against what is published of it and against common sense: wrong variants, missing parts, damaged and doubled images.
//
// Design: reading the set is the reader's work and its errors; a check finds what reads well and is wrong all the same. Findings are
// written for people, problems first.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "reid/people/dataset.h"

namespace reid {

struct Finding {
  bool problem = false;  // else a note: worth knowing, nothing wrong
  std::string text;
  std::vector<std::string> which = {};  // all that it is about: files, identities
};

struct DatasetCheck {
  std::vector<std::pair<std::string, PartCounts>> parts;  // train, query, gallery, multi_query: those that are not empty
  const PublishedCounts* published = nullptr;             // what it was compared with; null: nothing is published of it
  std::vector<Finding> findings;
  struct Size {
    int height = 0, width = 0;
    int64_t images = 0;
  };
  std::vector<Size> sizes;  // most frequent first; empty when no file was opened
  int64_t problems() const;
};

struct CheckOptions {
  bool open_files = true;  // headers, sizes, equal contents
  bool decode = false;     // every pixel of every image
};

// `root` is where the set lies, for files that are passed over. The images are read on all threads.
DatasetCheck check_dataset(const Dataset& data, const std::string& layout, const std::filesystem::path& root, const CheckOptions& options);

}  // namespace reid
