#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "formats/scratch.h"
#include "reid/people/data.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;

namespace {

// Identity i has the cameras 0..cameras(i)-1 with images(i) images each.
template <class Cameras, class Images>
std::vector<PlanEntry> crowd(int64_t people, const Cameras& cameras, const Images& images, DataKind kind = DataKind::multi,
                             int64_t first_label = 0) {
  std::vector<PlanEntry> entries;
  for (int64_t p = 0; p < people; ++p)
    for (int64_t c = 0; c < cameras(p); ++c)
      for (int64_t i = 0; i < images(p); ++i) entries.push_back({static_cast<int64_t>(entries.size()), first_label + p, c, kind});
  return entries;
}

std::vector<std::vector<PlanEntry>> groups(const std::vector<PlanEntry>& batch, int64_t k) {
  std::vector<std::vector<PlanEntry>> result;
  for (size_t i = 0; i < batch.size(); i += static_cast<size_t>(k))
    result.emplace_back(batch.begin() + static_cast<std::ptrdiff_t>(i), batch.begin() + static_cast<std::ptrdiff_t>(i) + k);
  return result;
}

size_t distinct_samples(const std::vector<PlanEntry>& entries) {
  std::set<int64_t> samples;
  for (const PlanEntry& e : entries) samples.insert(e.sample);
  return samples.size();
}

size_t distinct_cameras(const std::vector<PlanEntry>& entries) {
  std::set<int64_t> cameras;
  for (const PlanEntry& e : entries) cameras.insert(e.camera);
  return cameras.size();
}

}  // namespace

TEST_CASE("sampler: shape of the plan, distinct identities, even turns") {
  const auto entries = crowd(
      23, [](int64_t p) { return 1 + p % 5; }, [](int64_t p) { return 1 + p % 3; });
  for (const BatchPlan& plan : {multi_camera_plan(entries, {8, 4}, 50, Rng(1)), anchor_plan(entries, {8, 4}, 50, Rng(1)),
                                random_plan(entries, {8, 4}, 50, Rng(1))}) {
    REQUIRE(plan.batches.size() == 50);
    CHECK(plan.images() == 50 * 32);
    std::map<int64_t, int64_t> turns;
    for (const auto& batch : plan.batches) {
      REQUIRE(batch.size() == 32);
      std::set<int64_t> labels;
      for (const auto& group : groups(batch, 4)) {
        labels.insert(group[0].label);
        ++turns[group[0].label];
        for (const PlanEntry& e : group) {
          CHECK(e.label == group[0].label);
          CHECK(e == entries[static_cast<size_t>(e.sample)]);
        }
      }
      CHECK(labels.size() == 8);
    }
    REQUIRE(turns.size() == 23);
    for (const auto& [label, count] : turns) CHECK((count == 17 || count == 18));  // 400 turns over 23 identities: 17.4
  }
}

TEST_CASE("sampler: images come from as many cameras as there are, repeated only when they must be") {
  const auto entries = crowd(
      20, [](int64_t p) { return 1 + p % 6; }, [](int64_t p) { return 1 + p / 10 * 3; });
  std::map<int64_t, int64_t> images_of;
  for (const PlanEntry& e : entries) ++images_of[e.label];
  const BatchPlan plan = multi_camera_plan(entries, {5, 4}, 40, Rng(2));
  for (const auto& batch : plan.batches)
    for (const auto& group : groups(batch, 4)) {
      const int64_t cameras = 1 + group[0].label % 6, images = images_of[group[0].label];
      CAPTURE(group[0].label);
      CHECK(distinct_cameras(group) == static_cast<size_t>(std::min<int64_t>(4, cameras)));
      if (images >= 4) CHECK(distinct_samples(group) == 4);
      if (images < 4) CHECK(distinct_samples(group) == static_cast<size_t>(images));  // here one image a camera: each once, then again
    }
}

TEST_CASE("sampler: of many cameras every one gets its turn, and every image") {
  const auto entries = crowd(
      1, [](int64_t) { return 7; }, [](int64_t) { return 3; });
  std::map<int64_t, int> seen;
  for (const auto& batch : multi_camera_plan(entries, {1, 4}, 400, Rng(3)).batches)
    for (const PlanEntry& e : batch) ++seen[e.sample];
  CHECK(seen.size() == 21);
  for (const auto& [sample, count] : seen) CHECK(std::abs(count - 1600.0 / 21) < 40);  // 4.6 standard deviations
}

TEST_CASE("sampler: around an anchor the others come from other cameras where there are any") {
  // Identity p has p + 1 cameras with p + 1 images each: one image, two cameras of two, three of three, four of four.
  const auto entries = crowd(
      4, [](int64_t p) { return p + 1; }, [](int64_t p) { return p + 1; });
  std::set<int64_t> anchors;
  for (const auto& batch : anchor_plan(entries, {4, 4}, 60, Rng(5)).batches) {
    for (const auto& group : groups(batch, 4)) {
      const int64_t person = group[0].label;
      anchors.insert(group[0].sample);
      for (size_t i = 1; i < 4 && person > 0; ++i) CHECK(group[i].camera != group[0].camera);
      // Of six and more images elsewhere three are drawn without repetition, of two with; a single image is all there is.
      if (person != 1) CHECK(distinct_samples(group) == (person == 0 ? 1 : 4));
    }
  }
  CHECK(anchors.size() == entries.size());

  const auto one_camera = crowd(
      2, [](int64_t) { return 1; }, [](int64_t p) { return 3 + 2 * p; });
  for (const auto& batch : anchor_plan(one_camera, {2, 4}, 20, Rng(6)).batches) {
    for (const auto& group : groups(batch, 4)) {
      if (group[0].label == 1) CHECK(distinct_samples(group) == 4);
      CHECK(std::count(group.begin(), group.end(), group[0]) == 1);  // the anchor is not its own other
    }
  }
}

TEST_CASE("sampler: single-camera groups repeat images only when the cluster is small") {
  const auto entries = crowd(
      12, [](int64_t) { return 1; }, [](int64_t p) { return 1 + p; }, DataKind::single);
  for (const auto& batch : random_plan(entries, {12, 4}, 30, Rng(4)).batches)
    for (const auto& group : groups(batch, 4)) {
      const int64_t images = group[0].label + 1;
      if (images >= 4) CHECK(distinct_samples(group) == 4);
      if (images == 1) CHECK(distinct_samples(group) == 1);
    }
}

TEST_CASE("sampler: mixed batches hold both kinds in order; plans repeat with the generator and change with it") {
  const auto multi = crowd(
      9, [](int64_t) { return 3; }, [](int64_t) { return 2; });
  auto single = crowd(
      7, [](int64_t) { return 1; }, [](int64_t) { return 5; }, DataKind::single, 9);
  for (PlanEntry& e : single) e.sample += static_cast<int64_t>(multi.size());
  const BatchPlan plan = mixed_plan(multi, {4, 3}, single, {2, 5}, 6, Rng(5));
  REQUIRE(plan.batches.size() == 6);
  for (const auto& batch : plan.batches) {
    REQUIRE(batch.size() == 22);
    for (size_t i = 0; i < 22; ++i) {
      CHECK(batch[i].kind == (i < 12 ? DataKind::multi : DataKind::single));
      CHECK((batch[i].label >= 9) == (i >= 12));
    }
  }
  CHECK(plan.batches == mixed_plan(multi, {4, 3}, single, {2, 5}, 6, Rng(5)).batches);
  CHECK(plan.batches != mixed_plan(multi, {4, 3}, single, {2, 5}, 6, Rng(6)).batches);
  // A longer epoch begins with the shorter one.
  const BatchPlan longer = mixed_plan(multi, {4, 3}, single, {2, 5}, 9, Rng(5));
  CHECK(std::equal(plan.batches.begin(), plan.batches.end(), longer.batches.begin()));
  // Without a single-camera part the multi-camera part is the same.
  const BatchPlan alone = mixed_plan(multi, {4, 3}, {}, {0, 5}, 6, Rng(5));
  CHECK(std::equal(alone.batches[2].begin(), alone.batches[2].end(), plan.batches[2].begin()));
  // The order of the list does not matter.
  auto shuffled = multi;
  Rng(8).shuffle(shuffled);
  CHECK(multi_camera_plan(shuffled, {4, 3}, 6, Rng(5)).batches == multi_camera_plan(multi, {4, 3}, 6, Rng(5)).batches);
}

TEST_CASE("sampler: too few identities and empty wishes are errors that name P") {
  const auto entries = crowd(
      5, [](int64_t) { return 2; }, [](int64_t) { return 2; });
  CHECK(failure_of([&] {
          multi_camera_plan(entries, {16, 4}, 1, Rng(1));
        }) == "[sampler] a batch wants P = 16 different labeled people, there are only 5: lower P to at most 5 or add data");
  CHECK(contains(failure_of([&] { random_plan({}, {2, 4}, 1, Rng(1)); }), "P = 2 different pseudo labels, there are only 0"));
  CHECK(contains(failure_of([&] { multi_camera_plan(entries, {4, 0}, 1, Rng(1)); }), "is empty"));
  CHECK(contains(failure_of([&] { mixed_plan(entries, {0, 4}, entries, {0, 4}, 1, Rng(1)); }), "at least one kind"));
  CHECK(multi_camera_plan(entries, {5, 4}, 3, Rng(1)).batches.size() == 3);
}

TEST_CASE("sampler: sequential plans and entries") {
  std::vector<Sample> samples(10);
  for (size_t i = 0; i < samples.size(); ++i) samples[i].camera = static_cast<int64_t>(i % 3);
  const BatchPlan plan = sequential_plan(samples, 4, 100);
  REQUIRE(plan.batches.size() == 3);
  CHECK(plan.batches[2].size() == 2);
  CHECK(plan.batches[2][1] == PlanEntry{109, -1, 0, DataKind::multi});
  CHECK(sequential_plan({}, 4).batches.empty());

  const std::vector<int64_t> labels = {0, -1, 2, 2, -1, 0, 0, 0, 5, 0};
  const auto entries = labeled_entries(samples, labels, DataKind::single, 7);
  CHECK(entries.size() == 8);
  CHECK(entries[1] == PlanEntry{9, 2, 2, DataKind::single});
  CHECK(count_labels(entries) == 3);
  CHECK(contains(failure_of([&] { labeled_entries(samples, {}, DataKind::multi); }), "0 labels for 10 samples"));
}
