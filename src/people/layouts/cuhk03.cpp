// CUHK03 as released: one MATLAB file of images and test sets, and two files of the protocol of 767 and 700 people.

#include <unistd.h>

#include <array>
#include <fstream>
#include <set>
#include <system_error>

#include "formats/matlab.h"
#include "people/layouts/containers.h"
#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

using Person = std::pair<int64_t, int64_t>;  // pair of cameras, number within it: people are numbered anew for each pair

struct Cuhk03Name {
  Person person;
  int64_t view = 0;  // from 1
};

// PAIR_PPP_VIEW_NN.png
Cuhk03Name parse_name(const std::string& name, const std::string& where) {
  std::array<int64_t, 4> fields{};
  size_t at = 0;
  bool fits = true;
  for (size_t i = 0; i < fields.size() && fits; ++i) {
    fields[i] = parse_digits(name, at);
    fits = fields[i] >= 1 && name.compare(at, i < 3 ? 1 : std::string::npos, i < 3 ? "_" : ".png") == 0;
    ++at;
  }
  REID_CHECK(fits && fields[2] <= 2, where, ": the name ", name,
             " does not follow the cuhk03 layout (PAIR_PPP_VIEW_NN.png, as in 1_001_2_06.png)");
  return {{fields[0], fields[1]}, fields[2]};
}

fs::path release_file(const fs::path& folder) {
  return first_existing({folder / "cuhk03_release" / "cuhk-03.mat", folder / "cuhk-03.mat"}, "the file of images and test sets");
}

std::set<std::string> extracted_names(const fs::path& folder, const fs::path& images, const std::string& name) {
  REID_CHECK(is_folder(images), name, ": ", images.string(), " is not there. Extract the images first: reid data extract ",
             (folder / "cuhk03_release" / "cuhk-03.mat").string(), " --out ", folder.string());
  std::set<std::string> names;
  for (const fs::path& path : list_folder(images).images) names.insert(path.filename().string());
  REID_CHECK(!names.empty(), images.string(), ": holds no images; remove it and extract them again");
  return names;
}

// The test people of each split of the classic protocol.
std::vector<std::set<Person>> read_test_sets(const fs::path& folder) {
  const fs::path file = release_file(folder);
  const MatValue cells = MatFile(file).read("testsets");
  REID_CHECK(cells.kind == MatValue::Kind::cells && !cells.items.empty(), file.string(), ": the variable testsets holds no cells");
  std::vector<std::set<Person>> sets;
  for (const MatValue& cell : cells.items) {
    std::set<Person>& set = sets.emplace_back();
    for (const std::vector<int64_t>& row : integer_rows_of(cell, 2, str(file.string(), ": testsets{", sets.size(), "}")))
      set.emplace(row[0], row[1]);
  }
  return sets;
}

void read_classic(const fs::path& folder, const fs::path& images, const std::set<std::string>& names, int64_t split, Dataset& data) {
  const std::set<Person> tested = read_test_sets(folder)[static_cast<size_t>(split)];
  std::map<Person, int64_t> persons;
  for (const std::string& name : names) persons.emplace(parse_name(name, images.string()).person, 0);
  int64_t next = 0;
  for (auto& [person, number] : persons) number = ++next;
  for (const Person& person : tested)
    REID_CHECK(persons.contains(person), images.string(), ": has no image of person ", person.second, " of pair ", person.first,
               ", who is in test set ", split, "; remove the folder and extract the images again");
  for (const std::string& name : names) {
    const Cuhk03Name parsed = parse_name(name, images.string());
    (tested.contains(parsed.person) ? data.query : data.train)
        .push_back({.path = (images / name).string(), .person = persons.at(parsed.person), .camera = parsed.view - 1});
  }
  data.gallery = data.query;
}

void read_new(const fs::path& folder, const fs::path& images, const std::set<std::string>& names, const std::string& kind, Dataset& data) {
  const std::string file = "cuhk03_new_protocol_config_" + kind + ".mat";
  const MatFile mat(first_existing({folder / file, folder / "cuhk03_release" / file}, "the file of the new protocol"));
  const std::vector<std::string> list = mat.texts("filelist");
  const std::vector<int64_t> labels = mat.integers("labels");
  REID_CHECK(labels.size() == list.size(), mat.name(), ": ", labels.size(), " labels for ", list.size(), " names of files");
  const auto part = [&](const char* variable, std::vector<Sample>& to) {
    const std::string what = mat.name() + ": the variable " + variable;
    for (const int64_t i : from_one(mat.integers(variable), static_cast<int64_t>(list.size()), what)) {
      const std::string& name = list[static_cast<size_t>(i)];
      const int64_t person = labels[static_cast<size_t>(i)];
      REID_CHECK(person >= 1, mat.name(), ": ", name, " has the label ", person, "; labels count from 1");
      REID_CHECK(names.contains(name), images.string(), ": lacks ", name, ", which ", mat.name(),
                 " names; remove the folder and extract the images again");
      to.push_back({.path = (images / name).string(), .person = person, .camera = parse_name(name, mat.name()).view - 1});
    }
  };
  part("train_idx", data.train);
  part("query_idx", data.query);
  part("gallery_idx", data.gallery);
}

}  // namespace

int64_t cuhk03_splits(const fs::path& folder, const LayoutOptions& options) {
  const std::string protocol = choice_option(options, "protocol", {"new", "classic"}, "cuhk03:" + folder.string());
  return protocol == "new" ? 1 : static_cast<int64_t>(read_test_sets(folder).size());
}

Dataset cuhk03(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "cuhk03");
  Dataset data;
  data.name = "cuhk03:" + folder.string();
  if (!is_folder(folder / "cuhk03_release") && !is_folder(folder / "images_detected") && !is_folder(folder / "images_labeled"))
    nothing_found(data.name, "cuhk03_release/cuhk-03.mat, its extracted images and cuhk03_new_protocol_config_*.mat");
  const std::string kind = choice_option(options, "images", {"detected", "labeled"}, data.name);
  const std::string protocol = choice_option(options, "protocol", {"new", "classic"}, data.name);
  const fs::path images = folder / ("images_" + kind);
  const std::set<std::string> names = extracted_names(folder, images, data.name);
  const int64_t split = number_option(options, "split", 0, cuhk03_splits(folder, options) - 1, 0, data.name);
  if (protocol == "classic") {
    read_classic(folder, images, names, split, data);
  } else {
    read_new(folder, images, names, kind, data);
  }
  data.name = str("cuhk03,images=", kind, ",protocol=", protocol, ",split=", split, ":", folder.string());
  return data;
}

// ---- Extraction

namespace {

std::string padded(int64_t value, int digits) {
  std::string text = std::to_string(value);
  return std::string(static_cast<size_t>(std::max<int64_t>(0, digits - static_cast<int64_t>(text.size()))), '0') + text;
}

// A folder under a temporary name, gone unless it is kept.
class PendingFolder {
 public:
  explicit PendingFolder(const fs::path& target)
      : target_(target), path_(target.parent_path() / str(".", target.filename().string(), ".", ::getpid(), ".tmp")) {
    make_folder(path_);
  }
  ~PendingFolder() {
    std::error_code ignored;
    if (!kept_) fs::remove_all(path_, ignored);
  }
  PendingFolder(const PendingFolder&) = delete;
  PendingFolder& operator=(const PendingFolder&) = delete;
  const fs::path& path() const { return path_; }
  void keep() {
    std::error_code error;
    fs::rename(path_, target_, error);
    REID_CHECK(!error, "cannot rename ", path_.string(), " to ", target_.string(), ": ", error.message());
    kept_ = true;
  }

 private:
  fs::path target_, path_;
  bool kept_ = false;
};

int64_t extract_images(const MatFile& mat, const std::string& variable, const fs::path& folder) {
  int64_t count = 0;
  mat.each_image(variable, [&](const std::vector<MatPlace>& cell, const Image& image) {
    REID_CHECK(cell.size() == 2 && cell[1].column < 10, mat.name(), ": the variable ", variable,
               " is not laid out as in CUHK03: pairs of cameras, in each a cell for a person and one of ten images");
    const int64_t view = cell[1].column < 5 ? 1 : 2;
    const fs::path file = folder / str(cell[0].row + cell[0].column + 1, '_', padded(cell[1].row + 1, 3), '_', view, '_',
                                       padded(cell[1].column + 1, 2), ".png");
    const std::vector<uint8_t> bytes = encode_png(image);
    // Not write_file(): the folder appears as a whole, so no file needs to be flushed by itself.
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    out.close();
    REID_CHECK(out.good(), "cannot write ", file.string(), " (disk full?)");
    ++count;
  });
  REID_CHECK(count > 0, mat.name(), ": the variable ", variable, " holds no images");
  return count;
}

}  // namespace

int64_t extract_cuhk03(const fs::path& mat, const fs::path& folder) {
  const MatFile file(mat);
  make_folder(folder);
  const std::array<std::string, 2> kinds = {"labeled", "detected"};
  for (const std::string& kind : kinds)
    REID_CHECK(!is_folder(folder / ("images_" + kind)), (folder / ("images_" + kind)).string(),
               ": is there already; remove it to extract anew");
  int64_t count = 0;
  for (const std::string& kind : kinds) {
    PendingFolder pending(folder / ("images_" + kind));
    count += extract_images(file, kind, pending.path());
    pending.keep();
  }
  return count;
}

}  // namespace reid
