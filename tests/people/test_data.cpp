#include <doctest/doctest.h>

#include <algorithm>

#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/people/data.h"

namespace fs = std::filesystem;
using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Scratch;

namespace {

// Readers look at names only, so empty files will do.
void touch(const fs::path& file) {
  make_folder(file.parent_path());
  write_file(file, std::string_view(""));
}

void market_set(const fs::path& root) {
  for (const char* name : {"0002_c1s1_000451_03.jpg", "0002_c3s1_000551_01.jpg", "0010_c12s1_000001_01.jpg", "0000_c1s1_000002_00.jpg",
                           "Thumbs.db", "._0002_c1s1_000451_03.jpg"})
    touch(root / "bounding_box_train" / name);
  for (const char* name : {"0005_c1s1_000001_00.jpg", "0007_c2s1_000001_00.JPG"}) touch(root / "query" / name);
  for (const char* name : {"0005_c2s1_000001_00.jpg", "0000_c2s1_000001_00.jpg", "-1_c1s1_000001_00.jpg", "-1_c4s1_000001_00.png"})
    touch(root / "bounding_box_test" / name);
}

std::vector<std::string> names(const std::vector<Sample>& samples) {
  std::vector<std::string> result;
  for (const Sample& s : samples) result.push_back(fs::path(s.path).filename().string());
  return result;
}

}  // namespace

TEST_CASE("data: the Market-1501 layout") {
  const Scratch scratch("run1_c2");  // a parent folder that looks like a camera must not matter
  market_set(scratch.folder);
  const Dataset data = market1501(scratch.folder);
  CHECK(names(data.train) == std::vector<std::string>{"0002_c1s1_000451_03.jpg", "0002_c3s1_000551_01.jpg", "0010_c12s1_000001_01.jpg"});
  CHECK(data.train[1].person == 2);
  CHECK(data.train[1].camera == 2);
  CHECK(data.train[2].camera == 11);
  CHECK(data.train[2].video == -1);
  CHECK(data.query.size() == 2);
  CHECK(names(data.gallery) == std::vector<std::string>{"0000_c2s1_000001_00.jpg", "0005_c2s1_000001_00.jpg"});
  CHECK(data.gallery[0].person == 0);
  CHECK(data.junk == 2);
  require_training(data);
  require_evaluation(data);

  const Relabeling labels = relabel(data.train);
  CHECK(labels.labels == std::vector<int64_t>{0, 0, 1});
  CHECK(labels.persons == std::vector<int64_t>{2, 10});
  CHECK(contains(failure_of([&] { relabel(data.gallery); }), "0000_c2s1_000001_00.jpg: has no identity"));

  const Json counted = census(data);
  CHECK(counted.at("train").at("identities").integer() == 2);
  CHECK(counted.at("gallery").at("distractors").integer() == 1);
  CHECK(counted.at("junk").integer() == 2);
}

TEST_CASE("data: Market-1501 inside its archive's folder, cameras from zero, missing parts") {
  const Scratch scratch("data");
  touch(scratch / "Market-1501-v15.09.15" / "bounding_box_train" / "0001_c0_1.jpg");
  touch(scratch / "Market-1501-v15.09.15" / "bounding_box_train" / "0001_c1_1.jpg");
  const Dataset data = market1501(scratch.folder);
  CHECK(data.train[0].camera == 0);
  CHECK(data.train[1].camera == 1);
  CHECK(contains(failure_of([&] { require_evaluation(data); }), "has no query images"));
}

TEST_CASE("data: what is not there or breaks a layout is named with the remedy") {
  const Scratch scratch("data");
  CHECK(contains(failure_of([&] { market1501(scratch / "nowhere"); }), "nowhere: there is no such folder"));
  for (const DatasetLayout& layout : dataset_layouts()) {
    const std::string message = failure_of([&] { read_splits(layout.name + ":" + scratch.folder.string()); });
    CAPTURE(message);
    CHECK(contains(message, layout.name + ":" + scratch.folder.string() + ": no images found; this layout wants"));
  }
  touch(scratch / "query" / "person7.jpg");
  CHECK(contains(failure_of([&] { market1501(scratch.folder); }), "person7.jpg: the name does not follow the market1501 layout"));
  CHECK(contains(failure_of([&] { luperson(scratch.folder); }), "person7.jpg: the name is no LUPerson key"));
  touch(scratch / "stray.png");
  CHECK(contains(failure_of([&] { video_folders(scratch.folder); }), "stray.png, ...) stand outside of any video"));
  CHECK(contains(failure_of([&] { identity_folders(scratch.folder); }), "stray.png, ...) stand beside the folders"));
  CHECK(contains(failure_of([&] { market1501(scratch / "stray.png"); }), "is a file, not a folder"));
  CHECK(contains(failure_of([] { read_dataset("market:x"); }), "unknown layout \"market\"; layouts are market1501"));
  CHECK(contains(failure_of([] { read_dataset("x"); }), "is not LAYOUT:PATH"));
}

TEST_CASE("data: market names that nearly fit are refused") {
  for (const char* name :
       {"0001.jpg", "0001_1.jpg", "0001_c.jpg", "a001_c1.jpg", "-2_c1_1.jpg", "0001_x1.jpg", "99999999999999999999_c1.jpg"}) {
    const Scratch scratch("data");
    touch(scratch / "query" / name);
    CAPTURE(name);
    CHECK(contains(failure_of([&] { market1501(scratch.folder); }), "does not follow the market1501 layout"));
  }
}

TEST_CASE("data: a folder per video") {
  const Scratch scratch("data");
  for (const char* name : {"b/2.jpg", "b/1.jpg", "a/deep/9.png", "a/deep/note.txt", "__MACOSX/b/1.jpg"}) touch(scratch / name);
  const Dataset data = read_dataset("videos:" + scratch.folder.string());
  CHECK(data.videos == std::vector<std::string>{"a/deep", "b"});
  CHECK(names(data.train) == std::vector<std::string>{"9.png", "1.jpg", "2.jpg"});
  CHECK(data.train[0].video == 0);
  CHECK(data.train[2].video == 1);
  CHECK(data.train[2].camera == 1);
  CHECK(data.train[2].person == -1);
  CHECK(contains(failure_of([&] { require_training(data); }), "have no identities"));
}

TEST_CASE("data: LUPerson keys") {
  const Scratch scratch("data");
  for (const char* name : {"01_02_0003_00000009.jpg", "01_02_0003_00000004.jpg", "sub/01_02_0004_00000001.jpg", "00_02_0003_00000004.jpg"})
    touch(scratch / name);
  const Dataset data = luperson(scratch.folder);
  CHECK(data.videos == std::vector<std::string>{"00_02_0003", "01_02_0003", "01_02_0004"});
  CHECK(names(data.train) == std::vector<std::string>{"00_02_0003_00000004.jpg", "01_02_0003_00000004.jpg", "01_02_0003_00000009.jpg",
                                                      "01_02_0004_00000001.jpg"});
  CHECK(data.train[2].video == 1);
  touch(scratch / "01_02_0003.jpg");
  CHECK(contains(failure_of([&] { luperson(scratch.folder); }), "01_02_0003.jpg: the name is no LUPerson key"));
}

TEST_CASE("data: folders of identities, and plain folders") {
  const Scratch scratch("data");
  for (const char* name :
       {"plain/b.jpg", "plain/a.png", "ids/anna/c0_1.jpg", "ids/anna/c3_2.jpg", "ids/bert/x_c12.jpg", "ids/bert/cat_c4_1.jpg",
        "split/query/anna/1.jpg", "split/gallery/anna/2.jpg", "split/gallery/zoe/1.jpg", "split/train/bert/1.jpg"})
    touch(scratch / name);
  const Dataset plain = identity_folders(scratch / "plain");
  CHECK(names(plain.train) == std::vector<std::string>{"a.png", "b.jpg"});
  CHECK(plain.train[0].person == -1);

  const Dataset ids = identity_folders(scratch / "ids");
  REQUIRE(ids.train.size() == 4);
  CHECK(ids.train[0].person == 1);
  CHECK(ids.train[0].camera == 0);
  CHECK(ids.train[1].camera == 3);
  CHECK(ids.train[2].person == 2);
  CHECK(ids.train[2].camera == 4);
  CHECK(ids.train[3].camera == 12);
  CHECK(ids.cameras_known);

  const Dataset split = identity_folders(scratch / "split");
  CHECK(split.query[0].person == 1);
  CHECK(split.query[0].camera == 0);
  CHECK(split.gallery[0].person == 1);
  CHECK(split.gallery[0].camera == 0);
  CHECK(split.gallery[1].person == 3);
  CHECK(!split.cameras_known);
  CHECK(split.train[0].person == 2);
}

TEST_CASE("data: merged sources share no identity, camera or video; special ids stay") {
  const Scratch scratch("data");
  market_set(scratch / "a");
  market_set(scratch / "b");
  touch(scratch / "v" / "clip" / "1.jpg");
  const std::vector<Dataset> sources = {market1501(scratch / "a"), video_folders(scratch / "v"), market1501(scratch / "b")};
  const Dataset all = merge(sources);
  CHECK(all.train.size() == 7);
  CHECK(all.train[0].person == 2);
  CHECK(all.train[3].person == -1);
  CHECK(all.train[3].camera == 12);
  CHECK(all.train[3].video == 0);
  CHECK(all.train[4].person == 12);
  CHECK(all.train[4].camera == 13);
  CHECK(std::count_if(all.gallery.begin(), all.gallery.end(), [](const Sample& s) { return s.person == 0; }) == 2);
  CHECK(all.junk == 4);
  CHECK(all.videos == std::vector<std::string>{"clip"});
  CHECK(all.unknown_cameras.empty());
  Dataset unnamed;
  unnamed.train = {{.path = "x.jpg", .person = 1}};
  unnamed.cameras_known = false;
  CHECK(merge(std::vector<Dataset>{sources[0], unnamed, sources[2]}).unknown_cameras == std::set<int64_t>{12});
}
