#pragma once
// What a training recipe is, and the run it trains in.
//
// Design: a recipe is an epoch's preparation and one step, readable top-down in its file; the loop, the right to stop between
// any two steps, resume, evaluation and everything written belong to Run. No hooks, no inheritance between recipes.

#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "reid/engine/replay.h"
#include "reid/engine/weight_cache.h"
#include "reid/learning/feed.h"
#include "reid/learning/settings.h"
#include "reid/learning/state.h"
#include "reid/people/data.h"
#include "reid/people/evaluation.h"

namespace reid {

class Run;

class Method {
 public:
  virtual ~Method() = default;
  // Fills the epoch's state (centroids, pseudo labels, plan); all of it is in state().
  virtual void begin_epoch(Run& run, int64_t epoch) = 0;
  virtual const BatchPlan& plan() const = 0;  // the epoch's batches over samples()
  virtual const std::vector<Sample>& samples() const = 0;
  // One step of the recipe. Scalars for the metrics file and the progress line go through run.log().
  virtual void step(Run& run, const Batch& batch) = 0;
  // Images [B, H, W, 3] to embeddings [B, D] of the network that is evaluated and exported; not normalized. `made` keeps what is made of
  // the weights, for calls between which they stay as they are.
  virtual Tensor embed(const Tensor& images, WeightCache& made) = 0;
  virtual Inventory exported() = 0;
  // Everything a resume needs, inside an epoch too.
  virtual void state(State& s) = 0;
};

// What the outside world tells a run, and hears from it.
struct RunPorts {
  std::function<bool()> stop_requested = [] { return false; };
  std::function<void(const std::string&)> say = [](const std::string&) {};       // lasting lines
  std::function<void(const std::string&)> progress = [](const std::string&) {};  // the line that replaces itself
};

struct RunConfig {
  RunSettings run;
  ModelSettings model;
  DataSettings data;
  ProtocolSettings protocol;
  AugmentSettings augment;
  OptimizerSettings optimizer;
  // No keys, the command line says them: where networks compute, and whether steps are launched piece by piece there, never as graphs.
  Device device;
  bool eager = false;
  void visit(ConfigKeys& keys);
};

using Embed = std::function<Tensor(const Tensor& images)>;  // [B, H, W, 3] -> [B, D], wherever it was computed

// Images in the order given, data.embed_batch at a time, as weak views, through `embed`: [N, D], on the CPU. Rows do not depend on the
// batch size. Damaged images fail. On an accelerator loading, uploads, computing and the rows' way back go on beside each other, if `embed`
// waits for nothing.
Tensor extract(const std::vector<Sample>& samples, const Embed& embed, const DataSettings& data, Feed& feed,
               const std::shared_ptr<ImageCache>& cache, int64_t workers);

// Query against gallery of a data set, matched on the feed's device; with several splits, the mean of its figures over them, with the
// counts of the first. An image that several splits name is embedded for each.
EvaluationReport evaluate_dataset(std::span<const Dataset> splits, const Embed& embed, const DataSettings& data, Feed& feed,
                                  const std::shared_ptr<ImageCache>& cache, int64_t workers);

Json to_json(const EvaluationReport& report);          // mAP, mINP, rank1, rank5, rank10 as fractions, and the counts
std::string headline(const EvaluationReport& report);  // "mAP 61.0 %, Rank-1 84.0 %"

// NAME=LAYOUT:PATH, read and checked.
struct NamedDataset {
  std::string name;
  std::vector<Dataset> splits;  // one for most sets
};
NamedDataset read_named_dataset(const std::string& spec);

// Seconds that a run spent, in all its processes together: embedding training images, the rest of what precedes an epoch (clustering,
// above all), steps with waiting for their images, evaluations, and checkpoints as far as training waited for them; images of the steps.
struct PhaseSeconds {
  double extraction = 0, clustering = 0, training = 0, evaluation = 0, checkpoints = 0, images = 0;
};

// A run folder: config.toml (resolved), manifest.json, metrics.jsonl (one object a line, nothing in it depends on time), times.json
// (PhaseSeconds, and those of each finished epoch; of an accelerator how many steps since the run began or was resumed were replayed, as
// how many graphs), checkpoint.safetensors (replaced atomically), damaged.txt when images were skipped; at the end encoder.safetensors,
// results.json and matrix.json, matrix.md (see matrix.h), all of the last epoch. With run.best_on also best_encoder.safetensors and
// best_results.json.
class Run {
 public:
  // Opens a new folder, or continues one. Throws when the folder exists (without resume), when settings differ (naming the
  // keys), and when the decoder, the CPU's instruction set or the data changed since, as results would.
  Run(std::filesystem::path folder, bool resume, const RunConfig& config, const ConfigKeys& keys, RunPorts ports);

  // Training samples of all sets of one kind, merged; with data.skip_damaged, without those that cannot be decoded.
  Dataset read_training(const std::vector<std::string>& specs);

  // Trains to the end, or to a requested stop: then the checkpoint is written and false returned.
  bool train(Method& method);

  // For recipes.
  const RunConfig& config() const { return config_; }
  Rng rng(int64_t epoch) const;                      // of an epoch's draws
  double learning_rate() const;                      // of the current step
  int64_t step_count() const { return step_; }       // steps finished so far
  void log(const char* name, double value);          // into the current step's line, or the epoch's inside begin_epoch
  void log(const char* name, const Tensor& scalar);  // the same; on an accelerator nobody waits for it. Throws when it is not finite
  void note(const std::string& line) const { ports_.say(line); }
  void progress(const std::string& line) const { ports_.progress(line); }
  Tensor extract(const std::vector<Sample>& samples, const std::function<Tensor(const Tensor& images, WeightCache& made)>& embed);

 private:
  std::filesystem::path file(const char* name) const { return folder_ / name; }
  void check_best_on() const;
  void open_new(const ConfigKeys& keys);
  void open_existing(const ConfigKeys& keys);
  Json manifest() const;
  void check_manifest() const;
  void restore(Method& method);
  bool train_epoch(Method& method);
  void train_batch(Method& method, const Batch& batch);
  void end_line();
  void finish_line();
  void show_progress();
  void append_metrics(const char* kind, int64_t epoch, int64_t step, Json line);
  Json evaluate_all(Method& method);
  void keep_best(Method& method, const Json& results);
  void write_matrix(const Json& last) const;
  void read_times();
  void end_times();
  std::string times_text() const;
  void position(State& state);
  void save(Method& method);
  void finish_checkpoint();  // waits for the one that is being written; throws what that threw
  void finish(Method& method);

  std::filesystem::path folder_;
  RunConfig config_;
  TransformConfig transform_;
  RunPorts ports_;
  std::shared_ptr<ImageCache> cache_;
  Json data_census_ = Json::object();
  std::vector<NamedDataset> evaluation_sets_;
  std::vector<std::string> damaged_;  // images left out, each with its error
  std::string settings_;              // the resolved configuration of a new run
  bool resume_ = false;
  int64_t epoch_ = 0, batch_ = 0, step_ = 0;  // the next batch to train on
  bool prepared_ = false;                     // begin_epoch(epoch_) has run
  bool finished_ = false;                     // the last evaluation is written
  int64_t best_epoch_ = -1;                   // of run.best_on: epochs finished, and the mAP then
  double best_map_ = -1;
  int64_t metrics_bytes_ = 0;
  Json logged_;
  // A step's line of metrics, and the names of what an accelerator still owes to it: written when the next step is on its way.
  struct Line {
    Json values;
    std::vector<std::string> late;
    int64_t epoch, step;
    size_t readback;
  };
  std::vector<std::pair<std::string, Tensor>> late_;  // of the current step: read back behind it, so that nothing splits its graph
  std::optional<Line> waiting_;
  Feed feed_;
  std::array<Readback, 2> readbacks_;  // of steps with even and odd numbers
  Replay replay_;
  std::future<void> writing_;  // a checkpoint; whoever destroys this waits
  PhaseSeconds spent_;
  Json epoch_times_ = Json::array();  // the parts of spent_ that belong to finished epochs
  std::chrono::steady_clock::time_point started_{};
  int64_t first_step_ = 0;
  double step_seconds_ = 0;
};

}  // namespace reid
