#include "people/evaluation/filter.h"

#include <algorithm>
#include <limits>

namespace reid {

namespace {

void check_length(const std::vector<int64_t>& list, int64_t rows, const char* what) {
  REID_CHECK(static_cast<int64_t>(list.size()) == rows, "[evaluate] ", what, ": ", list.size(), " entries for ", rows, " rows of features");
}

}  // namespace

RetrievalFilter::RetrievalFilter(const RetrievalLabels& labels, int64_t queries, int64_t gallery) : labels_(labels) {
  check_length(labels.query_ids, queries, "query ids");
  check_length(labels.gallery_ids, gallery, "gallery ids");
  if (labels.cameras_known) {
    check_length(labels.query_cameras, queries, "query cameras");
    check_length(labels.gallery_cameras, gallery, "gallery cameras");
  } else if (!labels.query_files.empty() || !labels.gallery_files.empty()) {
    check_length(labels.query_files, queries, "query files");
    check_length(labels.gallery_files, gallery, "gallery files");
  }
  for (int64_t j = 0; j < gallery; ++j) {
    const int64_t id = labels.gallery_ids[static_cast<size_t>(j)];
    if (id == kJunkId) {
      junk_.push_back(j);
    } else {
      by_id_.emplace_back(id, j);
      if (!labels.cameras_known && !labels.gallery_files.empty()) by_file_.emplace_back(labels.gallery_files[static_cast<size_t>(j)], j);
    }
  }
  std::sort(by_id_.begin(), by_id_.end());
  std::sort(by_file_.begin(), by_file_.end());
}

std::span<const RetrievalFilter::Entry> RetrievalFilter::range_of(const std::vector<Entry>& sorted, int64_t key) {
  const auto begin = std::lower_bound(sorted.begin(), sorted.end(), Entry(key, 0));
  const auto end = std::upper_bound(begin, sorted.end(), Entry(key, std::numeric_limits<int64_t>::max()));
  return {begin, end};
}

void RetrievalFilter::entries(int64_t q, std::vector<int64_t>& matches, std::vector<int64_t>& removed) const {
  matches.clear();
  removed.clear();
  const size_t at = static_cast<size_t>(q);
  const int64_t id = labels_.query_ids[at];
  if (id == kJunkId) return;
  if (labels_.cameras_known) {
    for (const auto& [key, j] : of_identity(id)) {
      const bool other_camera = labels_.gallery_cameras[static_cast<size_t>(j)] != labels_.query_cameras[at];
      (other_camera ? matches : removed).push_back(j);
    }
    return;
  }
  if (!by_file_.empty()) {
    for (const auto& [key, j] : range_of(by_file_, labels_.query_files[at])) removed.push_back(j);
  }
  for (const auto& [key, j] : of_identity(id)) {
    if (!std::binary_search(removed.begin(), removed.end(), j)) matches.push_back(j);
  }
}

}  // namespace reid
