// What is done with lists of samples once they are read: checks, merging, counting, labels.

#include <algorithm>
#include <map>
#include <set>

#include "reid/people/dataset.h"

namespace reid {
namespace {

int64_t largest(const Dataset& data, int64_t Sample::*field) {
  int64_t value = -1;
  for (const std::vector<Sample>* part : {&data.train, &data.query, &data.gallery, &data.multi_query})
    for (const Sample& sample : *part) value = std::max(value, sample.*field);
  return value;
}

Json to_json(const PartCounts& counts) {
  Json json = Json::object();
  json["images"] = counts.images;
  json["identities"] = counts.identities;
  json["cameras"] = counts.cameras;
  if (counts.tracklets > 0) json["tracklets"] = counts.tracklets;
  if (counts.videos > 0) json["videos"] = counts.videos;
  if (counts.identities > 0) json["images_per_identity"] = Json::array({counts.fewest, counts.median, counts.most});
  if (counts.distractors > 0) json["distractors"] = counts.distractors;
  if (counts.unknown > 0) json["unknown"] = counts.unknown;
  return json;
}

}  // namespace

void require_training(const Dataset& data) {
  REID_CHECK(!data.train.empty(), data.name, ": has no training images (the market1501 layout keeps them in bounding_box_train)");
  const bool known = std::any_of(data.train.begin(), data.train.end(), [](const Sample& s) { return s.person > 0; });
  REID_CHECK(known, data.name, ": its training images have no identities, so they cannot serve as labeled data");
}

void require_evaluation(const Dataset& data) {
  REID_CHECK(!data.query.empty(), data.name, ": has no query images (they belong into the folder query)");
  REID_CHECK(!data.gallery.empty(), data.name,
             ": has no gallery images (they belong into the folder bounding_box_test of market1501, gallery of folder)");
}

Dataset merge(std::span<const Dataset> sources) {
  Dataset all;
  int64_t persons = 0, cameras = 0, tracklets = 0;
  for (const Dataset& source : sources) {
    const auto videos = static_cast<int64_t>(all.videos.size());
    const auto move_in = [&](const std::vector<Sample>& from, std::vector<Sample>& to) {
      for (Sample sample : from) {
        if (sample.person > 0) sample.person += persons;
        sample.camera += cameras;
        if (sample.video >= 0) sample.video += videos;
        if (sample.tracklet >= 0) sample.tracklet += tracklets;
        to.push_back(std::move(sample));
      }
    };
    move_in(source.train, all.train);
    move_in(source.query, all.query);
    move_in(source.gallery, all.gallery);
    move_in(source.multi_query, all.multi_query);
    all.videos.insert(all.videos.end(), source.videos.begin(), source.videos.end());
    all.junk += source.junk;
    for (int64_t camera = 0; !source.cameras_known && camera <= largest(source, &Sample::camera); ++camera) {
      all.unknown_cameras.insert(cameras + camera);
    }
    persons += std::max<int64_t>(largest(source, &Sample::person), 0);
    cameras += largest(source, &Sample::camera) + 1;
    tracklets += largest(source, &Sample::tracklet) + 1;
    all.cameras_known = all.cameras_known && source.cameras_known;
    all.name += (all.name.empty() ? "" : " + ") + source.name;
  }
  return all;
}

void use_everything(Dataset& data, IdScope ids) {
  int64_t offset = 0;
  if (ids == IdScope::halves)
    for (const Sample& sample : data.train) offset = std::max(offset, sample.person);
  std::set<std::string> taken;  // an image that asks and answers is one image
  for (std::vector<Sample>* part : {&data.query, &data.gallery}) {
    for (Sample& sample : *part) {
      if (sample.person <= 0 || !taken.insert(sample.path).second) continue;
      sample.person += offset;
      data.train.push_back(std::move(sample));
    }
    part->clear();
  }
  data.multi_query.clear();
}

PartCounts count_part(std::span<const Sample> samples) {
  std::map<int64_t, int64_t> images_of;
  std::map<int64_t, std::set<int64_t>> cameras_of;
  std::set<int64_t> cameras, videos, tracklets;
  PartCounts counts;
  for (const Sample& sample : samples) {
    if (sample.person > 0) {
      ++images_of[sample.person];
      cameras_of[sample.person].insert(sample.camera);
    }
    counts.distractors += sample.person == 0;
    counts.unknown += sample.person < 0;
    cameras.insert(sample.camera);
    if (sample.video >= 0) videos.insert(sample.video);
    if (sample.tracklet >= 0) tracklets.insert(sample.tracklet);
  }
  for (const auto& [person, seen] : cameras_of) counts.one_camera += seen.size() == 1;
  std::vector<int64_t> sizes;
  for (const auto& [person, images] : images_of) sizes.push_back(images);
  std::sort(sizes.begin(), sizes.end());
  if (!sizes.empty()) counts.fewest = sizes.front(), counts.median = sizes[sizes.size() / 2], counts.most = sizes.back();
  counts.images = static_cast<int64_t>(samples.size());
  counts.identities = static_cast<int64_t>(sizes.size());
  counts.cameras = static_cast<int64_t>(cameras.size());
  counts.videos = static_cast<int64_t>(videos.size());
  counts.tracklets = static_cast<int64_t>(tracklets.size());
  return counts;
}

Json census(const Dataset& data) {
  Json json = Json::object({{"name", data.name}});
  if (!data.train.empty()) json["train"] = to_json(count_part(data.train));
  if (!data.query.empty()) json["query"] = to_json(count_part(data.query));
  if (!data.gallery.empty()) json["gallery"] = to_json(count_part(data.gallery));
  if (!data.multi_query.empty()) json["multi_query"] = to_json(count_part(data.multi_query));
  if (data.junk > 0) json["junk"] = data.junk;
  if (!data.cameras_known) json["cameras_known"] = false;
  return json;
}

Relabeling relabel(std::span<const Sample> samples) {
  std::map<int64_t, int64_t> label_of;
  for (const Sample& sample : samples) {
    REID_CHECK(sample.person > 0, sample.path, ": has no identity, so it cannot be labeled");
    label_of.emplace(sample.person, 0);
  }
  Relabeling result;
  for (auto& [person, label] : label_of) {
    label = static_cast<int64_t>(result.persons.size());
    result.persons.push_back(person);
  }
  for (const Sample& sample : samples) result.labels.push_back(label_of.at(sample.person));
  return result;
}

}  // namespace reid
