// tools/gpu_check.sh where there is no GPU: with programs in place of the real ones that note how they were called. What is run, in which
// order, what is skipped or cut, what the verdicts and the table say.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>

#include "played_gpu_check.h"
#include "reid/learning/cluster_contrast.h"
#include "reid/learning/recipe.h"

using namespace reid;
using namespace reid::test;

namespace {

// The configuration that a call of `reid train` asks for, checked as the program checks it.
std::unique_ptr<Recipe> asked_for(const std::string& call) {
  std::istringstream in(call);
  std::vector<std::string> words{std::istream_iterator<std::string>(in), {}};
  REQUIRE(words.size() > 4);
  CHECK(words[0] == "train");
  CHECK(std::vector<std::string>(words.end() - 4, words.end() - 1) == std::vector<std::string>{"--device", "cuda", "--out"});
  ConfiguredRecipe read = read_recipe(REID_SOURCE_DIR "/" + words[1], std::vector<std::string>(words.begin() + 2, words.end() - 4));
  read.recipe->check();
  return std::move(read.recipe);
}

}  // namespace

TEST_CASE("gpu_check: the bench phase runs what matters most first, and skips what was not built") {
  const Played played;
  CHECK(played.run("--phase bench") == 0);
  const std::vector<std::string> calls = played.lines("calls");
  REQUIRE(calls.size() > 6);
  const char* first[] = {"bench network --dtype bf16 --batch 64 ",  "bench network --dtype bf16 --batch 128 ",
                         "bench network --dtype bf16 --batch 256 ", "bench network --dtype bf16 --batch 64 ",
                         "bench layers --dtype bf16 --batch 64 ",   "bench machine --device cuda",
                         "bench ops --dtype bf16 --batch 64 "};
  for (size_t i = 0; i < std::size(first); ++i) CHECK_MESSAGE(calls[i].starts_with(first[i]), calls[i]);
  bool f32_began = false;
  for (const std::string& call : calls) {
    CHECK_MESSAGE(call.find("--device cuda") != std::string::npos, call);
    CHECK_MESSAGE(call.find("cublaslt") == std::string::npos, call);
    const bool f32 = call.find("--dtype f32") != std::string::npos;
    CHECK_MESSAGE((f32 || !f32_began), "bf16 behind f32: ", call);
    f32_began = f32_began || f32;
  }
  CHECK(f32_began);
  CHECK(read_text(played.folder / "allowed") == "rounded-gradients,loose-statistics\n");
  for (const std::string& line : played.lines("tries")) {  // as the tables say, of whole steps by the vendors and of all else
    const bool whole = line.find("bench network --dtype bf16 --batch 128 --steps 20 ") != std::string::npos;
    CHECK_MESSAGE(line.starts_with(whole ? "2 bench " : "8 bench "), line);
  }
  const std::vector<std::string> preferred = played.lines("preferred");  // the vendors that were built, in one step alone
  REQUIRE(preferred.size() == 1);
  CHECK(preferred[0].starts_with("cudnn bench network --dtype bf16 --batch 128 "));
  REQUIRE(played.lines("overlapping").size() == 1);
  CHECK(played.lines("overlapping")[0].starts_with("bench network --dtype bf16 --batch 64 "));
  CHECK(played.verdict("network_overlap_bf16_64") == "passed");
  CHECK(played.verdict("layers_cudnn_bf16_64") == "passed");
  CHECK(played.result("network_bf16_64").at("remark").string() == "the last line of network_bf16_64");
  CHECK(played.verdict("gemm_cublaslt_bf16") == "skipped");
  CHECK(played.result("gemm_cublaslt_bf16").at("remark").string() == "CUBLAS was not found when the program was built, or left out");
}

TEST_CASE("gpu_check: launches overlap on cards that can") {
  const Played played;
  for (const auto& card : {std::pair{"8.6", "skipped"}, {"9.0", "passed"}, {"12.0", "passed"}}) {
    CAPTURE(card.first);
    played.set_capability(card.first);
    CHECK(played.run("--phase bench") == 0);
    CHECK(played.verdict("network_overlap_bf16_64") == card.second);
    played.run("--phase test");
    CHECK((played.verdict("launches that overlap") == "skipped") == (card.second == std::string("skipped")));
  }
}

TEST_CASE("gpu_check: the limits of our own kernels in bf16 fit eight minutes") {
  std::istringstream script(read_text(REID_SOURCE_DIR "/tools/gpu_check.sh"));
  int64_t seconds = 0, steps = 0;
  bool inside = false;
  for (std::string line; std::getline(script, line);) {
    if (line == "STEPS") inside = false;
    if (inside) {
      std::istringstream words(line);
      int64_t limit = 0;
      std::string name, needs;
      words >> limit >> name >> needs;
      CHECK_MESSAGE(limit > 0, line);
      ++steps;
      if ((needs == "-" || needs == "OVERLAP") && name.find("f32") == std::string::npos) seconds += limit;
    }
    if (line.ends_with("<<'STEPS'")) inside = true;
  }
  CHECK(steps > 15);
  CHECK(seconds <= 480);
}

TEST_CASE("gpu_check: a step that hangs is cut, what then finds no time is skipped, what fails is a failure") {
  Played played;
  setenv("PLAYED_BROKEN", "layers_bf16_64", 1);
  CHECK(played.run("--phase bench") == 1);
  CHECK(played.verdict("network_bf16_64") == "passed");
  CHECK(played.verdict("layers_bf16_64") == "FAILED");
  CHECK(played.result("layers_bf16_64").at("remark").string() == "reid: it broke");
  CHECK(played.verdict("machine") == "passed");
  unsetenv("PLAYED_BROKEN");

  // A later run of the phase replaces what the earlier one said.
  setenv("PLAYED_SLOW", "network_bf16_64", 1);
  CHECK(played.run("--phase bench --seconds 2") == 1);
  CHECK(played.verdict("network_bf16_64") == "cut");
  CHECK(played.result("network_bf16_64").at("remark").string() == "after 2 s");
  CHECK(played.verdict("layers_bf16_64") == "skipped");
  CHECK(played.result("layers_bf16_64").at("remark").string() == "no time left in this phase");
  unsetenv("PLAYED_SLOW");
  CHECK(played.run("--phase bench") == 0);
  CHECK(played.verdict("network_bf16_64") == "passed");
}

TEST_CASE("gpu_check: PyTorch is measured in two steps, and the table sets ours beside it and beside cuDNN") {
  if (std::system("command -v python3 >/dev/null") != 0) return;
  const Played played;
  REQUIRE(played.run("--phase bench --phase search") == 0);
  const std::string archive = played.folder / "all.tgz";
  CHECK(played.run("--phase compare --phase compile --archive '" + archive + "' --baseline '" + (played.folder / "baseline.py") + "'") ==
        0);
  CHECK(std::system(("tar -tzf '" + archive + "' >'" + (played.folder / "inside") + "'").c_str()) == 0);
  const std::string inside = read_text(played.folder / "inside");
  for (const char* name : {"./results.json\n", "./table.md\n", "./torch.json\n"})
    CHECK_MESSAGE(inside.find(name) != std::string::npos, inside);
  CHECK(inside.find("build") == std::string::npos);
  const std::vector<std::string> calls = played.lines("python_calls");
  REQUIRE(calls.size() == 3);
  CHECK(calls[0].find(str("tools/torch_norms.py ", (played.folder / "out/ops_bf16_64.json"))) == 0);
  CHECK(calls[1].find("--what ceilings,train,infer,layers --out") != std::string::npos);
  CHECK(calls[2].find("--what infer,compile") != std::string::npos);
  CHECK(played.verdict("table") == "passed");
  const std::string table = read_text(played.folder / "out/table.md");
  INFO(table);
  CHECK(table.find("| training, batch 64 | 12,000 | 6,000 | 2.00 |  |  |  |  |\n") !=
        std::string::npos);  // the graph failed, nothing is compiled
  // Forward: 4 and 1 times ours, whose geometric mean is 2, and PyTorch's 0.5 and 2 times; cuDNN has no data gradient; the sums are half
  // of the floor's speed.
  CHECK(table.find("| forward, batch 64 | 0.002 | 50 % | 2.00 (2) | 1.00 | 1.00 (2) | 0.50 |\n") != std::string::npos);
  for (const char* note : {"with the fastest\nof the first eight acceptable engines", "the fastest of\nthe first two acceptable offers"})
    CHECK_MESSAGE(table.find(note) != std::string::npos, note);
  CHECK(table.find("| data gradient, batch 64 | 0.002 | 50 % |  |  | 1.00 (2) | 0.50 |\n") != std::string::npos);
  CHECK(table.find("| batch norm 64 x 8 x 4, ReLU | 3.0 | 6.0 | 2.00 | 4.0 | 2.0 | 0.50 |\n") != std::string::npos);
  CHECK(table.find("batch norm: 1.00 (2), least 0.50.") != std::string::npos);
  CHECK(table.find("4, residual, ReLU") == std::string::npos);  // ours was not timed
  CHECK(table.find("| 64 | 5.00 (4.00 to 6.00) | 1.50 | 0.5 | 2.0 | 32 as 1 |\n") != std::string::npos);
  CHECK(table.find("| training, batch 128, last stride 2 | 12,000 |") != std::string::npos);
  CHECK(table.find("| training, batch 128, convolutions and products by the vendors | 12,000 |") != std::string::npos);
  CHECK(table.find("| clusters of 9 | 4.0 | 100 | 25.00 | 3 clusters |\n") != std::string::npos);

  const Played bare;
  REQUIRE(bare.run("--phase bench") == 0);
  CHECK(bare.run("--phase compare --baseline nowhere.py") == 0);
  CHECK(bare.verdict("PyTorch: norms") == "passed");
  CHECK(bare.result("PyTorch: eager, graph").at("remark").string() == "nowhere.py is not there: name it with --baseline");
}

TEST_CASE("gpu_check: the train phase draws one world, begins from weights that learned there, and says what fifty epochs would take") {
  const Played played;
  const std::string archive = played.folder / "all.tgz", world = "market1501:" + (played.folder / "out/world/source");
  CHECK(played.run("--phase train --archive '" + archive + "'") == 0);
  CHECK(played.run("--phase train") == 0);  // with the same world, in a new folder
  const std::vector<std::string> calls = played.lines("calls");
  REQUIRE(calls.size() == 5);
  CHECK(calls[0] == "synth --preset market1501 --out " + (played.folder / "out/world"));
  CHECK(std::vector(calls.begin() + 1, calls.begin() + 3) == std::vector(calls.begin() + 3, calls.end()));
  const std::unique_ptr<Recipe> start = asked_for(calls[1]), recipe = asked_for(calls[2]);
  auto* contrast = dynamic_cast<RecipeOf<ClusterContrast>*>(recipe.get());
  REQUIRE(contrast);
  ClusterContrastConfig& c = contrast->config;
  CHECK(c.common.run.epochs == 2);
  CHECK(c.common.run.iterations == 400);
  CHECK(c.batches.people * c.batches.images == 256);
  CHECK(c.clusters.eps == ClusterSettings().eps);
  CHECK(c.common.data.height * c.common.data.width == 256 * 128);
  CHECK(c.common.model.weights == played.folder / "out/start/encoder.safetensors");
  CHECK(c.common.data.evaluate == std::vector<std::string>{"market=" + world});
  for (RunConfig* run : {&start->common(), &c.common}) {
    CHECK(run->model.depth == 50);
    CHECK(run->model.ibn == "a");
    CHECK(run->model.pooling == "gem");
    CHECK(run->model.precision == "bf16");
    CHECK(run->data.multi == std::vector<std::string>{world});
  }
  CHECK_FALSE(fs::exists(played.folder / "out/train/checkpoint.safetensors"));
  CHECK(std::system(("tar -tzf '" + archive + "' >'" + (played.folder / "inside") + "'").c_str()) == 0);
  CHECK(read_text(played.folder / "inside").find("world/") == std::string::npos);
  CHECK(read_text(played.folder / "inside").find("./train/times.json\n") != std::string::npos);

  if (std::system("command -v python3 >/dev/null") != 0) return;
  // 14 seconds of the second epoch, fifty times: 11:40 minutes; five evaluations of 4 seconds more: 12:00.
  const std::string table = read_text(played.folder / "out/table.md"), row = "| 2.00 | 1.00 | 10.24 | 0.76 | 14.00 | 10,000 | 11:40 | ";
  INFO(table);
  CHECK(table.find("13,152 drawn images") != std::string::npos);
  CHECK(table.find("102,400 images in steps,\n600 clusters, 25 % noise") != std::string::npos);
  CHECK(table.find(row + "4.00 | 12:00 |\n") != std::string::npos);
  setenv("PLAYED_EVALUATED", "0", 1);  // cut while it evaluated
  CHECK(played.run("--phase train") == 0);
  CHECK(read_text(played.folder / "out/table.md").find(row + " |  |\n") != std::string::npos);
}

TEST_CASE("gpu_check: without a world, or weights to begin with, the train phase says so") {
  const Played played;
  for (const char* broken : {"world", "start"}) {
    setenv("PLAYED_BROKEN", broken, 1);
    CHECK(played.run("--phase train") == 1);
    CHECK(played.verdict(str(broken) == "world" ? "world" : "supervised start") == "FAILED");
    CHECK(played.result("Cluster Contrast").at("remark").string() == "no world, or no weights to begin with");
  }
  setenv("PLAYED_BROKEN", "train", 1);
  CHECK(played.run("--phase train") == 1);
  CHECK(played.verdict("Cluster Contrast") == "FAILED");
  CHECK(played.verdict("table") == "passed");
}

TEST_CASE("gpu_check: without --phase all phases run that there are, in the order that the usage names") {
  std::istringstream script(read_text(REID_SOURCE_DIR "/tools/gpu_check.sh"));
  std::string all, usage;
  std::vector<std::string> there;
  for (std::string line; std::getline(script, line);) {
    if (line.starts_with("phase_")) there.push_back(line.substr(6, line.find("()") - 6));
    const size_t list = line.find("phases=(build"), named = line.find("[--phase ");
    if (list != std::string::npos) all = line.substr(list + 8, line.find(')') - list - 8);
    if (named != std::string::npos) usage = line.substr(named + 9, line.find(']') - named - 9);
  }
  std::replace(usage.begin(), usage.end(), '|', ' ');
  CHECK(usage == all);
  std::istringstream words(all);
  std::vector<std::string> listed{std::istream_iterator<std::string>(words), {}};
  std::sort(listed.begin(), listed.end());
  std::sort(there.begin(), there.end());
  CHECK(listed == there);
}

TEST_CASE("gpu_check: nothing built, unknown phases and flags are told") {
  Played played;
  CHECK(played.run("--phase sleep") == 2);
  CHECK(read_text(played.folder / "said").find("no phase is called sleep") != std::string::npos);
  CHECK(played.run("--help") == 2);
  CHECK(read_text(played.folder / "said").find("--baseline SCRIPT") != std::string::npos);
  fs::remove(played.folder / "out/build/reid_tests");
  CHECK(played.run("--phase sanitize") == 1);
  CHECK(played.result("all").at("remark").string() == "no reid_tests is built: run --phase build first");
  CHECK(played.run("--phase bench") == 1);  // for what failed before
  CHECK(played.verdict("machine") == "passed");
  played.write_script("out/build/reid_tests", "#!/bin/bash\necho '2 passed, 0 failed'\n");
  CHECK(played.run("--phase sanitize") == 0);  // whether or not there is a sanitizer
}
