#pragma once
// Inside the people wing: which gallery entries a query is compared with, found by identity instead of looking through the gallery.

#include <span>
#include <utility>
#include <vector>

#include "reid/people/evaluation.h"

namespace reid {

class RetrievalFilter {
 public:
  // Throws when a list is not as long as its side. Keeps a reference to the labels.
  RetrievalFilter(const RetrievalLabels& labels, int64_t queries, int64_t gallery);

  // Fills `matches`, the right entries of query q, and `removed`, those that its ranking leaves out besides junk. Both ascend. A junk query
  // has no matches.
  void entries(int64_t q, std::vector<int64_t>& matches, std::vector<int64_t>& removed) const;

  const std::vector<int64_t>& junk() const { return junk_; }  // gallery indices
  const RetrievalLabels& labels() const { return labels_; }

  using Entry = std::pair<int64_t, int64_t>;                    // (identity or file, gallery index)
  std::span<const Entry> identities() const { return by_id_; }  // ascending; without junk
  std::span<const Entry> of_identity(int64_t id) const { return range_of(by_id_, id); }

 private:
  static std::span<const Entry> range_of(const std::vector<Entry>& sorted, int64_t key);

  const RetrievalLabels& labels_;
  std::vector<Entry> by_id_, by_file_;
  std::vector<int64_t> junk_;
};

}  // namespace reid
