#pragma once
// Inside the check of a data set: each function adds its findings.

#include "reid/people/dataset_check.h"

namespace reid {

void compare_counts(const Dataset& data, const std::string& layout, DatasetCheck& check);  // counts.cpp
void check_labels(const Dataset& data, DatasetCheck& check);                               // labels.cpp
// contents.cpp. Where the counts are those published, equal images are the set's own and no problem.
void check_contents(const Dataset& data, const CheckOptions& options, DatasetCheck& check);
void check_strays(const std::filesystem::path& root, DatasetCheck& check);

// Adds "TEXT: 12" with the twelve that it is about; nothing when there are none.
void report(DatasetCheck& check, bool problem, const std::string& text, std::vector<std::string> which);
std::string thousands(int64_t number);  // "12,936"

}  // namespace reid
