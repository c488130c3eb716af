// Which images make a batch.

#include <algorithm>
#include <map>
#include <unordered_set>

#include "reid/people/data.h"

namespace reid {
namespace {

using Entries = std::vector<PlanEntry>;

// Labels in increasing order, and the entries of each by sample, so that draws do not depend on how entries were listed.
struct Identities {
  std::vector<Entries> entries;  // [identity]
  explicit Identities(std::span<const PlanEntry> all) {
    std::map<int64_t, Entries> by_label;
    for (const PlanEntry& entry : all) by_label[entry.label].push_back(entry);
    for (auto& [label, list] : by_label) {
      std::sort(list.begin(), list.end(), [](const PlanEntry& a, const PlanEntry& b) { return a.sample < b.sample; });
      entries.push_back(std::move(list));
    }
  }
};

// Identities in random order, each once before any comes again, and never twice in a batch: one that would is put off to the
// next batch.
class Turns {
 public:
  Turns(size_t count, const Rng& rng) : count_(count), rng_(rng) {}

  std::vector<size_t> take(int64_t people) {
    std::vector<size_t> chosen, put_off;
    std::unordered_set<size_t> present;
    while (static_cast<int64_t>(chosen.size()) < people) {
      if (next_ == queue_.size()) refill();
      const size_t identity = queue_[next_++];
      if (present.insert(identity).second) {
        chosen.push_back(identity);
      } else {
        put_off.push_back(identity);
      }
    }
    next_ -= put_off.size();
    std::copy(put_off.begin(), put_off.end(), queue_.begin() + static_cast<std::ptrdiff_t>(next_));
    return chosen;
  }

 private:
  void refill() {
    queue_.resize(count_);
    for (size_t i = 0; i < count_; ++i) queue_[i] = i;
    rng_.at(round_++).shuffle(queue_);
    next_ = 0;
  }

  size_t count_;
  Rng rng_;
  uint64_t round_ = 0;
  std::vector<size_t> queue_;
  size_t next_ = 0;
};

const PlanEntry& any_of(const Entries& entries, Rng& rng) {
  return entries[static_cast<size_t>(rng.below(static_cast<int64_t>(entries.size())))];
}

// `count` of `entries`, without repetition when there are enough, else with.
void draw(Entries entries, size_t count, Rng& rng, Entries& out) {
  if (entries.size() >= count) {
    rng.shuffle(entries);
    out.insert(out.end(), entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count));
    return;
  }
  for (size_t i = 0; i < count; ++i) out.push_back(any_of(entries, rng));
}

// ICE's "more cameras" rule (Chen, Lagadec and Bremond, ICCV 2021).
void draw_across_cameras(const Entries& entries, size_t count, Rng rng, Entries& out) {
  std::map<int64_t, Entries> by_camera;
  for (const PlanEntry& entry : entries) by_camera[entry.camera].push_back(entry);
  Entries chosen;
  for (const auto& [camera, list] : by_camera) chosen.push_back(any_of(list, rng));
  if (chosen.size() >= count) return draw(std::move(chosen), count, rng, out);

  Entries others;
  for (const PlanEntry& entry : entries)
    if (std::find(chosen.begin(), chosen.end(), entry) == chosen.end()) others.push_back(entry);
  const size_t missing = count - chosen.size();
  out.insert(out.end(), chosen.begin(), chosen.end());
  draw(others.empty() ? entries : std::move(others), missing, rng, out);
}

void draw_around_anchor(const Entries& entries, size_t count, Rng rng, Entries& out) {
  const PlanEntry anchor = any_of(entries, rng);
  Entries elsewhere, others;
  for (const PlanEntry& entry : entries) {
    if (entry.camera != anchor.camera) elsewhere.push_back(entry);
    if (entry != anchor) others.push_back(entry);
  }
  out.push_back(anchor);
  if (count > 1) draw(!elsewhere.empty() ? std::move(elsewhere) : !others.empty() ? std::move(others) : entries, count - 1, rng, out);
}

void check(PK pk, int64_t batches, size_t identities, const char* what) {
  REID_CHECK(pk.people >= 1 && pk.images >= 1, "[sampler] a batch of ", pk.people, " people with ", pk.images, " images each is empty");
  REID_CHECK(batches >= 0, "[sampler] ", batches, " batches");
  REID_CHECK(static_cast<int64_t>(identities) >= pk.people, "[sampler] a batch wants P = ", pk.people, " different ", what,
             ", there are only ", identities, ": lower P to at most ", identities, " or add data");
}

template <class Draw>
BatchPlan plan_of(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng, const char* what, const Draw& draw_images) {
  const Identities identities(entries);
  check(pk, batches, identities.entries.size(), what);
  Turns turns(identities.entries.size(), rng.at("identities"));
  BatchPlan plan;
  for (int64_t b = 0; b < batches; ++b) {
    Entries batch;
    const Rng images = rng.at("images").at(static_cast<uint64_t>(b));
    const std::vector<size_t> people = turns.take(pk.people);
    for (size_t slot = 0; slot < people.size(); ++slot)
      draw_images(identities.entries[people[slot]], static_cast<size_t>(pk.images), images.at(slot), batch);
    plan.batches.push_back(std::move(batch));
  }
  return plan;
}

}  // namespace

int64_t BatchPlan::images() const {
  int64_t total = 0;
  for (const auto& batch : batches) total += static_cast<int64_t>(batch.size());
  return total;
}

std::vector<PlanEntry> labeled_entries(std::span<const Sample> samples, std::span<const int64_t> labels, DataKind kind,
                                       int64_t first_sample) {
  REID_CHECK(samples.size() == labels.size(), "[sampler] ", labels.size(), " labels for ", samples.size(), " samples");
  std::vector<PlanEntry> entries;
  for (size_t i = 0; i < samples.size(); ++i)
    if (labels[i] >= 0) entries.push_back({first_sample + static_cast<int64_t>(i), labels[i], samples[i].camera, kind});
  return entries;
}

int64_t count_labels(std::span<const PlanEntry> entries) {
  std::unordered_set<int64_t> labels;
  for (const PlanEntry& entry : entries) labels.insert(entry.label);
  return static_cast<int64_t>(labels.size());
}

BatchPlan multi_camera_plan(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng) {
  return plan_of(entries, pk, batches, rng, "labeled people", draw_across_cameras);
}

BatchPlan anchor_plan(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng) {
  return plan_of(entries, pk, batches, rng, "pseudo labels", draw_around_anchor);
}

BatchPlan random_plan(std::span<const PlanEntry> entries, PK pk, int64_t batches, const Rng& rng, const char* whom) {
  return plan_of(entries, pk, batches, rng, whom,
                 [](const Entries& list, size_t count, Rng draws, Entries& out) { draw(list, count, draws, out); });
}

BatchPlan mixed_plan(std::span<const PlanEntry> multi, PK multi_pk, std::span<const PlanEntry> single, PK single_pk, int64_t batches,
                     const Rng& rng) {
  BatchPlan plan;
  plan.batches.resize(static_cast<size_t>(std::max<int64_t>(batches, 0)));
  const auto append = [&](const BatchPlan& part) {
    for (size_t b = 0; b < plan.batches.size(); ++b)
      plan.batches[b].insert(plan.batches[b].end(), part.batches[b].begin(), part.batches[b].end());
  };
  REID_CHECK(multi_pk.people > 0 || single_pk.people > 0, "[sampler] a mixed batch wants people of at least one kind");
  if (multi_pk.people > 0) append(multi_camera_plan(multi, multi_pk, batches, rng.at("multi")));
  if (single_pk.people > 0) append(random_plan(single, single_pk, batches, rng.at("single")));
  return plan;
}

BatchPlan sequential_plan(std::span<const Sample> samples, int64_t batch_size, int64_t first_sample) {
  REID_CHECK(batch_size >= 1, "[sampler] a batch size of ", batch_size);
  BatchPlan plan;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i % static_cast<size_t>(batch_size) == 0) plan.batches.emplace_back();
    plan.batches.back().push_back({first_sample + static_cast<int64_t>(i), -1, samples[i].camera, DataKind::multi});
  }
  return plan;
}

}  // namespace reid
