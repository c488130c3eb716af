#pragma once
// A synthetic world: clothed 3-D people in front of surveillance cameras, written as ordinary JPEG data sets, so that
// everything in this project runs without a download. docs/synthetic-world.md describes and shows it.
//
// What is written below the world's folder:
//   source/ validation/ target/   labeled multi-camera domains, Market-1501 layout (bounding_box_train, query, bounding_box_test)
//   videos/                       single-camera crops; a folder per video, or LUPerson key names in one folder
//   videos_truth.csv              path,identity of every video crop: for measuring pseudo labels, never for training
//   world.json                    version, seed, preset, hash and census
//
// Every identity number is used once: by one domain's training or test half, or by one video. Same config and seed, same
// bytes: on every machine, with every number of threads. Cost: about 4 ms of one core a crop.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace reid {

// Raised whenever the bytes of any world change.
inline constexpr int kWorldVersion = 1;

struct DomainConfig {
  std::string name;   // the folder
  std::string style;  // "campus", "arcade" or "station": how its people dress, what its cameras see
  int train_ids = 0;
  int test_ids = 0;
  int cameras = 4;            // at most 9
  int images_per_camera = 4;  // of one identity; test identities have one query a camera, the others go to the gallery
  int distractors = 0;        // images of people nobody asks for, in the gallery under identity 0000
  int junk = 0;               // bad boxes in the gallery, identity -1
};

struct VideosConfig {
  int count = 0;
  int min_people = 3, max_people = 8;
  int min_frames = 5, max_frames = 12;  // of one person's track
  std::string layout = "folders";       // or "luperson"
};

struct WorldConfig {
  std::string preset;
  int height = 128, width = 64;  // pixels of a crop
  std::vector<DomainConfig> domains;
  VideosConfig videos;
};

// "tiny" (tests: about 500 crops), "demo" (about 10,000), "study" (about 27,000), "market1501" (about 36,000: one domain of that data
// set's size, no videos). Throws on other names, naming the nearest.
WorldConfig world_preset(const std::string& name);
std::vector<std::string> world_presets();

struct WorldCount {
  std::string folder;  // "source/query"
  int64_t identities = 0, images = 0, bytes = 0;
};

struct WorldReport {
  int version = kWorldVersion;
  uint64_t seed = 0;
  uint64_t hash = 0;  // over the names and bytes of all files but world.json, in the order of their names
  int64_t images = 0, bytes = 0;
  std::vector<WorldCount> counts;
};

// Called from the writing threads, one call at a time, with images done and to do.
using WorldProgress = std::function<void(int64_t done, int64_t total)>;

// Writes the world into `folder`, which must not exist or be empty. Everything goes to a temporary folder beside it first
// and takes its name at the end; on any failure nothing is left. Throws reid::Error for a bad config (naming the field),
// a folder in use, or one that cannot be written. threads >= 1.
WorldReport write_world(const WorldConfig& config, uint64_t seed, const std::filesystem::path& folder, int threads = 1,
                        const WorldProgress& progress = {});

// A PNG to look at: for each domain some identities (rows) from every camera (columns), then for some videos crops of
// several people. Draws the same pictures as write_world does, before JPEG.
void write_contact_sheet(const WorldConfig& config, uint64_t seed, const std::filesystem::path& file);

}  // namespace reid
