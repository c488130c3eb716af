// Plans to tensors. Work is handed out image by image, so that even one batch is shared by all workers; a batch is opened when
// its first image is claimed and complete when all are done. The consumer takes complete batches in the order of the plan.

#include "people/loader.h"

#include <algorithm>
#include <cstring>

namespace reid {

// ---- Cache

struct ImageCache::State {
  std::mutex mutex;
  std::unordered_map<std::string, std::shared_ptr<const Image>> images;
  int64_t limit = 0, bytes = 0, hits = 0, misses = 0;
};

ImageCache::ImageCache(int64_t max_bytes) : state_(std::make_unique<State>()) { state_->limit = max_bytes; }
ImageCache::~ImageCache() = default;

namespace {

std::shared_ptr<const Image> decode(const std::string& path, const TransformConfig& t) {
  return std::make_shared<const Image>(resize(read_image(path), t.height, t.width, t.filter));
}

}  // namespace

std::shared_ptr<const Image> ImageCache::load(const std::string& path, const TransformConfig& transform) {
  const std::string key = str(path, '\n', transform.height, 'x', transform.width, 'f', static_cast<int>(transform.filter));
  {
    const std::lock_guard lock(state_->mutex);
    const auto found = state_->images.find(key);
    if (found != state_->images.end()) {
      ++state_->hits;
      return found->second;
    }
    ++state_->misses;
  }
  std::shared_ptr<const Image> image = decode(path, transform);  // two threads may do this for one file: the results are equal
  constexpr int64_t kOverhead = 160;                             // of the map's node, the key and the control block
  const int64_t size = static_cast<int64_t>(image->rgb.size() + key.size()) + kOverhead;
  const std::lock_guard lock(state_->mutex);
  if (state_->bytes + size <= state_->limit && state_->images.emplace(key, image).second) state_->bytes += size;
  return image;
}

int64_t ImageCache::bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->bytes;
}
int64_t ImageCache::hits() const {
  const std::lock_guard lock(state_->mutex);
  return state_->hits;
}
int64_t ImageCache::misses() const {
  const std::lock_guard lock(state_->mutex);
  return state_->misses;
}

// ---- Batch

namespace {

template <class T>
std::vector<T> column(const std::vector<PlanEntry>& entries, T PlanEntry::*field) {
  std::vector<T> values;
  values.reserve(entries.size());
  for (const PlanEntry& entry : entries) values.push_back(entry.*field);
  return values;
}

}  // namespace

std::vector<int64_t> Batch::samples() const { return column(entries, &PlanEntry::sample); }
std::vector<int64_t> Batch::labels() const { return column(entries, &PlanEntry::label); }
std::vector<int64_t> Batch::cameras() const { return column(entries, &PlanEntry::camera); }
std::vector<DataKind> Batch::kinds() const { return column(entries, &PlanEntry::kind); }

// ---- One image

BatchMaker::BatchMaker(std::span<const Sample> samples, BatchPlan plan, LoaderOptions options, const Rng& rng)
    : samples_(samples), plan_(std::move(plan)), options_(std::move(options)), rng_(rng), normalize_(options_.transform) {
  options_.transform.check();
  REID_CHECK(options_.workers >= 0 && options_.prefetch >= 1, "[loader] ", options_.workers, " workers, ", options_.prefetch,
             " batches ahead: at least 0 and 1");
  int64_t position = 0;
  for (size_t b = 0; b < plan_.batches.size(); ++b) {
    starts_.push_back(position);
    position += static_cast<int64_t>(plan_.batches[b].size());
    for (const PlanEntry& entry : plan_.batches[b])
      REID_CHECK(entry.sample >= 0 && entry.sample < static_cast<int64_t>(samples_.size()), "[loader] batch ", b,
                 " of the plan wants sample ", entry.sample, ", there are ", samples_.size());
  }
}

std::unique_ptr<Work> BatchMaker::open(int64_t index) const {
  auto work = std::make_unique<Work>();
  work->batch.index = index;
  work->batch.entries = plan_.batches[static_cast<size_t>(index)];
  const TransformConfig& t = options_.transform;
  const Shape shape{work->batch.size(), t.height, t.width, 3};
  if (options_.pixels) {
    BatchPixels& pixels = work->batch.pixels;
    pixels.images = Tensor::empty(shape, DType::u8);
    if (options_.augment && t.colors()) pixels.changes = Tensor::empty({work->batch.size(), change_fields(t)}, DType::i32);
    if (options_.augment) pixels.views = Tensor::empty({work->batch.size(), kPixelViewFields}, DType::i32);
  } else {
    if (options_.augment) work->batch.augmented = Tensor::empty(shape, DType::f32);
    work->batch.original = Tensor::empty(shape, DType::f32);
  }
  work->outcomes.resize(work->batch.entries.size());
  return work;
}

void BatchMaker::fill(Work& work, int64_t slot) {
  Outcome& outcome = work.outcomes[static_cast<size_t>(slot)];
  try {
    PlanEntry& entry = work.batch.entries[static_cast<size_t>(slot)];
    const int64_t position = starts_[static_cast<size_t>(work.batch.index)] + slot;
    const std::shared_ptr<const Image> image = load(entry, position, outcome);
    if (image == nullptr) return;
    const Rng draws = rng_.at(static_cast<uint64_t>(position)).at("augmented");
    options_.pixels ? fill_pixels(work.batch.pixels, slot, *image, draws) : fill_views(work.batch, slot, *image, draws);
  } catch (...) {
    outcome.error = std::current_exception();
  }
}

void BatchMaker::fill_views(const Batch& batch, int64_t slot, const Image& image, const Rng& draws) const {
  const int64_t at = slot * static_cast<int64_t>(image.rgb.size());
  weak_view(image, normalize_, batch.original.data<float>() + at);
  if (options_.augment) augmented_view(image, options_.transform, normalize_, draws, batch.augmented.data<float>() + at);
}

void BatchMaker::fill_pixels(const BatchPixels& pixels, int64_t slot, const Image& image, const Rng& draws) const {
  const int64_t at = slot * static_cast<int64_t>(image.rgb.size());
  std::ranges::copy(image.rgb, pixels.images.data<uint8_t>() + at);
  if (!options_.augment) return;
  const TransformConfig& t = options_.transform;
  const PixelView view =
      pixels.changes.defined() ? draw_change(t, draws, pixels.changes.rows(slot, slot + 1).data<int32_t>()) : draw_view(t, draws);
  std::memcpy(pixels.views.data<int32_t>() + slot * kPixelViewFields, &view, sizeof view);
}

std::shared_ptr<const Image> BatchMaker::try_load(int64_t sample, Outcome& outcome) const {
  const std::string& path = samples_[static_cast<size_t>(sample)].path;
  try {
    return options_.cache ? options_.cache->load(path, options_.transform) : decode(path, options_.transform);
  } catch (const Error& e) {
    if (options_.on_damage == OnDamage::fail) throw;
    outcome.damaged.emplace_back(path, e.what());
    return nullptr;
  }
}

std::shared_ptr<const Image> BatchMaker::load(PlanEntry& entry, int64_t position, Outcome& outcome) {
  if (auto image = try_load(entry.sample, outcome)) return image;
  if (options_.on_damage == OnDamage::drop) {
    outcome.dropped = true;
    return nullptr;
  }
  constexpr int kTries = 100;  // more unreadable images than this in a row are no accident
  std::call_once(substitutes_once_, [this] { list_substitutes(); });
  const std::vector<PlanEntry>& same = substitutes_.at({entry.kind, entry.label});
  const auto after = std::find_if(same.begin(), same.end(), [&](const PlanEntry& e) { return e.sample > entry.sample; });
  const size_t first = static_cast<size_t>(after - same.begin());
  for (size_t i = 0; i + 1 < same.size() && i < kTries; ++i) {
    const PlanEntry& candidate = same[(first + i) % same.size()];
    if (auto image = try_load(candidate.sample, outcome)) {
      entry = candidate;
      return image;
    }
  }
  const auto count = static_cast<int64_t>(flat_.size());
  int tries = 0;
  for (int64_t step = 1; step < count && tries < kTries; ++step) {
    const PlanEntry& candidate = flat_[static_cast<size_t>((position + step) % count)];
    if (candidate.kind != entry.kind || candidate.label == entry.label) continue;
    ++tries;
    if (auto image = try_load(candidate.sample, outcome)) {
      entry = candidate;
      return image;
    }
  }
  fail(str("no image can take the place of a damaged one: ", outcome.damaged.front().second, "; so are ", outcome.damaged.size() - 1,
           " others"));
}

void BatchMaker::list_substitutes() {
  for (const auto& batch : plan_.batches)
    for (const PlanEntry& entry : batch) {
      flat_.push_back(entry);
      substitutes_[{entry.kind, entry.label}].push_back(entry);
    }
  for (auto& [key, list] : substitutes_) {
    std::sort(list.begin(), list.end(), [](const PlanEntry& a, const PlanEntry& b) { return a.sample < b.sample; });
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
}

// ---- Threads

struct Loader::State {
  State(std::span<const Sample> samples, BatchPlan plan, LoaderOptions options, const Rng& rng)
      : maker(samples, std::move(plan), std::move(options), rng) {}
  ~State() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    room.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  BatchMaker maker;
  std::mutex mutex;
  std::condition_variable room, ready;  // for workers: something to claim; for the consumer: a batch complete
  bool stop = false;
  int64_t handed_out = 0;  // batches before this one are the consumer's
  int64_t claim_batch = 0, claim_slot = 0;
  std::map<int64_t, std::unique_ptr<Work>> works;  // opened, not handed out
  std::map<std::string, std::string> damaged;      // path to message
  std::vector<std::thread> threads;

  bool claimable() const { return claim_batch < maker.batches() && claim_batch < handed_out + maker.options().prefetch; }
  void run();
  Work* open_claimed();
  std::unique_ptr<Work> take();
  std::optional<Batch> finish(std::unique_ptr<Work> work);
};

// The work whose images are being claimed; called with the mutex held.
Work* Loader::State::open_claimed() {
  std::unique_ptr<Work>& work = works[claim_batch];
  if (work == nullptr) {
    try {
      work = maker.open(claim_batch);
    } catch (...) {
      work = std::make_unique<Work>();
      work->failure = std::current_exception();
    }
  }
  return work.get();
}

void Loader::State::run() {
  std::unique_lock lock(mutex);
  for (;;) {
    room.wait(lock, [this] { return stop || claimable() || claim_batch >= maker.batches(); });
    if (stop || claim_batch >= maker.batches()) return;
    Work* work = open_claimed();
    const auto size = static_cast<int64_t>(work->outcomes.size());
    const int64_t slot = claim_slot++;
    if (claim_slot >= size) ++claim_batch, claim_slot = 0;
    if (slot < size) {
      lock.unlock();
      maker.fill(*work, slot);
      lock.lock();
      ++work->done;
    }
    if (work->done == size) ready.notify_one();
    if (claim_batch >= maker.batches()) room.notify_all();
  }
}

std::unique_ptr<Work> Loader::State::take() {
  if (maker.options().workers == 0) {
    std::unique_ptr<Work> work = maker.open(handed_out++);
    for (int64_t slot = 0; slot < work->batch.size(); ++slot) maker.fill(*work, slot);
    return work;
  }
  std::unique_lock lock(mutex);
  ready.wait(lock, [this] {
    const auto found = works.find(handed_out);
    return found != works.end() && found->second->done == static_cast<int64_t>(found->second->outcomes.size());
  });
  std::unique_ptr<Work> work = std::move(works.at(handed_out));
  works.erase(handed_out++);
  room.notify_all();
  return work;
}

// Errors in the order of the batch's images, then damage booked, then dropped images closed up. Nothing when none is left.
std::optional<Batch> Loader::State::finish(std::unique_ptr<Work> work) {
  if (work->failure) std::rethrow_exception(work->failure);
  for (const Outcome& outcome : work->outcomes) {
    if (outcome.error) std::rethrow_exception(outcome.error);
    for (const auto& [path, message] : outcome.damaged) damaged.emplace(path, message);
  }
  std::vector<int64_t> kept;
  for (size_t i = 0; i < work->outcomes.size(); ++i)
    if (!work->outcomes[i].dropped) kept.push_back(static_cast<int64_t>(i));
  if (kept.empty()) return std::nullopt;
  Batch& batch = work->batch;
  if (static_cast<int64_t>(kept.size()) == batch.size()) return std::move(batch);

  const auto close_up = [&](Tensor& rows) {
    if (!rows.defined()) return;
    for (size_t i = 0; i < kept.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      if (kept[i] != row) rows.rows(row, row + 1).copy_from(rows.rows(kept[i], kept[i] + 1));
    }
    rows = rows.rows(0, static_cast<int64_t>(kept.size()));
  };
  for (Tensor* rows : {&batch.augmented, &batch.original, &batch.pixels.images, &batch.pixels.changes, &batch.pixels.views})
    close_up(*rows);
  for (size_t i = 0; i < kept.size(); ++i) batch.entries[i] = batch.entries[static_cast<size_t>(kept[i])];
  batch.entries.resize(kept.size());
  return std::move(batch);
}

Loader::Loader(std::span<const Sample> samples, BatchPlan plan, LoaderOptions options, const Rng& rng, int64_t first_batch)
    : state_(std::make_unique<State>(samples, std::move(plan), std::move(options), rng)) {
  const int64_t batches = state_->maker.batches();
  REID_CHECK(first_batch >= 0 && first_batch <= batches, "[loader] cannot start at batch ", first_batch, " of ", batches);
  state_->handed_out = state_->claim_batch = first_batch;
  for (int i = 0; i < state_->maker.options().workers; ++i) state_->threads.emplace_back([s = state_.get()] { s->run(); });
}

Loader::~Loader() = default;

std::optional<Batch> Loader::next() {
  while (state_->handed_out < state_->maker.batches()) {  // only this thread changes it
    if (std::optional<Batch> batch = state_->finish(state_->take())) return batch;
  }
  return std::nullopt;
}

std::vector<std::string> Loader::damaged() const {
  std::vector<std::string> messages;
  for (const auto& [path, message] : state_->damaged) messages.push_back(message);
  return messages;
}

const std::string* Loader::damage_of(const std::string& path) const {
  const auto found = state_->damaged.find(path);
  return found == state_->damaged.end() ? nullptr : &found->second;
}

Loader evaluation_loader(std::span<const Sample> samples, int64_t batch_size, LoaderOptions options) {
  REID_CHECK(options.on_damage != OnDamage::replace, "[loader] an evaluation must not replace images: let damaged ones fail or be dropped");
  options.augment = false;
  return Loader(samples, sequential_plan(samples, batch_size), std::move(options), Rng(0));
}

}  // namespace reid
