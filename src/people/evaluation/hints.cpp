#include "people/evaluation/hints.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "people/distances.h"

namespace reid {

namespace {

void add_list_hints(const RetrievalLabels& labels, EvaluationReport& report) {
  const size_t queries = labels.query_ids.size(), gallery = labels.gallery_ids.size();
  const std::unordered_set<int64_t> asked(labels.query_ids.begin(), labels.query_ids.end());
  const bool all_asked =
      std::all_of(labels.gallery_ids.begin(), labels.gallery_ids.end(), [&](int64_t id) { return id == kJunkId || asked.contains(id); });
  if (queries > gallery && report.unmatched > 0 && all_asked) {
    report.hints.push_back(str("there are more queries (", queries, ") than gallery images (", gallery, "), ", report.unmatched,
                               " of them without a match: query and gallery may be swapped"));
  }
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel() * size_of(a.dtype()))) == 0;
}

void add_zero_rows(const Tensor& features, const char* side, EvaluationReport& report) {
  const std::vector<double> squared = squared_lengths(features);
  const auto zeros = std::count(squared.begin(), squared.end(), 0.0);
  if (zeros > 0) {
    const auto first = std::find(squared.begin(), squared.end(), 0.0) - squared.begin();
    report.hints.push_back(str(zeros, " ", side, " rows are all zeros (the first is row ", first, "): did their extraction fail?"));
  }
}

}  // namespace

void add_hints(const RetrievalLabels& labels, const EvaluationOptions& options, EvaluationReport& report) {
  const auto gallery = static_cast<int64_t>(labels.gallery_ids.size());
  const int64_t largest = options.ranks.empty() ? 0 : *std::max_element(options.ranks.begin(), options.ranks.end());
  if (largest > gallery) {
    report.hints.push_back(
        str("rank-", largest, " was asked for, and the gallery has ", gallery, " images: the figure is that of the last rank"));
  }
  add_list_hints(labels, report);
}

void add_feature_hints(const EvaluationInput& input, EvaluationReport& report) {
  add_zero_rows(input.query, "query", report);
  add_zero_rows(input.gallery, "gallery", report);
  if (input.query_ids != input.gallery_ids || !same_bytes(input.query, input.gallery)) return;
  std::string hint = "query and gallery are the same rows";
  if (input.cameras_known) {
    hint += ": every query's own image is removed together with the others of its identity and camera";
  } else if (input.query_files.empty()) {
    hint += " and the files are not named: every query finds itself first; name the files, so that it is removed";
  }
  report.hints.push_back(hint);
}

}  // namespace reid
