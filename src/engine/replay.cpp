#include "reid/engine/replay.h"

#include <algorithm>
#include <exception>
#include <map>
#include <set>

#include "memory_pool.h"

namespace reid {

namespace {

constexpr int64_t kWarmUp = 1;    // steps before the first recording: backends make their handles and choices
constexpr int64_t kPatience = 8;  // recordings in a row without a replayed step; after them steps run without

// Blocks of a recorded step. While it is recorded they are used again as in any pool, except those that uploads fill; while it is replayed
// the n-th request gets the n-th block, if it is free: where a tensor lives longer than the recorded one did, the step's work differs.
class ReplayPool final : public MemoryPool {
 public:
  explicit ReplayPool(Device device) : MemoryPool(device) {}
  ~ReplayPool() override {
    quietly([&] { current_stream(device()).synchronize(); });
    for (void* block : blocks_) quietly([&] { give_to_system(block); });
  }

  void* allocate(size_t block, Storage::Use use, std::shared_ptr<MemoryPool>& owner) override {
    if (use == Storage::Use::workspace) return elsewhere(block, use, owner);
    if (!recording_) {
      const bool same = next_ < sequence_.size() && sequence_[next_].bytes == block && !alive_.contains(sequence_[next_].data);
      if (same) return *alive_.insert(sequence_[next_++].data).first;
      next_ = sequence_.size();  // out of step: so are all requests to come
      return elsewhere(block, use, owner);
    }
    void* data = use == Storage::Use::upload ? nullptr : take(block);
    if (!data) {
      data = ask_system(block);
      blocks_.push_back(data);
    }
    if (use == Storage::Use::upload) kept_.push_back(data);
    sequence_.push_back({data, block});
    alive_.insert(data);
    return data;
  }

  void give_back(void* data, size_t block) override {
    alive_.erase(data);
    if (recording_ && std::find(kept_.begin(), kept_.end(), data) == kept_.end()) free_.emplace(block, data);
  }

  void end_recording() {
    recording_ = false;
    free_.clear();
  }
  void rewind() { next_ = 0; }
  size_t alive() const { return alive_.size(); }  // tensors

 private:
  void make_room() override { own_pool(device())->release_cache(); }
  void* elsewhere(size_t block, Storage::Use use, std::shared_ptr<MemoryPool>& owner) {
    owner = own_pool(device());
    return owner->allocate(block, use, owner);
  }
  void* take(size_t block) {
    const auto found = free_.find(block);
    if (found == free_.end()) return nullptr;
    void* data = found->second;
    free_.erase(found);
    return data;
  }

  struct Request {
    void* data;
    size_t bytes;
  };
  bool recording_ = true;
  std::vector<Request> sequence_;
  size_t next_ = 0;
  std::vector<void*> blocks_, kept_;
  std::multimap<size_t, void*> free_;
  std::set<void*> alive_;
};

// While it lives, a device's work goes to a recorder and its tensors come from a pool.
class Redirected {
 public:
  Redirected(Device device, Recorder* recorder, std::shared_ptr<MemoryPool> pool) : device_(device) {
    set_recorder(device, recorder);
    set_memory_pool(device, std::move(pool));
  }
  ~Redirected() {
    set_recorder(device_, nullptr);
    set_memory_pool(device_, nullptr);
  }
  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;

 private:
  Device device_;
};

struct Piece {
  Recorder::Key key;
  Recorder::Run run;  // of work that repeats
  bool repeats;
  size_t graph = 0;  // that it belongs to
};
struct Graph {
  void* handle;
  size_t begin, end;  // pieces
};

}  // namespace

// A step as it was recorded: pieces of work in order, uploads apart, since they run ahead of the graphs.
struct Replay::Recorded {
  explicit Recorded(Device device_) : device(device_), pool(std::make_shared<ReplayPool>(device_)) {}
  ~Recorded() {
    quietly([&] { current_stream(device).synchronize(); });
    for (const Graph& graph : graphs) quietly([&] { accelerator(device).close_graph(graph.handle); });
  }
  void capture();

  Device device;
  std::shared_ptr<ReplayPool> pool;
  std::vector<Piece> pieces;
  std::vector<Recorder::Key> uploads;
  std::vector<Graph> graphs;
  std::shared_ptr<Storage> workspace;  // whose address the graphs hold
};

namespace {

class WritesDown final : public Recorder {
 public:
  WritesDown(Stream& stream, std::vector<Piece>& pieces, std::vector<Key>& uploads) : stream_(stream), pieces_(pieces), uploads_(uploads) {}
  void repeats(Key key, Run run) override {
    run(stream_);
    pieces_.push_back({std::move(key), std::move(run), true});
  }
  void varies(Key key, Run run) override {
    run(stream_);
    pieces_.push_back({std::move(key), {}, false});
  }
  void upload(Key key, Run run) override {
    run(stream_);
    uploads_.push_back(std::move(key));
  }

 private:
  Stream& stream_;
  std::vector<Piece>& pieces_;
  std::vector<Key>& uploads_;
};

}  // namespace

// Neighboring pieces that repeat become a graph. They have run already: capturing only writes them down.
void Replay::Recorded::capture() {
  Accelerator& a = accelerator(device);
  Stream& stream = current_stream(device);
  workspace = stream.workspace_storage();
  for (size_t begin = 0; begin < pieces.size();) {
    if (!pieces[begin].repeats) {
      ++begin;
      continue;
    }
    size_t end = begin;
    a.begin_capture(stream.native());
    std::exception_ptr error;
    try {
      for (; end < pieces.size() && pieces[end].repeats; ++end) {
        pieces[end].run(stream);
        pieces[end].graph = graphs.size();
      }
    } catch (...) {
      error = std::current_exception();
    }
    void* handle = nullptr;
    try {
      handle = a.end_capture(stream.native());  // whatever happened: the stream must come out of it
    } catch (...) {                             // an error before says more than that the capture is broken
      if (!error) error = std::current_exception();
    }
    if (handle) graphs.push_back({handle, begin, end});
    if (error) std::rethrow_exception(error);
    REID_CHECK(handle, "[replay] ", end - begin, " pieces of work queued nothing");
    REID_CHECK(stream.workspace_storage() == workspace, "[replay] a piece of work asks for more memory than when it ran before");
    begin = end;
  }
}

namespace {

// Compares a step's work with what was recorded, and queues it as graphs as long as it is the same.
class Follows final : public Recorder {
 public:
  Follows(Device device, const std::vector<Piece>& pieces, const std::vector<Key>& uploads, const std::vector<Graph>& graphs)
      : device_(device), stream_(current_stream(device)), pieces_(pieces), uploads_(uploads), graphs_(graphs) {}

  void repeats(Key key, Run run) override {
    if (!expect(key, true)) return run(stream_);
    ++next_;
    const Graph& graph = graphs_[pieces_[next_ - 1].graph];
    if (next_ == graph.end) accelerator(device_).launch_graph(graph.handle, stream_.native());
  }
  void varies(Key key, Run run) override {
    // Of these only the place in the order counts: what differs may be numbers, or addresses of the host.
    if (!ended_ && (next_ == pieces_.size() || pieces_[next_].repeats))
      end(str("work that varies came where piece ", next_, " of ", pieces_.size(), " was expected"));
    if (!ended_ && pieces_[next_].key.front() != key.front()) end(str("other work that varies came as piece ", next_));
    run(stream_);
    if (!ended_) ++next_;
  }
  void upload(Key key, Run run) override {
    if (!ended_ && (next_upload_ == uploads_.size() || uploads_[next_upload_] != key))
      end(str("copy ", next_upload_, " from the host goes elsewhere, or has another size"));
    ++next_upload_;
    run(stream_);
  }
  void finish() {
    if (!ended_ && next_ < pieces_.size()) end(str("the step ended after ", next_, " of ", pieces_.size(), " pieces of work"));
  }
  const std::string& reason() const { return reason_; }

 private:
  bool expect(const Key& key, bool repeats) {
    if (ended_) return false;
    if (next_ < pieces_.size() && pieces_[next_].repeats == repeats && pieces_[next_].key == key) return true;
    end(str("piece ", next_, " of ", pieces_.size(), " is other work, or has other operands"));
    return false;
  }
  // What was compared already, but whose graph was not complete, runs now.
  void end(std::string reason) {
    reason_ = std::move(reason);
    ended_ = true;
    if (next_ == pieces_.size() || !pieces_[next_].repeats) return;
    for (size_t i = graphs_[pieces_[next_].graph].begin; i < next_; ++i) pieces_[i].run(stream_);
  }

  Device device_;
  Stream& stream_;
  const std::vector<Piece>& pieces_;
  const std::vector<Key>& uploads_;
  const std::vector<Graph>& graphs_;
  size_t next_ = 0, next_upload_ = 0;
  bool ended_ = false;
  std::string reason_;
};

}  // namespace

Replay::Replay(Device device) : device_(device) {}
Replay::~Replay() = default;

void Replay::run(FunctionRef<void()> step) {
  const size_t kept = recorded_ ? recorded_->pool->alive() : 0;
  if (recorded_ && kept == 0) return replay(step);
  if (kept > 0) {
    forget(str(kept, " tensors made in a step outlive it"));
  } else if (device_.type != DeviceType::cpu && counts_.eager >= kWarmUp && given_up_ < kPatience) {
    return record(step);
  }
  ++counts_.eager;
  step();
}

void Replay::record(FunctionRef<void()> step) {
  release_cached_memory(device_);  // what the steps before left: this one's memory is its own
  recorded_ = std::make_unique<Recorded>(device_);
  ++counts_.recorded;
  ++given_up_;  // until a step is replayed
  try {
    WritesDown recorder(current_stream(device_), recorded_->pieces, recorded_->uploads);
    const Redirected redirected(device_, &recorder, recorded_->pool);
    step();
  } catch (...) {
    recorded_.reset();
    throw;
  }
  recorded_->pool->end_recording();
  try {
    recorded_->capture();
    counts_.graphs = static_cast<int64_t>(recorded_->graphs.size());
    reason_ = "it was recorded";
  } catch (const Error& e) {  // the step itself is done
    forget(str("no graph could be made of it: ", e.what()));
  }
}

void Replay::replay(FunctionRef<void()> step) {
  recorded_->pool->rewind();
  Follows recorder(device_, recorded_->pieces, recorded_->uploads, recorded_->graphs);
  try {
    const Redirected redirected(device_, &recorder, recorded_->pool);
    step();
    recorder.finish();
  } catch (...) {
    recorded_.reset();
    throw;
  }
  if (recorder.reason().empty()) {
    ++counts_.replayed;
    given_up_ = 0;
    reason_.clear();
  } else {
    ++counts_.ended;
    forget(recorder.reason());
  }
}

void Replay::forget(std::string reason) {
  reason_ = std::move(reason);
  recorded_.reset();
}

}  // namespace reid
