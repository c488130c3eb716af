#pragma once
// Data sets: lists of samples read from other people's folders, lists and containers; merging, counting and relabeling them.
//
// Design: a data set is named LAYOUT[,OPTION=VALUE...]:PATH. Each layout is one reader, a function from a path to lists of samples, in
// src/people/layouts/, and one line of the table there. A reader opens no image. Published counts and the folders by which a layout is
// recognized are tables beside them.

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reid/engine/base.h"
#include "reid/formats/json.h"

namespace reid {

// One image. Person ids count from 1 (readers of sets that number from 0 add 1); 0 is a distractor (matches nobody), -1 unknown.
// Cameras count from 0.
struct Sample {
  std::string path;
  int64_t person = -1;
  int64_t camera = 0;
  int64_t video = -1;     // index into Dataset::videos, -1 where there are none
  int64_t tracklet = -1;  // images of one tracklet share a number, unique within the data set; -1 where there are none
};

struct Dataset {
  std::string name;     // its specification with every option that mattered: "msmt17,val=include:data/MSMT17_V1"
  std::string edition;  // which published counts it should have (PublishedCounts::edition); empty: any of its layout's
  std::vector<Sample> train, query, gallery;
  std::vector<Sample> multi_query;    // more images of the queries' identities and cameras, where the set has them (Market's gt_bbox)
  std::vector<std::string> videos;    // names
  int64_t junk = 0;                   // files of person -1, left out everywhere
  bool cameras_known = true;          // false: the files name no cameras, so only a query's own file is removed from its ranking
  std::set<int64_t> unknown_cameras;  // of merged sets: numbers that stand for cameras that a set does not know
};

using LayoutOptions = std::map<std::string, std::string>;  // name to meaning, or to value

// All readers sort by file name, skip dot files and anything but images (.jpg, .jpeg, .png, .bmp; in any case), and throw when they find
// nothing, an image whose name breaks the layout, or a list with a line that is none or names a file that is not there: naming the
// path, the layout and the remedy. docs/datasets.md has each layout's tree, options and rules.

// bounding_box_train, query, bounding_box_test below `folder` (or below its Market-1501-v15.09.15), those that exist. Names
// PPPP_cC...: person -?\d+, camera \d+ counted from 1 (from 0 where a c0 occurs), read from the file name only. Person -1 is
// left out everywhere, person 0 everywhere but in the gallery. Images of gt_bbox that share person and camera with a query become
// multi_query.
Dataset market1501(const std::filesystem::path& folder);

// Every folder below `folder` (at any depth) that holds images is a video, with one camera of its own. All go to `train`.
Dataset video_folders(const std::filesystem::path& folder);

// Images named CC_TT_VVVV_IIIIIIII.jpg (country, city, video, image: LUPerson keys) at any depth; the first three fields are the
// video, with one camera of its own. All go to `train`.
Dataset luperson(const std::filesystem::path& folder);

// With folders query and gallery inside (and perhaps train): in each a folder per identity; the identity is the folder's name.
// Else with folders inside: a folder per identity, all in `train`. Else: plain images of unknown people, all in `train`.
// Identities are numbered from 1 in the order of their names. Cameras come from a field cN of the file name ("c3_001.jpg",
// "x_c3.jpg"), of every file or of none: then all have camera 0 and the cameras are not known.
Dataset identity_folders(const std::filesystem::path& folder);

// ---- Sets that come in MATLAB files or LMDB databases. They need a build with libmatio or liblmdb, and say so without. A number of a
// split counts from 0; Dataset::name says in full which variant was read.

// MARS: bbox_train, bbox_test, info/{train,test}_name.txt, info/tracks_{train,test}_info.mat, info/query_IDX.mat. Every frame is a sample
// with its tracklet; identity and camera are those of its tracklet's row. Tracklets of identity -1 are left out, 0 stays in the gallery.
// gallery=all (the set's own protocol: every test tracklet, the queries too, which their own camera keeps from matching themselves) or
// gallery=without-queries; min_frames=N leaves out shorter tracklets.
Dataset mars(const std::filesystem::path& folder, const LayoutOptions& options = {});

// iLIDS-VID: i-LIDS-VID/sequences/cam{1,2}/PERSON/*.png, train-test people splits/train_test_splits_ilidsvid.mat: in each row the first
// half of the people (by place in the sorted list of folders) is tested, the second half trained. Queries are of camera 1. split=N.
Dataset ilids_vid(const std::filesystem::path& folder, const LayoutOptions& options = {});
int64_t ilids_vid_splits(const std::filesystem::path& folder, const LayoutOptions& options = {});  // 10 in the set as published

// QMUL GRID: underground_reid/{probe,gallery}/PPPP_C_*.jpeg, features_and_partitions.mat. People of the split's personIdx are trained (from
// both folders); the others are queries (probe) and gallery, with the distractors 0000. split=N.
Dataset grid(const std::filesystem::path& folder, const LayoutOptions& options = {});
int64_t grid_splits(const std::filesystem::path& folder, const LayoutOptions& options = {});  // 10 in the set as published

// CUHK03 as released: images_{detected,labeled} as extract_cuhk03() writes them, and images=detected|labeled, protocol=new (767/700, from
// cuhk03_new_protocol_config_*.mat) or protocol=classic (from cuhk03_release/cuhk-03.mat; query and gallery are both the test people; the
// published scores are single-gallery-shot) with split=N. A camera is a view: 0 or 1.
Dataset cuhk03(const std::filesystem::path& folder, const LayoutOptions& options = {});
int64_t cuhk03_splits(const std::filesystem::path& folder,
                      const LayoutOptions& options = {});  // new: 1; classic: 20 in the set as released

// Writes the images of cuhk-03.mat to `folder`/images_labeled and `folder`/images_detected, as PAIR_PPP_VIEW_NN.png (as torchreid and
// fast-reid name them). Each folder appears when it is complete; one that is there already is an error. Returns how many images.
int64_t extract_cuhk03(const std::filesystem::path& mat, const std::filesystem::path& folder);

// LUPerson as distributed: an LMDB database of JPEG files by key (see luperson()), itself or in a folder, and keys.pkl in it or beside it
// (keys=FILE: elsewhere); without a list, every entry of the database. Samples are named DATABASE!KEY.
Dataset luperson_lmdb(const std::filesystem::path& path, const LayoutOptions& options = {});

// LUPerson-NL: the same with keys VVVVV_PPPPPP_FFFFFFF_OO (video, noisy identity, frame, object) and a list of keys and identities
// ("pids"); or the extracted images, PPPPPP_FFFFFFF_OO.jpg in a folder for each video. Identities are counted from 0 there. A person in a
// video is a tracklet, a video a camera. All go to `train`.
Dataset luperson_nl(const std::filesystem::path& path, const LayoutOptions& options = {});

// CION-AL: cional_annos.json, a list of objects with file_path (below `folder`) and id. All go to `train`; cameras are unknown.
Dataset cion_al(const std::filesystem::path& folder);

// ---- The table of layouts -----------------------------------------------------------------------------------------------

// "LAYOUT[,OPTION=VALUE...]:PATH"; throws on an unknown layout or option, naming those there are. Sets that are evaluated on several
// splits want split=N (counted from 0) or use=all.
Dataset read_dataset(const std::string& spec);

// One data set for each split, in their order; one for a set without splits, or where the specification says split=N or use=all.
std::vector<Dataset> read_splits(const std::string& spec);

// Whether a layout knows people, and what a number means that occurs in training and in test (query, gallery).
enum class IdScope : uint8_t {
  halves,  // training and test are numbered apart: use=all makes them two people
  shared,  // one numbering: the same person
  none     // unlabeled
};

struct DatasetLayout {
  std::string name;
  std::string summary;    // one line for people
  LayoutOptions options;  // beside those that read_dataset knows itself: use, and split and splits where there are splits
  // `options` holds only names that the layout knows. Of a set with splits, this reads everything into `train` (for use=all).
  Dataset (*read)(const std::filesystem::path& path, const LayoutOptions& options);
  std::vector<Dataset> (*read_splits)(const std::filesystem::path& path, const LayoutOptions& options) = nullptr;
  IdScope ids = IdScope::halves;
};
const std::vector<DatasetLayout>& dataset_layouts();

// Counts that the authors of a set, or the programs that everyone uses, give; 0 where none is given. `edition` tells sets of one layout
// apart; empty when there is but one.
struct PublishedPart {
  int64_t images = 0, identities = 0, cameras = 0, tracklets = 0;
};
struct PublishedCounts {
  std::string layout, edition, title;
  PublishedPart train, query, gallery;  // of sets with splits: of everything, as `train`
  std::string source;
  std::string remark = {};  // what whoever uses the set must know
};
const std::vector<PublishedCounts>& published_counts();

// The layout of a path, by what stands there; throws when it cannot be told, naming the choices.
struct Recognition {
  std::string spec;      // LAYOUT[,OPTION=VALUE...]:PATH
  std::string evidence;  // for people
};
Recognition recognize_layout(const std::filesystem::path& path);

// Test identities join the training images: query and gallery become empty, distractors are dropped.
void use_everything(Dataset& data, IdScope ids);

// ---- Manifests: people's own data in a table ----------------------------------------------------------------------------

// What the layout manifest reads back as this data set: a CSV (RFC 4180) with the columns path, id, camera, split and, where the set has
// them, video and tracklet. Paths below the file's folder are written relative to it. Special ids: "distractor", and empty for unknown
// people.
std::string manifest_csv(const Dataset& data, const std::filesystem::path& file);

// ---- Working with data sets ---------------------------------------------------------------------------------------------

void require_training(const Dataset& data);    // throws unless there are training images of at least one known person
void require_evaluation(const Dataset& data);  // throws unless there are query and gallery images

// Several sources as one: identities, cameras, videos and tracklets of each are moved up so that none collide; 0 and -1 stay.
Dataset merge(std::span<const Dataset> sources);

// What a list of samples holds. Identities are people with a number above 0.
struct PartCounts {
  int64_t images = 0, identities = 0, cameras = 0, tracklets = 0, videos = 0;
  int64_t distractors = 0, unknown = 0;      // images
  int64_t one_camera = 0;                    // identities that only one camera saw
  int64_t fewest = 0, median = 0, most = 0;  // images of an identity; 0 without identities
};
PartCounts count_part(std::span<const Sample> samples);

// The counts of each part: for manifests and screens.
Json census(const Dataset& data);

// Labels 0, 1, ... in the order of the person ids.
struct Relabeling {
  std::vector<int64_t> labels;   // [sample]
  std::vector<int64_t> persons;  // [label]: the raw id
};
Relabeling relabel(std::span<const Sample> samples);  // throws on a sample without a known person

}  // namespace reid
