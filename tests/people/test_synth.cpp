#include "reid/people/synth.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "formats/scratch.h"
#include "people/synth/plan.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"
#include "reid/formats/json.h"

using namespace reid;
using namespace reid::test;
namespace fs = std::filesystem;

namespace {

// A world of some 70 crops.
WorldConfig mini() {
  WorldConfig c = world_preset("tiny");
  c.preset = "mini";
  c.domains.resize(2);
  for (DomainConfig& d : c.domains) {
    d.train_ids = 1;
    d.test_ids = 2;
    d.cameras = 2;
    d.distractors = d.junk = 1;
  }
  c.videos = {2, 2, 2, 3, 4, "folders"};
  return c;
}

struct MarketName {
  int identity = 0, camera = 0, sequence = 0, frame = 0, box = 0;
};

MarketName parse(const std::string& name) {
  MarketName n;
  int used = 0;
  const int fields = std::sscanf(name.c_str(), "%d_c%ds%d_%6d_%2d.jpg%n", &n.identity, &n.camera, &n.sequence, &n.frame, &n.box, &used);
  REQUIRE_MESSAGE(fields == 5, name);
  REQUIRE_MESSAGE(static_cast<size_t>(used) == name.size(), name);
  return n;
}

std::map<std::string, std::string> files_below(const fs::path& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(root))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), root).string()] = read_text(entry.path());
  return files;
}

double difference(const Image& a, const Image& b) {
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(int{a.rgb[i]} - int{b.rgb[i]});
  return sum / static_cast<double>(a.rgb.size());
}

int64_t entries_in(const fs::path& folder) { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); }

}  // namespace

TEST_CASE("synth: own sine and power agree with the library's") {
  for (int i = -4000; i <= 4000; ++i) {
    const float x = 0.0103f * static_cast<float>(i);
    CHECK(static_cast<double>(synth::sine(x)) == doctest::Approx(std::sin(static_cast<double>(x))).epsilon(1e-6));
  }
  for (int i = 1; i <= 300; ++i) {
    const float x = 0.007f * static_cast<float>(i);
    for (const float e : {0.3f, 1.0f, 2.2f, -0.7f}) {
      const double expected = std::pow(static_cast<double>(x), static_cast<double>(e));
      CHECK(std::fabs(static_cast<double>(synth::power(x, e)) / expected - 1) < 2e-6);
    }
  }
  CHECK(synth::floor_to_int(-0.25f) == -1);
  CHECK(synth::floor_to_int(-3.0f) == -3);
  CHECK(synth::fraction(-0.25f) == 0.75f);
}

TEST_CASE("synth: the tiny world of seed 1, its layout, names, identities and bytes") {
  const Scratch scratch("synth");
  const WorldReport report = write_world(world_preset("tiny"), 1, scratch / "world", 2);
  CHECK(report.version == kWorldVersion);
  // Bump kWorldVersion together with this figure whenever worlds are meant to change.
  CHECK(hex(report.hash) == "b07703536d7977cb");

  std::set<int> everyone;
  for (const char* domain : {"source", "validation", "target"}) {
    CAPTURE(domain);
    std::map<std::string, std::set<int>> identities;
    std::map<int, std::set<int>> gallery_cameras;
    std::vector<MarketName> queries;
    for (const char* part : {"bounding_box_train", "query", "bounding_box_test"})
      for (const auto& entry : fs::directory_iterator(scratch.folder / "world" / domain / part)) {
        const MarketName n = parse(entry.path().filename().string());
        CHECK(n.camera >= 1);
        CHECK(n.camera <= 3);
        identities[part].insert(n.identity);
        if (std::string(part) == "query") queries.push_back(n);
        if (std::string(part) == "bounding_box_test") gallery_cameras[n.identity].insert(n.camera);
      }
    CHECK(identities["query"].size() == 6);
    CHECK(identities["bounding_box_test"].count(-1) == 1);
    CHECK(identities["bounding_box_test"].count(0) == 1);
    identities["bounding_box_test"].erase(-1);
    identities["bounding_box_test"].erase(0);
    CHECK(identities["query"] == identities["bounding_box_test"]);
    for (const MarketName& q : queries) {
      std::set<int> others = gallery_cameras[q.identity];
      others.erase(q.camera);
      CHECK_MESSAGE(!others.empty(), "query identity ", q.identity, " has no match in another camera");
    }
    for (const char* half : {"bounding_box_train", "query"})
      for (const int identity : identities[half]) CHECK_MESSAGE(everyone.insert(identity).second, "identity ", identity, " twice");
  }

  const std::string truth = read_text(scratch.folder / "world" / "videos_truth.csv");
  std::istringstream lines(truth);
  std::string line;
  std::getline(lines, line);
  CHECK(line == "path,identity");
  std::map<int, std::string> video_of;
  std::set<std::string> listed;
  while (std::getline(lines, line)) {
    const size_t comma = line.find(',');
    const std::string path = line.substr(0, comma);
    const int identity = std::stoi(line.substr(comma + 1));
    CHECK(everyone.count(identity) == 0);
    const std::string video = fs::path(path).parent_path().string();
    CHECK(video_of.emplace(identity, video).first->second == video);
    listed.insert(path);
  }
  int64_t images = 0, crops = 0;
  for (const auto& [name, bytes] : files_below(scratch / "world")) {
    if (fs::path(name).extension() != ".jpg") continue;
    ++images;
    if (name.rfind("videos/", 0) == 0) {
      ++crops;
      CHECK(listed.count(name) == 1);
    }
  }
  CHECK(crops == static_cast<int64_t>(listed.size()));
  CHECK(images == report.images);

  const Json manifest = parse_json(read_text(scratch.folder / "world" / "world.json"), "world.json");
  CHECK(manifest.at("version").integer() == kWorldVersion);
  CHECK(manifest.at("hash").string() == hex(report.hash));
  CHECK(manifest.at("images").integer() == images);
  CHECK(manifest.at("preset").string() == "tiny");
  int64_t counted = 0;
  for (const WorldCount& c : report.counts) counted += c.images;
  CHECK(counted == images);
  const Image crop = read_image(scratch.folder / "world" / *listed.begin());
  CHECK(crop.height == 128);
  CHECK(crop.width == 64);
}

TEST_CASE("synth: the world of Market-1501's size") {
  std::map<std::string, int64_t> images;
  std::map<std::string, std::set<int64_t>> identities;
  for (const synth::Job& job : synth::make_plan(world_preset("market1501"), 1).jobs) {
    ++images[job.folder];
    identities[job.folder].insert(job.identity);
  }
  CHECK(images ==
        std::map<std::string, int64_t>{{"source/bounding_box_test", 19732}, {"source/bounding_box_train", 13152}, {"source/query", 3284}});
  CHECK(identities["source/bounding_box_train"].size() == 751);
  CHECK(identities["source/query"].size() == 750);
}

TEST_CASE("synth: same seed, same bytes, with any number of threads; another seed, another world") {
  const Scratch scratch("synth");
  int64_t calls = 0;
  const WorldReport one = write_world(mini(), 7, scratch / "one", 1, [&](int64_t done, int64_t total) {
    ++calls;
    CHECK(done == calls);
    CHECK(done <= total);
  });
  CHECK(calls == one.images);
  const WorldReport four = write_world(mini(), 7, scratch / "four", 4);
  CHECK(one.hash == four.hash);
  CHECK(files_below(scratch / "one") == files_below(scratch / "four"));
  CHECK(write_world(mini(), 8, scratch / "other", 4).hash != one.hash);
}

TEST_CASE("synth: LUPerson key names") {
  const Scratch scratch("synth");
  WorldConfig c = mini();
  c.domains.clear();
  c.videos.layout = "luperson";
  write_world(c, 3, scratch / "world", 2);
  std::set<std::string> videos;
  for (const auto& entry : fs::directory_iterator(scratch.folder / "world" / "videos")) {
    const std::string name = entry.path().filename().string();
    int country = 0, city = 0, video = 0, image = 0, used = 0;
    CHECK(std::sscanf(name.c_str(), "%2d_%2d_%4d_%8d.jpg%n", &country, &city, &video, &image, &used) == 4);
    CHECK(used == 23);
    CHECK(name.size() == 23);
    videos.insert(name.substr(0, 10));
  }
  CHECK(videos.size() == 2);
}

TEST_CASE("synth: two people differ more than two frames of one") {
  WorldConfig c = mini();
  c.domains.clear();
  c.videos = {6, 3, 3, 4, 4, "folders"};
  const synth::Plan plan = synth::make_plan(c, 5);
  synth::Workspace workspace;
  std::map<std::pair<int, int>, std::vector<Image>> tracks;  // place, person
  for (const synth::Job& job : plan.jobs) {
    int quality = 0;
    tracks[{job.place, job.person}].push_back(draw_crop(plan, job, workspace, quality));
    CHECK(quality >= 1);
    CHECK(quality <= 100);
  }
  double same = 0, different = 0;
  int same_pairs = 0, different_pairs = 0;
  for (const auto& [a, first] : tracks)
    for (const auto& [b, second] : tracks) {
      if (a.first != b.first) continue;  // one video: same camera, background and light
      for (size_t i = 0; i + 1 < first.size(); ++i) {
        if (a == b) same += difference(first[i], first[i + 1]), ++same_pairs;
        if (a < b) different += difference(first[i], second[i]), ++different_pairs;
      }
    }
  REQUIRE(same_pairs > 20);
  REQUIRE(different_pairs > 20);
  CHECK(same / same_pairs < 0.85 * different / different_pairs);
}

TEST_CASE("synth: no two people of a place are dressed alike") {
  for (const synth::Wardrobe& wardrobe : {synth::summer_wardrobe(), synth::autumn_wardrobe(), synth::winter_wardrobe()}) {
    std::map<std::string, int> worn;
    std::string outfit;
    for (uint64_t i = 0; i < 300; ++i) {
      synth::draw_person(wardrobe, Rng(2).at(i), outfit);
      ++worn[outfit];
    }
    CHECK(worn.size() >= 295);  // rare before the cast sorts them out
  }
}

TEST_CASE("synth: a contact sheet is a picture of the planned size") {
  const Scratch scratch("synth");
  write_contact_sheet(mini(), 1, scratch / "sheet.png");
  const Image sheet = read_image(scratch / "sheet.png");
  CHECK(sheet.width == 2 + 10 * 66);             // ten columns of 64 pixels, two between them
  CHECK(sheet.height == 2 + (3 + 3 + 2) * 130);  // three people a domain, two videos
}

TEST_CASE("synth: bad requests end in one message and leave nothing") {
  const Scratch scratch("synth");
  CHECK(contains(failure_of([] { world_preset("dmeo"); }), "did you mean 'demo'"));
  std::ofstream(scratch / "file") << "x";
  CHECK(contains(failure_of([&] { write_world(mini(), 1, scratch / "file"); }), "is no folder"));
  fs::create_directory(scratch / "used");
  std::ofstream(scratch.folder / "used" / "file") << "x";
  CHECK(contains(failure_of([&] { write_world(mini(), 1, scratch / "used"); }), "not empty"));
  CHECK(!failure_of([&] { write_world(mini(), 1, scratch.folder / "file" / "world"); }).empty());
  CHECK(contains(failure_of([&] { write_world(mini(), 1, scratch / "world", 0); }), "threads is 0"));
  CHECK(contains(
      failure_of([&] { write_world(mini(), 1, scratch / "world", 2, [](int64_t done, int64_t) { REID_CHECK(done < 5, "stopped"); }); }),
      "stopped"));
  CHECK(entries_in(scratch.folder) == 2);
  fs::create_directory(scratch / "empty");
  WorldConfig small = mini();
  small.domains.clear();
  small.videos = {1, 1, 1, 1, 1, "folders"};
  CHECK(write_world(small, 1, scratch / "empty").images == 1);

  const auto refused = [&](auto change) {
    WorldConfig c = mini();
    change(c);
    return failure_of([&] { write_world(c, 1, scratch / "world"); });
  };
  CHECK(contains(refused([](WorldConfig& c) { c.domains[0].cameras = 1; }), "source.cameras is 1"));
  CHECK(contains(refused([](WorldConfig& c) { c.domains[0].style = "beach"; }), "unknown domain style 'beach'"));
  CHECK(contains(refused([](WorldConfig& c) { c.domains[1].name = "source"; }), "two domains are named 'source'"));
  CHECK(contains(refused([](WorldConfig& c) { c.domains[0].name = "../x"; }), "'../x'"));
  CHECK(contains(refused([](WorldConfig& c) { c.domains[0].images_per_camera = 1; }), "images_per_camera is 1"));
  CHECK(contains(refused([](WorldConfig& c) { c.videos.layout = "zip"; }), "videos.layout 'zip'"));
  CHECK(contains(refused([](WorldConfig& c) { c.videos.min_people = 0; }), "min_people is 0"));
  CHECK(contains(refused([](WorldConfig& c) { c.width = 4; }), "128x4"));
  CHECK(!fs::exists(scratch / "world"));
}
