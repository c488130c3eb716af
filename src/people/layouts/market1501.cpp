// The layout of Market-1501, which most later sets copied.

#include "people/layouts/files.h"

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

std::vector<Sample> market_part(const fs::path& folder, bool keep_distractors, int64_t& junk) {
  std::vector<Sample> samples;
  if (!is_folder(folder)) return samples;
  for (const fs::path& path : list_folder(folder).images) {
    Sample sample;
    REID_CHECK(parse_market(path.filename().string(), sample), path.string(),
               ": the name does not follow the market1501 layout (PPPP_cC..., as in 0002_c1s1_000451_03.jpg): rename or remove it");
    sample.path = path.string();
    junk += sample.person == -1;
    if (sample.person == -1 || (sample.person == 0 && !keep_distractors)) continue;
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace

Dataset market1501(const fs::path& folder) {
  check_folder(folder, "market1501");
  Dataset data;
  data.name = "market1501:" + folder.string();
  fs::path root = folder;
  if (!is_folder(root / "bounding_box_train") && is_folder(root / "Market-1501-v15.09.15")) root /= "Market-1501-v15.09.15";
  data.train = market_part(root / "bounding_box_train", false, data.junk);
  data.query = market_part(root / "query", false, data.junk);
  data.gallery = market_part(root / "bounding_box_test", true, data.junk);
  REID_CHECK(!data.train.empty() || !data.query.empty() || !data.gallery.empty(), data.name,
             ": no images found; this layout wants the folders bounding_box_train, query and bounding_box_test with images named like "
             "0002_c1s1_000451_03.jpg. Check the path, or choose another layout");
  bool from_zero = false;
  for (const std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (const Sample& sample : *part) from_zero = from_zero || sample.camera == 0;
  for (std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (Sample& sample : *part) sample.camera -= from_zero ? 0 : 1;
  return data;
}

}  // namespace reid
