#pragma once
// The parts of the loader that know nothing of threads: one batch in the making, and how its images are made.

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "reid/people/data.h"

namespace reid {

// What became of one image; written by one worker.
struct Outcome {
  std::exception_ptr error;
  bool dropped = false;
  std::vector<std::pair<std::string, std::string>> damaged;  // path, message: met while loading or replacing
};

struct Work {
  Batch batch;
  std::vector<Outcome> outcomes;  // [entry]
  int64_t done = 0;               // images; guarded by the loader's mutex
  std::exception_ptr failure;     // of opening the batch: outcomes is empty then
};

// fill() may run on several threads at once, for different slots.
class BatchMaker {
 public:
  BatchMaker(std::span<const Sample> samples, BatchPlan plan, LoaderOptions options, const Rng& rng);

  const LoaderOptions& options() const { return options_; }
  int64_t batches() const { return static_cast<int64_t>(plan_.batches.size()); }
  std::unique_ptr<Work> open(int64_t index) const;
  void fill(Work& work, int64_t slot);  // throws nothing: errors go into the slot's outcome

 private:
  void fill_views(const Batch& batch, int64_t slot, const Image& image, const Rng& draws) const;
  void fill_pixels(const BatchPixels& pixels, int64_t slot, const Image& image, const Rng& draws) const;
  std::shared_ptr<const Image> load(PlanEntry& entry, int64_t position, Outcome& outcome);  // null: dropped
  std::shared_ptr<const Image> try_load(int64_t sample, Outcome& outcome) const;            // null: damaged, and booked
  void list_substitutes();

  std::span<const Sample> samples_;
  BatchPlan plan_;
  LoaderOptions options_;
  Rng rng_;
  Normalizer normalize_;
  std::vector<int64_t> starts_;  // [batch]: position of its first entry
  std::once_flag substitutes_once_;
  std::map<std::pair<DataKind, int64_t>, std::vector<PlanEntry>> substitutes_;  // by label, in the order of samples
  std::vector<PlanEntry> flat_;                                                 // the plan as one list
};

}  // namespace reid
