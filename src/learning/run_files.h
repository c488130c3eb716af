#pragma once
// What a run folder holds besides the checkpoint: the manifest, growing text files, the exported encoder.

#include <filesystem>
#include <string>
#include <vector>

#include "reid/learning/method.h"

namespace reid {

// What model.precision means where the run computes.
std::string precision_text(const RunConfig& config);

// Versions, device, decoder, data census: everything outside the config that results depend on.
Json make_manifest(const RunConfig& config, const Json& census);

// Throws, naming every key that differs between a stored config and this one. Keys that cannot change results (worker count,
// cache size, embedding batch) are exempt.
void check_same_settings(const std::string& stored_toml, const std::string& name, const ConfigKeys& keys);

int64_t append_lines(const std::filesystem::path& file, const std::vector<std::string>& lines);  // bytes written
void truncate_file(const std::filesystem::path& file, int64_t bytes);  // throws when the file is shorter: it was tampered with
void sync_file(const std::filesystem::path& file);                     // to the disk

// Removes images that cannot be decoded; returns each with its error. Decodes every image once, on all threads.
std::vector<std::string> remove_damaged(std::vector<Sample>& samples, ImageCache& cache, const TransformConfig& transform);

}  // namespace reid
