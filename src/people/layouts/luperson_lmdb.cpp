// LUPerson and LUPerson-NL as their scripts write them: an LMDB database of JPEG files and a pickled list of keys.

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <system_error>

#include "formats/lmdb.h"
#include "formats/pickle.h"
#include "people/layouts/containers.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

constexpr const char* kWants = "an LMDB database (a folder with data.mdb), itself or in a folder named lmdb, and its keys.pkl";

// ---- Lists of keys

struct KeyList {
  std::vector<std::string> keys;
  std::vector<int64_t> labels;  // [key], or empty
};

const std::vector<PickleNode*>& list_items(const PickleNode* node, const std::string& what) {
  REID_CHECK(node != nullptr && (node->is(PickleNode::Kind::list) || node->is(PickleNode::Kind::tuple)), what, " is no list");
  return node->items;
}

// Either a list of keys, or a dict of "keys" and "pids" (in older files "vids").
KeyList read_pickled_keys(const fs::path& file) {
  constexpr size_t kMaxValues = 64'000'000;  // LUPerson-NL has 10.7 million keys and as many identities
  const ByteSource source(file);
  Cursor cursor(source);
  const Pickle pickle(cursor, kMaxValues);
  const PickleNode& root = pickle.root();
  const bool dict = root.is(PickleNode::Kind::dict);
  KeyList list;
  for (const PickleNode* key : list_items(dict ? root.find("keys") : &root, file.string() + ": its list of keys")) {
    REID_CHECK(key->is(PickleNode::Kind::string) || key->is(PickleNode::Kind::bytes), file.string(), ": key ", list.keys.size(),
               " is no text");
    list.keys.push_back(key->text);
  }
  const PickleNode* labels = root.find("pids") != nullptr ? root.find("pids") : root.find("vids");
  if (labels == nullptr) return list;
  for (const PickleNode* label : list_items(labels, file.string() + ": its list of identities")) {
    REID_CHECK(label->is(PickleNode::Kind::integer) && label->integer >= 0, file.string(), ": identity ", list.labels.size(),
               " is no whole number from 0");
    list.labels.push_back(label->integer);
  }
  REID_CHECK(list.labels.size() == list.keys.size(), file.string(), ": ", list.labels.size(), " identities for ", list.keys.size(),
             " keys");
  return list;
}

// Where the database is: `path`, or a folder in it. Empty when there is none.
fs::path find_database(const fs::path& path) {
  if (is_lmdb(path)) return path;
  if (!is_folder(path)) return {};
  if (is_lmdb(path / "lmdb")) return path / "lmdb";
  fs::path found;
  for (const fs::path& folder : list_folder(path).folders) {
    if (!is_lmdb(folder)) continue;
    REID_CHECK(found.empty(), path.string(), ": holds several LMDB databases (", found.filename().string(), ", ",
               folder.filename().string(), "): name one of them");
    found = folder;
  }
  return found;
}

KeyList read_keys(const fs::path& path, const fs::path& database, const LayoutOptions& options) {
  std::error_code ignored;
  const auto given = options.find("keys");
  const std::vector<fs::path> places = {database / "keys.pkl", database.parent_path() / "keys.pkl", path / "keys.pkl"};
  KeyList list;
  std::string from = "the database";
  if (given != options.end()) {
    from = given->second;
    list = read_pickled_keys(from);
  } else {
    const auto found = std::find_if(places.begin(), places.end(), [&](const fs::path& place) { return fs::exists(place, ignored); });
    if (found != places.end()) from = found->string(), list = read_pickled_keys(*found);
  }
  const LmdbFile file(database);
  if (from == "the database") {
    list.keys.reserve(static_cast<size_t>(file.entries()));
    file.each_key([&](std::string_view key) { list.keys.emplace_back(key); });
  }
  REID_CHECK(!list.keys.empty(), from, ": lists no keys");
  REID_CHECK(static_cast<int64_t>(list.keys.size()) <= file.entries(), from, ": lists ", list.keys.size(), " keys, ", database.string(),
             " has ", file.entries(), " entries: they do not belong together, or the database is not complete");
  for (const std::string* key : {&list.keys.front(), &list.keys.back()})
    REID_CHECK(file.contains(*key), from, ": lists the key ", *key, ", which ", database.string(), " does not have");
  return list;
}

// ---- Keys

struct Key {
  std::array<int64_t, 4> fields{};
  std::array<size_t, 4> ends{};  // of each field within the key
};

// Four fields of digits with underscores between.
std::optional<Key> parse_key(const std::string& text) {
  Key key;
  size_t at = 0;
  for (size_t i = 0; i < 4; ++i) {
    key.fields[i] = parse_digits(text, at);
    key.ends[i] = at;
    if (key.fields[i] < 0 || (i < 3 && (at >= text.size() || text[at++] != '_'))) return std::nullopt;
  }
  return at == text.size() ? std::optional(key) : std::nullopt;
}

// Calls visit(key, its fields, place in the list) in the order of the keys, in which videos stand together.
template <class Visit>
void each_key(const KeyList& list, const fs::path& database, const char* form, const Visit& visit) {
  std::vector<size_t> order(list.keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return list.keys[a] < list.keys[b]; });
  for (const size_t i : order) {
    const std::optional<Key> key = parse_key(list.keys[i]);
    REID_CHECK(key.has_value(), database.string(), ": the key \"", list.keys[i], "\" is not of the form ", form);
    visit(list.keys[i], *key, i);
  }
}

// Videos are numbered in the order in which they come.
int64_t number_video(const std::string& name, Dataset& data) {
  if (data.videos.empty() || data.videos.back() != name) data.videos.push_back(name);
  return static_cast<int64_t>(data.videos.size()) - 1;
}

// A person in a video is a tracklet.
class TrackletNumbers {
 public:
  int64_t of(int64_t video, int64_t person) {
    return numbers_.emplace(std::pair(video, person), static_cast<int64_t>(numbers_.size())).first->second;
  }

 private:
  std::map<std::pair<int64_t, int64_t>, int64_t> numbers_;
};

// Extracted images: PPPPPP_FFFFFFF_OO.jpg in a folder for each video.
void read_extracted(const fs::path& folder, Dataset& data) {
  TrackletNumbers tracklets;
  walk_folders(folder, [&](const fs::path& path, const std::vector<fs::path>& images) {
    for (const fs::path& image : images) {
      const std::optional<Key> key = parse_key("0_" + image.stem().string());
      REID_CHECK(key.has_value() && path != folder, image.string(),
                 ": not of the form VIDEO/PPPPPP_FFFFFFF_OO.jpg, as in some_video/000012_0000345_01.jpg: rename or remove it");
      const int64_t video = number_video(path.lexically_relative(folder).generic_string(), data), person = key->fields[1];
      data.train.push_back(
          {.path = image.string(), .person = person + 1, .camera = video, .video = video, .tracklet = tracklets.of(video, person)});
    }
  });
}

void check_there(const fs::path& path, const char* layout) {
  std::error_code ignored;
  REID_CHECK(fs::exists(path, ignored), layout, ":", path.string(), ": there is no such file or folder");
}

}  // namespace

Dataset luperson_lmdb(const fs::path& path, const LayoutOptions& options) {
  check_there(path, "luperson-lmdb");
  Dataset data;
  data.name = "luperson-lmdb:" + path.string();
  const fs::path database = find_database(path);
  if (database.empty()) nothing_found(data.name, kWants);
  const KeyList list = read_keys(path, database, options);
  each_key(list, database, "CC_TT_VVVV_IIIIIIII", [&](const std::string& text, const Key& key, size_t) {
    const int64_t video = number_video(text.substr(0, key.ends[2]), data);
    data.train.push_back({.path = database.string() + "!" + text, .camera = video, .video = video});
  });
  return data;
}

Dataset luperson_nl(const fs::path& path, const LayoutOptions& options) {
  check_there(path, "luperson-nl");
  Dataset data;
  data.name = "luperson-nl:" + path.string();
  const fs::path database = find_database(path);
  if (database.empty()) {
    if (is_folder(path)) read_extracted(path, data);
    if (data.train.empty()) nothing_found(data.name, kWants);
    return data;
  }
  const KeyList list = read_keys(path, database, options);
  TrackletNumbers tracklets;
  each_key(list, database, "VVVVV_PPPPPP_FFFFFFF_OO", [&](const std::string& text, const Key& key, size_t i) {
    const int64_t video = number_video(text.substr(0, key.ends[0]), data);
    const int64_t person = list.labels.empty() ? key.fields[1] : list.labels[i];
    data.train.push_back({.path = database.string() + "!" + text,
                          .person = person + 1,
                          .camera = video,
                          .video = video,
                          .tracklet = tracklets.of(video, person)});
  });
  return data;
}

}  // namespace reid
