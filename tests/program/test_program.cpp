// The command line as a user meets it: help, typos, exit statuses, files, bad input.

#include <doctest/doctest.h>

#include "program/run_program.h"

#include "reid/engine/tensor.h"
#include "reid/formats/json.h"
#include "reid/formats/safetensors.h"

#include <algorithm>
#include <filesystem>

using namespace reid;
using namespace reid::test;

namespace {

void write_features(const std::string& file, const std::vector<float>& values, int64_t columns, const std::vector<int64_t>& ids = {},
                    const std::vector<int64_t>& cameras = {}) {
  NamedTensors content;
  content.add("features", Tensor::from(values, Shape{static_cast<int64_t>(values.size()) / columns, columns}));
  if (!ids.empty()) content.add("ids", Tensor::from(ids));
  if (!cameras.empty()) content.add("cameras", Tensor::from(cameras));
  write_safetensors(file, content);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

bool is_one_line(const std::string& text) { return std::count(text.begin(), text.end(), '\n') == 1 && text.ends_with('\n'); }

}  // namespace

TEST_CASE("program: without arguments it lists its verbs and exits with 2") {
  const Outcome r = run_reid({});
  CHECK(r.status == 2);
  CHECK(r.out.empty());
  for (const char* verb : {"eval", "cluster"}) CHECK_MESSAGE(r.says(std::string("\n  ") + verb + " "), verb);
}

TEST_CASE("program: version and help go to standard output with status 0") {
  const Outcome version = run_reid({"--version"});
  CHECK(version.status == 0);
  CHECK(version.out.starts_with("reid "));
  CHECK(contains(version.out, "\nimages: "));
  const Outcome help = run_reid({"--help"});
  CHECK(help.status == 0);

  // Every verb that the list names explains itself, with an example and the common flags.
  size_t verbs = 0;
  for (size_t at = help.out.find("\n  "); at != std::string::npos; at = help.out.find("\n  ", at + 1)) {
    const size_t begin = at + 3, end = help.out.find(' ', begin);
    const std::string verb = help.out.substr(begin, end - begin);
    if (verb == "reid") continue;
    const Outcome r = run_reid({verb, "--help"});
    INFO(verb);
    CHECK(r.status == 0);
    CHECK(r.err.empty());
    CHECK(contains(r.out, "Example:\n  reid " + verb));
    for (const char* flag : {"--device", "--threads", "--quiet", "--json"}) CHECK(contains(r.out, flag));
    ++verbs;
  }
  CHECK(verbs >= 2);
}

TEST_CASE("program: a wrong command line is answered with one message, a hint and status 2") {
  const auto refused = [](const std::vector<std::string>& words, const std::string& message) {
    const Outcome r = run_reid(words);
    INFO(r.err);
    CHECK(r.status == 2);
    CHECK(r.out.empty());
    CHECK(r.says(message));
  };
  refused({"evla"}, "reid: unknown verb 'evla'; did you mean 'eval'?");
  refused({"xylophone"}, "reid: unknown verb 'xylophone'\n");
  refused({"cluster", "--featurs", "f"}, "reid cluster: unknown flag --featurs; did you mean --features?");
  refused({"cluster", "--features", "f", "--eps", "0.5"}, "reid cluster: --out is missing");
  refused({"cluster", "--features", "f", "--eps", "wide", "--out", "o"}, "--eps takes a number > 0, not 'wide'");
  refused({"cluster", "--features", "f", "--eps", "0", "--out", "o"}, "--eps takes a number > 0, not '0'");
  refused({"cluster", "--features", "f", "--eps", "1", "--out", "o", "--min-samples", "1.5"}, "takes an integer >= 1, not '1.5'");
  refused({"cluster", "--features", "f", "--eps", "1", "--out", "o", "--metric", "cos"},
          "--metric takes cosine|euclidean|jaccard, not 'cos'");
  refused({"cluster", "--features", "f", "--eps", "1", "--out", "o", "more"}, "'more' is one argument too many");
  refused({"cluster", "--features", "f", "--eps", "1", "--out", "o", "--threads", "0"}, "--threads takes an integer in [1, 1024]");
  refused({"cluster", "--features", "f", "--eps", "1", "--out", "o", "--device", "tpu"}, "--device takes cpu, cuda or cuda:N, not 'tpu'");
}

TEST_CASE("program: a device that this build or machine lacks is an error that says so, never another device") {
  const Outcome r = run_reid({"embed", "--weights", "w", "--out", "o.npy", "x.jpg", "--device", "cuda:9"});
  CHECK(r.status == 1);
  CHECK(is_one_line(r.err));
  CHECK(r.says("device cuda"));
  CHECK((r.says("no CUDA backend") || r.says("no NVIDIA driver") || r.says("shows no NVIDIA GPU") || r.says("this machine has")));
  const Outcome other = run_reid({"keys", "remix", "--device", "cuda"});
  CHECK(other.status == 2);
  CHECK(other.says("this verb computes on the CPU"));
}

TEST_CASE("reid cluster: labels of a feature file, as CSV and JSON") {
  const TemporaryFolder folder;
  // Two groups by angle, one row apart.
  write_features(folder / "f.safetensors", {1, 0, 1, 0.01f, 1, -0.01f, 0, 1, 0.01f, 1, -0.01f, 1, -1, -1}, 2);
  const std::vector<std::string> words{"cluster", "--features", folder / "f.safetensors", "--eps", "0.1", "--min-samples", "3"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    return run_reid(more);
  };
  const Outcome r = with({"--out", folder / "labels.csv", "--json", folder / "r.json"});
  CHECK(r.status == 0);
  CHECK(read_text(folder / "labels.csv") == "index,label\n0,0\n1,0\n2,0\n3,1\n4,1\n5,1\n6,-1\n");
  const Json json = parse_json(read_text(folder / "r.json"), "r.json");
  CHECK(json.at("clusters").integer() == 2);
  CHECK(json.at("noise").integer() == 1);
  CHECK(json.at("feature_bytes").integer() == 7 * 2 * 4);
  CHECK(json.at("estimated_bytes").integer() > 0);
  CHECK(json.at("peak_bytes").integer() > json.at("feature_bytes").integer());
  CHECK(json.at("phases").items().size() == 2);
  CHECK(json.at("phases").items()[0].at("phase").string() == "graph");
  CHECK(json.at("phases").items()[0].at("seconds").number() >= 0);
  CHECK(contains(r.out, "7 rows of 2: needs about "));

  const Outcome jaccard = with({"--out", folder / "l.csv", "--metric", "jaccard", "--k1", "3", "--k2", "1", "--json", folder / "j.json"});
  CHECK(jaccard.status == 0);
  CHECK_FALSE(contains(jaccard.out, "look at no more"));
  CHECK(parse_json(read_text(folder / "j.json"), "j.json").at("k1_counts_self").boolean());
  const Outcome wide = with({"--out", folder / "l.csv", "--metric", "jaccard", "--k1-counts-self", "no", "--json", folder / "j.json"});
  CHECK(contains(wide.out, "--k1 30 and --k2 6 look at no more than the 7 rows there are"));
  CHECK_FALSE(parse_json(read_text(folder / "j.json"), "j.json").at("k1_counts_self").boolean());
  CHECK(with({"--out", folder / "l.csv", "--k1-counts-self", "maybe"}).status == 2);
  CHECK(with({"--out", folder / "l.csv", "--metric", "jaccard", "--k1", "0"}).status == 2);

  write_features(folder / "zero.safetensors", {1, 0, 0, 0}, 2);
  const Outcome zero = run_reid({"cluster", "--features", folder / "zero.safetensors", "--eps", "0.1", "--out", folder / "no.csv"});
  CHECK(zero.status == 1);
  CHECK(zero.says("row 1 is all zeros"));
  CHECK_FALSE(std::filesystem::exists(folder / "no.csv"));
  write_features(folder / "one.safetensors", {1, 0}, 2);
  CHECK(run_reid({"cluster", "--features", folder / "one.safetensors", "--eps", "0.1", "--out", folder / "one.csv"}).status == 0);
  CHECK(read_text(folder / "one.csv") == "index,label\n0,-1\n");

  const Outcome quiet = with({"--out", folder / "l.csv", "--quiet"});
  CHECK(quiet.out.empty());
  const Outcome standard = with({"--out", folder / "l.csv", "--json", "-"});
  CHECK(parse_json(standard.out, "standard output").at("rows").integer() == 7);

  const Outcome unwritable = with({"--out", folder / "none/labels.csv"});
  CHECK(unwritable.status == 1);
  CHECK(is_one_line(unwritable.err));
  CHECK(unwritable.says("none/labels.csv"));
}

TEST_CASE("reid eval: figures of feature files") {
  const TemporaryFolder folder;
  // Query 1 finds its match first; query 2 finds it second, after a row of another identity. The same-camera twin is ignored.
  write_features(folder / "q.safetensors", {1, 0, 0, 1}, 2, {1, 2}, {0, 0});
  write_features(folder / "g.safetensors", {1, 0, 1, 0.1f, 0, 1, 0.1f, 1, 0.2f, 1}, 2, {1, 1, 2, 3, 2}, {0, 1, 0, 1, 1});
  const std::vector<std::string> files{"eval", "--query", folder / "q.safetensors", "--gallery", folder / "g.safetensors"};
  auto words = files;
  for (const char* more : {"--json", "-"}) words.emplace_back(more);
  const Outcome r = run_reid(words);
  INFO(r.err);
  CHECK(r.status == 0);
  const Json json = parse_json(r.out, "standard output");
  CHECK(json.at("mAP").number() == doctest::Approx(0.75));
  CHECK(json.at("mINP").number() == doctest::Approx(0.75));
  CHECK(json.at("rank1").number() == doctest::Approx(0.5));
  CHECK(json.at("rank5").number() == doctest::Approx(1.0));
  CHECK(json.at("rank10").number() == doctest::Approx(1.0));
}

TEST_CASE("reid eval: bad feature files are refused with their name and what is wrong") {
  const TemporaryFolder folder;
  write_features(folder / "good.safetensors", {1, 0, 0, 1}, 2, {1, 2}, {0, 0});
  write_features(folder / "other.safetensors", {1, 0, 0, 1}, 2, {1, 2}, {1, 1});
  const auto refused = [&](const std::string& query, const std::string& message) {
    const Outcome r = run_reid({"eval", "--query", folder / query, "--gallery", folder / "other.safetensors"});
    INFO(r.err);
    CHECK(r.status == 1);
    CHECK(is_one_line(r.err));
    CHECK(r.says(query));
    CHECK(r.says(message));
  };
  refused("absent.safetensors", "No such file");
  write_file(folder / "cut.safetensors", read_text(folder / "good.safetensors").substr(0, 100));
  refused("cut.safetensors", "");
  write_file(folder / "text.safetensors", std::string("this is no tensor file, it is a line of text"));
  refused("text.safetensors", "");
  write_features(folder / "no_ids.safetensors", {1, 0, 0, 1}, 2);
  refused("no_ids.safetensors", "ids");
  write_features(folder / "short.safetensors", {1, 0, 0, 1}, 2, {1}, {0, 0});
  refused("short.safetensors", "'ids' is i64 [1]; expected i64 [2]");
  write_features(folder / "wide.safetensors", {1, 0, 0, 0, 1, 0}, 3, {1, 2}, {0, 0});
  refused("wide.safetensors", "3 columns");
  write_features(folder / "nan.safetensors", {1, 0, std::numeric_limits<float>::quiet_NaN(), 1}, 2, {1, 2}, {0, 0});
  refused("nan.safetensors", "1");

  // A row of zeros has no direction: an error under cosine, fine under Euclidean distance.
  write_features(folder / "zero.safetensors", {1, 0, 0, 1, 0, 0}, 2, {1, 2, 2}, {0, 0, 0});
  refused("zero.safetensors", "row 2");
  const Outcome euclidean =
      run_reid({"eval", "--query", folder / "zero.safetensors", "--gallery", folder / "other.safetensors", "--metric", "euclidean"});
  CHECK(euclidean.status == 0);

  write_features(folder / "strangers.safetensors", {1, 0, 0, 1}, 2, {8, 9}, {0, 0});
  const Outcome strangers = run_reid({"eval", "--query", folder / "strangers.safetensors", "--gallery", folder / "other.safetensors"});
  CHECK(strangers.status == 1);
  CHECK(is_one_line(strangers.err));
}

TEST_CASE("program: a full disk is an error, whichever file it hits") {
  if (!std::filesystem::exists("/dev/full")) return;
  const TemporaryFolder folder;
  write_features(folder / "f.safetensors", {1, 0, 0, 1}, 2);
  const pid_t child =
      start_reid({"cluster", "--features", folder / "f.safetensors", "--eps", "0.1", "--out", folder / "l.csv", "--json", "-"}, "/dev/full",
                 folder / "err");
  CHECK(wait_for(child) == 1);
  CHECK(contains(read_text(folder / "err"), "standard output"));
}
