// The layout of Market-1501, which most later sets copied: Market-1501 itself, DukeMTMC-reID, CUHK03 in its new protocol.

#include <algorithm>
#include <set>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

// PPPP_cC...: person (-1 for junk) and the camera as written.
bool parse_market(const std::string& name, Sample& sample) {
  size_t at = 0;
  const bool negative = name[0] == '-';
  if (negative) at = 1;
  const int64_t person = parse_digits(name, at);
  if (person < 0 || name.compare(at, 2, "_c") != 0) return false;
  at += 2;
  sample.camera = parse_digits(name, at);
  sample.person = negative ? -1 : person;
  return sample.camera >= 0 && (!negative || person == 1);
}

std::vector<Sample> market_part(const fs::path& folder, const std::string& set) {
  std::vector<Sample> samples;
  if (!is_folder(folder)) return samples;
  const std::string layout = set.substr(0, set.find_first_of(",:"));
  for (const fs::path& path : list_folder(folder).images) {
    Sample sample;
    REID_CHECK(parse_market(path.filename().string(), sample), path.string(), ": the name does not follow the ", layout,
               " layout (PPPP_cC..., as in 0002_c1s1_000451_03.jpg): rename or remove it");
    sample.path = path.string();
    samples.push_back(std::move(sample));
  }
  return samples;
}

// Junk goes everywhere, distractors stay in the gallery.
void drop_special(std::vector<Sample>& samples, bool keep_distractors, int64_t& junk) {
  const auto special = [&](const Sample& s) {
    junk += s.person == -1;
    return s.person == -1 || (s.person == 0 && !keep_distractors);
  };
  samples.erase(std::remove_if(samples.begin(), samples.end(), special), samples.end());
}

// Moves plain numbers up by one, and those of the test behind those of the training.
void number_plain(Dataset& data, int64_t first_test) {
  for (const std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (const Sample& sample : *part) REID_CHECK(sample.person >= 0, sample.path, ": ", data.name, " has no junk images (-1): remove it");
  for (Sample& sample : data.train) first_test = std::max(first_test, ++sample.person);
  for (std::vector<Sample>* part : {&data.query, &data.gallery})
    for (Sample& sample : *part) sample.person += first_test + 1;
}

void add_multi_query(Dataset& data, const fs::path& folder) {
  std::set<std::pair<int64_t, int64_t>> wanted;
  for (const Sample& query : data.query) wanted.emplace(query.person, query.camera);
  for (Sample& sample : market_part(folder, data.name))
    if (wanted.contains({sample.person, sample.camera})) data.multi_query.push_back(std::move(sample));
}

// Whatever number their names carry for "nobody": 0, or -1 in some copies.
void add_distractors(Dataset& data, const fs::path& folder) {
  REID_CHECK(is_folder(folder), data.name, ": distractors=500k wants the folder ", folder.string(), " of distractors_500k.zip");
  for (Sample& sample : market_part(folder, data.name)) {
    REID_CHECK(sample.person <= 0, sample.path, ": a person (", sample.person, ") among the distractors: move it to bounding_box_test");
    sample.person = 0;
    data.gallery.push_back(std::move(sample));
  }
}

fs::path market_root(const fs::path& folder, const char* archive) {
  const auto fits = [](const fs::path& root) {
    return is_folder(root / "bounding_box_train") || is_folder(root / "query") || is_folder(root / "bounding_box_test");
  };
  for (const fs::path& root : {folder / archive, folder / "market1501" / archive})
    if (!fits(folder) && fits(root)) return root;
  return folder;
}

void require_images(const Dataset& data) {
  REID_CHECK(!data.train.empty() || !data.query.empty() || !data.gallery.empty(), data.name,
             ": no images found; this layout wants the folders bounding_box_train, query and bounding_box_test with images named like "
             "0002_c1s1_000451_03.jpg. Check the path, or choose another layout");
}

}  // namespace

void cameras_from_zero(Dataset& data) {
  const auto parts = {&data.train, &data.query, &data.gallery, &data.multi_query};
  bool from_zero = false;
  for (const std::vector<Sample>* part : parts)
    for (const Sample& sample : *part) from_zero = from_zero || sample.camera == 0;
  for (std::vector<Sample>* part : parts)
    for (Sample& sample : *part) sample.camera -= from_zero ? 0 : 1;
}

Dataset market_style(const fs::path& root, std::string name, MarketIds ids, int64_t first_test) {
  Dataset data;
  data.name = std::move(name);
  data.train = market_part(root / "bounding_box_train", data.name);
  data.query = market_part(root / "query", data.name);
  data.gallery = market_part(root / "bounding_box_test", data.name);
  if (ids == MarketIds::plain) {
    number_plain(data, first_test);
  } else {
    drop_special(data.train, false, data.junk);
    drop_special(data.query, false, data.junk);
    drop_special(data.gallery, true, data.junk);
  }
  require_images(data);
  return data;
}

Dataset read_market1501(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "market1501");
  const fs::path root = market_root(folder, "Market-1501-v15.09.15");
  const bool distractors = option_value(options, "market1501", "distractors", {"none", "500k"}, "none") == "500k";
  Dataset data = market_style(root, (distractors ? "market1501,distractors=500k:" : "market1501:") + folder.string(), MarketIds::special);
  data.edition = distractors ? "distractors=500k" : "";
  if (distractors) add_distractors(data, root / "images");
  if (is_folder(root / "gt_bbox")) add_multi_query(data, root / "gt_bbox");
  cameras_from_zero(data);
  return data;
}

Dataset market1501(const fs::path& folder) { return read_market1501(folder, {}); }

Dataset read_dukemtmc(const fs::path& folder, const LayoutOptions&) {
  check_folder(folder, "dukemtmc");
  Dataset data = market_style(market_root(folder, "DukeMTMC-reID"), "dukemtmc:" + folder.string(), MarketIds::special);
  cameras_from_zero(data);
  return data;
}

// cuhk03-np/{detected,labeled}, or one of the two. Papers that say "CUHK03" mean either, so there is no default.
Dataset read_cuhk03_np(const fs::path& folder, const LayoutOptions& options) {
  check_folder(folder, "cuhk03-np");
  std::string boxes = option_value(options, "cuhk03-np", "boxes", {"detected", "labeled"}, "");
  fs::path root = folder;
  for (const char* archive : {"cuhk03-np", "CUHK03-NP"})
    if (is_folder(folder / archive)) root = folder / archive;
  const bool inside = is_folder(root / "bounding_box_train") || is_folder(root / "query");
  const std::string itself = fs::absolute(root).lexically_normal().filename().string();
  if (inside && boxes.empty() && (itself == "detected" || itself == "labeled")) boxes = itself;
  REID_CHECK(inside || !boxes.empty() || (!is_folder(root / "detected") && !is_folder(root / "labeled")), "cuhk03-np:", folder.string(),
             ": say which boxes: cuhk03-np,boxes=detected: or cuhk03-np,boxes=labeled:");
  Dataset data = market_style(inside ? root : root / boxes,
                              (boxes.empty() ? "cuhk03-np:" : "cuhk03-np,boxes=" + boxes + ":") + folder.string(), MarketIds::special);
  data.edition = boxes.empty() ? "" : "boxes=" + boxes;
  cameras_from_zero(data);
  return data;
}

}  // namespace reid
