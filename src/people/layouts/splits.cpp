// Sets that are evaluated on several splits: random halves with a recorded seed, and files of splits that other programs wrote.

#include <algorithm>
#include <map>
#include <numeric>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"
#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

// Finds samples by the last components of the paths that another machine wrote.
class SampleFinder {
 public:
  SampleFinder(const Dataset& pool, std::string file) : pool_(pool), file_(std::move(file)) {
    for (size_t i = 0; i < pool.train.size(); ++i) by_name_[fs::path(pool.train[i].path).filename().string()].push_back(i);
  }

  const Sample& find(std::string path, const std::string& where) const {
    std::replace(path.begin(), path.end(), '\\', '/');
    const fs::path wanted(path);
    const auto found = by_name_.find(wanted.filename().string());
    REID_CHECK(found != by_name_.end(), file_, ": ", where, ": ", pool_.name, " has no image ", path);
    size_t best = 0, longest = 0, ties = 0;
    for (const size_t i : found->second) {
      const size_t same = common_end(pool_.train[i].path, wanted);
      ties = same == longest ? ties + 1 : same > longest ? 1 : ties;
      if (same > longest) best = i;
      longest = std::max(longest, same);
    }
    REID_CHECK(ties == 1, file_, ": ", where, ": ", ties, " images of ", pool_.name, " could be ", path);
    return pool_.train[best];
  }

 private:
  static size_t common_end(const fs::path& a, const fs::path& b) {
    auto i = a.end(), j = b.end();
    size_t same = 0;
    while (i != a.begin() && j != b.begin() && *--i == *--j) ++same;
    return same;
  }

  const Dataset& pool_;
  std::string file_;
  std::map<std::string, std::vector<size_t>> by_name_;
};

// The people of the file and ours must be the same people: one number there, one number here.
class SamePeople {
 public:
  void pair(int64_t theirs, int64_t ours, const std::string& where) {
    const bool agree = ours_.emplace(theirs, ours).first->second == ours && theirs_.emplace(ours, theirs).first->second == theirs;
    REID_CHECK(agree, where, ": the file's person ", theirs, " and the person ", ours,
               " of the file names are not the same people: is this file for another set?");
  }

 private:
  std::map<int64_t, int64_t> ours_, theirs_;
};

std::vector<Sample> split_part(const Json& split, const char* part, const SampleFinder& finder, SamePeople& people,
                               const std::string& where) {
  std::vector<Sample> samples;
  const Json* entries = split.find(part);
  REID_CHECK(entries != nullptr && entries->is_array(), where, ": no list \"", part, "\"");
  for (size_t i = 0; i < entries->items().size(); ++i) {
    const Json& entry = entries->items()[i];
    const std::string at = str(where, ", ", part, "[", i, "]");
    const bool listed = entry.is_array() && entry.items().size() >= 2 && entry.items()[0].is_string() && entry.items()[1].is_integer();
    REID_CHECK(listed || entry.is_string(), at, ": is neither [path, person, camera] nor a path");
    samples.push_back(finder.find(listed ? entry.items()[0].string() : entry.string(), at));
    if (listed) people.pair(entry.items()[1].integer(), samples.back().person, at);
  }
  return samples;
}

// Numbers, or names that end in a number ("person_0001").
std::vector<int64_t> people_list(const Json& split, const char* part, const std::string& where) {
  const Json* entries = split.find(part);
  REID_CHECK(entries != nullptr && entries->is_array(), where, ": no list \"", part, "\"");
  std::vector<int64_t> people;
  for (size_t i = 0; i < entries->items().size(); ++i) {
    const Json& entry = entries->items()[i];
    const std::string name = entry.is_string() ? entry.string() : entry.dump();
    people.push_back(parse_number(std::string_view(name).substr(name.rfind('_') + 1)));
    REID_CHECK(people.back() >= 0, where, ", ", part, "[", i, "]: ", name, " is no person");
  }
  return people;
}

}  // namespace

std::vector<std::vector<int64_t>> random_halves(const char* layout, int64_t people, int64_t training, int64_t count) {
  std::vector<std::vector<int64_t>> halves;
  for (int64_t split = 0; split < count; ++split) {
    std::vector<int64_t> order(static_cast<size_t>(people));
    std::iota(order.begin(), order.end(), 0);
    Rng rng = Rng(kSplitSeed).at(layout).at(static_cast<uint64_t>(split));
    rng.shuffle(order);
    order.resize(static_cast<size_t>(training));
    std::sort(order.begin(), order.end());
    halves.push_back(std::move(order));
  }
  return halves;
}

void add_both_directions(std::vector<Dataset>& splits, Dataset forward, bool both) {
  splits.push_back(std::move(forward));
  if (!both) return;
  splits.push_back(splits.back());
  std::swap(splits.back().query, splits.back().gallery);
}

std::vector<Dataset> read_split_file(const fs::path& file, const Dataset& pool,
                                     const std::function<Dataset(const PeopleSplit&)>& of_people) {
  const Json json = parse_json(read_text(file), file.string());
  REID_CHECK(json.is_array() && !json.items().empty(), file.string(), ": a file of splits is a list of objects, one for each split");
  const SampleFinder finder(pool, file.string());
  std::vector<Dataset> splits;
  for (const Json& split : json.items()) {
    const std::string where = str(file.string(), ": split ", splits.size());
    if (of_people && split.find("test") != nullptr) {
      splits.push_back(of_people({people_list(split, "train", where), people_list(split, "test", where)}));
      continue;
    }
    Dataset data;
    SamePeople training, test;  // numbered apart
    data.train = split_part(split, "train", finder, training, where);
    data.query = split_part(split, "query", finder, test, where);
    data.gallery = split_part(split, "gallery", finder, test, where);
    splits.push_back(std::move(data));
  }
  return splits;
}

}  // namespace reid
