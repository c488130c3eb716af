// reid bench on tiny sizes: what it measures, what it says about it, what it refuses. Never how fast it is.

#include <doctest/doctest.h>

#include "program/run_program.h"

#include "reid/formats/json.h"

#include <algorithm>
#include <filesystem>
#include <set>

using namespace reid;
using namespace reid::test;

namespace {

const std::vector<std::string> kTiny = {"--steps",  "2",  "--warmup", "0",  "--batch",    "2",
                                        "--height", "32", "--width",  "16", "--channels", "4"};

Outcome bench(std::vector<std::string> words, const std::vector<std::string>& more = kTiny) {
  words.insert(words.begin(), "bench");
  words.insert(words.end(), more.begin(), more.end());
  return run_reid(words);
}

Json json_of(std::vector<std::string> words, const std::vector<std::string>& more = kTiny) {
  words.insert(words.end(), {"--json", "-"});
  const Outcome r = bench(std::move(words), more);
  INFO(r.err);
  REQUIRE(r.status == 0);
  return parse_json(r.out, "standard output");
}

void check_times(const Json& times, size_t count) {
  CHECK(times.at("seconds").items().size() == count);
  CHECK(times.at("least").number() > 0);
  CHECK(times.at("least").number() <= times.at("median").number());
  CHECK(times.at("median").number() <= times.at("most").number());
}

}  // namespace

TEST_CASE("reid bench: the network's rates are those of its times") {
  const Json json = json_of({});
  CHECK(json.at("dtype").string() == "f32");
  for (const char* what : {"training", "inference", "single"}) {
    const Json& part = json.at(what);
    check_times(part.at("times"), 2);
    const double seconds = part.at("times").at("median").number();
    CHECK(part.at("images_per_second").number() == doctest::Approx(part.at("images").number() / seconds));
    CHECK(part.at("share_of_peak").number() ==
          doctest::Approx(part.at("gflop").number() / seconds / json.at("peak").at("gflops").number()));
  }
  CHECK(json.at("single").at("images").integer() == 1);
  CHECK(json.at("first_step_seconds").number() > 0);
  CHECK(json.at("training").at("processors").number() >= 0);  // the system counts in ticks
}

TEST_CASE("reid bench: the flop of ResNet-50 at 256 x 128, last stride 1, are those counted by hand") {
  // One image forward is 8.11 GFLOP (sum over the table of a ResNet's convolutions); training adds both gradients, but for the image's.
  // The cheapest way to the figures of the full width: flop grow with the square of the channels everywhere but in the stem.
  const Json json = json_of({"layers"}, {"--steps", "1", "--warmup", "0", "--batch", "2", "--channels", "2"});
  double flop = 0;
  int64_t convolutions = 0;
  for (const Json& row : json.at("rows").items()) {
    const double wider = row.at("name").string() == "conv1" ? 32 : 32 * 32;
    flop += wider * row.at("count").number() * row.at("gflop").number();
    convolutions += row.at("count").integer();
  }
  CHECK(convolutions == 53);
  CHECK(flop / 2 == doctest::Approx(8.11).epsilon(0.001));
  CHECK(json.at("rows").items().size() == 22);
}

TEST_CASE("reid bench layers: three passes of each layer, sums by kind, the implementation that ran") {
  const Json json = json_of({"layers"});
  std::set<std::string> kinds;
  double forward = 0;
  for (const Json& row : json.at("rows").items()) {
    kinds.insert(row.at("kind").string());
    forward += row.at("count").number() * row.at("forward").at("times").at("median").number();
    for (const char* pass : {"forward", "data", "weight"}) {
      INFO(row.at("name").string(), " ", pass);
      if (row.at("name").string() == "conv1" && std::string(pass) == "data") {
        CHECK(row.at(pass).at("refused").string() == "the image wants no gradient");
      } else {
        check_times(row.at(pass).at("times"), 2);
        CHECK(row.at(pass).at("implementation").string() != "reference");
      }
    }
  }
  CHECK(kinds == std::set<std::string>{"7x7/2", "1x1/1", "1x1/2", "3x3/1", "3x3/2"});
  CHECK(json.at("sums").at("all").at("forward").at("median").number() == doctest::Approx(forward));
  kinds.insert("all");
  for (const auto& [kind, sums] : json.at("sums").members()) CHECK(kinds.count(kind) == 1);

  const Json forced = json_of({"layers", "--impl", "implicit_gemm_portable"});
  for (const Json& row : forced.at("rows").items()) CHECK(row.at("forward").at("implementation").string() == "implicit_gemm_portable");
}

TEST_CASE("reid bench ops: bytes over the measured bandwidth are the floor; what only the plain loops compute is not timed") {
  const Json json = json_of({"ops", "--ibn", "a"});
  const double bandwidth = json.at("peak").at("copy").at("gigabytes_per_second").number();
  const double rate = json.at("peak").at("gflops").number();
  std::set<std::string> names;
  for (const Json& row : json.at("rows").items()) {
    INFO(row.at("name").string());
    CHECK(names.insert(row.at("name").string()).second);
    if (row.find("refused")) {
      CHECK(row.at("implementation").string() == "reference");
      continue;
    }
    check_times(row.at("times"), 2);
    CHECK(row.at("bytes").number() > 0);
    const double floor = std::max(row.at("bytes").number() / bandwidth, row.at("flop").number() / rate) / 1e9;
    CHECK(row.at("floor").number() == doctest::Approx(floor));
    CHECK(row.at("share_of_floor").number() == doctest::Approx(floor / row.at("times").at("median").number()));
  }
  // 2 images of 32 x 16 pixels, 4 channels in the first stage: maps of 16 channels of 8 x 4 pixels.
  for (const char* name : {"batch norm 16 x 8 x 4: apply, residual, ReLU", "instance norm 4 x 8 x 4: backward, ReLU",
                           "IBN 4 x 8 x 4: statistics and apply, ReLU", "max pool 4 x 16 x 8", "generalized mean 128 x 2 x 1: backward"})
    CHECK_MESSAGE(names.count(name) == 1, name);
  const Json without = json_of({"ops", "--ibn", "none"});
  for (const Json& row : without.at("rows").items()) CHECK(row.at("name").string().find("IBN") == std::string::npos);
}

TEST_CASE("reid bench kernels: every implementation but the plain loops, in the order of preference") {
  const Json json = json_of({"kernels", "--size", "17x33x65"});
  const Json& product = json.at("rows").items()[0];
  const Json machine = json_of({"machine"});
  CHECK(product.at("flop").number() == 2.0 * 17 * 33 * 65);
  std::vector<std::string> listed, there;
  for (const Json& version : product.at("versions").items()) listed.push_back(version.at("implementation").string());
  for (const Json& name : machine.at("implementations").at("matmul").items()) there.push_back(name.string());
  there.pop_back();  // the reference is the last
  CHECK(listed == there);
}

TEST_CASE("reid bench gemm: sizes as asked for") {
  const Json json = json_of({"gemm", "--size", "17x33x65", "4x4x4"});
  REQUIRE(json.at("rows").items().size() == 2);
  const Json& row = json.at("rows").items()[0];
  check_times(row.at("times"), 2);
  CHECK(row.at("gflops").number() * 1e9 * row.at("times").at("median").number() == doctest::Approx(2.0 * 17 * 33 * 65));
}

TEST_CASE("REID_WITHOUT: what it names is not there, and what is not there cannot be named") {
  const auto names = [] {
    std::vector<std::string> all;
    const Json json = json_of({"machine"});
    for (const Json& name : json.at("implementations").at("conv_forward").items()) all.push_back(name.string());
    return all;
  };
  const std::vector<std::string> all = names();
  REQUIRE(std::ranges::count(all, "implicit_gemm_portable") == 1);
  setenv("REID_WITHOUT", "implicit_gemm_portable", 1);
  CHECK(names().size() == all.size() - 1);
  setenv("REID_WITHOUT", "implicit_gem_portable", 1);
  const Outcome r = bench({"machine"});
  unsetenv("REID_WITHOUT");
  CHECK(r.status != 0);
  CHECK(r.says("REID_WITHOUT: 'implicit_gem_portable' is no implementation of this build"));
}

// REID_IMPL for the programs started while it lives.
struct Wish {
  explicit Wish(const char* text) { setenv("REID_IMPL", text, 1); }
  ~Wish() { unsetenv("REID_IMPL"); }
};

TEST_CASE("REID_IMPL: a name is preferred by every op that has it, op=name lets nothing else compute") {
  const auto implementation = [] { return json_of({"gemm", "--size", "4x4x4"}).at("rows").items()[0].at("implementation").string(); };
  const std::string usual = implementation();
  const auto under = [&](const char* text) {
    const Wish wish(text);
    return implementation();
  };
  CHECK(usual != "reference");
  CHECK(under("reference") == "reference");
  CHECK(under("implicit_gemm_portable") == usual);  // which matmul does not have
  CHECK(under("reference,matmul=packed_gemm_portable") == "packed_gemm_portable");
  const Wish wish("refrence");
  const Outcome r = bench({"gemm", "--size", "4x4x4"});
  CHECK(r.status != 0);
  CHECK(r.says("REID_IMPL: 'refrence' is neither op=implementation nor an implementation of this build"));
}

TEST_CASE("reid bench loader: draws two sets of images, and measures those that are there") {
  const TemporaryFolder folder;
  const auto rows_of = [](const std::string& images) {
    return json_of({"loader", "--images", images}, {"--steps", "1", "--warmup", "0"}).at("rows").items();
  };
  const auto drawn = rows_of(folder / "drawn");
  REQUIRE(drawn.size() == 2);
  for (const Json& row : drawn) {
    CHECK(row.at("images").integer() == 64);
    for (const char* what : {"decode", "augment", "remix", "loader"}) {
      check_times(row.at(what).at("times"), 1);
      CHECK(row.at(what).at("microseconds").number() * 64 == doctest::Approx(1e6 * row.at(what).at("times").at("median").number()));
    }
  }
  // The file sizes of the sets they stand for.
  CHECK(drawn[0].at("name").string() == "market");
  CHECK(drawn[0].at("bytes").number() == doctest::Approx(2600).epsilon(0.05));
  CHECK(drawn[1].at("bytes").number() == doctest::Approx(12000).epsilon(0.05));

  const std::string one = read_text(folder / "drawn/market/07.jpg");
  std::filesystem::create_directories(folder / "own/set");
  write_file(folder / "own/set/a.jpg", one);
  const auto own = rows_of(folder / "own");
  REQUIRE(own.size() == 1);
  CHECK(own[0].at("images").integer() == 1);
  CHECK(own[0].at("bytes").number() == static_cast<double>(one.size()));

  // Everything at once, which would draw them again.
  const Json all = json_of({"all", "--size", "8x8x8", "--images", folder / "own"});
  for (const char* what : {"network", "layers", "gemm"}) CHECK(all.at(what).items()[0].at("dtype").string() == "f32");
  CHECK(all.at("loader").at("rows").items().size() == 1);
  CHECK(all.at("machine").at("peak").at("gflops").number() > 0);
  CHECK(all.at("device").string().find("cores") != std::string::npos);
}

TEST_CASE("reid bench search: times of searches, and what they found") {
  const Json json = json_of({"search", "--scale", "small"}, {"--steps", "1"});
  const std::vector<Json>& rows = json.at("rows").items();
  REQUIRE(rows.size() == 6);
  for (const Json& row : rows) check_times(row, 1);
  CHECK(rows[0].at("name").string() == "Jaccard (30, 6) and DBSCAN, 1000");
  CHECK(rows[1].at("found").string().find("noise") != std::string::npos);
  CHECK(rows[2].at("name").string() == "nearest 10, 1000 x 1000");
  CHECK(rows[2].at("found").string().find("mean distance 0.") != std::string::npos);
  CHECK(rows[3].at("found").string().find("mAP 0.") != std::string::npos);  // neither all nor nothing
  CHECK(rows[5].at("found").string().find("mAP 0.") != std::string::npos);
  CHECK(rows[5].at("found").string() != rows[3].at("found").string());
}

TEST_CASE("reid bench machine: what there is to be measured") {
  const Json json = json_of({"machine"});
  CHECK(json.at("peak").at("gflops").number() > 0);
  CHECK(json.at("peak").at("copy").at("gigabytes_per_second").number() > 0);
  CHECK(json.at("peak_bf16").is_null());  // of accelerators
  for (const char* what : {"network", "layers", "gemm"}) CHECK(json.at("dtypes").at(what).items()[0].string() == "f32");
  CHECK(json.at("implementations").at("conv_forward").items().size() >= 2);
}

TEST_CASE("reid bench: refuses what it cannot measure") {
  const auto refused = [](const std::vector<std::string>& words, const std::string& message) {
    const Outcome r = bench(words);
    INFO(r.err);
    CHECK(r.status == 2);
    CHECK(r.says(message));
  };
  refused({"layer"}, "'layer' is not one of network, layers, gemm, ops, kernels, loader, search, machine, all");
  refused({"layers", "--impl", "implicit_gem_portable"}, "did you mean 'implicit_gemm_portable'?");
  refused({"gemm", "--impl", "fastest"}, "matmul has no implementation 'fastest'");
  refused({"gemm", "--size", "8x8"}, "--size takes MxNxK");
  refused({"gemm", "--size", "8x8x8x8"}, "--size takes MxNxK");
  refused({"gemm", "--size", "8x0x8"}, "--size takes MxNxK");
  refused({"network", "--dtype", "i8"}, "--dtype takes f32");
  const TemporaryFolder empty;
  const Outcome r = bench({"loader", "--images", empty / "."});
  CHECK(r.status == 1);
  CHECK(r.says("each folder is a set of images"));
}
