// Checks of data sets against published counts and common sense; and which layout a path is taken for.

#include <doctest/doctest.h>

#include <algorithm>

#include "people/layout_fixture.h"
#include "reid/formats/image.h"
#include "reid/people/dataset_check.h"

namespace fs = std::filesystem;
using namespace reid;
using namespace reid::test;

namespace {

// As many images, identities (from `first` on) and cameras (from `camera` on) as a part is published with.
std::vector<Sample> part_of(const PublishedPart& part, int64_t first, int64_t camera, const char* name) {
  const int64_t identities = std::max<int64_t>(part.identities, 1), cameras = std::max<int64_t>(part.cameras, 1);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < part.images; ++i)
    samples.push_back({.path = str(name, i), .person = first + i % identities, .camera = camera + (i + i / identities) % cameras});
  return samples;
}

const PublishedCounts& published(const std::string& layout, const std::string& edition = "") {
  const auto& all = published_counts();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const PublishedCounts& c) { return c.layout == layout && c.edition == edition; });
  REQUIRE(found != all.end());
  return *found;
}

Dataset as_published(const PublishedCounts& counts) {
  Dataset data;
  data.name = counts.layout + ":x";
  data.train = part_of(counts.train, 1, 0, "t");
  data.query = part_of(counts.query, 100000, 0, "q");
  data.gallery = part_of(counts.gallery, 100000, 100, "g");
  return data;
}

DatasetCheck check_of(const Dataset& data, const std::string& layout) {
  return check_dataset(data, layout, "/nowhere", {.open_files = false});
}

// Problems as lines, then notes.
Lines found(const DatasetCheck& check) {
  Lines lines;
  for (const Finding& finding : check.findings) lines.push_back((finding.problem ? "! " : "- ") + finding.text);
  return lines;
}

bool says(const DatasetCheck& check, const std::string& line) {
  const Lines lines = found(check);
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& one) { return contains(one, line); });
}

Image plain_image(uint8_t shade) {
  Image image(8, 4);
  std::fill(image.rgb.begin(), image.rgb.end(), shade);
  return image;
}

// Whole by its headers and checksums, but there is nothing to unpack: one gray pixel whose compressed data are zeros.
std::vector<uint8_t> hollow_png() {
  std::vector<uint8_t> bytes = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  const auto chunk = [&](std::vector<uint8_t> content) {  // type and data
    bytes.insert(bytes.end(), {0, 0, 0, static_cast<uint8_t>(content.size() - 4)});
    uint32_t crc = 0xFFFFFFFFu;
    for (const uint8_t byte : content) {
      crc ^= byte;
      for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? 0xEDB88320u ^ (crc >> 1) : crc >> 1;
    }
    bytes.insert(bytes.end(), content.begin(), content.end());
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(~crc >> shift));
  };
  chunk({'I', 'H', 'D', 'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0});
  chunk({'I', 'D', 'A', 'T', 0, 0, 0, 0, 0, 0});
  chunk({'I', 'E', 'N', 'D'});
  return bytes;
}

std::string layout_seen(const fs::path& path) {
  const std::string spec = recognize_layout(path).spec;
  REQUIRE(spec.ends_with(":" + path.string()));
  return spec.substr(0, spec.find(':'));
}

}  // namespace

TEST_CASE("check: what agrees with the published counts has no problem") {
  for (const PublishedCounts& counts : published_counts()) {
    if (counts.train.images == 0) continue;  // known by tracklets
#ifdef REID_DEBUG
    if (counts.train.images + counts.gallery.images > 10000) continue;  // the same again, but a minute under sanitizers
#endif
    CAPTURE(counts.title);
    Dataset data = as_published(counts);
    data.edition = counts.edition;
    const DatasetCheck check = check_of(data, counts.layout);
    CHECK(check.problems() == 0);
    REQUIRE(check.published != nullptr);
    CHECK(check.published->title == counts.title);
    if (counts.layout == "dukemtmc") CHECK(says(check, "- withdrawn by its authors"));
    data.edition.clear();  // a copy does not say which one it is
    CHECK(check_of(data, counts.layout).published->title == counts.title);
  }
}

TEST_CASE("check: missing parts, wrong numbers and wrong variants are named") {
  const PublishedCounts& market = published("market1501");
  Dataset data = as_published(market);
  data.train.pop_back();
  CHECK(found(check_of(data, "market1501")) == Lines{"! train: 12,935 images instead of 12,936"});
  data = as_published(market);
  for (Sample& sample : data.train)
    sample.camera = std::min<int64_t>(sample.camera, 4), sample.person = std::max<int64_t>(sample.person, 2);
  CHECK(found(check_of(data, "market1501")) == Lines{"! train: 750 identities instead of 751, 5 cameras instead of 6"});
  data = as_published(market);
  data.gallery.clear();
  CHECK(found(check_of(data, "market1501")) ==
        Lines{"! gallery is missing; Market-1501 has 15,913 images there", "! there are queries but no gallery"});
  data = as_published(market);
  std::swap(data.query, data.gallery);
  CHECK(says(check_of(data, "market1501"), "! query and gallery are swapped"));

  Dataset labeled = as_published(published("cuhk03-np", "boxes=labeled"));
  labeled.edition = "boxes=detected";
  const DatasetCheck wrong = check_of(labeled, "cuhk03-np");
  CHECK(says(wrong, "! train: 7,368 images instead of 7,365"));
  CHECK(says(wrong, "! these are the counts of CUHK03-NP, labeled: read it as cuhk03-np,boxes=labeled:"));

  Dataset sysu = as_published(published("cuhk-sysu"));
  sysu.query = {{.path = "q", .person = 1}};
  CHECK(says(check_of(sysu, "cuhk-sysu"), "! query: 1 images, where CUHK-SYSU has none"));
}

TEST_CASE("check: a set of one's own in the layout of Market-1501 is not held against Market-1501") {
  Dataset data = as_published({"market1501", "", "", {100, 10, 3}, {20, 5, 3}, {40, 5, 3}, ""});
  const DatasetCheck check = check_of(data, "market1501");
  CHECK(check.published == nullptr);
  CHECK(check.problems() == 0);
  CHECK(check.parts.size() == 3);
  CHECK(check.parts[0].second.fewest == 10);
}

TEST_CASE("check: people and files on both sides, queries without a match") {
  Dataset data;
  data.name = "own";
  data.train = {
      {.path = "a", .person = 1, .camera = 0}, {.path = "./b", .person = 2, .camera = 1}, {.path = "c", .person = 2, .camera = 0}};
  data.query = {{.path = "q", .person = 2, .camera = 0}, {.path = "b", .person = 5, .camera = 0}, {.path = "r", .person = 6, .camera = 0}};
  data.gallery = {
      {.path = "q", .person = 2, .camera = 1}, {.path = "s", .person = 6, .camera = 0}, {.path = "s", .person = 6, .camera = 0}};
  const DatasetCheck check = check_of(data, "");
  CHECK(found(check) == Lines{"! identities in training and in test: 1", "! files in training and in test: 1",
                              "! files that gallery names again: 1", "- files in query and in gallery: 1",
                              "- queries with no match under another camera of the gallery: 2 of 3",
                              "- training identities that one camera alone saw: 1 of 2"});
  CHECK(check.findings[0].which == Lines{"2"});
  CHECK(check.findings[1].which == Lines{"b"});
  CHECK(check.problems() == 3);

  data.cameras_known = false;
  CHECK(says(check_of(data, ""), "- queries with no match in the gallery: 2 of 3"));  // its own file is no match
  CHECK(says(check_of(data, ""), "- cameras are not known"));
  data.cameras_known = true;
  data.query.pop_back();
  data.gallery[0].camera = 0;
  CHECK(says(check_of(data, ""), "! queries with no match under another camera of the gallery: 2 of 2"));
  data.query.clear();
  CHECK(says(check_of(data, ""), "! there is a gallery but no query"));
}

TEST_CASE("check: damage, equal contents, sizes, files that are passed over") {
  const Scratch scratch("check");
  const auto jpeg = [&](const char* name, uint8_t shade) {
    make_folder((scratch / name).parent_path());
    write_file(scratch / name, encode_jpeg(plain_image(shade), 80));
  };
  jpeg("bounding_box_train/0001_c1_1.jpg", 10);
  jpeg("bounding_box_train/0001_c2_1.jpg", 10);  // equal, the same person
  jpeg("bounding_box_train/0002_c2_1.jpg", 10);  // equal, another person
  jpeg("query/0005_c1_1.jpg", 10);               // equal, across the halves
  jpeg("bounding_box_test/0005_c2_1.jpg", 90);
  for (const char* name : {"Thumbs.db", "query/._0005_c1_1.jpg", "query/.DS_Store", "__MACOSX/x"}) touch(scratch / name);
  const auto run = [&](const CheckOptions& options) {
    return check_dataset(read_dataset(spec_of("market1501", scratch.folder)), "market1501", scratch.folder, options);
  };
  const DatasetCheck check = run({});
  CHECK(found(check) == Lines{"! test images equal to training images: 1", "! images equal to one of another identity: 1",
                              "- training identities that one camera alone saw: 1 of 2",
                              "- images equal to another of the same identity: 1",
                              "- passed over: 1 .DS_Store, 1 ._* (archives made on a Mac), 1 Thumbs.db, 1 __MACOSX"});
  CHECK(check.findings[0].which == Lines{"0001_c1_1.jpg = 0005_c1_1.jpg"});
  REQUIRE(check.sizes.size() == 1);
  CHECK(check.sizes[0].height == 8);
  CHECK(check.sizes[0].width == 4);
  CHECK(check.sizes[0].images == 5);
  CHECK(run({.open_files = false}).problems() == 0);

  std::vector<uint8_t> cut = encode_jpeg(plain_image(33), 80);
  cut.erase(cut.end() - 9, cut.end());
  write_file(scratch / "query/0005_c1_1.jpg", cut);
  write_file(scratch / "bounding_box_test/0005_c2_1.jpg", hollow_png());  // what a name ends in is not looked at
  CHECK(says(run({}), "! images that cannot be read: 1"));
  CHECK(says(run({.open_files = true, .decode = true}), "! images that cannot be read: 2"));
}

TEST_CASE("check: equal images of a set that agrees with the published counts are its own") {
  const Scratch scratch("check");
  Dataset data = as_published(published("prid"));
  data.edition = "";
  for (Sample& sample : data.train) sample.path = (scratch / sample.path).string();
  for (const Sample& sample : data.train) write_file(sample.path, encode_jpeg(plain_image(7), 80));
  const DatasetCheck check = check_dataset(data, "prid", scratch.folder, {});
  CHECK(check.problems() == 0);
  CHECK(says(check, "- images equal to one of another identity, as the published set may have them: 398"));
}

TEST_CASE("recognition: a path tells its layout") {
  const Scratch scratch("recognize");
  const std::vector<std::pair<const char*, std::vector<const char*>>> sets = {
      {"market1501", {"Market-1501-v15.09.15/bounding_box_train/0002_c1s1_000451_03.jpg"}},
      {"market1501", {"query/0002_c1s1_1.jpg", "bounding_box_test/0000_c6s1_1.jpg"}},
      {"dukemtmc", {"bounding_box_train/0001_c2_f0046182.jpg"}},
      {"msmt17", {"MSMT17_V1/list_train.txt", "MSMT17_V1/train/0000/x.jpg"}},
      {"msmt17", {"list_gallery.txt", "test/0000/x.jpg"}},
      {"msmt17", {"bounding_box_train/0000_c1_1.jpg"}},
      {"msmt17", {"bounding_box_train/0007_c15_1.jpg"}},
      {"cuhk03-np", {"bounding_box_train/0001_c1_1.png", "bounding_box_train/0001_c2_1.png"}},
      {"cuhk-sysu", {"cropped_images/p1_s1_1.jpg"}},
      {"cuhk01", {"campus/0001001.png"}},
      {"cuhk02", {"Dataset/P1/cam1/1_1.png", "Dataset/P5/cam1/1_1.png"}},
      {"viper", {"VIPeR/cam_a/1_1.bmp", "VIPeR/cam_b/1_1.bmp"}},
      {"prid", {"prid_2011/single_shot/cam_a/person_0001.png", "prid_2011/single_shot/cam_b/person_0001.png"}},
      {"prid2011-video", {"multi_shot/cam_a/person_0001/1.png", "multi_shot/cam_b/person_0001/1.png"}},
      {"ilids", {"Persons/0001001.jpg"}},
      {"dukemtmc-videoreid", {"train/0001/0001/0001_C6_F0099_X30823.jpg", "query/x", "gallery/x"}},
      {"luperson", {"a/01_02_0003_00000004.jpg"}},
      {"tracklets", {"train/anna/1/1.jpg", "query/anna/1/1.jpg", "gallery/anna/1/1.jpg"}},
      {"tracklets", {"anna/1/1.jpg"}},
      {"folder", {"query/anna/1.jpg", "gallery/anna/1.jpg"}},
      {"folder", {"1.jpg"}},
  };
  int number = 0;
  for (const auto& set : sets) {
    const fs::path root = scratch / str(++number);
    for (const char* file : set.second) touch(root / file);
    CAPTURE(number);
    CHECK(layout_seen(root) == set.first);
    CHECK(!recognize_layout(root).evidence.empty());
  }
  touch(scratch / "m.csv");
  CHECK(layout_seen(scratch / "m.csv") == "manifest");
  const auto refused = [&](const fs::path& path) { return failure_of([&] { recognize_layout(path); }); };
  touch(scratch / "note.txt");
  CHECK(contains(refused(scratch / "note.txt"), "note.txt: is a file, but no manifest"));
  CHECK(contains(refused(scratch / "nowhere"), "nowhere: there is no such file or folder"));
  touch(scratch / "ids/anna/1.jpg");
  CHECK(contains(refused(scratch / "ids"), "for a folder per identity, videos:"));
  make_folder(scratch / "empty");
  CHECK(contains(refused(scratch / "empty"), "holds no images"));
  touch(scratch / "np/detected/bounding_box_train/0001_c1_1.png");
  touch(scratch / "np/labeled/bounding_box_train/0001_c1_1.png");
  CHECK(contains(refused(scratch / "np"), "say which: cuhk03-np,boxes=detected:"));
}
