#pragma once
// Whole files in and out. Writing is atomic: the bytes go to a temporary file beside the target, are flushed, and take its
// name only when all of them are there; whatever goes wrong (full disk, unwritable folder), the old file stays as it was.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace reid {

std::vector<uint8_t> read_file(const std::filesystem::path& file);  // throws, naming the file and the system's reason
std::string read_text(const std::filesystem::path& file);
void write_file(const std::filesystem::path& file, std::span<const uint8_t> bytes);
void write_file(const std::filesystem::path& file, std::string_view text);
void write_file(const std::filesystem::path& file, const std::vector<std::span<const uint8_t>>& parts);  // one after another
void check_can_write(const std::filesystem::path& file);  // throws for want of a folder, or of the right to write there: before long work
void make_folder(const std::filesystem::path& folder);    // with parents; throws when it cannot be made or written to

}  // namespace reid
