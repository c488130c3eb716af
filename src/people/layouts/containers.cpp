#include "people/layouts/containers.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <system_error>

#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

std::string choice_option(const LayoutOptions& options, const std::string& name, const std::vector<std::string>& values,
                          const std::string& data) {
  const auto given = options.find(name);
  if (given == options.end()) return values.front();
  std::string all;
  for (const std::string& value : values) all += (all.empty() ? "" : ", ") + value;
  REID_CHECK(std::find(values.begin(), values.end(), given->second) != values.end(), data, ": the option ", name, " is \"", given->second,
             "\"; it can be ", all);
  return given->second;
}

int64_t number_option(const LayoutOptions& options, const std::string& name, int64_t low, int64_t high, int64_t fallback,
                      const std::string& data) {
  const auto given = options.find(name);
  if (given == options.end()) return fallback;
  const std::string& text = given->second;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool fits = error == std::errc() && end == text.data() + text.size() && value >= low && value <= high;
  REID_CHECK(fits, data, ": the option ", name, " is \"", text, "\"; it can be ", low, " to ", high);
  return value;
}

fs::path first_existing(const std::vector<fs::path>& paths, const std::string& what) {
  std::error_code ignored;
  std::string all;
  for (const fs::path& path : paths) {
    if (fs::exists(path, ignored)) return path;
    all += (all.empty() ? "" : ", ") + path.string();
  }
  fail(str(what, " is not there: looked for ", all));
}

std::vector<std::string> read_lines(const fs::path& file) {
  std::istringstream text(read_text(file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

std::vector<int64_t> from_one(std::vector<int64_t> indices, int64_t size, const std::string& what) {
  for (int64_t& index : indices) {
    REID_CHECK(index >= 1 && index <= size, what, " holds the index ", index, "; it has to be 1 to ", size);
    --index;
  }
  return indices;
}

void nothing_found(const std::string& data, const char* wants) {
  fail(str(data, ": no images found; this layout wants ", wants, ". Check the path"));
}

}  // namespace reid
