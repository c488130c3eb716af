// reid data check: a data set held against what is published of it.

#include "program/data.h"

#include <algorithm>

namespace reid::program {
namespace {

// The whole set in place of its splits, which the counts are published of.
std::string whole(const std::string& spec, const DatasetLayout& layout) {
  const std::string options = spec.substr(0, spec.find(':'));
  const bool chosen = options.find(",split=") != std::string::npos || options.find(",use=") != std::string::npos;
  if (layout.read_splits == nullptr || chosen) return spec;
  std::string text = layout.name + ",use=all" + spec.substr(spec.find(':'));
  return text;
}

// A number, and the published one in brackets where it is another.
std::string beside(int64_t ours, int64_t published) {
  const std::string number = ours == 0 && published > 0 ? "0" : with_commas(ours);
  return published > 0 && published != ours ? number + " (" + with_commas(published) + ")" : number;
}

PublishedPart published_part(const DatasetCheck& check, const std::string& part) {
  if (check.published == nullptr || part == "multi_query") return {};
  return part == "train" ? check.published->train : part == "query" ? check.published->query : check.published->gallery;
}

void say_table(const Context& context, const DatasetCheck& check) {
  std::vector<std::vector<std::string>> rows = {{"", "images", "identities", "images of one (min - median - max)", "cameras",
                                                 "with one camera", "tracklets", "videos", "distractors", "unknown"}};
  for (const auto& [part, counts] : check.parts) {
    const PublishedPart published = published_part(check, part);
    const std::string each = counts.identities > 0 ? str(counts.fewest, " - ", counts.median, " - ", counts.most) : "";
    rows.push_back({part, beside(counts.images, published.images), beside(counts.identities, published.identities), each,
                    beside(counts.cameras, published.cameras), counts.cameras > 1 ? with_commas(counts.one_camera) : "",
                    beside(counts.tracklets, published.tracklets), with_commas(counts.videos), with_commas(counts.distractors),
                    with_commas(counts.unknown)});
  }
  for (const std::string& line : table(std::move(rows))) context.say(line);
}

void say_sizes(const Context& context, const DatasetCheck& check) {
  if (check.sizes.empty()) return;
  constexpr size_t kShown = 4;
  std::string text;
  int64_t others = 0;
  for (size_t i = 0; i < check.sizes.size(); ++i) {
    const DatasetCheck::Size& size = check.sizes[i];
    if (i < kShown) text += str(i == 0 ? "" : ", ", size.height, " x ", size.width, " (", with_commas(size.images), ")");
    if (i >= kShown) others += size.images;
  }
  if (others > 0) text += str(", ", check.sizes.size() - kShown, " other sizes (", with_commas(others), ")");
  context.say("height x width: ", text);
}

// Five of what a finding is about: in a row when they fit, else one below the other.
void say_finding(const Context& context, const Finding& finding) {
  constexpr size_t kShown = 5, kRow = 90;
  const char* kind = finding.problem ? "problem: " : "note:    ";
  std::string row;
  const size_t shown = finding.which.size() == kShown + 1 ? kShown + 1 : std::min(kShown, finding.which.size());
  for (size_t i = 0; i < shown; ++i) row += (i == 0 ? "" : ", ") + finding.which[i];
  const std::string rest =
      finding.which.size() > shown ? str("and ", with_commas(static_cast<int64_t>(finding.which.size() - shown)), " more") : "";
  if (row.size() <= kRow) {
    context.say(kind, finding.text, row.empty() ? "" : " (" + row + (rest.empty() ? "" : " " + rest) + ")");
    return;
  }
  context.say(kind, finding.text);
  for (size_t i = 0; i < shown; ++i) context.say("           ", finding.which[i]);
  if (!rest.empty()) context.say("           ", rest, " (--json FILE: all)");
}

Json counts_json(const PartCounts& c) {
  return Json::object({{"images", c.images},
                       {"identities", c.identities},
                       {"cameras", c.cameras},
                       {"identities_with_one_camera", c.one_camera},
                       {"images_per_identity", Json::array({c.fewest, c.median, c.most})},
                       {"tracklets", c.tracklets},
                       {"videos", c.videos},
                       {"distractors", c.distractors},
                       {"unknown", c.unknown}});
}

Json to_json(const DatasetCheck& check, const Dataset& data, const Recognition& what) {
  Json parts = Json::object(), findings = Json::array(), sizes = Json::array();
  for (const auto& [part, counts] : check.parts) parts[part] = counts_json(counts);
  for (const Finding& finding : check.findings) findings.push_back(Json::object({{"problem", finding.problem}, {"text", finding.text}}));
  for (const DatasetCheck::Size& size : check.sizes)
    sizes.push_back(Json::object({{"height", size.height}, {"width", size.width}, {"images", size.images}}));
  Json json = Json::object({{"set", data.name}, {"evidence", what.evidence}, {"parts", parts}, {"junk", data.junk}});
  json["cameras_known"] = data.cameras_known;
  json["published"] = check.published == nullptr ? Json() : Json(check.published->title);
  json["problems"] = check.problems();
  json["findings"] = findings;
  json["sizes"] = sizes;
  return json;
}

}  // namespace

void check_data(const Context& context, const DataOptions& o) {
  const Recognition what = resolve_dataset(o.set);
  const DatasetLayout& layout = layout_of(what.spec);
  const std::string spec = whole(what.spec, layout), options = spec.substr(0, spec.find(':'));
  const Dataset data = read_dataset(spec);
  // Of use=all and of one split nothing is published, except where use=all stands for a set with splits.
  const bool comparable = spec != what.spec || (options.find(",use=") == std::string::npos && options.find(",split=") == std::string::npos);
  const DatasetCheck check = check_dataset(data, comparable ? layout.name : "", spec.substr(spec.find(':') + 1),
                                           {.open_files = !o.names_only, .decode = o.decode});

  context.say(data.name, what.evidence.empty() ? "" : "\nrecognized by " + what.evidence, "\n");
  say_table(context, check);
  context.say("");
  if (check.published != nullptr)
    context.say(check.published->title, " as published (", check.published->source,
                "): ", check.problems() == 0 ? "all counts agree" : "numbers in brackets, where they differ");
  if (data.junk > 0) context.say(with_commas(data.junk), " junk images, left out");
  if (spec != what.spec) context.say("evaluated on splits: ", layout.name, ",split=N:");
  say_sizes(context, check);
  for (const Finding& finding : check.findings) say_finding(context, finding);
  context.write_json(to_json(check, data, what));
  const int64_t problems = check.problems();
  REID_CHECK(problems == 0, data.name, ": ", problems, problems == 1 ? " problem" : " problems");
  context.say("nothing is wrong");
}

}  // namespace reid::program
