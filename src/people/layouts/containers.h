#pragma once
// What the readers of data sets in containers share: options with their ranges, and lists out of MATLAB files.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "people/layouts/files.h"

namespace reid {

// The value of an option that is one of `values`, the first of them when it was not given; throws, naming them, when it is another.
std::string choice_option(const LayoutOptions& options, const std::string& name, const std::vector<std::string>& values,
                          const std::string& data);
// A whole number within low..high, `fallback` when it was not given.
int64_t number_option(const LayoutOptions& options, const std::string& name, int64_t low, int64_t high, int64_t fallback,
                      const std::string& data);

// The first of the paths that exists; throws, naming all of them, when none does. `what` says what is looked for.
std::filesystem::path first_existing(const std::vector<std::filesystem::path>& paths, const std::string& what);

// Lines without their ends ("\n" or "\r\n"); empty ones are left out.
std::vector<std::string> read_lines(const std::filesystem::path& file);

// 1-based indices as they stand in MATLAB files to 0-based ones; throws on one that is not within 1..size.
std::vector<int64_t> from_one(std::vector<int64_t> indices, int64_t size, const std::string& what);

// Throws that LAYOUT:PATH holds nothing; `wants` says what the layout wants.
[[noreturn]] void nothing_found(const std::string& data, const char* wants);

}  // namespace reid
