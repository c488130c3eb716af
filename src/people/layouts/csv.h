#pragma once
// Comma-separated values (RFC 4180): fields in quotes may hold commas, line ends and doubled quotes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace reid {

struct CsvRecord {
  int64_t line = 0;  // where it begins, from 1
  std::vector<std::string> fields;
};

// Empty lines are passed over; lines end in LF or CRLF; a byte order mark at the start is too. Throws naming `file` and the line.
std::vector<CsvRecord> parse_csv(std::string_view text, const std::string& file);

}  // namespace reid
