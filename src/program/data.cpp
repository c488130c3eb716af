// reid data: what layouts there are, whether a data set is what it should be, and other shapes for it. Here: the verb and the list.

#include "program/data.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "reid/formats/files.h"

namespace reid::program {
namespace {

void declare(Flags& f, DataOptions& o) {
  f.argument("ACTION", o.action, "list; check SET; convert SET; extract FILE", Presence::required);
  f.argument("SET", o.set, "LAYOUT[,OPTION=VALUE...]:PATH, or a path whose layout shows; extract: CUHK03's cuhk-03.mat");
  f.flag("--decode", o.decode, "check: decode every image whole, not the headers only");
  f.flag("--names-only", o.names_only, "check: open no image");
  f.choice("--to", o.to, {"manifest", "market1501"}, "convert: a table of the images where they are, or a folder of hard links or copies");
  f.option("--out", o.out, "FILE|DIR",
           "convert: what to write; nothing may stand there. extract: the folder for images_labeled and images_detected");
}

void extract_images(const Context& context, const DataOptions& o) {
  make_folder(o.out);
  const int64_t images = extract_cuhk03(o.set, o.out);
  context.say(with_commas(images), " images -> ", (std::filesystem::path(o.out) / "images_labeled").string(), ", images_detected");
  context.write_json(Json::object({{"images", images}, {"folder", o.out}}));
}

void run(const Context& context, const DataOptions& o) {
  const bool listing = o.action == "list";
  const bool known = listing || o.action == "check" || o.action == "convert" || o.action == "extract";
  if (!known) throw UsageError("'" + o.action + "' is not one of list, check, convert, extract");
  if (listing && !o.set.empty()) throw UsageError("'" + o.set + "' is one argument too many");
  if (!listing && o.set.empty()) throw UsageError("SET is missing");
  if ((o.action == "convert" || o.action == "extract") && o.out.empty()) throw UsageError("--out is missing");
  if (o.decode && o.names_only) throw UsageError("--decode opens every image, --names-only none: give one of them");
  if (listing) return list_layouts(context);
  if (o.action == "extract") return extract_images(context, o);
  o.action == "check" ? check_data(context, o) : convert_data(context, o);
}

std::string counts(const PublishedPart& part) {
  const bool images = part.images > 0;
  if (!images && part.tracklets == 0) return {};
  return with_commas(images ? part.images : part.tracklets) + (images ? "" : " tracklets") + " / " + with_commas(part.identities);
}

Json part_json(const PublishedPart& part) {
  return Json::object({{"images", part.images}, {"identities", part.identities}, {"cameras", part.cameras}, {"tracklets", part.tracklets}});
}

}  // namespace

void list_layouts(const Context& context) {
  Json layouts = Json::array(), published = Json::array();
  context.say("LAYOUT[,OPTION=VALUE...]:PATH\n");
  for (const DatasetLayout& layout : dataset_layouts()) {
    context.say("  ", layout.name, std::string(20 - std::min<size_t>(layout.name.size(), 19), ' '), layout.summary,
                layout.read_splits == nullptr ? "" : " (several splits)");
    Json options = Json::object();
    for (const auto& [name, meaning] : layout.options) {
      context.say(std::string(24, ' '), name, "=", meaning);
      options[name] = meaning;
    }
    Json row = Json::object({{"name", layout.name}, {"summary", layout.summary}, {"options", options}});
    row["labeled"] = layout.ids != IdScope::none;
    row["splits"] = layout.read_splits != nullptr;
    layouts.push_back(std::move(row));
  }
  context.say(
      "\nThe first value of an option is its default. Every labeled layout takes use=all: all images of people train, those of the test\n"
      "included. Layouts with several splits take split=N, from 0, and splits=FILE.json, which another program wrote.\n");
  std::vector<std::vector<std::string>> rows = {{"published images / identities", "train", "query", "gallery", "cameras (train)"}};
  for (const PublishedCounts& row : published_counts()) {
    rows.push_back({row.title, counts(row.train), counts(row.query), counts(row.gallery), with_commas(row.train.cameras)});
    published.push_back(Json::object({{"layout", row.layout},
                                      {"edition", row.edition},
                                      {"title", row.title},
                                      {"train", part_json(row.train)},
                                      {"query", part_json(row.query)},
                                      {"gallery", part_json(row.gallery)},
                                      {"source", row.source}}));
  }
  for (const std::string& line : table(std::move(rows))) context.say(line);
  context.say("\nQuery and gallery are counted without junk; sets with random halves as a whole. Trees and rules: docs/datasets.md");
  context.write_json(Json::object({{"layouts", layouts}, {"published", published}}));
}

Recognition resolve_dataset(const std::string& set) {
  std::error_code error;
  const std::string name = set.substr(0, std::min(set.find_first_of(",:"), set.size()));
  const auto& layouts = dataset_layouts();
  const bool named = set.find(':') != std::string::npos &&
                     std::any_of(layouts.begin(), layouts.end(), [&](const DatasetLayout& layout) { return layout.name == name; });
  if (!named && (set.find(':') == std::string::npos || std::filesystem::exists(set, error))) return recognize_layout(set);
  return {set, {}};
}

const DatasetLayout& layout_of(const std::string& spec) {
  const std::string name = spec.substr(0, spec.find_first_of(",:"));
  for (const DatasetLayout& layout : dataset_layouts())
    if (layout.name == name) return layout;
  read_dataset(spec);  // throws, naming the layouts
  fail(spec);
}

std::vector<std::string> table(std::vector<std::vector<std::string>> rows) {
  std::vector<std::string> lines(rows.size());
  for (size_t c = 0; c < rows[0].size(); ++c) {
    size_t width = 0;
    bool any = c == 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      width = std::max(width, rows[r][c].size());
      any = any || (r > 0 && !rows[r][c].empty());
    }
    if (!any) continue;
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::string padding(width - rows[r][c].size(), ' ');
      lines[r] += c == 0 ? rows[r][c] + padding : "  " + padding + rows[r][c];
    }
  }
  for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
  return lines;
}

std::string with_commas(int64_t number) {
  if (number == 0) return {};
  std::string text = std::to_string(number);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

Verb data_verb() {
  auto o = std::make_shared<DataOptions>();
  return {"data", "list layouts; check and convert data sets",
          "reid data list\n"
          "  reid data check data/Market-1501-v15.09.15\n"
          "  reid data check msmt17,val=exclude:data/MSMT17_V1 --decode --json check.json\n"
          "  reid data convert market1501:data/market --to manifest --out market.csv\n"
          "  reid data extract cuhk03_release/cuhk-03.mat --out data/cuhk03",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
