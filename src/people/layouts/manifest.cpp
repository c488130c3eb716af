// People's own data as a table: CSV (RFC 4180) or JSON, an object a line. Columns path, id, camera, split; perhaps video and tracklet.

#include <algorithm>
#include <array>
#include <sstream>

#include "people/layouts/csv.h"
#include "people/layouts/files.h"
#include "people/layouts/readers.h"
#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

enum Column : uint8_t { kPath, kId, kCamera, kSplit, kVideo, kTracklet, kColumns };
constexpr std::array<const char*, kColumns> kNames = {"path", "id", "camera", "split", "video", "tracklet"};
constexpr const char* kDistractor = "distractor";

struct Row {
  int64_t line = 0;
  std::array<std::string, kColumns> fields;
};

std::string place(const fs::path& file, int64_t line, Column column) {
  return str(file.string(), ", line ", line, ", column ", kNames[column]);
}

Column column_named(const std::string& name, const std::string& where) {
  for (size_t i = 0; i < kColumns; ++i)
    if (name == kNames[i]) return static_cast<Column>(i);
  fail(str(where, ": unknown column \"", name, "\"; a manifest has path, id, camera, split, and perhaps video and tracklet"));
}

// Columns and rows of a CSV. Every row has as many fields as the header.
std::vector<Row> read_csv(const fs::path& file, std::array<bool, kColumns>& present) {
  const std::vector<CsvRecord> records = parse_csv(read_text(file), file.string());
  REID_CHECK(!records.empty(), file.string(), ": the file is empty; a manifest starts with the line path,id,camera,split");
  std::vector<Column> columns;
  for (const std::string& name : records[0].fields) {
    columns.push_back(column_named(name, str(file.string(), ", line 1")));
    REID_CHECK(!present[columns.back()], file.string(), ", line 1: the column \"", name, "\" stands twice");
    present[columns.back()] = true;
  }
  std::vector<Row> rows;
  for (size_t i = 1; i < records.size(); ++i) {
    const CsvRecord& record = records[i];
    REID_CHECK(record.fields.size() == columns.size(), file.string(), ", line ", record.line, ": ", record.fields.size(),
               " fields, but the header has ", columns.size(), "; a comma inside a field wants quotes around it");
    Row row{.line = record.line, .fields = {}};
    for (size_t c = 0; c < columns.size(); ++c) row.fields[columns[c]] = record.fields[c];
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<Row> read_jsonl(const fs::path& file, std::array<bool, kColumns>& present) {
  std::istringstream lines(read_text(file));
  std::vector<Row> rows;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = str(file.string(), ", line ", number);
    const Json json = parse_json(line, where);
    REID_CHECK(json.is_object(), where, ": is no object like {\"path\": \"a.jpg\", \"id\": 7, \"camera\": 1, \"split\": \"train\"}");
    Row row{.line = number, .fields = {}};
    for (const auto& [key, value] : json.members()) {
      const Column column = column_named(key, where);
      REID_CHECK(value.is_string() || value.is_integer() || value.is_null(), where, ", column ", key,
                 ": takes a string or an integer, not ", value.dump());
      present[column] = true;
      if (!value.is_null()) row.fields[column] = value.is_string() ? value.string() : value.dump();
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

// Names to numbers. Names that are all integers >= `first`, written plainly, keep their values; others count up from `first` in order.
class Numbering {
 public:
  Numbering(std::vector<std::string> names, int64_t first) {
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    const bool plain = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      const int64_t value = parse_number(name);
      return value >= first && std::to_string(value) == name;
    });
    for (const std::string& name : names) numbers_[name] = plain ? parse_number(name) : first++;
  }
  int64_t operator[](const std::string& name) const { return numbers_.at(name); }

 private:
  std::map<std::string, int64_t> numbers_;
};

std::vector<std::string> values(const std::vector<Row>& rows, Column column) {
  std::vector<std::string> names;
  for (const Row& row : rows)
    if (!row.fields[column].empty() && !(column == kId && row.fields[column] == kDistractor)) names.push_back(row.fields[column]);
  return names;
}

std::vector<Sample>& part_named(Dataset& data, const std::string& split, const std::string& where) {
  if (split == "train") return data.train;
  if (split == "query") return data.query;
  if (split == "gallery") return data.gallery;
  if (split == "multi_query") return data.multi_query;
  fail(str(where, ": \"", split, "\" is not train, query, gallery or multi_query"));
}

// Every row names a camera, or none does.
bool cameras_given(const std::vector<Row>& rows, const fs::path& file) {
  const Row *with = nullptr, *without = nullptr;
  for (const Row& row : rows) (row.fields[kCamera].empty() ? without : with) = &row;
  REID_CHECK(with == nullptr || without == nullptr, file.string(), ": line ", with->line, " names a camera but line ", without->line,
             " names none: name one in every line, or in none");
  return with != nullptr;
}

Sample to_sample(const Row& row, const fs::path& file, const Numbering& persons) {
  REID_CHECK(!row.fields[kPath].empty(), place(file, row.line, kPath), ": is empty");
  const fs::path path = file.parent_path() / row.fields[kPath];  // an absolute path stays as it is
  REID_CHECK(image_exists(path), place(file, row.line, kPath), ": there is no file ", path.string(),
             "; paths are relative to the manifest's folder");
  Sample sample;
  sample.path = path.string();
  const std::string& id = row.fields[kId];
  sample.person = id.empty() ? -1 : id == kDistractor ? 0 : persons[id];
  REID_CHECK(sample.person != 0 || row.fields[kSplit] == "gallery", place(file, row.line, kId), ": a distractor belongs into the gallery");
  REID_CHECK(sample.person != -1 || row.fields[kSplit] == "train", place(file, row.line, kId),
             ": is empty; only training images may lack an id");
  return sample;
}

std::string quoted(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string text = "\"";
  for (const char c : field) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + "\"";
}

}  // namespace

Dataset read_manifest(const fs::path& file, const LayoutOptions&) {
  std::error_code error;
  REID_CHECK(fs::exists(file, error), "manifest:", file.string(), ": there is no such file");
  REID_CHECK(!fs::is_directory(file, error), "manifest:", file.string(),
             ": no images found; this layout wants a file, a CSV or JSONL with ",
             "the columns path,id,camera,split. Check the path, or choose another layout");
  const std::string extension = file.extension().string();
  REID_CHECK(extension == ".csv" || extension == ".jsonl", file.string(), ": a manifest's name ends in .csv or .jsonl");
  std::array<bool, kColumns> present{};
  const std::vector<Row> rows = extension == ".csv" ? read_csv(file, present) : read_jsonl(file, present);
  REID_CHECK(!rows.empty(), file.string(), ": the manifest names no images");
  for (const Column column : {kPath, kId, kSplit})
    REID_CHECK(present[column], file.string(), ": the column ", kNames[column], " is missing; a manifest has path, id, camera and split");

  Dataset data;
  data.name = "manifest:" + file.string();
  data.cameras_known = cameras_given(rows, file);
  const Numbering persons(values(rows, kId), 1), cameras(values(rows, kCamera), 0), tracklets(values(rows, kTracklet), 0);
  std::vector<std::string> videos = values(rows, kVideo);
  std::sort(videos.begin(), videos.end());
  videos.erase(std::unique(videos.begin(), videos.end()), videos.end());
  for (const Row& row : rows) {
    std::vector<Sample>& part = part_named(data, row.fields[kSplit], place(file, row.line, kSplit));
    Sample sample = to_sample(row, file, persons);
    if (data.cameras_known) sample.camera = cameras[row.fields[kCamera]];
    if (!row.fields[kTracklet].empty()) sample.tracklet = tracklets[row.fields[kTracklet]];
    if (!row.fields[kVideo].empty()) sample.video = std::lower_bound(videos.begin(), videos.end(), row.fields[kVideo]) - videos.begin();
    part.push_back(std::move(sample));
  }
  data.videos = std::move(videos);
  return data;
}

std::string manifest_csv(const Dataset& data, const fs::path& file) {
  const fs::path home = fs::absolute(file).lexically_normal().parent_path();
  const std::pair<const char*, const std::vector<Sample>*> parts[] = {
      {"train", &data.train}, {"query", &data.query}, {"gallery", &data.gallery}, {"multi_query", &data.multi_query}};
  bool videos = false, tracklets = false;
  for (const auto& [name, part] : parts)
    for (const Sample& sample : *part) videos = videos || sample.video >= 0, tracklets = tracklets || sample.tracklet >= 0;
  std::ostringstream out;
  out << "path,id,camera,split" << (videos ? ",video" : "") << (tracklets ? ",tracklet" : "") << "\n";
  for (const auto& [name, part] : parts) {
    for (const Sample& sample : *part) {
      const fs::path path = fs::absolute(sample.path).lexically_normal(), below = path.lexically_relative(home);
      const bool inside = !below.empty() && *below.begin() != "..";
      out << quoted((inside ? below : path).generic_string()) << ',';
      if (sample.person >= 0) out << (sample.person == 0 ? kDistractor : std::to_string(sample.person));
      out << ',' << (data.cameras_known ? std::to_string(sample.camera) : "") << ',' << name;
      if (videos) out << ',' << (sample.video >= 0 ? quoted(data.videos.at(static_cast<size_t>(sample.video))) : "");
      if (tracklets) out << ',' << (sample.tracklet >= 0 ? std::to_string(sample.tracklet) : "");
      out << "\n";
    }
  }
  return out.str();
}

}  // namespace reid
