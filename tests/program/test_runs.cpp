// Whole runs as a user makes them: draw, train, stop, resume, embed, evaluate; and what goes wrong on the way.

#include <doctest/doctest.h>

#include "learning/small_run.h"
#include "program/run_program.h"

#include "reid/formats/json.h"
#include "reid/formats/safetensors.h"
#include "reid/people/data.h"

#include <chrono>
#include <filesystem>
#include <thread>

using namespace reid;
using namespace reid::test;

namespace fs = std::filesystem;

namespace {

std::string small_toml() {
  ReMixConfig config = small_config();
  config.common.run.evaluate_every = 0;
  return keys_of(config).toml();
}

bool is_one_line(const std::string& text) { return std::count(text.begin(), text.end(), '\n') == 1 && text.ends_with('\n'); }

// One finished run that several cases look at.
struct TrainedRun {
  TemporaryFolder folder;
  std::string config = folder / "small.toml", run = folder / "run", encoder = folder / "run/encoder.safetensors";
  Outcome outcome;
  TrainedRun() {
    write_file(config, small_toml());
    outcome = run_reid({"train", config, "--out", run, "--json", folder / "result.json"});
  }
};
const TrainedRun& trained() {
  static const TrainedRun run;
  return run;
}

void refused(const std::vector<std::string>& words, const std::vector<std::string>& parts) {
  const Outcome r = run_reid(words);
  INFO(r.err);
  CHECK(r.status == 1);
  CHECK(is_one_line(r.err));
  for (const std::string& part : parts) CHECK_MESSAGE(r.says(part), part);
}

}  // namespace

TEST_CASE("reid train: a run folder holds configuration, manifest, metrics, encoder and results") {
  const TrainedRun& t = trained();
  INFO(t.outcome.err);
  REQUIRE(t.outcome.status == 0);
  for (const char* name : {"config.toml", "manifest.json", "metrics.jsonl", "encoder.safetensors", "results.json"})
    CHECK_MESSAGE(fs::exists(fs::path(t.run) / name), name);
  CHECK(parse_json(read_text(t.folder / "result.json"), "result").is_object());
  CHECK(t.outcome.out.find(t.encoder) != std::string::npos);

  refused({"train", t.config, "--out", t.run}, {t.run, "--resume"});
  refused({"train", t.config, "loss.tau_camera=0.5", "--out", t.run, "--resume"}, {"loss.tau_camera"});
  refused({"train", t.config, "--out", t.folder / "none", "--resume"}, {"none", "--resume"});
}

TEST_CASE("reid train: killed or asked to stop at any moment, and resumed, a run ends bitwise equal") {
  const TrainedRun& t = trained();
  REQUIRE(t.outcome.status == 0);
  for (const int signal_number : {SIGTERM, SIGKILL, SIGINT, SIGKILL}) {
    static int delay = 0;  // later with every round: in the first step, inside an epoch, between epochs
    const TemporaryFolder folder;
    const std::string run = folder / "run";
    const pid_t child = start_reid({"train", t.config, "--out", run}, folder / "out", folder / "err");
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    std::error_code ignored;
    while (fs::file_size(run + "/metrics.jsonl", ignored) + 1 <= 1 && std::chrono::steady_clock::now() < give_up)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(delay));
    delay += 15;
    kill(child, signal_number);
    const int status = wait_for(child);
    INFO("signal ", signal_number, ", status ", status);
    CHECK((status == 0 || status == 128 + signal_number));

    const Outcome resumed = run_reid({"train", t.config, "--out", run, "--resume"});
    INFO(resumed.err);
    CHECK(resumed.status == 0);
    for (const char* name : {"/encoder.safetensors", "/metrics.jsonl", "/results.json"})
      CHECK_MESSAGE(read_file(run + name) == read_file(t.run + name), name);
  }
}

TEST_CASE("reid train: a protocol names the sets, --each fills its table, reid matrix joins runs") {
  TemporaryFolder folder;
  ReMixConfig config = small_config();
  config.common.run = {.seed = 3, .epochs = 1, .iterations = 2, .workers = 1, .checkpoint_every = 3, .evaluate_every = 0};
  config.common.data.multi.clear();
  config.common.data.evaluate.clear();
  config.common.protocol.choice.protocol = "cross-dataset";
  const std::string source = "market1501:" + (small_world() / "source").string();
  config.common.protocol.choice.sets = {"one=" + source, "two=" + source};
  const std::string toml = folder / "protocol.toml";
  write_file(toml, keys_of(config).toml());

  const Outcome each = run_reid({"train", toml, "--each", "--out", folder / "study", "--json", folder / "matrix.json"});
  REQUIRE_MESSAGE(each.status == 0, each.err);
  CHECK(each.out.find("protocol cross-dataset: trained on the training images of two; tested on one, two") != std::string::npos);
  const Json rows = parse_json(read_text(folder / "study/matrix.json"), "matrix.json").at("rows");
  REQUIRE(rows.items().size() == 2);
  CHECK(rows.items()[0].at("trained_on") == Json::array({"one"}));
  CHECK(rows.items()[1].at("trained_on") == Json::array({"two"}));
  CHECK(rows.items()[0].at("results") == rows.items()[1].at("results"));  // both names mean the same folder here
  CHECK(parse_json(read_text(folder / "matrix.json"), "matrix.json").at("rows") == rows);

  // Finished rows are left alone by a resume; the resolved configuration of a row continues it without the table.
  CHECK(run_reid({"train", toml, "--each", "--resume", "--out", folder / "study"}).status == 0);
  CHECK(run_reid({"train", folder / "study/from-one/config.toml", "--resume", "--out", folder / "study/from-one"}).status == 0);

  const Outcome joined = run_reid({"matrix", folder / "study/from-two", folder / "study/from-one", "--out", folder / "joined"});
  REQUIRE_MESSAGE(joined.status == 0, joined.err);
  CHECK(joined.out.find("| two; videos ") < joined.out.find("| one; videos "));
  CHECK(read_text(folder / "joined/matrix.md").find("| trained on | checkpoint | one | two | mean of unseen |") != std::string::npos);

  refused({"matrix", folder / "study/nothing"}, {"nothing holds no matrix.json"});
  refused({"train", trained().config, "--each", "--out", folder / "x"}, {"--each needs a protocol"});
  refused({"train", toml, "--out", folder / "x"}, {"set protocol.source to one of one, two"});
  refused({"train", toml, "protocol.source=one", "data.multi=market1501:/other", "--out", folder / "x"},
          {"data.multi is set, but protocol.name = cross-dataset determines it"});
  CHECK(!fs::exists(folder / "x"));
}

TEST_CASE("reid embed and eval: embedding and matching by hand gives the figures of an evaluation") {
  const TrainedRun& t = trained();
  REQUIRE(t.outcome.status == 0);
  const TemporaryFolder folder;
  const Dataset set = read_dataset("market1501:" + (small_world() / "source").string());
  const auto embed = [&](const std::vector<Sample>& samples, const std::string& file) {
    std::vector<std::string> words{"embed", "--weights", t.encoder, "--out", file, "--json", folder / "embed.json"};
    for (const Sample& sample : samples) words.push_back(sample.path);
    REQUIRE(run_reid(words).status == 0);
    NamedTensors content = read_safetensors(file);
    const Json paths = parse_json(*content.note("paths"), "paths");
    std::vector<int64_t> ids, cameras;
    for (size_t i = 0; i < samples.size(); ++i) {
      CHECK(paths.items()[i].string() == samples[i].path);
      ids.push_back(samples[i].person);
      cameras.push_back(samples[i].camera);
    }
    content.add("ids", Tensor::from(ids));
    content.add("cameras", Tensor::from(cameras));
    write_safetensors(file, content);
  };
  embed(set.query, folder / "q.safetensors");
  embed(set.gallery, folder / "g.safetensors");
  const Outcome by_hand = run_reid({"eval", "--query", folder / "q.safetensors", "--gallery", folder / "g.safetensors", "--json", "-"});
  const Outcome whole =
      run_reid({"eval", "--weights", t.encoder, "--data", "market1501:" + (small_world() / "source").string(), "--json", "-"});
  INFO(whole.err);
  CHECK(whole.status == 0);
  Json one = parse_json(by_hand.out, "by hand"), other = parse_json(whole.out, "whole");
  one["seconds"] = other["seconds"] = Json();
  CHECK(one == other);
  const Json results = parse_json(read_text(t.run + "/results.json"), "results.json");
  CHECK(results.dump().find(parse_json(whole.out, "eval").at("mAP").dump()) != std::string::npos);
}

TEST_CASE("reid embed: a folder of JPEGs; images that are none are named") {
  const TrainedRun& t = trained();
  REQUIRE(t.outcome.status == 0);
  const TemporaryFolder folder;
  const Dataset set = read_dataset("market1501:" + (small_world() / "source").string());
  fs::create_directories(folder / "photos/deeper");
  fs::copy_file(set.query[0].path, folder / "photos/b.jpg");
  fs::copy_file(set.query[1].path, folder / "photos/deeper/a.JPG");
  write_file(folder / "photos/readme.txt", std::string("no image"));
  const std::string out = folder / "e.safetensors";
  const auto words = [&](const std::string& what) { return std::vector<std::string>{"embed", "--weights", t.encoder, "--out", out, what}; };
  CHECK(run_reid(words(folder / "photos")).status == 0);
  CHECK(read_safetensors(out).at("features").dim(0) == 2);
  fs::remove(out);

  const std::vector<uint8_t> bytes = read_file(set.query[0].path);
  write_file(folder / "cut.jpg", std::span(bytes).first(bytes.size() / 2));
  const Outcome cut = run_reid(words(folder / "cut.jpg"));
  CHECK(cut.status == 1);
  CHECK(cut.says("cut.jpg: truncated"));
  refused({"embed", "--weights", folder / "photos/b.jpg", "--out", out, folder / "photos"}, {"b.jpg"});
  CHECK_FALSE(fs::exists(out));
  refused({"embed", "--weights", t.encoder, "--out", folder / "photos/b.jpg/e.safetensors", folder / "photos"}, {"e.safetensors"});
}

TEST_CASE("reid train: settings and data that make no sense are refused before anything is trained") {
  const TemporaryFolder folder;
  const std::string config = folder / "small.toml";
  write_file(config, small_toml());
  int count = 0;
  const auto with = [&](const std::string& setting) {
    return std::vector<std::string>{"train", config, setting, "--out", folder / ("run_" + std::to_string(++count))};
  };
  refused(with("run.epoch=3"), {"run.epoch", "did you mean 'run.epochs'"});
  refused(with("run.epochs=many"), {"run.epochs", "an integer >= 1"});
  refused(with("loss.tau_camera=0"), {"loss.tau_camera", "> 0"});
  refused(with("model.depth=17"), {"17"});
  refused(with("data.multi=['market1501:" + (folder / "nowhere") + "']"), {"nowhere"});
  refused(with("data.multi=[]"), {"data.multi"});
  refused(with("batch.multi_people=50"), {"50"});
  refused(with("model.weights=" + (folder / "absent.safetensors")), {"absent.safetensors"});
  if (trained().outcome.status == 0)
    refused({"train", config, "model.width=8", "model.weights=" + trained().encoder, "--out", folder / "run2"},
            {"encoder.safetensors", "conv1.weight"});

  fs::create_directories(folder / "empty/bounding_box_train");
  refused({"train", config, "data.multi=market1501:" + (folder / "empty"), "--out", folder / "run3"}, {"empty"});
  write_file(folder / "file", std::string("a file, not a folder"));
  refused({"train", config, "--out", folder / "file/run"}, {"file/run"});
  refused({"train", folder / "absent.toml", "--out", folder / "run4"}, {"absent.toml"});
  write_file(folder / "broken.toml", std::string("[run\nepochs = 3\n"));
  refused({"train", folder / "broken.toml", "--out", folder / "run4"}, {"broken.toml"});
}

TEST_CASE("reid train: a damaged image ends the run, or is counted, listed and skipped when the configuration allows it") {
  const TemporaryFolder folder;
  write_file(folder / "small.toml", small_toml());
  fs::copy(small_world() / "source", folder / "source", fs::copy_options::recursive);
  const Dataset set = read_dataset("market1501:" + (folder / "source"));
  const std::string victim = set.train[0].path;
  write_file(victim, std::string("no image any more"));
  const std::vector<std::string> words{"train", folder / "small.toml", "data.multi=market1501:" + (folder / "source"), "--out"};
  auto strict = words, lenient = words;
  strict.push_back(folder / "strict");
  refused(strict, {fs::path(victim).filename().string()});
  lenient.push_back(folder / "lenient");
  lenient.insert(lenient.begin() + 3, "data.skip_damaged=true");
  const Outcome r = run_reid(lenient);
  INFO(r.err);
  CHECK(r.status == 0);
  CHECK(read_text(folder / "lenient/damaged.txt").find(fs::path(victim).filename().string()) != std::string::npos);
  CHECK(r.out.find("1 damaged image") != std::string::npos);
}

TEST_CASE("program: a full disk leaves a message and nothing half-written") {
  const TrainedRun& t = trained();
  REQUIRE(t.outcome.status == 0);
  const TemporaryFolder folder;
  const std::string photo = read_dataset("market1501:" + (small_world() / "source").string()).query[0].path;
  const auto full = [](const std::vector<std::string>& words, int64_t bytes) {
    const Outcome r = run_reid(words, bytes);
    INFO(r.err);
    CHECK(r.status == 1);
    CHECK(r.err.starts_with("reid: "));
    CHECK(r.err.find("too large") != std::string::npos);  // what the system says at the limit
  };
  full({"embed", "--weights", t.encoder, "--out", folder / "e.safetensors", photo}, 300);
  CHECK_FALSE(fs::exists(folder / "e.safetensors"));
  full({"synth", "--out", folder / "world", "--preset", "tiny", "--quiet"}, 500);
  CHECK_FALSE(fs::exists(folder / "world"));
  full({"train", t.config, "--out", folder / "run"}, 6000);  // settings fit, a checkpoint does not
  CHECK_FALSE(fs::exists(folder / "run/checkpoint.safetensors"));
  CHECK_FALSE(fs::exists(folder / "run/encoder.safetensors"));
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder / "run")) {
    const std::string name = entry.path().filename().string();
    CHECK_MESSAGE((name == "config.toml" || name == "manifest.json" || name == "metrics.jsonl"), name);
  }
}

TEST_CASE("reid synth: a folder in use and a folder that cannot be made are refused") {
  const TemporaryFolder folder;
  write_file(folder / "file", std::string("here"));
  refused({"synth", "--out", folder / ".", "--preset", "tiny"}, {"empty"});
  refused({"synth", "--out", folder / "file/world", "--preset", "tiny"}, {folder / "file"});
  CHECK(run_reid({"synth", "--out", folder / "w", "--preset", "tini"}).status == 2);
}

TEST_CASE("docs/configuration.md lists the keys that the program knows") {
  const std::string page = read_text(fs::path(REID_SOURCE_DIR) / "docs/configuration.md");
  for (const std::string& method : recipe_names()) {
    const Outcome r = run_reid({"keys", method, "--markdown"});
    REQUIRE(r.status == 0);
    CHECK_MESSAGE(page.find("## Method `" + method + "`\n\n" + r.out) != std::string::npos,
                  "outdated; write it anew with tools/write_docs.sh");
  }
  CHECK(run_reid({"keys", "nonesuch"}).says("is not one of remix, supervised"));
}
