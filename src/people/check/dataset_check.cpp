#include "reid/people/dataset_check.h"

#include <algorithm>

#include "people/check/check.h"

namespace reid {

int64_t DatasetCheck::problems() const {
  return std::count_if(findings.begin(), findings.end(), [](const Finding& finding) { return finding.problem; });
}

DatasetCheck check_dataset(const Dataset& data, const std::string& layout, const std::filesystem::path& root, const CheckOptions& options) {
  DatasetCheck check;
  const std::pair<const char*, const std::vector<Sample>*> parts[] = {
      {"train", &data.train}, {"query", &data.query}, {"gallery", &data.gallery}, {"multi_query", &data.multi_query}};
  for (const auto& [name, samples] : parts)
    if (!samples->empty()) check.parts.emplace_back(name, count_part(*samples));
  compare_counts(data, layout, check);
  check_labels(data, check);
  if (options.open_files) check_contents(data, options, check);
  check_strays(root, check);
  std::stable_partition(check.findings.begin(), check.findings.end(), [](const Finding& finding) { return finding.problem; });
  return check;
}

void report(DatasetCheck& check, bool problem, const std::string& text, std::vector<std::string> which) {
  if (which.empty()) return;
  const auto count = static_cast<int64_t>(which.size());
  check.findings.push_back({problem, text + ": " + thousands(count), std::move(which)});
}

std::string thousands(int64_t number) {
  std::string text = std::to_string(number);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > (number < 0 ? 1 : 0); at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

}  // namespace reid
