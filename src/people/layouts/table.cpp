// The table of layouts, and the specifications that name them.

#include <algorithm>

#include "people/layouts/files.h"
#include "people/layouts/readers.h"

namespace reid {

namespace {

// A reader without options.
template <Dataset (*kRead)(const std::filesystem::path&)>
Dataset plain(const std::filesystem::path& path, const LayoutOptions&) {
  return kRead(path);
}

// A set whose files say what its splits are; kRead takes split=N.
template <Dataset (*kRead)(const std::filesystem::path&, const LayoutOptions&),
          int64_t (*kCount)(const std::filesystem::path&, const LayoutOptions&)>
std::vector<Dataset> own_splits(const std::filesystem::path& path, const LayoutOptions& given) {
  REID_CHECK(!given.contains("splits"), path.string(), ": this set brings its own splits; leave the option splits out");
  std::vector<Dataset> sets = {kRead(path, given)};  // the first; what is missing shows here
  LayoutOptions options = given;
  for (int64_t split = 1, count = kCount(path, given); split < count; ++split) {
    options["split"] = std::to_string(split);
    sets.push_back(kRead(path, options));
  }
  return sets;
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

// Those of the table and those that every layout of its kind has.
LayoutOptions all_options(const DatasetLayout& layout) {
  LayoutOptions options = layout.options;
  if (layout.ids != IdScope::none) options["use"] = "";
  if (layout.read_splits != nullptr) options["split"] = options["splits"] = "";
  return options;
}

struct Spec {
  const DatasetLayout* layout = nullptr;
  LayoutOptions options;
  std::string path;
};

// "option=value,..." -> the map, each name one that the layout knows.
LayoutOptions parse_options(std::string_view text, const DatasetLayout& layout, const std::string& spec) {
  const LayoutOptions known = all_options(layout);
  LayoutOptions options;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size()), equals = text.find('=');
    REID_CHECK(equals < comma, "the data set \"", spec, "\": \"", text.substr(0, comma), "\" is not OPTION=VALUE");
    const std::string name(text.substr(0, equals));
    REID_CHECK(known.contains(name), "the data set \"", spec, "\": the layout ", layout.name, " has no option \"", name, "\"; it has ",
               known.empty() ? "none" : joined(known, [](const auto& option) { return option.first; }));
    REID_CHECK(options.emplace(name, text.substr(equals + 1, comma - equals - 1)).second, "the data set \"", spec, "\": the option ", name,
               " is given twice");
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return options;
}

Spec parse_spec(const std::string& spec) {
  const size_t colon = spec.find(':'), comma = std::min(spec.find(','), colon);
  REID_CHECK(colon != std::string::npos && colon + 1 < spec.size(), "the data set \"", spec, "\" is not LAYOUT:PATH; layouts are ",
             layout_names());
  const std::string name = spec.substr(0, comma);
  for (const DatasetLayout& layout : dataset_layouts()) {
    if (layout.name != name) continue;
    const std::string_view options = comma == colon ? std::string_view() : std::string_view(spec).substr(comma + 1, colon - comma - 1);
    return {&layout, parse_options(options, layout, spec), spec.substr(colon + 1)};
  }
  fail(str("the data set \"", spec, "\" has the unknown layout \"", name, "\"; layouts are ", layout_names()));
}

// Takes an option out of the map; empty when it is not there.
std::string take(LayoutOptions& options, const char* name) {
  const auto found = options.find(name);
  if (found == options.end()) return {};
  const std::string value = found->second;
  options.erase(found);
  return value;
}

std::vector<Dataset> read_all_splits(const Spec& spec, const LayoutOptions& options, const std::string& split) {
  std::vector<Dataset> sets = spec.layout->read_splits(spec.path, options);
  const auto count = static_cast<int64_t>(sets.size());
  std::string given;
  for (const auto& [name, value] : options) given += "," + name + "=" + value;
  for (int64_t i = 0; i < count; ++i) sets[static_cast<size_t>(i)].name = str(spec.layout->name, ",split=", i, given, ":", spec.path);
  if (split.empty()) return sets;
  const int64_t chosen = parse_number(split);
  REID_CHECK(chosen >= 0 && chosen < count, spec.layout->name, ":", spec.path, ": split=", split, " is not one of its splits, 0 to ",
             count - 1);
  std::vector<Dataset> one;
  one.push_back(std::move(sets[static_cast<size_t>(chosen)]));
  return one;
}

}  // namespace

const std::vector<DatasetLayout>& dataset_layouts() {
  const LayoutOptions directions = {{"directions", "both|a: each half with either camera as query, or with the first only"}};
  static const std::vector<DatasetLayout> layouts = {
      {"market1501",
       "labeled, several cameras: bounding_box_train, query, bounding_box_test",
       {{"distractors", "none|500k: the images of images/ join the gallery"}},
       read_market1501},
      {"dukemtmc", "DukeMTMC-reID (withdrawn by its authors in 2019), laid out as market1501", {}, read_dukemtmc},
      {"msmt17",
       "MSMT17 V1 or V2 with its lists, or a copy laid out as market1501",
       {{"val", "include|exclude: the images of list_val.txt train, too"}, {"merged", "no|yes: all images train"}},
       read_msmt17},
      {"cuhk03-np",
       "CUHK03, new protocol, laid out as market1501",
       {{"boxes", "detected|labeled: whose boxes; no default"}},
       read_cuhk03_np},
      {"cuhk-sysu", "people cut out of CUHK-SYSU, for training only, without cameras", {}, read_cuhk_sysu},
      {"cuhk01", "CUHK01: campus/0001001.png", directions, read_cuhk01, cuhk01_splits},
      {"cuhk02", "CUHK02: P1 to P5, each with cam1 and cam2", {}, read_cuhk02},
      {"viper", "VIPeR: cam_a, cam_b", directions, read_viper, viper_splits},
      {"prid", "PRID 2011, single shot", {}, read_prid, prid_splits},
      {"ilids", "QMUL iLIDS: Persons/0001001.jpg", {}, read_ilids, ilids_splits},
      {"prid2011-video", "PRID 2011, multi shot, with splits_prid2011.json", {}, read_prid2011_video, prid2011_video_splits},
      {"dukemtmc-videoreid", "DukeMTMC-VideoReID (withdrawn with DukeMTMC)", {}, read_dukemtmc_videoreid},
      {"mars",
       "tracklets: bbox_train, bbox_test and info",
       {{"gallery", "all|without-queries: whether the queries' tracklets stand in the gallery, too"},
        {"min_frames", "N: leave out shorter tracklets"}},
       mars,
       nullptr,
       IdScope::shared},
      {"ilids-vid", "tracklets: i-LIDS-VID/sequences", {}, ilids_vid, own_splits<ilids_vid, ilids_vid_splits>, IdScope::shared},
      {"grid", "QMUL GRID: underground_reid", {}, grid, own_splits<grid, grid_splits>, IdScope::shared},
      {"cuhk03",
       "CUHK03 as released: images of cuhk-03.mat (extracted) and the files of protocols",
       {{"images", "detected|labeled"}, {"protocol", "new|classic"}},
       cuhk03,
       own_splits<cuhk03, cuhk03_splits>,
       IdScope::shared},
      {"luperson-nl",
       "noisily labeled: an LMDB database and keys.pkl, or extracted images",
       {{"keys", "FILE: the list of keys and identities, where it stands elsewhere"}},
       luperson_nl,
       nullptr,
       IdScope::shared},
      {"cion-al", "labeled, cameras unknown: cional_annos.json and sec0, sec1, ...", {}, plain<cion_al>, nullptr, IdScope::shared},
      {"luperson-lmdb",
       "unlabeled: an LMDB database and keys.pkl",
       {{"keys", "FILE: the list of keys, where it stands elsewhere"}},
       luperson_lmdb,
       nullptr,
       IdScope::none},
      {"videos", "unlabeled: a folder for each video", {}, plain<video_folders>, nullptr, IdScope::none},
      {"luperson", "unlabeled: names like CC_TT_VVVV_IIIIIIII.jpg", {}, plain<luperson>, nullptr, IdScope::none},
      {"folder", "your own: a folder for each identity, or plain images", {}, plain<identity_folders>, nullptr, IdScope::shared},
      {"tracklets", "your own: PERSON/TRACKLET/frames", {}, read_tracklets, nullptr, IdScope::shared},
      {"manifest", "your own: a table (CSV or JSONL) of path, id, camera, split", {}, read_manifest, nullptr, IdScope::shared},
  };
  return layouts;
}

std::vector<Dataset> read_splits(const std::string& text) {
  const Spec spec = parse_spec(text);
  LayoutOptions options = spec.options;
  const std::string use = take(options, "use"), split = take(options, "split");
  REID_CHECK(use.empty() || use == "all", "the data set \"", text, "\": the option use takes all, not \"", use, "\"");
  const bool all = use == "all";
  const auto val = options.find("val");
  REID_CHECK(!all || (split.empty() && !options.contains("splits") && (val == options.end() || val->second != "exclude")),
             "the data set \"", text, "\": use=all takes every image, so it goes with none of split, splits and val=exclude");
  if (spec.layout->read_splits != nullptr && !all) return read_all_splits(spec, options, split);
  Dataset data = spec.layout->read(spec.path, options);
  if (all) {
    use_everything(data, spec.layout->ids);
    data.name.insert(data.name.find(':'), ",use=all");
  }
  std::vector<Dataset> one;
  one.push_back(std::move(data));
  return one;
}

Dataset read_dataset(const std::string& text) {
  std::vector<Dataset> sets = read_splits(text);
  if (sets.size() == 1) return std::move(sets[0]);
  const Spec spec = parse_spec(text);
  fail(str("the data set \"", text, "\" has ", sets.size(), " splits: name one, as in ", spec.layout->name, ",split=0:", spec.path,
           ", or take all images with use=all"));
}

}  // namespace reid
