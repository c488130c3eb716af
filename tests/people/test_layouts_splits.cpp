// Sets with several splits, and files of splits written by other programs.

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "people/layout_fixture.h"

namespace fs = std::filesystem;
using namespace reid;
using namespace reid::test;

namespace {

std::string padded(int number, size_t width) {
  std::string text = std::to_string(number);
  return std::string(width - std::min(width, text.size()), '0') + text;
}

void viper_set(const fs::path& root, int people) {
  for (int i = 0; i < people; ++i) {
    touch(root / "VIPeR/cam_a" / (padded(i, 3) + "_45.bmp"));
    touch(root / "VIPeR/cam_b" / (padded(i, 3) + "_90.bmp"));
  }
}

void prid_set(const fs::path& root) {
  for (const int person : {1, 2, 3, 199, 200, 201, 250})
    touch(root / "prid_2011/single_shot/cam_a" / ("person_" + padded(person, 4) + ".png"));
  for (const int person : {1, 2, 3, 199, 200, 201, 700})
    touch(root / "prid_2011/single_shot/cam_b" / ("person_" + padded(person, 4) + ".png"));
}

std::set<int64_t> persons(const std::vector<Sample>& samples) {
  std::set<int64_t> set;
  for (const Sample& s : samples) set.insert(s.person);
  return set;
}

bool disjoint(const std::set<int64_t>& a, const std::set<int64_t>& b) {
  return std::none_of(a.begin(), a.end(), [&](int64_t x) { return b.contains(x); });
}

}  // namespace

TEST_CASE("splits: VIPeR has ten halves in two directions, the same on every machine") {
  const Scratch scratch("splits");
  viper_set(scratch.folder, 9);
  const std::string spec = spec_of("viper", scratch.folder);
  const std::vector<Dataset> splits = read_splits(spec);
  REQUIRE(splits.size() == 20);
  std::set<std::set<int64_t>> halves;
  for (size_t i = 0; i < splits.size(); ++i) {
    const Dataset& split = splits[i];
    CHECK(split.name == str("viper,split=", i, ":", scratch.folder.string()));
    CHECK(split.train.size() == 8);  // half of nine, rounded down, both cameras
    CHECK(split.query.size() == 5);
    CHECK(persons(split.query) == persons(split.gallery));
    CHECK(disjoint(persons(split.train), persons(split.query)));
    CHECK(split.query[0].camera == static_cast<int64_t>(i % 2));
    CHECK(split.gallery[0].camera == 1 - static_cast<int64_t>(i % 2));
    halves.insert(persons(split.train));
  }
  CHECK(halves.size() > 5);
  // Recorded: these change only with the seed, and then every number measured on the splits does.
  CHECK(persons(splits[0].train) == std::set<int64_t>{3, 4, 5, 9});
  CHECK(persons(splits[2].train) == std::set<int64_t>{4, 6, 8, 9});
  CHECK(read_splits(spec_of("viper,directions=a", scratch.folder)).size() == 10);
  CHECK(shown(read_dataset(spec_of("viper,split=2", scratch.folder)).query) == shown(splits[2].query));
  CHECK(shown(read_dataset(spec_of("viper,directions=a,split=1", scratch.folder)).query) == shown(splits[2].query));

  CHECK(contains(failure_of([&] { read_dataset(spec); }), "has 20 splits: name one, as in viper,split=0:"));
  for (const char* wrong : {"20", "x", "-1", ""}) {
    CAPTURE(wrong);
    const std::string message = refusal(spec_of(std::string("viper,split=") + wrong, scratch.folder));
    CHECK((*wrong == '\0' ? message.empty() : contains(message, "is not one of its splits, 0 to 19")));
  }
  const Dataset all = read_dataset(spec_of("viper,use=all", scratch.folder));
  CHECK(all.train.size() == 18);
  CHECK(all.query.empty());
  CHECK(contains(refusal(spec_of("viper,use=all,split=0", scratch.folder)), "goes with none of split, splits and val=exclude"));

  fs::remove(scratch / "VIPeR/cam_b/004_90.bmp");
  CHECK(contains(refusal(spec), "9 images in cam_a but 8 in cam_b"));
  touch(scratch / "VIPeR/cam_b/044_90.bmp");
  CHECK(contains(refusal(spec), "004_45.bmp of cam_a and 005_90.bmp of cam_b should be one person"));
}

TEST_CASE("splits: PRID asks with camera a and answers with everyone of camera b") {
  const Scratch scratch("splits");
  prid_set(scratch.folder);
  const std::vector<Dataset> splits = read_splits(spec_of("prid", scratch.folder));
  REQUIRE(splits.size() == 10);
  for (const Dataset& split : splits) {
    CHECK(split.train.size() / 2 + split.query.size() == 5);
    CHECK(split.gallery.size() == split.query.size() + 2);
    CHECK(persons(split.gallery).contains(700));
    CHECK(!persons(split.query).contains(201));
    CHECK(disjoint(persons(split.train), persons(split.gallery)));
  }
  CHECK(read_dataset(spec_of("prid,use=all", scratch.folder)).train.size() == 10);

  write_file(scratch / "splits.json", R"([{"train": [1, 200], "test": [2, 3, 199]}, {"train": [3], "test": [1]}])");
  const std::vector<Dataset> given = read_splits(spec_of("prid,splits=" + (scratch / "splits.json").string(), scratch.folder));
  REQUIRE(given.size() == 2);
  CHECK(persons(given[0].train) == std::set<int64_t>{1, 200});
  CHECK(persons(given[0].query) == std::set<int64_t>{2, 3, 199});
  CHECK(persons(given[1].gallery) == std::set<int64_t>{1, 201, 700});
  CHECK(contains(given[1].name, "prid,split=1,splits="));
  touch(scratch / "prid_2011/single_shot/cam_a/someone.png");
  CHECK(contains(refusal(spec_of("prid", scratch.folder)), "someone.png: the name does not follow the layout"));
}

TEST_CASE("splits: iLIDS draws one image to ask and another to answer") {
  const Scratch scratch("splits");
  for (int person = 1; person <= 5; ++person)
    for (int image = 1; image <= 2 + person % 3; ++image)
      touch(scratch / "i-LIDS_Pedestrian/Persons" / (padded(person, 4) + padded(image, 3) + ".jpg"));
  const std::vector<Dataset> splits = read_splits(spec_of("ilids", scratch.folder));
  REQUIRE(splits.size() == 10);
  for (const Dataset& split : splits) {
    CHECK(persons(split.train).size() == 2);
    REQUIRE(split.query.size() == 3);
    REQUIRE(split.gallery.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      CHECK(split.query[i].person == split.gallery[i].person);
      CHECK(split.query[i].path != split.gallery[i].path);
      CHECK(split.query[i].camera != split.gallery[i].camera);
    }
  }
  CHECK(shown(splits[0].query) != shown(splits[1].query));
  write_file(scratch / "s.json", R"([{"train": ["0001001.jpg"], "query": ["0002001.jpg"], "gallery": ["0002002.jpg"]}])");
  const Dataset given = read_dataset(spec_of("ilids,split=0,splits=" + (scratch / "s.json").string(), scratch.folder));
  CHECK(shown(given.gallery) == Lines{"0002002.jpg p2 c1"});
  for (const char* wrong : {"00010011.jpg", "0000001.jpg", "0001000.jpg", "000100a.jpg"}) {
    touch(scratch / "i-LIDS_Pedestrian/Persons" / wrong);
    CHECK(contains(refusal(spec_of("ilids", scratch.folder)), "does not follow the ilids layout"));
    fs::remove(scratch / "i-LIDS_Pedestrian/Persons" / wrong);
  }
  for (const char* gone : {"0001002.jpg", "0001003.jpg", "0003002.jpg", "0002002.jpg", "0002003.jpg", "0002004.jpg"})
    fs::remove(scratch / "i-LIDS_Pedestrian/Persons" / gone);
  CHECK(contains(refusal(spec_of("ilids", scratch.folder)), "has one image only"));
}

TEST_CASE("splits: CUHK01 pairs images 1 and 2 with 3 and 4") {
  const Scratch scratch("splits");
  for (int person = 1; person <= 5; ++person)
    for (int image = 1; image <= 4; ++image) touch(scratch / "campus" / (padded(person, 4) + padded(image, 3) + ".png"));
  const std::vector<Dataset> splits = read_splits(spec_of("cuhk01", scratch.folder));
  REQUIRE(splits.size() == 20);
  CHECK(splits[0].train.size() == 8);
  CHECK(splits[0].query.size() == 6);
  CHECK(splits[0].query[0].camera == 0);
  CHECK(splits[1].query[0].camera == 1);
  CHECK(shown(splits[1].query) == shown(splits[0].gallery));
  touch(scratch / "campus/0001005.png");
  CHECK(contains(refusal(spec_of("cuhk01", scratch.folder)), "0001005.png: the name does not follow the cuhk01 layout"));
}

TEST_CASE("splits: a file of another machine is matched by the last components of its paths") {
  const Scratch scratch("splits");
  viper_set(scratch.folder, 3);
  touch(scratch / "VIPeR/cam_a/003_0.bmp");
  touch(scratch / "VIPeR/cam_b/003_0.bmp");  // the same name in both cameras
  const auto read = [&](const std::string& json) {
    write_file(scratch / "splits.json", json);
    return read_dataset(spec_of("viper,split=0,splits=" + (scratch / "splits.json").string(), scratch.folder));
  };
  const auto failure = [&](const std::string& json) { return failure_of([&] { read(json); }); };
  const Dataset data = read(R"([{"train": [["/data/viper/VIPeR/cam_a/000_45.bmp", 0, 0], ["/data/viper/VIPeR/cam_b/000_90.bmp", 0, 1]],
      "query": [["C:\\data\\VIPeR\\cam_a\\003_0.bmp", 0, 0]], "gallery": [["cam_b/003_0.bmp", 0, 1], ["x/001_90.bmp", 1, 1]],
      "num_train_pids": 1}])");
  CHECK(shown(data.train) == Lines{"000_45.bmp p1 c0", "000_90.bmp p1 c1"});
  CHECK(shown(data.query) == Lines{"003_0.bmp p4 c0"});
  CHECK(shown(data.gallery) == Lines{"003_0.bmp p4 c1", "001_90.bmp p2 c1"});

  CHECK(contains(failure("{}"), "a file of splits is a list"));
  CHECK(contains(failure("[]"), "a file of splits is a list"));
  CHECK(contains(failure("[{\"train\": []}]"), "split 0: no list \"query\""));
  CHECK(contains(failure(R"([{"train": [["a", 0, 0]], "query": [], "gallery": []}])"), "split 0, train[0]: viper:"));
  CHECK(contains(failure(R"([{"train": [["003_0.bmp", 0, 0]], "query": [], "gallery": []}])"), "train[0]: 2 images of viper:"));
  CHECK(contains(failure(R"([{"train": [7], "query": [], "gallery": []}])"), "train[0]: is neither"));
  CHECK(contains(failure(R"([{"train": [["000_45.bmp", 0, 0], ["001_45.bmp", 0, 0]], "query": [], "gallery": []}])"),
                 "train[1]: the file's person 0 and the person 2"));
  CHECK(contains(failure(R"([{"train": [["000_45.bmp", 0, 0], ["000_90.bmp", 1, 0]], "query": [], "gallery": []}])"),
                 "are not the same people"));
  CHECK(contains(failure("[{"), "splits.json: "));
}

TEST_CASE("splits: PRID 2011 videos follow the file of splits beside them") {
  const Scratch scratch("splits");
  for (const char* camera : {"cam_a", "cam_b"})
    for (const int person : {1, 2, 3, 150})
      for (const char* frame : {"0001.png", "0002.png"})
        touch(scratch / "prid_2011/multi_shot" / camera / ("person_" + padded(person, 4)) / frame);
  const std::string spec = spec_of("prid2011-video", scratch.folder);
  CHECK(contains(refusal(spec), "splits_prid2011.json is missing"));
  write_file(scratch / "splits_prid2011.json", R"([{"train": ["person_0001"], "test": ["person_0150", "person_0002"]}])");
  const Dataset data = read_dataset(spec);
  CHECK(shown(data.train) == Lines{"0001.png p1 c0 t0", "0002.png p1 c0 t0", "0001.png p1 c1 t1", "0002.png p1 c1 t1"});
  CHECK(shown(data.query) == Lines{"0001.png p150 c0 t2", "0002.png p150 c0 t2", "0001.png p2 c0 t3", "0002.png p2 c0 t3"});
  CHECK(data.gallery[0].camera == 1);
  CHECK(data.gallery[0].tracklet == 4);
  CHECK(read_dataset(spec_of("prid2011-video,use=all", scratch.folder)).train.size() == 16);
  write_file(scratch / "splits_prid2011.json", R"([{"train": ["person_0009"], "test": []}])");
  CHECK(contains(refusal(spec), "no frames of person 9 in"));
  write_file(scratch / "splits_prid2011.json", R"([{"train": ["nobody"], "test": []}])");
  CHECK(contains(refusal(spec), "split 0, train[0]: nobody is no person"));
}
