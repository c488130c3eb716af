// Who stands where: people and files on both sides, queries that nothing can match.

#include <algorithm>
#include <map>
#include <set>

#include "people/check/check.h"

namespace reid {

namespace {

std::set<int64_t> people_of(std::initializer_list<const std::vector<Sample>*> parts) {
  std::set<int64_t> people;
  for (const std::vector<Sample>* part : parts)
    for (const Sample& sample : *part)
      if (sample.person > 0) people.insert(sample.person);
  return people;
}

std::set<std::string> files_of(std::initializer_list<const std::vector<Sample>*> parts) {
  std::set<std::string> files;
  for (const std::vector<Sample>* part : parts)
    for (const Sample& sample : *part) files.insert(std::filesystem::path(sample.path).lexically_normal().string());
  return files;
}

template <class Item>
std::vector<std::string> common(const std::set<Item>& a, const std::set<Item>& b) {
  std::vector<std::string> both;
  for (const Item& item : a)
    if (b.contains(item)) both.push_back(str(item));
  return both;
}

// A query is matched by its identity under another camera; where cameras are unknown, in another file.
int64_t unmatched_queries(const Dataset& data) {
  std::map<int64_t, std::set<int64_t>> cameras;
  std::map<int64_t, std::set<std::string>> files;
  for (const Sample& sample : data.gallery) {
    cameras[sample.person].insert(sample.camera);
    files[sample.person].insert(sample.path);
  }
  int64_t unmatched = 0;
  for (const Sample& query : data.query) {
    const size_t others = data.cameras_known ? cameras[query.person].size() - cameras[query.person].count(query.camera)
                                             : files[query.person].size() - files[query.person].count(query.path);
    unmatched += others == 0;
  }
  return unmatched;
}

void check_repeats(const char* part, const std::vector<Sample>& samples, DatasetCheck& check) {
  std::set<std::string> seen;
  std::vector<std::string> twice;
  for (const Sample& sample : samples)
    if (!seen.insert(sample.path).second) twice.push_back(sample.path);
  report(check, true, str("files that ", part, " names again"), std::move(twice));
}

}  // namespace

void check_labels(const Dataset& data, DatasetCheck& check) {
  const auto add = [&](bool problem, const auto&... parts) { check.findings.push_back({problem, str(parts...)}); };
  report(check, true, "identities in training and in test", common(people_of({&data.train}), people_of({&data.query, &data.gallery})));
  report(check, true, "files in training and in test", common(files_of({&data.train}), files_of({&data.query, &data.gallery})));
  report(check, false, "files in query and in gallery", common(files_of({&data.query}), files_of({&data.gallery})));
  check_repeats("train", data.train, check);
  check_repeats("query", data.query, check);
  check_repeats("gallery", data.gallery, check);

  const auto queries = static_cast<int64_t>(data.query.size()), unmatched = data.gallery.empty() ? 0 : unmatched_queries(data);
  const char* where = data.cameras_known ? "no match under another camera of the gallery" : "no match in the gallery";
  if (unmatched > 0) add(unmatched == queries, "queries with ", where, ": ", thousands(unmatched), " of ", thousands(queries));
  if (!data.gallery.empty() && data.query.size() > data.gallery.size())
    add(false, "more queries than gallery images: are the two swapped?");
  if (data.query.empty() != data.gallery.empty())
    add(true, data.query.empty() ? "there is a gallery but no query" : "there are queries but no gallery");
  if (!data.cameras_known) add(false, "cameras are not known: in a ranking only a query's own file is removed");
  for (const auto& [part, counts] : check.parts)
    if (part == "train" && data.cameras_known && counts.cameras > 1 && counts.one_camera > 0)
      add(false, "training identities that one camera alone saw: ", thousands(counts.one_camera), " of ", thousands(counts.identities));
}

}  // namespace reid
