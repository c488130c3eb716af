#include "reid/learning/matrix.h"

#include <algorithm>
#include <cstdio>

#include "reid/engine/base.h"
#include "reid/formats/files.h"

namespace reid {

namespace {

using Names = std::vector<std::string>;

bool contains(const Names& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

Names columns_of(const std::vector<MatrixRow>& rows) {
  Names columns;
  for (const MatrixRow& row : rows) {
    for (const auto& [set, report] : row.results.members()) {
      if (!contains(columns, set)) columns.push_back(set);
    }
  }
  return columns;
}

std::string cell(double map, double rank1) {
  char text[48];
  std::snprintf(text, sizeof text, "%.1f / %.1f", 100 * map, 100 * rank1);
  return text;
}

std::string joined(const Names& names, const char* separator) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : separator) + name;
  return text;
}

std::string trained_on(const MatrixRow& row) {
  return joined(row.trained_on, " + ") + (row.single.empty() ? "" : "; videos " + joined(row.single, " + "));
}

std::string mean_cell(const MatrixRow& row) {
  double map = 0, rank1 = 0;
  int count = 0;
  for (const auto& [set, report] : row.results.members()) {
    if (contains(row.seen, set)) continue;
    map += report.at("mAP").number();
    rank1 += report.at("rank1").number();
    ++count;
  }
  return count == 0 ? "" : cell(map / count, rank1 / count);
}

Json to_json(const Names& names) {
  Json list = Json::array();
  for (const std::string& name : names) list.push_back(name);
  return list;
}
Names names_of(const Json& list) {
  Names names;
  for (const Json& name : list.items()) names.push_back(name.string());
  return names;
}

std::string table_row(const Names& cells) { return "| " + joined(cells, " | ") + " |\n"; }

// Of "[NAME=]LAYOUT[,OPTIONS]:PATH".
std::filesystem::path path_of(const std::string& specification) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(specification.substr(specification.find(':') + 1), ignored);
}

}  // namespace

Names sets_seen(const Names& evaluated, const Names& trained_on) {
  Names seen;
  for (const std::string& named : evaluated) {
    const auto same = [&](const std::string& other) { return path_of(other) == path_of(named); };
    if (std::ranges::any_of(trained_on, same)) seen.push_back(named.substr(0, named.find('=')));
  }
  return seen;
}

std::string matrix_markdown(const std::vector<MatrixRow>& rows) {
  const Names columns = columns_of(rows);
  const bool mean = columns.size() > 1;
  Names head = {"trained on", "checkpoint"};
  head.insert(head.end(), columns.begin(), columns.end());
  if (mean) head.emplace_back("mean of unseen");
  std::string text = table_row(head) + table_row(Names(head.size(), "---"));
  for (const MatrixRow& row : rows) {
    Names cells = {trained_on(row), row.checkpoint};
    for (const std::string& set : columns) {
      const Json* report = row.results.find(set);
      cells.push_back(report ? cell(report->at("mAP").number(), report->at("rank1").number()) : "");
    }
    if (mean) cells.push_back(mean_cell(row));
    text += table_row(cells);
  }
  return text;
}

Json matrix_json(const std::vector<MatrixRow>& rows) {
  Json list = Json::array();
  for (const MatrixRow& row : rows) {
    list.push_back(Json::object({{"trained_on", to_json(row.trained_on)},
                                 {"single", to_json(row.single)},
                                 {"seen", to_json(row.seen)},
                                 {"checkpoint", row.checkpoint},
                                 {"results", row.results}}));
  }
  return Json::object({{"rows", list}});
}

void write_matrix_files(const std::vector<MatrixRow>& rows, const std::filesystem::path& folder) {
  write_file(folder / "matrix.json", matrix_json(rows).dump(2) + "\n");
  write_file(folder / "matrix.md", "mAP / Rank-1, %\n\n" + matrix_markdown(rows));
}

std::vector<MatrixRow> read_matrix(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "matrix.json";
  REID_CHECK(std::filesystem::exists(file), folder.string(), " holds no matrix.json: is it the folder of a finished run?");
  const Json content = parse_json(read_text(file), file.string());
  std::vector<MatrixRow> rows;
  for (const Json& entry : content.at("rows").items()) {
    MatrixRow row{.checkpoint = entry.at("checkpoint").string(), .results = entry.at("results")};
    row.trained_on = names_of(entry.at("trained_on"));
    row.single = names_of(entry.at("single"));
    row.seen = names_of(entry.find("seen") ? entry.at("seen") : entry.at("trained_on"));
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace reid
