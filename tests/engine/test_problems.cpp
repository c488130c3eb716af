// Every implementation of every op against the reference in double, on the lines of tests/problems.

#include "last_words.h"
#include "problems.h"

#ifdef REID_EMULATED_KERNELS
#include "sm90/device.cuh"
#endif

namespace reid::test {
namespace {

int taken = 0;  // implementations that had problems to run in this process

// What REID_ONLY names proves nothing where it refuses every line. In the last case, for all before it.
void check_that_some_ran() {
  if (const char* only = std::getenv("REID_ONLY")) CHECK_MESSAGE(taken > 0, str("no line is taken by what REID_ONLY names, '", only, "'"));
}

// Runs every `parts`-th line, from the first or a later one; part -1: none, who would take them is counted.
Sweep run_file(const std::string& file, Sweep sweep, int part = 0, int parts = 1) {
  int number = 0;
  Families families = dense_families();
  families.merge(behind_families());
  families.merge(norm_families());
  families.merge(vision_families());
  families.merge(rows_families());
  families.merge(metric_families());
  families.merge(fused_families());
  families.merge(pairs_families());
  families.merge(jaccard_families());
  for (const ProblemLine& line : read_problems(file)) {
    const auto found = families.find(line.family);
    REQUIRE_MESSAGE(found != families.end(), file, ": no family is called ", line.family);
    sweep.runs = number++ % parts == part;
#ifdef REID_DEBUG
    if (line.get("large", 0) != 0) continue;  // under sanitizers they take minutes, and look at no other memory than smaller ones
#endif
    found->second(line, sweep);
  }
  if (part >= 0) taken += static_cast<int>(sweep.ran.size());
  return sweep;
}

// In two cases, far enough apart that tools/run_tests.sh gives them to two processes: under sanitizers they take minutes.
TEST_CASE("problems: edges of odd lines, and every implementation of every op meets one") {
  const Sweep sweep = run_file("edges.txt", {}, 0, 2);
  if (std::getenv("REID_ONLY")) return;
  CHECK(!sweep.ran.empty());
  if (std::getenv("REID_DEVICE")) return;  // whose implementations are others
  for (const OpInfo& op : Registry::ops()) {
    for (const std::string& implementation : op.implementations) {
      const auto ran_in = [&](const char* dtype) { return sweep.ran.count(str(op.name, " ", implementation, " ", dtype)) > 0; };
      CHECK_MESSAGE((ran_in("f32") || ran_in("bf16")), op.name, " ", implementation, " accepts no line of edges.txt");
    }
  }
}

// Not under sanitizers, where it takes a minute: they look at memory, and the edges hold every remainder of a tile.
#ifndef REID_DEBUG
TEST_CASE("problems: the layers of ResNet-50-IBN-a") {
  run_file("resnet50_ibn.txt", {.references = false});
  CHECK(true);  // failures are reported by line
}
#endif

#ifdef REID_EMULATED_KERNELS
// Whether a kernel takes a line of conv_statistics or conv_finish; arguments are only looked at.
bool takes_behind(const ProblemLine& line, std::string_view kernel) {
  alignas(64) static char at[64];
  ConvForwardArgs args{.x = at, .w = at, .y = at, .shape = conv_shape(line), .dtype = DType::bf16};
  const ConvShape& s = args.shape;
  const NormWindow all{.groups = 1, .length = s.n * s.p() * s.q(), .channels = s.k, .first = 0, .count = s.k};
  if (line.family == "conv_statistics") args.statistics[0] = {.x = at, .mean = at, .variance = at, .window = all, .dtype = args.dtype};
  void* const residual = line.get("residual", 0) != 0 ? at : nullptr;
  if (line.family == "conv_finish") args.finish = {at, at, at, at, residual, 1e-5, line.get("relu", 0) != 0};
  for (const Impl<ConvForward>& impl : Registry::implementations<ConvForward>(DeviceType::cpu)) {
    if (impl.name == kernel) return impl.refuses(args) == nullptr;
  }
  return false;
}
#endif

TEST_CASE("problems: work for every processor of a GPU") {
  if (std::getenv("REID_DEVICE")) {
    run_file("device.txt", {});  // failures are reported by line
    return check_that_some_ran();
  }
#ifdef REID_EMULATED_KERNELS
  const emu::Pretending device(emu::kPretendedH200);
  const Sweep sweep = run_file("device.txt", {}, -1);
  Sweep idle{.runs = false};  // half of the processors would have a tile of 256 columns, the others none
  dense_families().at("conv")(parse_problem("conv n=64 h=16 w=8 c=256 k=256 r=3 s=3 pad=1 f32=0 bf16=1"), idle);
  if (std::getenv("REID_ONLY")) return check_that_some_ran();
  std::map<std::string, int> lines;  // that are there for an implementation, twice: two fills
  const auto expect = [&](const std::string& op, std::initializer_list<const char*> names, int more) {
    for (const char* name : names) lines[op + " emu:" + name + " bf16"] += more;
  };
  for (const ProblemLine& line : read_problems("device.txt")) {
    if (line.family == "matmul") expect("matmul", {"sm90_wgmma_bands", "sm90_pairs_256"}, 4);  // two kinds of sums
    if (line.family == "conv") {
      const bool forward = line.at("c") >= 1024, data = line.at("k") >= 1024;
      if (!forward && !data) expect("conv_backward_weight", {"sm90_clusters_256"}, 2);
      if (forward) expect("conv_forward", {"sm90_wgmma_256", "sm90_pairs_256", "sm90_pairs"}, 2);
      if (data) expect("conv_backward_data", {"sm90_wgmma_256", "sm90_pairs_256", "sm90_pairs"}, 4);  // alone and with an addend
    } else if (line.family.starts_with("conv_")) {
      CHECK_MESSAGE(takes_behind(line, "emu:sm90_pairs"), line.text);
      if (line.family == "conv_statistics") CHECK_MESSAGE(takes_behind(line, "emu:sm90_pairs_256"), line.text);
    }
  }
  for (const auto& line : lines) CHECK_MESSAGE((sweep.ran.contains(line.first) && sweep.ran.at(line.first) == line.second), line.first);
  CHECK(lines.size() == 9);
  for (const char* op : {"conv_forward", "conv_backward_data"}) {
    CHECK(idle.ran.contains(str(op, " emu:sm90_wgmma bf16")));
    CHECK_FALSE(idle.ran.contains(str(op, " emu:sm90_wgmma_256 bf16")));
  }
#endif
}

TEST_CASE("problem lines: what is malformed is named") {
  CHECK_THROWS_WITH_AS(parse_problem("conv n=1 h"), "problem line 'conv n=1 h': 'h' is not key=number", Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(parse_problem("conv n=1").at("h")), "problem line 'conv n=1' lacks h", Error);
}

// The harness must see what it is for: one wrong element, a NaN, a write past the end, too many threads' worth of luck, and an error; and
// where AddressSanitizer is built in, which ends the process at an access out of bounds, also a read past the end.
struct Spy {
  static int fault;
  using Args = ReluArgs;
  [[maybe_unused]] static constexpr const char* name = "spy";
  static void run(const ReluArgs& a, Stream&) {
    const auto* x = static_cast<const float*>(a.x);
    auto* y = static_cast<float*>(a.y);
    for (int64_t i = 0; i < a.count; ++i) y[i] = 2 * x[i];
    if (fault == 1) y[3] *= 1.0001F;
    if (fault == 2) y[a.count - 1] = std::numeric_limits<float>::quiet_NaN();
    if (fault == 3) y[a.count] = 0;
    if (fault == 4) const_cast<float*>(x)[0] += 1;
    if (fault == 5 && threads() == 1) y[0] += 1e-6F;
    if (fault == 6) y[-1] = 0;
    if (fault == 7) fail("it gave up");
    if (fault == 8) static_cast<void>(*static_cast<const volatile float*>(x + a.count));
  }
};
int Spy::fault = 0;

TEST_CASE("the harness finds planted faults") {
  const ProblemLine line = parse_problem("spy count=7");
  Problem<Spy> p{.args = {},
                 .fields = {{"x", Field<ReluArgs>::input, &ReluArgs::x, {7}}, {"y", Field<ReluArgs>::output, &ReluArgs::y, {7}}},
                 .bound = {}};
  p.args.count = 7;
  const AnyProblem any_spy = any(p);
  const Run run = prepare(any_spy, line, Fill::normal, DType::f32);
  Values oracle{{"y", values_of(any_spy, run, DType::f32).at("x")}}, bounds{{"y", std::vector<double>(7)}};
  for (double& v : oracle["y"]) v *= 2;
  for (size_t i = 0; i < 7; ++i) bounds["y"][i] = 4 * std::abs(oracle["y"][i]);
  const Impl<Spy> impl{.name = "spy", .refuses = nullptr, .run = Spy::run};
  const AnyProblem::Implementation spy{.name = "spy", .device = {}, .impl = &impl, .reference = false};
  const char* expected[] = {"",
                            "y[3]: got",
                            "y[6]: got nan",
                            "y: wrote outside",
                            "x: an input was written",
                            "y: other bits",
                            "y: wrote outside",
                            "an error: it gave up"};
  const int threads_before = threads();
  set_threads(2);
  const auto find = [&] { return detail::found([&] { return trial(any_spy, spy, run, oracle, bounds, false); }); };
  for (Spy::fault = 0; Spy::fault < 8; ++Spy::fault) {
#ifdef REID_TEST_ASAN
    if (Spy::fault == 3 || Spy::fault == 6) continue;
#endif
    const std::string found = find();
    CHECK_MESSAGE(found.substr(0, std::strlen(expected[Spy::fault])) == expected[Spy::fault], found);
    if (Spy::fault == 0) CHECK(found == "");
  }
#ifdef REID_TEST_ASAN
  for (const auto& [fault, access] : {std::pair(3, "WRITE of size 4"), {6, "WRITE of size 4"}, {8, "READ of size 4"}}) {
    Spy::fault = fault;
    const std::string words = last_words(find);
    CHECK_MESSAGE((words.find("use-after-poison") != std::string::npos && words.find(access) != std::string::npos), words);
  }
#endif
  set_threads(threads_before);
}

TEST_CASE("problems: edges of even lines") {
  run_file("edges.txt", {}, 1, 2);
  CHECK(true);  // failures are reported by line
}

}  // namespace
}  // namespace reid::test
