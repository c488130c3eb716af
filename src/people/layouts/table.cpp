// The table of layouts, and the specifications that name them.

#include "people/layouts/files.h"

namespace reid {

namespace {

// A reader without options.
template <Dataset (*kRead)(const std::filesystem::path&)>
Dataset plain(const std::filesystem::path& path, const std::map<std::string, std::string>&) {
  return kRead(path);
}

template <class Items, class Name>
std::string joined(const Items& items, Name&& name) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + name(item);
  return text;
}

std::string layout_names() {
  return joined(dataset_layouts(), [](const DatasetLayout& layout) { return layout.name; });
}

// "option=value,..." -> the map, each name one that the layout knows.
std::map<std::string, std::string> parse_options(std::string_view text, const DatasetLayout& layout, const std::string& spec) {
  std::map<std::string, std::string> options;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size()), equals = text.find('=');
    REID_CHECK(equals < comma, "the data set \"", spec, "\": \"", text.substr(0, comma), "\" is not OPTION=VALUE");
    const std::string name(text.substr(0, equals));
    REID_CHECK(layout.options.contains(name), "the data set \"", spec, "\": the layout ", layout.name, " has no option \"", name,
               "\"; it has ", layout.options.empty() ? "none" : joined(layout.options, [](const auto& option) { return option.first; }));
    options[name] = text.substr(equals + 1, comma - equals - 1);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return options;
}

}  // namespace

const std::vector<DatasetLayout>& dataset_layouts() {
  static const std::vector<DatasetLayout> layouts = {
      {"market1501", "labeled, several cameras: bounding_box_train, query, bounding_box_test", {}, plain<market1501>},
      {"videos", "unlabeled: a folder for each video", {}, plain<video_folders>},
      {"luperson", "unlabeled: names like CC_TT_VVVV_IIIIIIII.jpg", {}, plain<luperson>},
      {"folder", "your own: a folder for each identity, or plain images", {}, plain<identity_folders>},
      {"mars",
       "tracklets: bbox_train, bbox_test and info",
       {{"gallery", "all or without-queries"}, {"min_frames", "leave out shorter tracklets"}},
       mars},
      {"ilids-vid", "tracklets: i-LIDS-VID/sequences and its 10 splits", {{"split", "0 to 9"}}, ilids_vid},
      {"grid", "QMUL GRID: underground_reid and its 10 splits", {{"split", "0 to 9"}}, grid},
      {"cuhk03",
       "as released: images of cuhk-03.mat (extracted) and the files of protocols",
       {{"images", "detected or labeled"}, {"protocol", "new or classic"}, {"split", "0 to 19 of the classic protocol"}},
       cuhk03},
      {"luperson-lmdb", "unlabeled: an LMDB database and keys.pkl", {{"keys", "list of keys, where it stands elsewhere"}}, luperson_lmdb},
      {"luperson-nl",
       "noisily labeled: an LMDB database and keys.pkl, or extracted images",
       {{"keys", "list of keys and identities, where it stands elsewhere"}},
       luperson_nl},
      {"cion-al", "labeled, cameras unknown: cional_annos.json and sec0, sec1, ...", {}, plain<cion_al>},
  };
  return layouts;
}

Dataset read_dataset(const std::string& spec) {
  const size_t colon = spec.find(':'), comma = std::min(spec.find(','), colon);
  REID_CHECK(colon != std::string::npos && colon + 1 < spec.size(), "the data set \"", spec, "\" is not LAYOUT:PATH; layouts are ",
             layout_names());
  const std::string name = spec.substr(0, comma);
  for (const DatasetLayout& layout : dataset_layouts()) {
    if (layout.name != name) continue;
    const std::string_view options = comma == colon ? std::string_view() : std::string_view(spec).substr(comma + 1, colon - comma - 1);
    return layout.read(spec.substr(colon + 1), parse_options(options, layout, spec));
  }
  fail(str("the data set \"", spec, "\" has the unknown layout \"", name, "\"; layouts are ", layout_names()));
}

}  // namespace reid
