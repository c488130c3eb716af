// People's own data: folders, tracklets, manifests.

#include <doctest/doctest.h>

#include "people/layout_fixture.h"

namespace fs = std::filesystem;
using namespace reid;
using namespace reid::test;

TEST_CASE("own data: folders without cameras say so; some with and some without are refused") {
  const Scratch scratch("own");
  for (const char* name : {"query/anna/1.jpg", "gallery/anna/2.jpg", "gallery/zoe/3.bmp"}) touch(scratch / name);
  const Dataset data = read_dataset(spec_of("folder", scratch.folder));
  CHECK(!data.cameras_known);
  CHECK(shown(data.gallery) == Lines{"2.jpg p1 c0", "3.bmp p2 c0"});
  CHECK(census(data).find("cameras_known") != nullptr);
  touch(scratch / "gallery/zoe/c4_1.jpg");
  const std::string message = refusal(spec_of("folder", scratch.folder));
  CHECK(contains(message, "c4_1.jpg names a camera (a field cN) but "));
  CHECK(contains(message, "1.jpg names none"));
}

TEST_CASE("own data: all images of shared names train as the same people") {
  const Scratch scratch("own");
  for (const char* name : {"train/anna/c1_1.jpg", "query/anna/c1_2.jpg", "gallery/zoe/c2_3.jpg"}) touch(scratch / name);
  const Dataset all = read_dataset(spec_of("folder,use=all", scratch.folder));
  CHECK(shown(all.train) == Lines{"c1_1.jpg p1 c1", "c1_2.jpg p1 c1", "c2_3.jpg p2 c2"});
}

TEST_CASE("own data: tracklets") {
  const Scratch scratch("own");
  for (const char* name : {"query/anna/c1_a/1.jpg", "query/anna/c1_a/2.jpg", "gallery/anna/b/c3_1.jpg", "gallery/anna/b/c3_2.jpg",
                           "gallery/zoe/b/c2_1.jpg", "train/bert/x/c2_1.jpg"})
    touch(scratch / name);
  const Dataset data = read_dataset(spec_of("tracklets", scratch.folder));
  CHECK(shown(data.train) == Lines{"c2_1.jpg p2 c2 t0"});
  CHECK(shown(data.query) == Lines{"1.jpg p1 c1 t1", "2.jpg p1 c1 t1"});
  CHECK(shown(data.gallery) == Lines{"c3_1.jpg p1 c3 t2", "c3_2.jpg p1 c3 t2", "c2_1.jpg p3 c2 t3"});
  CHECK(data.cameras_known);
  CHECK(read_dataset(spec_of("tracklets", scratch / "gallery")).train.size() == 3);
  touch(scratch / "gallery/anna/b/c4_3.jpg");
  CHECK(contains(refusal(spec_of("tracklets", scratch.folder)), "c4_3.jpg: another camera than c3_1.jpg of the same tracklet"));
  fs::remove(scratch / "gallery/anna/b/c4_3.jpg");
  touch(scratch / "gallery/anna/d/3.jpg");
  CHECK(contains(refusal(spec_of("tracklets", scratch.folder)), "3.jpg names none"));
  touch(scratch / "gallery/anna/3.jpg");
  CHECK(contains(refusal(spec_of("tracklets", scratch.folder)), "3.jpg stands outside of any tracklet"));
}

TEST_CASE("own data: DukeMTMC-VideoReID in both spellings") {
  const Scratch scratch("own");
  for (const char* name : {"train/0001/0001/0001C6F0099X30823.jpg", "query/0002/0001/0002_C8_F0002_X30823.jpg",
                           "gallery/0002/0004/0002_C1_F0001_X1.jpg", "gallery/0002/0004/0002_C1_F0002_X2.jpg"})
    touch(scratch / "DukeMTMC-VideoReID" / name);
  const Dataset data = read_dataset(spec_of("dukemtmc-videoreid", scratch.folder));
  CHECK(shown(data.train) == Lines{"0001C6F0099X30823.jpg p1 c5 t0"});
  CHECK(shown(data.query) == Lines{"0002_C8_F0002_X30823.jpg p2 c7 t1"});
  CHECK(shown(data.gallery) == Lines{"0002_C1_F0001_X1.jpg p2 c0 t2", "0002_C1_F0002_X2.jpg p2 c0 t2"});
  touch(scratch / "DukeMTMC-VideoReID/gallery/0002/0005/0002_F1.jpg");
  CHECK(contains(refusal(spec_of("dukemtmc-videoreid", scratch.folder)), "0002_F1.jpg: the name does not follow"));
  fs::remove_all(scratch / "DukeMTMC-VideoReID/gallery/0002/0005");
  touch(scratch / "DukeMTMC-VideoReID/gallery/anna/0005/0002_C1_F1.jpg");
  CHECK(contains(refusal(spec_of("dukemtmc-videoreid", scratch.folder)), "anna: the folder's name is no number"));
}

TEST_CASE("own data: a manifest as CSV") {
  const Scratch scratch("own");
  for (const char* name : {"a.jpg", "b, c.jpg", "sub/\"q\".jpg", "d.jpg", "e.jpg"}) touch(scratch / name);
  write_file(scratch / "m.csv",
             "\xEF\xBB\xBFid,split,path,camera,video,tracklet\r\nanna,train,a.jpg,door,v2,\r\n"
             "\"zoe\nz\",query,\"b, c.jpg\",hall,v1,x\r\n\r\nanna,gallery,\"sub/\"\"q\"\".jpg\",hall,,\"10\"\r\n"
             "distractor,gallery,d.jpg,door,,\r\n,train,e.jpg,door,,");
  const Dataset data = read_dataset(spec_of("manifest", scratch / "m.csv"));
  CHECK(shown(data.train) == Lines{"a.jpg p1 c0", "e.jpg p-1 c0"});
  CHECK(shown(data.query) == Lines{"b, c.jpg p2 c1 t1"});
  CHECK(shown(data.gallery) == Lines{"\"q\".jpg p1 c1 t0", "d.jpg p0 c0"});
  CHECK(data.videos == Lines{"v1", "v2"});
  CHECK(data.train[0].video == 1);
  CHECK(data.query[0].video == 0);
  CHECK(data.cameras_known);
}

TEST_CASE("own data: a manifest in JSON lines, without cameras; plain numbers keep their values") {
  const Scratch scratch("own");
  for (const char* name : {"a.jpg", "b.jpg"}) touch(scratch / name);
  write_file(scratch / "m.jsonl", R"({"path": "a.jpg", "id": 70, "split": "query"}
{"path": "b.jpg", "id": "9", "split": "gallery", "camera": null})");
  const Dataset data = read_dataset(spec_of("manifest", scratch / "m.jsonl"));
  CHECK(shown(data.query) == Lines{"a.jpg p70 c0"});
  CHECK(shown(data.gallery) == Lines{"b.jpg p9 c0"});
  CHECK(!data.cameras_known);
  write_file(scratch / "m.jsonl", R"({"path": "a.jpg", "id": "070", "camera": 0, "split": "query"}
{"path": "b.jpg", "id": "70", "camera": 4, "split": "gallery"})");
  const Dataset strings = read_dataset(spec_of("manifest", scratch / "m.jsonl"));
  CHECK(shown(strings.query) == Lines{"a.jpg p1 c0"});
  CHECK(shown(strings.gallery) == Lines{"b.jpg p2 c4"});
  write_file(scratch / "m.jsonl", R"({"path": "a.jpg", "id": 0, "split": "train"})");
  CHECK(read_dataset(spec_of("manifest", scratch / "m.jsonl")).train[0].person == 1);  // zero is a person here
}

TEST_CASE("own data: what is wrong in a manifest is named by line and column") {
  const Scratch scratch("own");
  touch(scratch / "a.jpg");
  const auto csv = [&](const std::string& text) {
    write_file(scratch / "m.csv", text);
    return refusal(spec_of("manifest", scratch / "m.csv"));
  };
  CHECK(csv("path,id,camera,split\na.jpg,1,1,train\n").empty());
  CHECK(contains(csv(""), "m.csv: the file is empty"));
  CHECK(contains(csv("path,id,camera,split\n"), "m.csv: the manifest names no images"));
  CHECK(contains(csv("path,id,camera\na.jpg,1,1\n"), "the column split is missing"));
  CHECK(contains(csv("path,person,camera,split\na.jpg,1,1,train\n"), "line 1: unknown column \"person\""));
  CHECK(contains(csv("path,id,id,split\na.jpg,1,1,train\n"), "line 1: the column \"id\" stands twice"));
  CHECK(contains(csv("path,id,camera,split\na.jpg,1,1,train\na.jpg,1,1,test\n"), "line 3, column split: \"test\" is not train, query"));
  CHECK(contains(csv("path,id,camera,split\n\nb.jpg,1,1,train\n"), "line 3, column path: there is no file"));
  CHECK(contains(csv("path,id,camera,split\n,1,1,train\n"), "line 2, column path: is empty"));
  CHECK(contains(csv("path,id,camera,split\n.,1,1,train\n"), "line 2, column path: there is no file"));
  CHECK(contains(csv("path,id,camera,split\na.jpg,1,train\n"), "line 2: 3 fields, but the header has 4"));
  CHECK(contains(csv("path,id,camera,split\na.jpg,1,1,train\na.jpg,2,,train\n"), "line 2 names a camera but line 3 names none"));
  CHECK(contains(csv("path,id,camera,split\na.jpg,distractor,1,query\n"), "line 2, column id: a distractor belongs"));
  CHECK(contains(csv("path,id,camera,split\na.jpg,,1,gallery\n"), "line 2, column id: is empty"));
  CHECK(contains(csv("path,id,camera,split\n\"a.jpg,1,1,train\n"), "line 2: a quote is opened and never closed"));
  CHECK(contains(csv("path,id,camera,split\n\"a\n.jpg\"x,1,1,train\n"), "line 3: text behind a closing quote"));
  CHECK(contains(csv("path,id,camera,split\na\".jpg,1,1,train\n"), "line 2: a quote inside a field"));
  const auto jsonl = [&](const std::string& text) {
    write_file(scratch / "m.jsonl", text);
    return refusal(spec_of("manifest", scratch / "m.jsonl"));
  };
  CHECK(contains(jsonl("\n[1]"), "m.jsonl, line 2: is no object"));
  CHECK(contains(jsonl("{\"path\": 1"), "m.jsonl, line 1: "));
  CHECK(contains(jsonl(R"({"path": "a.jpg", "id": 1.5, "split": "train"})"), "line 1, column id: takes a string or an integer, not 1.5"));
  CHECK(contains(jsonl(R"({"path": "a.jpg", "pid": 1, "split": "train"})"), "line 1: unknown column \"pid\""));
  CHECK(contains(jsonl(R"({"path": "a.jpg", "split": "train"})"), "the column id is missing"));
  CHECK(contains(refusal(spec_of("manifest", scratch / "a.jpg")), "a manifest's name ends in .csv or .jsonl"));
  CHECK(contains(refusal(spec_of("manifest", scratch / "none.csv")), "there is no such file"));
}

TEST_CASE("own data: a manifest that is written reads back as the same data set") {
  const Scratch scratch("own"), elsewhere("elsewhere");
  for (const char* name : {"bounding_box_train/0002_c1_1.jpg", "bounding_box_train/0040_c3_a,b.jpg", "query/0005_c1_1.jpg",
                           "bounding_box_test/0000_c2_1.jpg", "bounding_box_test/0005_c2_1.jpg", "gt_bbox/0005_c1_2.jpg"})
    touch(scratch / name);
  const Dataset data = read_dataset(spec_of("market1501", scratch.folder));
  for (const fs::path& file : {scratch / "m.csv", elsewhere / "m.csv"}) {
    write_file(file, manifest_csv(data, file));
    const Dataset back = read_dataset(spec_of("manifest", file));
    CHECK(shown(back.train) == shown(data.train));
    CHECK(shown(back.query) == shown(data.query));
    CHECK(shown(back.gallery) == shown(data.gallery));
    CHECK(shown(back.multi_query) == shown(data.multi_query));
  }
  CHECK(contains(read_text(scratch / "m.csv"), "\nquery/0005_c1_1.jpg,5,0,query\n"));
  CHECK(contains(read_text(scratch / "m.csv"), "\"bounding_box_train/0040_c3_a,b.jpg\""));
  CHECK(contains(read_text(elsewhere / "m.csv"), (scratch / "query/0005_c1_1.jpg").string()));

  for (const char* name : {"v/clip 1/a/1.jpg", "t/anna/x/1.jpg", "t/anna/y/1.jpg"}) touch(scratch / name);
  for (const std::string& spec : {spec_of("videos", scratch / "v"), spec_of("tracklets", scratch / "t")}) {
    const Dataset set = read_dataset(spec);
    write_file(scratch / "m.csv", manifest_csv(set, scratch / "m.csv"));
    const Dataset back = read_dataset(spec_of("manifest", scratch / "m.csv"));
    CHECK(shown(back.train) == shown(set.train));
    CHECK(back.videos == set.videos);
    CHECK(back.cameras_known == set.cameras_known);
  }
}
