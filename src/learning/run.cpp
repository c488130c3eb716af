// The training loop that every recipe shares, and everything a run writes.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>

#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"
#include "reid/learning/encoder_file.h"
#include "reid/learning/matrix.h"
#include "reid/learning/method.h"
#include "run_files.h"

namespace reid {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::string duration(double seconds) {
  const int64_t s = static_cast<int64_t>(std::lround(seconds));
  char text[32];
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%d:%02d:%02d", static_cast<int>(s / 3600), static_cast<int>(s / 60 % 60), static_cast<int>(s % 60));
  } else {
    std::snprintf(text, sizeof text, "%d:%02d", static_cast<int>(s / 60), static_cast<int>(s % 60));
  }
  return text;
}

// What a step had asked for until memory ended is the least it needs: so the answer is an upper bound.
std::string fitting_batch(const MemoryShortage& s, int64_t before, int64_t images) {
  const double needed = static_cast<double>(s.in_use - before + s.wanted), there = static_cast<double>(s.in_use - before + s.free);
  const auto most = static_cast<int64_t>(there / std::max(needed, 1.0) * static_cast<double>(images));
  return str("a batch of ", images, " images is too large here, one of ", most,
             " is the most that could fit: lower the keys of section batch");
}

}  // namespace

void RunConfig::visit(ConfigKeys& keys) {
  run.visit(keys);
  model.visit(keys);
  data.visit(keys);
  protocol.visit(keys);
  augment.visit(keys);
  optimizer.visit(keys);
}

Run::Run(fs::path folder, bool resume, const RunConfig& config, const ConfigKeys& keys, RunPorts ports)
    : folder_(std::move(folder)),
      config_(config),
      transform_(config.augment.transform(config.data)),
      ports_(std::move(ports)),
      cache_(std::make_shared<ImageCache>(config.data.cache_mib << 20)),
      resume_(resume),
      feed_(config.device, transform_, config.model.rounds() ? DType::bf16 : DType::f32),
      readbacks_{Readback(config.device), Readback(config.device)},
      replay_(config.eager ? Device{} : config.device) {
  config_.optimizer.schedule.epochs = static_cast<double>(config.run.epochs);
  for (const std::string& spec : config_.data.evaluate) {
    evaluation_sets_.push_back(read_named_dataset(spec));
    const std::vector<Dataset>& splits = evaluation_sets_.back().splits;
    Json counts = Json::array();
    for (const Dataset& split : splits) counts.push_back(census(split));
    data_census_[spec] = splits.size() == 1 ? counts.items().front() : counts;
  }
  if (!config_.run.best_on.empty()) check_best_on();
  resume ? open_existing(keys) : open_new(keys);
}

void Run::check_best_on() const {
  std::string names;
  bool known = false;
  for (const NamedDataset& named : evaluation_sets_) {
    known = known || named.name == config_.run.best_on;
    names += (names.empty() ? "" : ", ") + named.name;
  }
  REID_CHECK(known, "run.best_on = ", config_.run.best_on, " is none of the sets evaluated on (", names.empty() ? "there are none" : names,
             ")");
  REID_CHECK(config_.run.evaluate_every > 0, "run.best_on needs evaluations on the way: set run.evaluate_every above 0");
}

void Run::open_new(const ConfigKeys& keys) {
  std::error_code ignored;
  REID_CHECK(!fs::exists(folder_, ignored) || fs::is_empty(folder_, ignored), "run folder ", folder_.string(),
             " exists already: continue it with --resume, or name another with --out");
  settings_ = keys.toml();
}

void Run::open_existing(const ConfigKeys& keys) {
  REID_CHECK(fs::exists(file("config.toml")), "run folder ", folder_.string(),
             " holds no run to resume (no config.toml): start it without --resume");
  check_same_settings(read_text(file("config.toml")), file("config.toml").string(), keys);
}

Dataset Run::read_training(const std::vector<std::string>& specs) {
  std::vector<Dataset> sets;
  for (const std::string& spec : specs) {
    sets.push_back(read_dataset(spec));
    data_census_[spec] = census(sets.back());
  }
  Dataset all = merge(sets);
  if (config_.data.skip_damaged) {
    const std::vector<std::string> damaged = remove_damaged(all.train, *cache_, transform_);
    damaged_.insert(damaged_.end(), damaged.begin(), damaged.end());
    if (!damaged.empty()) ports_.say(str("skipping ", damaged.size(), " damaged images, listed in ", file("damaged.txt").string()));
  }
  return all;
}

Json Run::manifest() const { return make_manifest(config_, data_census_); }

void Run::check_manifest() const {
  const Json then = parse_json(read_text(file("manifest.json")), file("manifest.json").string());
  const Json now = manifest();
  for (const char* key : {"reid", "image_decoder", "instruction_set", "accelerator", "data"}) {
    if (!then.find(key) && !now.find(key)) continue;
    REID_CHECK(then.find(key) && now.find(key), "cannot resume ", folder_.string(), ": it was ", then.find(key) ? "" : "not ",
               "begun on an accelerator; results would differ, so resume with the --device it began with, or start a new run");
    REID_CHECK(then.at(key) == now.at(key), "cannot resume ", folder_.string(), ": ", key, " was ", then.at(key).dump(), " and is now ",
               now.at(key).dump(), "; results would differ, so start a new run");
  }
}

// The folder is made only now: whatever was wrong with settings or data has been said, and left nothing behind.
void Run::restore(Method& method) {
  if (resume_ && fs::exists(file("manifest.json"))) check_manifest();
  make_folder(folder_);
  if (!resume_) write_file(file("config.toml"), settings_);
  write_file(file("manifest.json"), manifest().dump(2) + "\n");
  if (!damaged_.empty()) write_file(file("damaged.txt"), joined(damaged_));
  if (!fs::exists(file("checkpoint.safetensors"))) {  // stopped before the first checkpoint: begin anew
    write_file(file("metrics.jsonl"), std::string_view());
    return;
  }
  NamedTensors checkpoint = read_safetensors(file("checkpoint.safetensors"));
  State state(std::move(checkpoint));
  position(state);
  method.state(state);
  read_times();
  truncate_file(file("metrics.jsonl"), metrics_bytes_);
  ports_.say(str("resuming at epoch ", epoch_, ", step ", step_));
}

bool Run::train(Method& method) {
  restore(method);
  if (config_.model.precision != "f32") ports_.say("precision: " + precision_text(config_));
  started_ = Clock::now();
  first_step_ = step_;
  const int64_t epochs = config_.run.epochs;
  while (epoch_ < epochs) {
    if (!train_epoch(method)) return false;
    ++epoch_;
    batch_ = 0;
    prepared_ = false;
    const int64_t every = config_.run.evaluate_every;
    if (every > 0 && epoch_ % every == 0 && epoch_ < epochs) keep_best(method, evaluate_all(method));
    end_times();
    save(method);
  }
  finish(method);
  return true;
}

bool Run::train_epoch(Method& method) {
  if (!prepared_) {
    ports_.progress(str("epoch ", epoch_ + 1, "/", config_.run.epochs, "  embedding and clustering"));
    logged_ = Json::object();
    const Clock::time_point start = Clock::now();
    const double extraction = spent_.extraction;
    method.begin_epoch(*this, epoch_);
    spent_.clustering += seconds_since(start) - (spent_.extraction - extraction);
    append_metrics("epoch", epoch_, step_, logged_);
    prepared_ = true;
  }
  Clock::time_point start = Clock::now();
  const LoaderOptions options{
      .transform = transform_, .pixels = feed_.pixels(), .workers = static_cast<int>(config_.run.workers), .cache = cache_};
  Loader loader(method.samples(), method.plan(), options, rng(epoch_).at("augment"), batch_);
  Feed::Batches batches(feed_, loader);
  for (;;) {
    if (ports_.stop_requested()) {
      save(method);
      finish_checkpoint();
      ports_.say(str("stopped at epoch ", epoch_ + 1, ", step ", step_, "; continue with --resume"));
      return false;
    }
    const std::optional<Batch> batch = batches.next();
    if (!batch) {
      finish_line();
      spent_.training += seconds_since(start);
      return true;
    }
    train_batch(method, *batch);
    const double seconds = seconds_since(start);
    spent_.training += seconds;
    spent_.images += static_cast<double>(batch->size());
    step_seconds_ = step_seconds_ == 0 ? seconds : 0.9 * step_seconds_ + 0.1 * seconds;
    logged_["images_per_second"] = static_cast<double>(batch->size()) / step_seconds_;
    show_progress();
    if (step_ % config_.run.checkpoint_every == 0) save(method);
    start = Clock::now();
  }
}

void Run::train_batch(Method& method, const Batch& batch) {
  logged_ = Json::object();
  const int64_t before = allocator_stats(config_.device).bytes_in_use;
  try {
    const Batch here = feed_.in_place(batch);
    replay_.run([&] { method.step(*this, feed_.with_views(here)); });
  } catch (const OutOfMemory& e) {
    fail(str(e.what(), "; ", fitting_batch(e.shortage, before, batch.size())));
  }
  log("lr", learning_rate());
  ++batch_;
  ++step_;
  end_line();
}

void Run::show_progress() {
  const int64_t total = config_.run.epochs * config_.run.iterations;
  std::string line = str("epoch ", epoch_ + 1, "/", config_.run.epochs, "  step ", step_, "/", total);
  char text[64];
  for (const auto& [name, value] : logged_.members()) {
    if (name == "lr" || name == "images_per_second") continue;
    std::snprintf(text, sizeof text, "  %s %.3f", name.c_str(), value.number());
    line += text;
  }
  const double per_step = seconds_since(started_) / static_cast<double>(std::max<int64_t>(step_ - first_step_, 1));
  std::snprintf(text, sizeof text, "  %.1f images/s", logged_.at("images_per_second").number());
  line += text + std::string("  ") + duration(per_step * static_cast<double>(total - step_)) + " left";
  ports_.progress(line);
}

Rng Run::rng(int64_t epoch) const { return Rng(static_cast<uint64_t>(config_.run.seed)).at("epoch").at(static_cast<uint64_t>(epoch)); }

double Run::learning_rate() const {
  const double within = static_cast<double>(batch_) / static_cast<double>(config_.run.iterations);
  return config_.optimizer.schedule.at(static_cast<double>(epoch_) + (config_.optimizer.per_step ? within : 0));
}

Tensor Run::extract(const std::vector<Sample>& samples, const std::function<Tensor(const Tensor& images, WeightCache& made)>& embed) {
  const Clock::time_point start = Clock::now();
  WeightCache made;
  const auto embed_batch = [&](const Tensor& images) { return embed(images, made); };
  const Tensor rows = reid::extract(samples, embed_batch, config_.data, feed_, cache_, config_.run.workers);
  spent_.extraction += seconds_since(start);
  return rows;
}

Json Run::evaluate_all(Method& method) {
  Json results = Json::object();
  const Clock::time_point start = Clock::now();
  WeightCache made;
  const auto embed = [&](const Tensor& images) { return method.embed(images, made); };
  for (const NamedDataset& named : evaluation_sets_) {
    ports_.progress("evaluating on " + named.name);
    const EvaluationReport report = evaluate_dataset(named.splits, embed, config_.data, feed_, cache_, config_.run.workers);
    results[named.name] = to_json(report);
    ports_.say(str("epoch ", epoch_, "  ", named.name, ": ", headline(report)));
    Json line = to_json(report);
    line["set"] = named.name;
    append_metrics("evaluation", epoch_, step_, line);
  }
  spent_.evaluation += seconds_since(start);
  return results;
}

// The epoch that is best by the labels of run.best_on, beside the last one, never in its place. Of equals the first is kept.
void Run::keep_best(Method& method, const Json& results) {
  const std::string& set = config_.run.best_on;
  if (set.empty() || results.at(set).at("mAP").number() <= best_map_) return;
  best_map_ = results.at(set).at("mAP").number();
  best_epoch_ = epoch_;
  write_safetensors(file("best_encoder.safetensors"), exported_encoder(method.exported(), config_.model, transform_));
  const Json best = Json::object({{"chosen_by_labels_of", set}, {"epoch", epoch_}, {"results", results}});
  write_file(file("best_results.json"), best.dump(2) + "\n");
}

void Run::write_matrix(const Json& last) const {
  const std::vector<std::string>& names = config_.protocol.trained_on;
  MatrixRow row{.trained_on = names.empty() ? config_.data.multi : names, .single = config_.data.single};
  std::vector<std::string> trained_on = config_.data.multi;
  trained_on.insert(trained_on.end(), config_.data.single.begin(), config_.data.single.end());
  row.seen = sets_seen(config_.data.evaluate, trained_on);
  row.checkpoint = str("last epoch (", epoch_, ")");
  row.results = last;
  std::vector<MatrixRow> rows = {row};
  if (best_epoch_ >= 0) {
    const Json best = parse_json(read_text(file("best_results.json")), file("best_results.json").string());
    row.checkpoint = str("epoch ", best_epoch_, ", chosen by the labels of ", config_.run.best_on);
    row.results = best.at("results");
    rows.push_back(row);
  }
  write_matrix_files(rows, folder_);
}

// Where the run stands.
void Run::position(State& state) {
  int64_t prepared = prepared_, finished = finished_;
  state.integer("run.epoch", epoch_);
  state.integer("run.batch", batch_);
  state.integer("run.step", step_);
  state.integer("run.prepared", prepared);
  state.integer("run.finished", finished);
  state.integer("run.metrics_bytes", metrics_bytes_);
  if (!config_.run.best_on.empty()) {
    int64_t bits = std::bit_cast<int64_t>(best_map_);
    state.integer("run.best_epoch", best_epoch_);
    state.integer("run.best_map", bits);
    best_map_ = std::bit_cast<double>(bits);
  }
  prepared_ = prepared != 0;
  finished_ = finished != 0;
}

// Training goes on while the disk takes a copy of the state.
void Run::save(Method& method) {
  if (waiting_) {  // what the device has still to do is training
    const Clock::time_point begin = Clock::now();
    finish_line();
    spent_.training += seconds_since(begin);
  }
  const Clock::time_point start = Clock::now();
  finish_checkpoint();
  State state;
  position(state);
  method.state(state);
  spent_.checkpoints += seconds_since(start);
  writing_ = std::async(std::launch::async, [metrics = file("metrics.jsonl"), checkpoint = file("checkpoint.safetensors"),
                                             held = state.take(), times = file("times.json"), spent = times_text()]() mutable {
    const NamedTensors content = std::move(held);  // gone with the last byte, not when somebody asks how it went
    sync_file(metrics);
    write_safetensors(checkpoint, content);
    write_file(times, spent);
  });
}

void Run::finish_checkpoint() {
  if (writing_.valid()) writing_.get();
}

void Run::finish(Method& method) {
  write_safetensors(file("encoder.safetensors"), exported_encoder(method.exported(), config_.model, transform_));
  if (finished_) return;
  const Json results = evaluate_all(method);
  keep_best(method, results);
  write_file(file("results.json"), results.dump(2) + "\n");
  write_matrix(results);
  finished_ = true;
  save(method);
  finish_checkpoint();
  ports_.say("time: extraction " + duration(spent_.extraction) + ", clustering " + duration(spent_.clustering) + ", training " +
             duration(spent_.training) + ", evaluation " + duration(spent_.evaluation));
  if (config_.device.type == DeviceType::cpu) return;
  ports_.say(str("memory: ", allocator_stats(config_.device).peak_device_bytes >> 20, " MiB of ", config_.device, " at most"));
}

}  // namespace reid
