#pragma once
// The table of origins: whose checkpoints are understood, how each is recognized, what its names mean.

#include <string_view>
#include <vector>

namespace reid {

// Names that begin with `from` begin with `to` here. With shift, the block number that follows grows by it.
struct Rename {
  std::string_view from, to;
  int shift = 0;
};
using Layout = std::vector<Rename>;  // the first entry is the stem's convolution

struct WeightOrigin {
  std::string_view name, convention;
  std::string_view container;           // what stands before the backbone's names, below the root
  const Layout* layout;                 // of the names in the container
  std::vector<std::string_view> marks;  // beginnings of names below the root, each of which must be there
  std::string_view within = {};         // a word that must be on the root's path
  std::string_view remark = {};
  bool exact = true;
};
const std::vector<WeightOrigin>& weight_origins();  // the first that fits is taken

// Parts after the backbone, whoever wrote them; to == "": a classifier.
const Layout& head_names();

// A piece of a name that shows what this program does not run.
struct ForeignPart {
  std::string_view piece, what;
};
const std::vector<ForeignPart>& foreign_parts();

}  // namespace reid
