#include "remix_truth.h"

#include <charconv>
#include <sstream>
#include <unordered_map>

#include "reid/formats/files.h"

namespace reid {

std::vector<int64_t> read_truth(const std::filesystem::path& csv, const std::vector<Sample>& samples, size_t first) {
  std::istringstream text(read_text(csv));
  std::string line;
  REID_CHECK(std::getline(text, line) && line == "path,identity", csv.string(), ": the first line must be 'path,identity'");
  std::unordered_map<std::string, int64_t> identities;
  for (int number = 2; std::getline(text, line); ++number) {
    const size_t comma = line.rfind(',');
    int64_t identity = 0;
    const char* end = line.data() + line.size();
    const bool parsed = comma != std::string::npos && std::from_chars(line.data() + comma + 1, end, identity).ptr == end;
    REID_CHECK(parsed, csv.string(), ":", number, ": expected path,identity, found '", line, "'");
    identities[(csv.parent_path() / line.substr(0, comma)).lexically_normal().string()] = identity;
  }
  std::vector<int64_t> truth(samples.size(), -1);
  size_t known = 0;
  for (size_t i = first; i < samples.size(); ++i) {
    const auto found = identities.find(std::filesystem::path(samples[i].path).lexically_normal().string());
    if (found == identities.end()) continue;
    truth[i] = found->second;
    ++known;
  }
  REID_CHECK(known > 0 || first == samples.size(), csv.string(), " names none of the videos' images, e.g. not ", samples[first].path);
  return truth;
}

}  // namespace reid
