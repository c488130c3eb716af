// Runs: bitwise repeatable, whatever the threads and workers and wherever they were stopped; and strict about their folders.

#include <doctest/doctest.h>

#include <numeric>

#include "small_run.h"

namespace reid::test {
namespace {

// What an uninterrupted run of the small configuration leaves.
const std::string& reference_outcome() {
  static const Scratch scratch("reference");
  static const std::string value = [] {
    REQUIRE(train(small_config(), scratch / "run"));
    return outcome(scratch / "run");
  }();
  return value;
}

}  // namespace

TEST_CASE("a run of the small configuration trains on pseudo labels in every epoch") {
  const Scratch scratch("mixed");
  REQUIRE(train(small_config(), scratch / "run"));
  std::istringstream lines(bytes_of(scratch / "run" / "metrics.jsonl"));
  int epochs = 0, steps = 0, evaluations = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json(line, "metrics.jsonl");
    const std::string& kind = entry.at("kind").string();
    epochs += kind == "epoch";
    steps += kind == "step";
    evaluations += kind == "evaluation";
    if (kind == "epoch") CHECK(entry.at("clusters").number() >= 2);  // else the other tests of this file would not see mixed batches
  }
  CHECK(epochs == 3);
  CHECK(steps == 12);
  CHECK(evaluations == 3);
}

TEST_CASE("two runs, two threads or one, several workers or one: bitwise equal") {
  const int before = threads();
  for (const auto& counts : {std::pair{before, 1}, {1, 1}, {2, 1}, {2, 3}}) {
    const int thread_count = counts.first, workers = counts.second;
    CAPTURE(thread_count);
    CAPTURE(workers);
    const Scratch scratch("repeat");
    ReMixConfig config = small_config();
    config.common.run.workers = workers;
    set_threads(thread_count);
    REQUIRE(train(config, scratch / "run"));
    CHECK(outcome(scratch / "run") == reference_outcome());
  }
  set_threads(before);
}

TEST_CASE("a run that was stopped and resumed ends bitwise equal to one that was not") {
#ifdef REID_DEBUG
  const std::vector<int> places = {1, 6};  // all of them take a quarter of a minute under sanitizers
#else
  const std::vector<int> places = {0, 1, 3, 4, 6, 11};  // at the start, inside epochs, on their borders
#endif
  for (const int polls : places) {  // steps before the stop
    CAPTURE(polls);
    const Scratch scratch("stopped");
    RunPorts ports;
    ports.stop_requested = [left = polls]() mutable { return left-- == 0; };
    REQUIRE_FALSE(train(small_config(), scratch / "run", false, ports));
    const std::filesystem::path times = scratch / "run" / "times.json";
    if (polls == 3) write_file(times, std::string_view(R"({"training": 1000})"));  // of a program that counted less
    REQUIRE(train(small_config(), scratch / "run", true));
    CHECK(outcome(scratch / "run") == reference_outcome());
    const Json spent = parse_json(bytes_of(times), "times.json");
    CHECK((spent.at("training").number() > 1000) == (polls == 3));
    CHECK(!spent.at("epochs").items().empty());
  }
}

TEST_CASE("a run that died without a word and was resumed ends bitwise equal") {
#ifdef REID_DEBUG
  const std::vector<int> places = {5};
#else
  const std::vector<int> places = {1, 2, 5, 8, 12};
#endif
  for (const int lines : places) {  // steps shown before the process dies; checkpoints were written at steps 3, 4, 6, 8, ...
    CAPTURE(lines);
    const Scratch scratch("died");
    RunPorts ports;
    ports.progress = [left = lines](const std::string& line) mutable {
      if (contains(line, "images/s") && --left == 0) fail("died");
    };
    REQUIRE_THROWS_WITH(train(small_config(), scratch / "run", false, ports), "died");
    REQUIRE(train(small_config(), scratch / "run", true));
    CHECK(outcome(scratch / "run") == reference_outcome());
  }
}

TEST_CASE("a checkpoint that cannot be written ends the run, though training went on beside it") {
  for (const int checkpoint : {2, 4}) {  // one before others, and the last of the run's
    CAPTURE(checkpoint);
    const Scratch scratch("unwritten");
    const std::filesystem::path place = scratch / "run" / "checkpoint.safetensors";
    RunPorts ports;
    ports.progress = [&, left = checkpoint * 3](const std::string& line) mutable {
      if (!contains(line, "images/s") || --left > 0) return;
      for (std::error_code taken; !std::filesystem::is_directory(place);) {  // a checkpoint may be put there between the two
        std::filesystem::remove(place, taken);
        std::filesystem::create_directory(place, taken);
      }
    };
    REQUIRE_THROWS_WITH_AS(train(small_config(), scratch / "run", false, ports), doctest::Contains("checkpoint.safetensors: "), Error);
  }
}

TEST_CASE("a run that died after its results were written, before it noted so, ends the same") {
  const Scratch scratch("late");
  RunPorts ports;
  ports.say = [](const std::string& line) {
    if (contains(line, "epoch 3  test:")) fail("died");  // the last evaluation
  };
  REQUIRE_THROWS_WITH(train(small_config(), scratch / "run", false, ports), "died");
  write_file(scratch / "run" / "results.json", std::string_view("{}"));  // whatever stands there is not trusted
  REQUIRE(train(small_config(), scratch / "run", true));
  CHECK(outcome(scratch / "run") == reference_outcome());
}

TEST_CASE("the best epoch by a set's labels is kept beside the last one, marked, and survives a resume bitwise") {
  ReMixConfig config = small_config();
  config.common.run.epochs = 4;
  config.common.run.best_on = "test";
  const Scratch scratch("best");
  REQUIRE(train(config, scratch / "whole"));

  // Which epoch it must be: the first one with the highest mAP.
  std::istringstream lines(bytes_of(scratch / "whole" / "metrics.jsonl"));
  double most = -1;
  int64_t epoch = -1;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json(line, "metrics.jsonl");
    if (entry.at("kind").string() != "evaluation" || entry.at("mAP").number() <= most) continue;
    most = entry.at("mAP").number();
    epoch = entry.at("epoch").integer();
  }
  const Json best = parse_json(bytes_of(scratch / "whole" / "best_results.json"), "best_results.json");
  CHECK(best.at("chosen_by_labels_of").string() == "test");
  CHECK(best.at("epoch").integer() == epoch);
  CHECK(best.at("results").at("test").at("mAP").number() == most);
  const Json matrix = parse_json(bytes_of(scratch / "whole" / "matrix.json"), "matrix.json");
  REQUIRE(matrix.at("rows").items().size() == 2);
  CHECK(matrix.at("rows").items()[0].at("checkpoint").string() == "last epoch (4)");
  CHECK(matrix.at("rows").items()[0].at("results") == parse_json(bytes_of(scratch / "whole" / "results.json"), "results.json"));
  CHECK(matrix.at("rows").items()[1].at("checkpoint").string() == str("epoch ", epoch, ", chosen by the labels of test"));

  // The last epoch is not touched by the choice.
  ReMixConfig plain = config;
  plain.common.run.best_on = "";
  REQUIRE(train(plain, scratch / "plain"));
  CHECK(bytes_of(scratch / "plain" / "encoder.safetensors") == bytes_of(scratch / "whole" / "encoder.safetensors"));
  CHECK(!std::filesystem::exists(scratch / "plain" / "best_encoder.safetensors"));

  for (const int polls : {2, 6, 9, 13}) {
    CAPTURE(polls);
    const std::filesystem::path folder = scratch / std::to_string(polls);
    int left = polls;
    RunPorts ports;
    ports.stop_requested = [&] { return left-- == 0; };
    REQUIRE(!train(config, folder, false, ports));
    REQUIRE(train(config, folder, true));
    CHECK(outcome(folder) == outcome(scratch / "whole"));
    for (const char* file : {"best_encoder.safetensors", "best_results.json", "matrix.json", "matrix.md"}) {
      CHECK_MESSAGE(bytes_of(folder / file) == bytes_of(scratch / "whole" / file), file);
    }
  }
}

TEST_CASE("choosing an epoch needs a set that is evaluated, and evaluations") {
  const Scratch scratch("best");
  ReMixConfig config = small_config();
  config.common.run.best_on = "elsewhere";
  CHECK(contains(failure_of([&] { train(config, scratch / "run"); }), "run.best_on = elsewhere is none of the sets evaluated on (test)"));
  config.common.run.best_on = "test";
  config.common.run.evaluate_every = 0;
  CHECK(contains(failure_of([&] { train(config, scratch / "run"); }), "set run.evaluate_every above 0"));
  CHECK(!std::filesystem::exists(scratch / "run"));
}

TEST_CASE("resuming a finished run changes nothing") {
  const Scratch scratch("finished");
  REQUIRE(train(small_config(), scratch / "run"));
  REQUIRE(train(small_config(), scratch / "run", true));
  CHECK(outcome(scratch / "run") == reference_outcome());
}

TEST_CASE("a run folder that exists is refused, and stays as it was") {
  const Scratch scratch("exists");
  make_folder(scratch / "run");
  write_file(scratch / "run" / "precious.txt", std::string_view("kept"));
  const std::string message = failure_of([&] { train(small_config(), scratch / "run"); });
  CHECK(contains(message, "exists already"));
  CHECK(contains(message, "--resume"));
  CHECK(bytes_of(scratch / "run" / "precious.txt") == "kept");
  CHECK(contains(failure_of([&] { train(small_config(), scratch / "run", true); }), "no run to resume"));
}

TEST_CASE("resuming with other settings names the keys") {
  const Scratch scratch("settings");
  RunPorts ports;
  ports.stop_requested = [] { return true; };
  REQUIRE_FALSE(train(small_config(), scratch / "run", false, ports));
  ReMixConfig other = small_config();
  other.tau_camera = 0.2;
  other.common.run.epochs = 9;
  const std::string message = failure_of([&] { train(other, scratch / "run", true); });
  CHECK(contains(message, "loss.tau_camera was 0.07, is 0.2"));
  CHECK(contains(message, "run.epochs was 3, is 9"));
  ReMixConfig harmless = small_config();
  harmless.common.run.workers = 2;
  harmless.common.data.cache_mib = 1;
  harmless.common.data.embed_batch = 5;
  REQUIRE(train(harmless, scratch / "run", true));
  CHECK(outcome(scratch / "run") == reference_outcome());
}

TEST_CASE("resuming on changed data is refused") {
  const Scratch scratch("data");
  const std::filesystem::path copy = scratch / "source";
  std::filesystem::copy(small_world() / "source", copy, std::filesystem::copy_options::recursive);
  ReMixConfig config = small_config();
  config.common.data.multi = {"market1501:" + copy.string()};
  RunPorts ports;
  ports.stop_requested = [] { return true; };
  REQUIRE_FALSE(train(config, scratch / "run", false, ports));
  std::filesystem::remove(std::filesystem::directory_iterator(copy / "bounding_box_train")->path());
  CHECK(contains(failure_of([&] { train(config, scratch / "run", true); }), "data was"));
}

TEST_CASE("a damaged image stops a run, or is skipped and listed when the config says so") {
  const Scratch scratch("damaged");
  const std::filesystem::path copy = scratch / "source";
  std::filesystem::copy(small_world() / "source", copy, std::filesystem::copy_options::recursive);
  const std::filesystem::path victim = std::filesystem::directory_iterator(copy / "bounding_box_train")->path();
  std::filesystem::resize_file(victim, std::filesystem::file_size(victim) / 2);
  ReMixConfig config = small_config();
  config.common.data.multi = {"market1501:" + copy.string()};
  CHECK(contains(failure_of([&] { train(config, scratch / "strict"); }), victim.string()));
  config.common.data.skip_damaged = true;
  REQUIRE(train(config, scratch / "lenient"));
  CHECK(contains(bytes_of(scratch / "lenient" / "damaged.txt"), victim.string()));
}

#ifndef REID_DEBUG  // about numbers, not about memory
TEST_CASE("training on few people overfits them: the losses fall") {
  const Scratch scratch("overfit");
  ReMixConfig config = small_config();
  config.common.run = {.seed = 3, .epochs = 8, .iterations = 6, .workers = 1, .checkpoint_every = 1000, .evaluate_every = 0};
  config.common.model.width = 8;
  config.common.data.height = 64;
  config.common.data.width = 32;
  config.common.optimizer.schedule.lr = 5e-3;
  config.common.optimizer.schedule.warmup_epochs = 0;
  config.common.data.single = {};
  config.common.augment.values.jitter = config.common.augment.values.blur = 0;
  REQUIRE(train(config, scratch / "run"));
  std::istringstream lines(bytes_of(scratch / "run" / "metrics.jsonl"));
  std::vector<double> instance;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json(line, "metrics.jsonl");
    if (entry.at("kind").string() == "step") instance.push_back(entry.at("instance").number());
  }
  REQUIRE(instance.size() == 48);
  const auto mean = [](auto begin, auto end) { return std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin); };
  CHECK(mean(instance.end() - 6, instance.end()) < 0.5 * mean(instance.begin(), instance.begin() + 6));
}
#endif

}  // namespace reid::test
