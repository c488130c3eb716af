// Data sets in MATLAB files and LMDB databases, against the lists that their writer (tools/golden_containers.py) says they mean.

#include <doctest/doctest.h>

#include "formats/containers.h"
#include "reid/formats/json.h"
#include "reid/people/data.h"

namespace fs = std::filesystem;

namespace reid::test {
namespace {

const Json& expected() {
  static const Json lists = parse_json(read_text(kContainers / "expected.json"), "expected.json");
  return lists;
}

void touch(const fs::path& file) {
  fs::create_directories(file.parent_path());
  write_file(file, std::string_view(""));
}

// A copy of a fixture that may be broken; paths of its samples are compared from the folder above it.
struct Copy {
  Scratch scratch{"run1_c2"};
  fs::path folder;
  explicit Copy(const std::string& name) : folder(scratch / name) { fs::copy(kContainers / name, folder, fs::copy_options::recursive); }
};

// Samples as the expected lists have them: [path, person, camera, tracklet].
Json listed(const std::vector<Sample>& samples, const fs::path& above) {
  Json list = Json::array();
  for (const Sample& s : samples)
    list.push_back(Json::array({fs::path(s.path).lexically_relative(above).generic_string(), s.person, s.camera, s.tracklet}));
  return list;
}

Json sorted(const Json& list) {
  std::vector<std::string> rows;
  for (const Json& item : list.items()) rows.push_back(item.dump());
  std::sort(rows.begin(), rows.end());
  Json result = Json::array();
  for (std::string& row : rows) result.push_back(std::move(row));
  return result;
}

void check_lists(const Dataset& data, const Json& want, const fs::path& above) {
  CHECK(listed(data.train, above) == want.at("train"));
  CHECK(listed(data.query, above) == want.at("query"));
  CHECK(listed(data.gallery, above) == want.at("gallery"));
}

std::string spec(const std::string& layout, const fs::path& path) { return layout + ":" + path.string(); }

template <class Action>
void check_failure(const std::string& part, Action&& action) {
  const std::string message = failure_of(action);
  CHECK_MESSAGE(contains(message, part), "got: ", message);
}

void write_images(const fs::path& folder, const Json& names) {
  for (const Json& name : names.items()) touch(folder / name.string());
}

}  // namespace

TEST_CASE("layouts: MARS, every frame with its tracklet") {
  if (no_matlab()) return;
  const Copy copy("mars");
  fs::create_directories(copy.folder / "bbox_train");
  fs::create_directories(copy.folder / "bbox_test");
  const Json& want = expected().at("mars");
  const Dataset data = read_dataset(spec("mars", copy.folder));
  check_lists(data, want, copy.scratch.folder);
  CHECK(data.junk == 2);
  CHECK(data.cameras_known);
  CHECK(data.name == "mars,gallery=all,min_frames=1:" + copy.folder.string());
  require_training(data);
  require_evaluation(data);
  const Dataset without = read_dataset(spec("mars,gallery=without-queries", copy.folder));
  CHECK(listed(without.gallery, copy.scratch.folder) == want.at("gallery_without_queries"));
  CHECK(listed(without.query, copy.scratch.folder) == want.at("query"));
  const Dataset longer = mars(copy.folder, {{"min_frames", "2"}});
  for (const std::vector<Sample>* part : {&longer.train, &longer.query, &longer.gallery}) {
    std::map<int64_t, int> frames;
    for (const Sample& s : *part) ++frames[s.tracklet];
    CHECK(!frames.empty());
    for (const auto& [tracklet, count] : frames) CHECK(count >= 2);
  }
  CHECK(longer.train.size() == data.train.size() - 1);
  CHECK(longer.gallery.size() == data.gallery.size() - 1);
  check_failure("the option gallery is \"some\"; it can be all, without-queries", [&] { mars(copy.folder, {{"gallery", "some"}}); });
  check_failure("the option min_frames is \"0\"", [&] { mars(copy.folder, {{"min_frames", "0"}}); });
}

TEST_CASE("layouts: MARS lists that do not fit are refused") {
  if (no_matlab()) return;
  const Copy copy("mars");
  fs::create_directories(copy.folder / "bbox_train");
  check_failure("bbox_test: there is no such folder", [&] { mars(copy.folder); });
  fs::create_directories(copy.folder / "bbox_test");
  const fs::path names = copy.folder / "info" / "train_name.txt";
  const std::string good = read_text(names);
  std::string mixed = good;
  mixed.replace(mixed.find("0001C6T0001F002"), 6, "0003C6");
  write_file(names, mixed);
  check_failure("tracklet 2 holds frames of several people or cameras (0001C6T0001F001.jpg and 0003C6T0001F002.jpg in line 4",
                [&] { mars(copy.folder); });
  mixed = good;
  mixed.replace(mixed.find("0001C6T0001F003"), 6, "0001C5");
  write_file(names, mixed);
  check_failure("tracklet 2 holds frames of several people or cameras", [&] { mars(copy.folder); });
  write_file(names, good.substr(0, good.rfind("0003")));
  check_failure("tracks_train_info.mat: tracklet 4 is frames 7 to 8 of 7 names", [&] { mars(copy.folder); });
  write_file(names, good);
  fs::copy_file(copy.folder / "info/query_IDX.mat", copy.folder / "info/tracks_train_info.mat", fs::copy_options::overwrite_existing);
  check_failure("tracks_train_info.mat: has no variable \"track_train_info\"; it has query_IDX", [&] { mars(copy.folder); });
  fs::remove(copy.folder / "info/query_IDX.mat");
  check_failure("tracks_train_info.mat", [&] { mars(copy.folder); });
}

TEST_CASE("layouts: iLIDS-VID, the first half of a split's row is tested") {
  if (no_matlab()) return;
  const Copy copy("i-LIDS-VID");
  const fs::path root = copy.scratch.folder;
  fs::rename(copy.folder / "train-test people splits", root / "train-test people splits");
  const Json& want = expected().at("ilids-vid");
  for (const Json& folder : want.at("folders").items())
    for (const char* camera : {"cam1", "cam2"})
      for (const char* frame : {"_00002.png", "_00001.png"})
        touch(copy.folder / "sequences" / camera / folder.string() / (std::string(camera) + "_" + folder.string() + frame));
  CHECK(ilids_vid_splits(root) == 3);
  for (int split = 0; split < 3; ++split) {
    const Dataset data = read_dataset(spec(str("ilids-vid,split=", split), root));
    check_lists(data, want.at("splits").items()[static_cast<size_t>(split)], root);
  }
  check_lists(ilids_vid(root), want.at("splits").items()[0], root);
  for (const char* split : {"3", "-1", "x", "1x"})
    check_failure(str("the option split is \"", split, "\"; it can be 0 to 2"), [&] { ilids_vid(root, {{"split", split}}); });
  fs::remove_all(copy.folder / "sequences/cam2/person031");
  check_failure("cam1 and cam2 do not hold the same people", [&] { ilids_vid(root); });
  fs::remove_all(copy.folder / "sequences/cam1/person031");
  check_failure("has 5 people, its splits are of 6", [&] { ilids_vid(root); });
  for (const char* camera : {"cam1", "cam2"}) fs::create_directory(copy.folder / "sequences" / camera / "person031");
  check_failure("person031: holds no images", [&] { ilids_vid(root); });
  fs::remove_all(root / "train-test people splits");
  check_failure("the file of splits is not there: looked for", [&] { ilids_vid(root); });
}

TEST_CASE("layouts: GRID, the people of a split and the distractors") {
  if (no_matlab()) return;
  const Copy copy("underground_reid");
  const fs::path root = copy.scratch.folder;
  const Json& want = expected().at("grid");
  write_images(root, want.at("files"));
  CHECK(grid_splits(root) == 2);
  for (int split = 0; split < 2; ++split)
    check_lists(read_dataset(spec(str("grid,split=", split), root)), want.at("splits").items()[static_cast<size_t>(split)], root);
  check_lists(grid(copy.folder), want.at("splits").items()[0], root);  // underground_reid itself
  touch(copy.folder / "probe" / "0000_1_x.jpeg");
  check_failure("a distractor (identity 0) among the probes", [&] { grid(root); });
  fs::remove(copy.folder / "probe" / "0000_1_x.jpeg");
  touch(copy.folder / "gallery" / "0004_x.jpeg");
  check_failure("0004_x.jpeg: the name does not follow the grid layout", [&] { grid(root); });
  fs::remove(copy.folder / "gallery" / "0004_x.jpeg");
  fs::remove(copy.folder / "gallery" / "0003_6_25_1_1_1_1.jpeg");
  check_failure("gallery has no image of identity 3, which split 0 trains", [&] { grid(root); });
}

TEST_CASE("layouts: CUHK03, extracted from its file, by both protocols") {
  if (no_matlab()) return;
  const Copy copy("cuhk03");
  check_failure("images_detected is not there. Extract the images first: reid data extract", [&] { cuhk03(copy.folder); });
  const fs::path mat = copy.folder / "cuhk03_release" / "cuhk-03.mat";
  const Json& want = expected().at("cuhk03");
  size_t images = 0;
  for (const char* kind : {"detected", "labeled"}) images += want.at(kind).at("files").items().size();
  CHECK(extract_cuhk03(mat, copy.folder) == static_cast<int64_t>(images));
  for (const char* kind : {"detected", "labeled"}) {
    const Json& lists = want.at(kind);
    Json names = Json::array();
    for (const auto& entry : fs::directory_iterator(copy.folder / ("images_" + std::string(kind)))) {
      names.push_back(entry.path().filename().string());
      CHECK(same_pixels(read_image(entry.path()), str("cuhk03/", kind, "/", entry.path().filename().string())));
    }
    CHECK(sorted(names) == sorted(lists.at("files")));
    const std::string images_option = str("cuhk03,images=", kind);
    const Dataset data = read_dataset(spec(images_option, copy.folder));
    check_lists(data, lists.at("new"), copy.scratch.folder);
    CHECK(data.name == str("cuhk03,split=0,images=", kind, ":", copy.folder.string()));
    for (int split = 0; split < 2; ++split)
      check_lists(read_dataset(spec(str(images_option, ",protocol=classic,split=", split), copy.folder)),
                  lists.at("classic").items()[static_cast<size_t>(split)], copy.scratch.folder);
  }
  CHECK(listed(cuhk03(copy.folder).query, copy.scratch.folder) == want.at("detected").at("new").at("query"));
  CHECK(cuhk03_splits(copy.folder) == 1);
  CHECK(cuhk03_splits(copy.folder, {{"protocol", "classic"}}) == 2);
  check_failure("the option split is \"1\"; it can be 0 to 0", [&] { cuhk03(copy.folder, {{"split", "1"}}); });

  check_failure("images_labeled: is there already", [&] { extract_cuhk03(mat, copy.folder); });
  fs::remove(copy.folder / "images_detected" / want.at("detected").at("files").items()[0].string());
  check_failure("names; remove the folder and extract the images again", [&] { cuhk03(copy.folder); });
  for (const auto& entry : fs::directory_iterator(copy.folder / "images_detected"))
    if (entry.path().filename().string().starts_with("1_002")) fs::remove(entry.path());
  check_failure("has no image of person 2 of pair 1, who is in test set 0", [&] { cuhk03(copy.folder, {{"protocol", "classic"}}); });
  touch(copy.folder / "images_detected" / "1_001_3_01.png");
  check_failure("the name 1_001_3_01.png does not follow the cuhk03 layout", [&] { cuhk03(copy.folder, {{"protocol", "classic"}}); });
}

TEST_CASE("layouts: CUHK03, an extraction that fails leaves nothing behind") {
  if (no_matlab()) return;
  const Scratch scratch("extract");
  check_failure("values_v73.mat: has no variable \"labeled\"", [&] { extract_cuhk03(kContainers / "values_v73.mat", scratch.folder); });
  CHECK(fs::is_empty(scratch.folder));
  write_file(scratch / "cut.mat", std::span<const uint8_t>(read_file(kContainers / "cuhk03/cuhk03_release/cuhk-03.mat")).first(20000));
  check_failure("cut.mat: truncated MATLAB file", [&] { extract_cuhk03(scratch / "cut.mat", scratch / "out"); });
  CHECK(!fs::exists(scratch / "out"));
}

TEST_CASE("layouts: LUPerson in a database, with and without its list of keys") {
  if (no_lmdb()) return;
  const Copy copy("luperson");
  const Json& want = expected().at("luperson-lmdb");
  for (const fs::path& path : {copy.folder, copy.folder / "lmdb"}) {
    const Dataset data = read_dataset(spec("luperson-lmdb", path));
    CHECK(listed(data.train, copy.scratch.folder) == want.at("train"));
    Json videos = Json::array();
    for (const std::string& video : data.videos) videos.push_back(video);
    CHECK(videos == want.at("videos"));
    for (const Sample& sample : data.train) CHECK(sample.video == sample.camera);
    for (const Sample& sample : data.train)
      CHECK(same_pixels(read_image(sample.path), "luperson/" + sample.path.substr(sample.path.rfind('!') + 1)));
  }
  // Through the loader, on several threads.
  const Dataset data = luperson_lmdb(copy.folder);
  LoaderOptions options;
  options.workers = 3;
  options.transform.height = 8;
  options.transform.width = 4;
  Loader loader = evaluation_loader(data.train, 2, options);
  int64_t loaded = 0;
  while (const auto batch = loader.next()) loaded += batch->size();
  CHECK(loaded == 5);

  fs::rename(copy.folder / "keys.pkl", copy.folder / "other.pkl");
  std::string scan;
  for (const Sample& sample : luperson_lmdb(copy.folder).train) scan += sample.path.substr(sample.path.rfind('!') + 1) + " ";
  std::string all;
  for (const Json& key : want.at("scan").items()) all += key.string() + " ";
  CHECK(scan == all);
  CHECK(luperson_lmdb(copy.folder, {{"keys", (copy.folder / "other.pkl").string()}}).train.size() == 5);
  fs::rename(copy.folder / "lmdb", copy.folder / "lup_lmdb");
  CHECK(luperson_lmdb(copy.folder).train.size() == 6);
  fs::copy(copy.folder / "lup_lmdb", copy.folder / "second");
  check_failure("holds several LMDB databases (lup_lmdb, second)", [&] { luperson_lmdb(copy.folder); });
}

TEST_CASE("layouts: LUPerson, lists and keys that do not fit are refused") {
  if (no_lmdb()) return;
  const Copy copy("luperson");
  const auto failure = [&](const std::string& pickle) {
    write_file(copy.folder / "keys.pkl", pickle);
    return failure_of([&] { luperson_lmdb(copy.folder); });
  };
  CHECK(contains(failure("(lS'00_03_0001_00000007'\na."), "keys.pkl: lists the key 00_03_0001_00000007, which"));
  CHECK(contains(failure("(lS'x'\naS'x'\naS'x'\naS'x'\naS'x'\naS'x'\naS'x'\na."), "lists 7 keys,"));
  CHECK(contains(failure("(l."), "keys.pkl: lists no keys"));
  CHECK(contains(failure("I1\n."), "keys.pkl: its list of keys is no list"));
  CHECK(contains(failure("(lI1\na."), "keys.pkl: key 0 is no text"));
  CHECK(contains(failure("(lS'x"), "keys.pkl"));
  CHECK(contains(failure("(dS'keys'\n(lS'00_03_0001_00000000'\nasS'pids'\n(lI1\naI2\nas."), "2 identities for 1 keys"));
  CHECK(contains(failure("(dS'keys'\n(lS'00_03_0001_00000000'\nasS'pids'\n(lI-1\nas."), "identity 0 is no whole number from 0"));
  fs::remove(copy.folder / "keys.pkl");
  fs::copy_file(kContainers / "pictures.lmdb", copy.folder / "lmdb" / "data.mdb", fs::copy_options::overwrite_existing);
  check_failure("the key \"a!b.png\" is not of the form CC_TT_VVVV_IIIIIIII", [&] { luperson_lmdb(copy.folder); });
  check_failure("nowhere: there is no such file or folder", [&] { luperson_lmdb(copy.folder / "nowhere"); });
}

TEST_CASE("layouts: LUPerson-NL, noisy identities from the list or from the keys") {
  if (no_lmdb()) return;
  const Copy copy("luperson-nl");
  const Json& want = expected().at("luperson-nl");
  const Dataset data = read_dataset(spec("luperson-nl", copy.folder));
  CHECK(listed(data.train, copy.scratch.folder) == want.at("train"));
  CHECK(data.videos == std::vector<std::string>{"00001", "00002"});
  for (const Sample& sample : data.train) CHECK(sample.video == sample.camera);
  CHECK(read_image(data.train[0].path).height == 4);
  fs::remove(copy.folder / "keys.pkl");
  CHECK(listed(luperson_nl(copy.folder).train, copy.scratch.folder) == want.at("train_without_list"));
}

TEST_CASE("layouts: LUPerson-NL as extracted images") {
  const Scratch scratch("nl");
  for (const char* name : {"de/berlin/b/000003_0000001_00.jpg", "de/berlin/b/000003_0000009_01.jpg", "de/berlin/b/000004_0000001_01.jpg",
                           "ch/bern/a/000003_0000001_00.jpg"})
    touch(scratch / name);
  const Dataset data = luperson_nl(scratch.folder);
  CHECK(data.videos == std::vector<std::string>{"ch/bern/a", "de/berlin/b"});
  std::vector<std::vector<int64_t>> rows;
  for (const Sample& s : data.train) rows.push_back({s.person, s.camera, s.video, s.tracklet});
  CHECK(rows == std::vector<std::vector<int64_t>>{{4, 0, 0, 0}, {4, 1, 1, 1}, {4, 1, 1, 1}, {5, 1, 1, 2}});
  touch(scratch / "de/berlin/b/photo.jpg");
  check_failure("photo.jpg: not of the form VIDEO/PPPPPP_FFFFFFF_OO.jpg", [&] { luperson_nl(scratch.folder); });
}

TEST_CASE("layouts: CION-AL lists") {
  const Scratch scratch("cion");
  const auto write = [&](const std::string& text) { write_file(scratch / "cional_annos.json", text); };
  touch(scratch / "sec0" / "a.jpg");
  write(R"([{"file_path": "sec0/a.jpg", "id": 1, "split": "train"}, {"file_path": "sec129/b.jpg", "id": 246904}])");
  const Dataset data = read_dataset(spec("cion-al", scratch.folder));
  REQUIRE(data.train.size() == 2);
  CHECK(fs::path(data.train[1].path) == scratch.folder / "sec129/b.jpg");
  CHECK(data.train[0].person == 1);
  CHECK(data.train[1].person == 246904);
  CHECK_FALSE(data.cameras_known);
  write(R"([{"file_path": "sec0/a.jpg", "id": 3}, {"file_path": "sec0/b.jpg", "id": 0}])");
  CHECK(cion_al(scratch.folder).train[0].person == 4);
  const auto failure = [&](const std::string& text) {
    write(text);
    return failure_of([&] { cion_al(scratch.folder); });
  };
  CHECK(contains(failure(R"([{"path": "a", "pid": 0}])"), "entry 0 has the keys path, pid; this layout wants file_path (text) and id"));
  CHECK(contains(failure(R"([{"file_path": "sec0/a.jpg", "id": 1}, 7])"), "entry 1 has integer; this layout"));
  CHECK(contains(failure(R"([{"file_path": "sec0/a.jpg", "id": "1"}])"), "entry 0 has the keys file_path, id; this layout"));
  CHECK(contains(failure(R"([{"file_path": "sec0/a.jpg", "id": -1}])"), "entry 0"));
  CHECK(contains(failure(R"({"a": 1})"), "cional_annos.json: expected an array, found object"));
  CHECK(contains(failure("[]"), "lists no images"));
  CHECK(contains(failure("[{"), "cional_annos.json"));
  CHECK(contains(failure(R"([{"file_path": "sec7/a.jpg", "id": 1}])"), "its first image"));
}

}  // namespace reid::test
