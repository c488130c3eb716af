// reid data, run as a user would.

#include <doctest/doctest.h>

#include <algorithm>

#include "people/layout_fixture.h"
#include "program/run_program.h"
#include "reid/formats/image.h"

namespace fs = std::filesystem;
using namespace reid;
using namespace reid::test;

namespace {

void image(const fs::path& file, uint8_t shade) {
  Image picture(8, 4);
  std::fill(picture.rgb.begin(), picture.rgb.end(), shade);
  make_folder(file.parent_path());
  write_file(file, encode_jpeg(picture, 80));
}

void small_market(const fs::path& root) {
  uint8_t shade = 0;
  for (const char* name : {"bounding_box_train/0001_c1_1.jpg", "bounding_box_train/0001_c2_1.jpg", "query/0005_c1_1.jpg",
                           "bounding_box_test/0005_c3_1.jpg", "bounding_box_test/0000_c2_1.jpg", "bounding_box_test/-1_c2_1.jpg"})
    image(root / name, shade += 20);
}

Lines stood_in(const fs::path& folder) {
  Lines names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("reid data list: layouts, options, published counts") {
  const Outcome run = run_reid({"data", "list"});
  CHECK(run.status == 0);
  for (const DatasetLayout& layout : dataset_layouts()) CHECK(contains(run.out, "  " + layout.name + " "));
  CHECK(contains(run.out, "val=include|exclude"));
  CHECK(contains(run.out, "withdrawn by its authors"));
  CHECK(contains(run.out, "12,936 / 751"));
  const Json json = parse_json(run_reid({"data", "list", "--json", "-"}).out, "list");
  CHECK(json.at("layouts").items().size() == dataset_layouts().size());
  CHECK(json.at("published").items().size() == published_counts().size());
}

TEST_CASE("reid data check: a sound set, by its path alone") {
  const Scratch scratch("data");
  small_market(scratch.folder);
  const Outcome run = run_reid({"data", "check", scratch.folder.string()});
  CHECK(run.status == 0);
  CHECK(contains(run.out, "market1501:" + scratch.folder.string() + "\nrecognized by bounding_box_train with names like 0001_c1_1.jpg"));
  CHECK(contains(run.out, "\n1 junk images, left out\nheight x width: 8 x 4 (5)\nnothing is wrong\n"));
  const Json json = parse_json(run_reid({"data", "check", scratch.folder.string(), "--json", "-"}).out, "check");
  CHECK(json.at("problems").integer() == 0);
  CHECK(json.at("parts").at("gallery").at("distractors").integer() == 1);
  CHECK(json.at("junk").integer() == 1);
}

TEST_CASE("reid data check: problems are listed and end with status 1") {
  const Scratch scratch("data");
  small_market(scratch.folder);
  image(scratch / "bounding_box_test/0001_c3_1.jpg", 20);
  write_file(scratch / "query/0005_c2_2.jpg", "no image");
  const Outcome run = run_reid({"data", "check", "market1501:" + scratch.folder.string(), "--json", (scratch / "check.json").string()});
  CHECK(run.status == 1);
  CHECK(run.says("reid: market1501:" + scratch.folder.string() + ": 3 problems"));
  CHECK(contains(run.out, "problem: identities in training and in test: 1 (1)\n"));
  CHECK(contains(run.out, "problem: images that cannot be read: 1"));
  CHECK(contains(run.out, "0005_c2_2.jpg: not a JPEG, PNG or BMP image"));
  CHECK(!contains(run.out, "nothing is wrong"));
  CHECK(parse_json(read_text(scratch / "check.json"), "check").at("problems").integer() == 3);
  CHECK(!contains(run_reid({"data", "check", scratch.folder.string(), "--names-only"}).out, "cannot be read"));
}

TEST_CASE("reid data check: sets with splits are counted whole, one split as it is") {
  const Scratch scratch("data");
  for (const char* camera : {"cam_a", "cam_b"})
    for (const char* name : {"000_0.bmp", "001_0.bmp", "002_0.bmp"}) touch(scratch / camera / name);
  const Outcome whole = run_reid({"data", "check", scratch.folder.string(), "--names-only"});
  CHECK(whole.status == 1);
  CHECK(contains(whole.out, "train  6 (1,264)     3 (632)"));
  CHECK(contains(whole.out, "evaluated on splits: viper,split=N:"));
  const Outcome one = run_reid({"data", "check", "viper,split=19:" + scratch.folder.string(), "--names-only"});
  CHECK(one.status == 0);
  CHECK(contains(one.out, "query"));
  CHECK(run_reid({"data", "check", "viper,split=20:" + scratch.folder.string()}).says("is not one of its splits, 0 to 19"));
}

TEST_CASE("reid data convert: to a manifest and to the Market-1501 layout, whole or not at all") {
  const Scratch scratch("data");
  small_market(scratch / "set");
  const Dataset before = read_dataset("market1501:" + (scratch / "set").string());
  CHECK(run_reid({"data", "convert", (scratch / "set").string(), "--out", (scratch / "m.csv").string()}).status == 0);
  const Dataset listed = read_dataset("manifest:" + (scratch / "m.csv").string());
  CHECK(shown(listed.gallery) == shown(before.gallery));

  const std::string copy = (scratch / "copy").string();
  CHECK(run_reid({"data", "convert", "manifest:" + (scratch / "m.csv").string(), "--to", "market1501", "--out", copy + "/"}).status == 0);
  const Dataset copied = read_dataset("market1501:" + copy);
  CHECK(shown(copied.train) == Lines{"0001_c1_000000.jpg p1 c0", "0001_c2_000001.jpg p1 c1"});
  CHECK(shown(copied.gallery) == Lines{"0000_c2_000000.jpg p0 c1", "0005_c3_000001.jpg p5 c2"});
  CHECK(read_file(copied.query[0].path) == read_file(before.query[0].path));
  CHECK(fs::equivalent(copied.query[0].path, before.query[0].path));  // a hard link

  CHECK(run_reid({"data", "convert", (scratch / "set").string(), "--to", "market1501", "--out", copy}).says("copy: exists already"));
  CHECK(run_reid({"data", "convert", (scratch / "set").string(), "--out", (scratch / "m.txt").string()})
            .says("a manifest's name ends in .csv"));
  touch(scratch / "videos/a/1.jpg");
  CHECK(run_reid({"data", "convert", "videos:" + (scratch / "videos").string(), "--to", "market1501", "--out", copy + "2"})
            .says("1.jpg: has no identity"));
  touch(scratch / "own/anna/1.jpg");
  CHECK(run_reid({"data", "convert", "folder:" + (scratch / "own").string(), "--to", "market1501", "--out", copy + "2"})
            .says("its cameras are not known"));
  CHECK(stood_in(scratch.folder) == Lines{"copy", "m.csv", "own", "set", "videos"});
}

TEST_CASE("reid data convert: other formats become PNG; one that cannot be read leaves nothing behind") {
  const Scratch scratch("data");
  std::vector<uint8_t> bmp = {'B', 'M', 58, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 24};
  bmp.resize(58);
  bmp[56] = 200;  // red
  make_folder(scratch / "set/anna");
  write_file(scratch / "set/anna/c1_1.bmp", bmp);
  const std::string out = (scratch / "copy").string();
  const std::vector<std::string> words = {"data", "convert", "folder:" + (scratch / "set").string(), "--to", "market1501", "--out", out};
  CHECK(run_reid(words).status == 0);
  CHECK(read_image(out + "/bounding_box_train/0001_c2_000000.png").rgb == std::vector<uint8_t>{200, 0, 0});
  fs::remove_all(out);
  touch(scratch / "set/anna/c1_2.bmp");
  CHECK(run_reid(words).says("c1_2.bmp: the file is empty"));
  CHECK(stood_in(scratch.folder) == Lines{"set"});
}

TEST_CASE("reid data: wrong command lines") {
  CHECK(run_reid({"data"}).status == 2);
  CHECK(run_reid({"data", "verify"}).says("'verify' is not one of list, check, convert"));
  CHECK(run_reid({"data", "list", "x"}).says("'x' is one argument too many"));
  CHECK(run_reid({"data", "check"}).says("SET is missing"));
  CHECK(run_reid({"data", "check", "x", "--decode", "--names-only"}).says("give one of them"));
  CHECK(run_reid({"data", "convert", "x"}).says("--out is missing"));
  CHECK(run_reid({"data", "check", "market:x"}).says("unknown layout \"market\""));
  CHECK(run_reid({"data", "check", "nowhere"}).says("nowhere: there is no such file or folder"));
}
