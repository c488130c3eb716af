#pragma once
// The readers that the table names, beside those declared in reid/people/dataset.h. Each takes only options that its line of the table
// lists, and refuses values it does not know.

#include <functional>
#include <string>
#include <vector>

#include "reid/people/dataset.h"

namespace reid {

using ReadDataset = Dataset(const std::filesystem::path& path, const LayoutOptions& options);
using ReadSplits = std::vector<Dataset>(const std::filesystem::path& path, const LayoutOptions& options);

// market_style.cpp: Market-1501 and the sets that copied its layout.
ReadDataset read_market1501, read_dukemtmc, read_cuhk03_np;
// msmt17.cpp
ReadDataset read_msmt17;
// cuhk.cpp
ReadDataset read_cuhk_sysu, read_cuhk02, read_cuhk01;
ReadSplits cuhk01_splits;
// small_sets.cpp: sets evaluated on random halves.
ReadDataset read_viper, read_prid, read_ilids;
ReadSplits viper_splits, prid_splits, ilids_splits;
// tracklets.cpp
ReadDataset read_tracklets, read_dukemtmc_videoreid, read_prid2011_video;
ReadSplits prid2011_video_splits;
// manifest.cpp
ReadDataset read_manifest;

// ---- The Market-1501 layout (market_style.cpp)

enum class MarketIds : uint8_t {
  special,  // -1 is junk, 0 a distractor
  plain     // every number is a person, from 0 on, and training and test are numbered apart: numbers move up
};
// The parts that exist below `root`. With plain ids test identities follow `first_test`, or the last training identity.
Dataset market_style(const std::filesystem::path& root, std::string name, MarketIds ids, int64_t first_test = 0);

// The camera counts from 1 in file names unless a 0 occurs.
void cameras_from_zero(Dataset& data);

// ---- Splits (splits.cpp)

inline constexpr uint64_t kSplitSeed = 20110601;  // of the halves drawn here; changing it changes every number measured on them

// `count` random halves of 0 .. people - 1: the indices of the training half, of size `training`, in order. Draws come from
// Rng(kSplitSeed).at(layout).at(split).
std::vector<std::vector<int64_t>> random_halves(const char* layout, int64_t people, int64_t training, int64_t count);

// What a file of splits says, as torchreid and its descendants write them: a list of objects. Either "train", "query" and "gallery", each
// a list of [path, person, camera] or of paths, matched to the samples of `pool` by their last components; or "train" and "test", each a
// list of people (numbers, or names that end in one), from which `of_people` makes the split.
struct PeopleSplit {
  std::vector<int64_t> train, test;
};
std::vector<Dataset> read_split_file(const std::filesystem::path& file, const Dataset& pool,
                                     const std::function<Dataset(const PeopleSplit&)>& of_people = nullptr);

// VIPeR's protocol: each half gives two splits, camera 0 as query and the other way round, unless directions=a.
void add_both_directions(std::vector<Dataset>& splits, Dataset forward, bool both);

}  // namespace reid
