#pragma once
// The table of cross-dataset studies: rows are what a model was trained on, columns what it was tested on.

#include <filesystem>
#include <string>
#include <vector>

#include "reid/formats/json.h"

namespace reid {

struct MatrixRow {
  std::vector<std::string> trained_on = {};  // names of labeled sets; their specifications when they have no names
  std::vector<std::string> single = {};      // single-camera sets beside them
  std::vector<std::string> seen = {};        // sets of `results` whose images were trained on
  std::string checkpoint = {};               // "last epoch (60)", or how another was chosen
  Json results = {};                         // set -> report, as results.json of a run holds it
};

// The NAMEs of NAME=LAYOUT:PATH in `evaluated` whose path is that of a LAYOUT:PATH in `trained_on`, whatever layouts and options.
std::vector<std::string> sets_seen(const std::vector<std::string>& evaluated, const std::vector<std::string>& trained_on);

Json matrix_json(const std::vector<MatrixRow>& rows);  // {"rows": [...]}

// matrix.json and matrix.md in `folder`.
void write_matrix_files(const std::vector<MatrixRow>& rows, const std::filesystem::path& folder);

// The rows of RUN/matrix.json; throws naming the file. A file that does not say which sets were seen means those that
// trained_on names.
std::vector<MatrixRow> read_matrix(const std::filesystem::path& folder);

// A Markdown table, "mAP / rank-1" in percent. Columns in the order in which rows mention them, empty where a row has no such result.
// With several columns, the last one is the row's mean over the sets that it has not seen.
std::string matrix_markdown(const std::vector<MatrixRow>& rows);

}  // namespace reid
