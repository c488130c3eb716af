// What is inside the files: damage, sizes, equal contents; and files that nobody reads.

#include <algorithm>
#include <map>
#include <set>

#include "people/check/check.h"
#include "reid/engine/device.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

struct FileFacts {
  uint64_t hash = 0;
  int64_t bytes = 0;
  ImageSize size;
  std::string damage;
};

struct Entry {
  const Sample* sample = nullptr;
  bool trains = false;
};

FileFacts look_into(const std::string& path, bool decode) {
  FileFacts facts;
  try {
    const std::vector<uint8_t> bytes = read_image_bytes(path);
    facts.hash = hash_bytes(bytes);
    facts.bytes = static_cast<int64_t>(bytes.size());
    facts.size = probe_image(bytes, path);
    if (decode) decode_image(bytes, path);
  } catch (const Error& e) {
    facts.damage = e.what();
  }
  return facts;
}

std::string pair_of(const Entry& a, const Entry& b) {
  return fs::path(a.sample->path).filename().string() + " = " + fs::path(b.sample->path).filename().string();
}

void report_equal(const std::vector<Entry>& entries, const std::vector<FileFacts>& facts, bool as_published, DatasetCheck& check) {
  std::map<std::pair<uint64_t, int64_t>, size_t> first;
  std::vector<std::string> leaks, mislabeled, harmless;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (facts[i].bytes == 0) continue;
    const auto [found, fresh] = first.emplace(std::pair(facts[i].hash, facts[i].bytes), i);
    if (fresh) continue;
    const Entry &a = entries[found->second], &b = entries[i];
    (a.trains != b.trains ? leaks : a.sample->person != b.sample->person ? mislabeled : harmless).push_back(pair_of(a, b));
  }
  const std::string end = as_published ? ", as the published set may have them" : "";
  report(check, !as_published, "test images equal to training images" + end, std::move(leaks));
  report(check, !as_published, "images equal to one of another identity" + end, std::move(mislabeled));
  report(check, false, "images equal to another of the same identity", std::move(harmless));
}

}  // namespace

void check_contents(const Dataset& data, const CheckOptions& options, DatasetCheck& check) {
  std::vector<Entry> entries;
  std::set<std::string> seen;
  for (const std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (const Sample& sample : *part)
      if (seen.insert(sample.path).second) entries.push_back({&sample, part == &data.train});
  std::vector<FileFacts> facts(entries.size());
  parallel_for(static_cast<int64_t>(entries.size()), 16, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      facts[i] = look_into(entries[i].sample->path, options.decode);
  });

  std::vector<std::string> damaged;
  std::map<std::pair<int, int>, int64_t> sizes;
  for (const FileFacts& file : facts) {
    if (!file.damage.empty()) damaged.push_back(file.damage);
    if (file.size.height > 0) ++sizes[{file.size.height, file.size.width}];
  }
  const bool as_published = check.published != nullptr && check.problems() == 0;
  report(check, true, "images that cannot be read", std::move(damaged));
  report_equal(entries, facts, as_published, check);
  for (const auto& [size, images] : sizes) check.sizes.push_back({size.first, size.second, images});
  std::stable_sort(check.sizes.begin(), check.sizes.end(), [](const auto& a, const auto& b) { return a.images > b.images; });
}

void check_strays(const fs::path& root, DatasetCheck& check) {
  std::error_code error;
  if (!fs::is_directory(root, error)) return;
  std::map<std::string, int64_t> strays;
  fs::recursive_directory_iterator entries(root, fs::directory_options::skip_permission_denied, error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.starts_with("._")) {
      ++strays["._* (archives made on a Mac)"];
    } else if (name == "Thumbs.db" || name == ".DS_Store" || name == "__MACOSX") {
      ++strays[name];
    }
  }
  std::string list;
  for (const auto& [kind, count] : strays) list += (list.empty() ? "" : ", ") + thousands(count) + " " + kind;
  if (!list.empty()) check.findings.push_back({false, "passed over: " + list});
}

}  // namespace reid
