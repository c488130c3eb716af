#include "people/layouts/csv.h"

#include "reid/engine/base.h"

namespace reid {

namespace {

class CsvParser {
 public:
  CsvParser(std::string_view text, const std::string& file) : text_(text), file_(file) {
    if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
  }

  std::vector<CsvRecord> records() {
    std::vector<CsvRecord> records;
    while (at_ < text_.size()) {
      if (line_ends()) continue;
      CsvRecord record{.line = line_, .fields = {}};
      do record.fields.push_back(field());
      while (comma());
      REID_CHECK(at_ == text_.size() || line_ends(), file_, ", line ", line_, ": text behind a closing quote; a quote inside a field is ",
                 "doubled");
      records.push_back(std::move(record));
    }
    return records;
  }

 private:
  // Passes over LF or CRLF when one stands here.
  bool line_ends() {
    const std::string_view rest = text_.substr(at_);
    const size_t length = rest.starts_with("\r\n") ? 2 : rest.starts_with("\n") ? 1 : 0;
    at_ += length;
    line_ += length > 0;
    return length > 0;
  }

  bool comma() {
    const bool here = at_ < text_.size() && text_[at_] == ',';
    at_ += here;
    return here;
  }

  std::string field() {
    if (at_ < text_.size() && text_[at_] == '"') return quoted_field();
    size_t end = std::min(text_.find_first_of(",\n\"", at_), text_.size());
    REID_CHECK(end == text_.size() || text_[end] != '"', file_, ", line ", line_, ": a quote inside a field without quotes around it");
    if (end > at_ && (end == text_.size() || text_[end] == '\n') && text_[end - 1] == '\r') --end;
    const std::string_view value = text_.substr(at_, end - at_);
    at_ = end == text_.size() - 1 && text_[end] == '\r' ? text_.size() : end;
    return std::string(value);
  }

  std::string quoted_field() {
    const int64_t begun = line_;
    std::string value;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        if (at_ >= text_.size() || text_[at_] != '"') return value;
      }
      line_ += text_[at_] == '\n';
      value += text_[at_];
    }
    fail(str(file_, ", line ", begun, ": a quote is opened and never closed"));
  }

  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRecord> parse_csv(std::string_view text, const std::string& file) { return CsvParser(text, file).records(); }

}  // namespace reid
