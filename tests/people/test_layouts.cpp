// Sets with one split: the Market-1501 family, MSMT17, CUHK-SYSU, CUHK02.

#include <doctest/doctest.h>

#include <algorithm>

#include "people/layout_fixture.h"

namespace fs = std::filesystem;
using namespace reid;
using namespace reid::test;

namespace {

void touch_all(const fs::path& folder, const std::vector<const char*>& names) {
  for (const char* name : names) touch(folder / name);
}

// Two people train, one of them in the validation list too; one person is asked for.
void msmt17_set(const fs::path& root, const char* train = "train", const char* test = "test") {
  touch_all(root / train, {"0000/0000_000_01_0303morning_0015_0.jpg", "0000/0000_001_15_0303noon_0016_1.jpg",
                           "0001/0001_000_02_0114afternoon_0003_2.jpg"});
  touch_all(root / test, {"0000/0000_000_04_0303morning_0015_0.jpg", "0000/0000_001_05_0303morning_0015_0.jpg"});
  write_file(root / "list_train.txt", "0000/0000_000_01_0303morning_0015_0.jpg 0\n0001/0001_000_02_0114afternoon_0003_2.jpg 1\r\n");
  write_file(root / "list_val.txt", "0000/0000_001_15_0303noon_0016_1.jpg 0\n");
  write_file(root / "list_query.txt", "0000/0000_000_04_0303morning_0015_0.jpg 0\n");
  write_file(root / "list_gallery.txt", "0000/0000_001_05_0303morning_0015_0.jpg 0");
}

}  // namespace

TEST_CASE("layouts: Market-1501 with distractors and several queries") {
  const Scratch scratch("layouts");
  touch_all(scratch.folder, {"bounding_box_train/0002_c1s1_1.jpg", "query/0005_c1s1_1.jpg", "bounding_box_test/0005_c2s1_1.jpg",
                             "bounding_box_test/0000_c6s1_1.jpg", "gt_bbox/0005_c1s1_7.jpg", "gt_bbox/0005_c3s1_7.jpg",
                             "gt_bbox/0002_c1s1_7.jpg", "gt_bbox/Thumbs.db", "images/0000_c1s1_9.jpg", "images/-1_c2s1_9.jpg"});
  const Dataset plain = read_dataset(spec_of("market1501", scratch.folder));
  CHECK(shown(plain.multi_query) == Lines{"0005_c1s1_7.jpg p5 c0"});
  CHECK(plain.gallery.size() == 2);
  CHECK(read_splits(spec_of("market1501", scratch.folder)).size() == 1);

  const Dataset more = read_dataset(spec_of("market1501,distractors=500k", scratch.folder));
  CHECK(shown(more.gallery) == Lines{"0000_c6s1_1.jpg p0 c5", "0005_c2s1_1.jpg p5 c1", "-1_c2s1_9.jpg p0 c1", "0000_c1s1_9.jpg p0 c0"});
  CHECK(more.edition == "distractors=500k");
  CHECK(more.junk == 0);
  touch(scratch / "images" / "0007_c1s1_9.jpg");
  CHECK(contains(refusal(spec_of("market1501,distractors=500k", scratch.folder)), "0007_c1s1_9.jpg: a person (7) among the distractors"));
  fs::remove_all(scratch / "images");
  CHECK(contains(refusal(spec_of("market1501,distractors=500k", scratch.folder)), "wants the folder"));
  CHECK(contains(refusal(spec_of("market1501,distractors=1", scratch.folder)), "distractors takes none|500k, not \"1\""));
}

TEST_CASE("layouts: all images of a set train; the halves are numbered apart, distractors and junk go") {
  const Scratch scratch("layouts");
  touch_all(scratch.folder, {"bounding_box_train/0002_c1_1.jpg", "query/0002_c1_1.jpg", "query/0005_c1_1.jpg",
                             "bounding_box_test/0005_c2_1.jpg", "bounding_box_test/0000_c2_1.jpg", "bounding_box_test/-1_c2_1.jpg"});
  const Dataset all = read_dataset(spec_of("market1501,use=all", scratch.folder));
  CHECK(shown(all.train) == Lines{"0002_c1_1.jpg p2 c0", "0002_c1_1.jpg p4 c0", "0005_c1_1.jpg p7 c0", "0005_c2_1.jpg p7 c1"});
  CHECK(all.query.empty());
  CHECK(all.gallery.empty());
  CHECK(all.name == "market1501,use=all:" + scratch.folder.string());
  CHECK(contains(refusal(spec_of("market1501,use=half", scratch.folder)), "use takes all, not \"half\""));
  CHECK(contains(refusal(spec_of("market1501,use=all,use=all", scratch.folder)), "use is given twice"));
  CHECK(contains(refusal(spec_of("videos,use=all", scratch.folder)), "has no option \"use\"; it has none"));
  CHECK(contains(refusal(spec_of("market1501,split=1", scratch.folder)), "has no option \"split\"; it has distractors, use"));
}

TEST_CASE("layouts: DukeMTMC-reID and CUHK03-NP follow the Market-1501 layout") {
  const Scratch scratch("layouts");
  touch_all(scratch / "DukeMTMC-reID", {"bounding_box_train/0001_c2_f0046182.jpg", "query/0005_c8_f0031.jpg"});
  const Dataset duke = read_dataset(spec_of("dukemtmc", scratch.folder));
  CHECK(shown(duke.train) == Lines{"0001_c2_f0046182.jpg p1 c1"});
  CHECK(shown(duke.query) == Lines{"0005_c8_f0031.jpg p5 c7"});

  touch_all(scratch / "cuhk03-np",
            {"detected/bounding_box_train/0001_c1_1.png", "labeled/bounding_box_train/0001_c1_1.png", "labeled/query/0002_c2_1.jpg"});
  CHECK(contains(refusal(spec_of("cuhk03-np", scratch.folder)), "say which boxes: cuhk03-np,boxes=detected:"));
  const Dataset labeled = read_dataset(spec_of("cuhk03-np,boxes=labeled", scratch.folder));
  CHECK(shown(labeled.query) == Lines{"0002_c2_1.jpg p2 c1"});
  CHECK(labeled.edition == "boxes=labeled");
  CHECK(read_dataset(spec_of("cuhk03-np", scratch / "cuhk03-np/detected")).edition == "boxes=detected");
  CHECK(contains(refusal(spec_of("cuhk03-np,boxes=drawn", scratch.folder)), "boxes takes detected|labeled"));
}

TEST_CASE("layouts: MSMT17 by its lists; identities of training and test never meet") {
  const Scratch scratch("run_03_x");
  msmt17_set(scratch / "MSMT17_V1");
  const Dataset data = read_dataset(spec_of("msmt17", scratch.folder));
  CHECK(shown(data.train) == Lines{"0000_000_01_0303morning_0015_0.jpg p1 c0", "0001_000_02_0114afternoon_0003_2.jpg p2 c1",
                                   "0000_001_15_0303noon_0016_1.jpg p1 c14"});
  CHECK(shown(data.query) == Lines{"0000_000_04_0303morning_0015_0.jpg p1042 c3"});
  CHECK(shown(data.gallery) == Lines{"0000_001_05_0303morning_0015_0.jpg p1042 c4"});
  CHECK(data.name == "msmt17,val=include:" + scratch.folder.string());
  CHECK(data.edition == "val=include");
  const Dataset less = read_dataset(spec_of("msmt17,val=exclude", scratch.folder));
  CHECK(less.train.size() == 2);
  CHECK(less.edition == "val=exclude");

  const Dataset merged = read_dataset(spec_of("msmt17,merged=yes", scratch.folder));
  CHECK(merged.train.size() == 5);
  CHECK(merged.train.back().person == 1042);
  CHECK(merged.gallery.empty());
  CHECK(shown(read_dataset(spec_of("msmt17,use=all", scratch.folder)).train).size() == 5);
  CHECK(contains(refusal(spec_of("msmt17,merged=yes,val=exclude", scratch.folder)), "does not go with val=exclude"));
  CHECK(contains(refusal(spec_of("msmt17,val=exclude,use=all", scratch.folder)), "goes with none of split, splits and val=exclude"));

  msmt17_set(scratch / "MSMT17_V2", "mask_train_v2", "mask_test_v2");
  CHECK(contains(refusal(spec_of("msmt17", scratch.folder)), "holds MSMT17_V1 and MSMT17_V2: name one"));
  CHECK(contains(read_dataset(spec_of("msmt17", scratch / "MSMT17_V2")).train[0].path, "mask_train_v2"));
}

TEST_CASE("layouts: MSMT17 with lists that are missing or wrong") {
  const Scratch scratch("layouts");
  msmt17_set(scratch.folder);
  const std::string spec = spec_of("msmt17", scratch.folder);
  const auto with_list = [&](const char* list, const std::string& text) {
    const std::string before = read_text(scratch / list);
    write_file(scratch / list, text);
    const std::string message = refusal(spec);
    write_file(scratch / list, before);
    return message;
  };
  CHECK(contains(with_list("list_query.txt", "0000/0000_000_04_0303morning_0015_0.jpg\n"), "list_query.txt, line 1: \"0000/0000_000_04"));
  CHECK(contains(with_list("list_query.txt", "\n0000/0000_000_04_0303morning_0015_0.jpg x\n"), "list_query.txt, line 2: "));
  CHECK(contains(with_list("list_query.txt", "0000/0000_000_04_0303morning_0015_0.jpg -1\n"), "is not a path and a number"));
  CHECK(contains(with_list("list_query.txt", "0000/0000_000.jpg 0\n"), "tells no camera"));
  CHECK(contains(with_list("list_query.txt", "0000/0000_000_00_x.jpg 0\n"), "tells no camera"));
  CHECK(contains(with_list("list_query.txt", "0009/0000_000_04_0303morning_0015_0.jpg 0\n"), "list_query.txt, line 1: there is no file"));
  CHECK(contains(with_list("list_query.txt", "\n"), "list_query.txt: the list is empty"));
  fs::remove(scratch / "list_val.txt");
  CHECK(contains(refusal(spec), "list_val.txt is missing"));
  CHECK(refusal(spec_of("msmt17,val=exclude", scratch.folder)).empty());
  fs::remove(scratch / "list_gallery.txt");
  CHECK(contains(refusal(spec), "list_val.txt is missing"));
}

TEST_CASE("layouts: a copy of MSMT17 in the Market-1501 layout") {
  const Scratch scratch("layouts");
  touch_all(scratch / "MSMT17_V1", {"bounding_box_train/0000_c1_0.jpg", "bounding_box_train/1040_c15_0.jpg", "query/0000_c3_0.jpg",
                                    "bounding_box_test/0000_c14_0.jpg"});
  const Dataset data = read_dataset(spec_of("msmt17", scratch.folder));
  CHECK(shown(data.train) == Lines{"0000_c1_0.jpg p1 c0", "1040_c15_0.jpg p1041 c14"});
  CHECK(shown(data.gallery) == Lines{"0000_c14_0.jpg p1042 c13"});
  CHECK(data.edition.empty());
  CHECK(read_dataset(spec_of("msmt17,merged=yes", scratch.folder)).train.size() == 4);
  CHECK(contains(refusal(spec_of("msmt17,val=include", scratch.folder)), "has no list of validation images"));
  touch(scratch / "MSMT17_V1" / "query" / "-1_c1_0.jpg");
  CHECK(contains(refusal(spec_of("msmt17", scratch.folder)), "has no junk images"));
}

TEST_CASE("layouts: CUHK-SYSU in three spellings") {
  const Scratch scratch("layouts");
  touch_all(scratch / "a/cropped_images", {"p11422_s16929_1.jpg", "p3_s1_1.jpg"});
  touch_all(scratch / "b", {"p00001_n01_s00001_hard0.png", "p00001_n02_s00002_hard0.png"});
  touch_all(scratch / "c/CUHK-SYSU/bounding_box_train", {"0001_c0_1.jpg", "0002_c1_1.jpg"});
  const Dataset a = read_dataset(spec_of("cuhk-sysu", scratch / "a"));
  CHECK(shown(a.train) == Lines{"p11422_s16929_1.jpg p11423 c0", "p3_s1_1.jpg p4 c0"});
  CHECK(!a.cameras_known);
  CHECK(shown(read_dataset(spec_of("cuhk-sysu", scratch / "b")).train)[1] == "p00001_n02_s00002_hard0.png p2 c0");
  const Dataset c = read_dataset(spec_of("cuhk-sysu", scratch / "c"));
  CHECK(shown(c.train) == Lines{"0001_c0_1.jpg p2 c0", "0002_c1_1.jpg p3 c0"});
  CHECK(!c.cameras_known);
  touch(scratch / "a/cropped_images/q3_s1.jpg");
  CHECK(contains(refusal(spec_of("cuhk-sysu", scratch / "a")), "q3_s1.jpg: the name does not follow the cuhk-sysu layout"));
}

TEST_CASE("layouts: CUHK02 keeps the pairs of cameras apart") {
  const Scratch scratch("layouts");
  for (int pair = 1; pair <= 5; ++pair)
    for (int camera = 1; camera <= 2; ++camera) touch_all(scratch / str("Dataset/P", pair, "/cam", camera), {"001_1.png", "003_1.png"});
  const Dataset data = read_dataset(spec_of("cuhk02", scratch.folder));
  REQUIRE(data.train.size() == 16);
  CHECK(shown({data.train[0], data.train[3], data.train[4], data.train[15]}) ==
        Lines{"001_1.png p2 c0", "003_1.png p4 c1", "001_1.png p6 c2", "003_1.png p16 c7"});
  CHECK(shown(data.query) == Lines{"001_1.png p18 c8", "003_1.png p20 c8"});
  CHECK(shown(data.gallery) == Lines{"001_1.png p18 c9", "003_1.png p20 c9"});
  touch(scratch / "Dataset/P2/cam1/x.png");
  CHECK(contains(refusal(spec_of("cuhk02", scratch.folder)), "x.png: the name does not follow the cuhk02 layout"));
  fs::remove_all(scratch / "Dataset/P3/cam2");
  fs::remove(scratch / "Dataset/P2/cam1/x.png");
  CHECK(contains(refusal(spec_of("cuhk02", scratch.folder)), "cam2 is missing"));
}

TEST_CASE("layouts: every set with published counts has its layout, and totals agree with the papers") {
  for (const PublishedCounts& counts : published_counts()) {
    const auto& layouts = dataset_layouts();
    CAPTURE(counts.title);
    CHECK(std::any_of(layouts.begin(), layouts.end(), [&](const DatasetLayout& layout) { return layout.name == counts.layout; }));
    CHECK(!counts.source.empty());
    if (counts.edition == "val=include") {
      CHECK(counts.train.images + counts.query.images + counts.gallery.images == 126441);
      CHECK(counts.train.identities + counts.query.identities == 4101);
    }
    if (counts.layout == "cuhk03-np") CHECK(counts.train.identities + counts.query.identities == 1467);
    if (counts.layout == "cuhk02") CHECK(counts.train.images + counts.query.images + counts.gallery.images == 7264);
  }
}

TEST_CASE("layouts: the manual names every layout and option, and the published counts as the table has them") {
  const std::string manual = read_text(fs::path(REID_SOURCE_DIR) / "docs/datasets.md");
  for (const DatasetLayout& layout : dataset_layouts()) {
    CAPTURE(layout.name);
    CHECK((contains(manual, "`" + layout.name + "`") || contains(manual, "### " + layout.name) ||
           contains(manual, ", " + layout.name + "\n")));  // named in text, or in a heading
    for (const auto& [option, meaning] : layout.options) {
      const std::string named = option + "=";
      CHECK(contains(manual, named));
    }
  }
  for (const PublishedCounts& counts : published_counts()) {
    CAPTURE(counts.title);
    std::string number = std::to_string(counts.train.images > 0 ? counts.train.images : counts.train.tracklets);
    if (number.size() > 3) number.insert(number.size() - 3, ",");
    CHECK(contains(manual, number));
  }
}
