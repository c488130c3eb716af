// What the installed cuDNN offers for an H200 that is described to it and need not be there: the library itself checks our descriptors,
// finds engines for them and makes plans. Nothing is computed. Skipped, saying so, where cuDNN is not installed, or older than 9.8: those
// cannot be told of a device.
//
// Graphs of several operations are compiled when they are planned, and only where there is a driver's library to load the code. The
// toolkit's stub of it is enough to see that cuDNN has an engine and compiles it: the plan then fails at the loading.

#include "harness.h"

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "backends/cuda/cudnn_conv.h"
#include "program/run_program.h"

namespace reid::test {
namespace {

#if CUDNN_VERSION < 90800

TEST_CASE("cudnn offers: what an H200 would be offered") { MESSAGE("skipped: its headers are older than cuDNN 9.8"); }

#else

using namespace cuda;

// The device properties of an H200 as cuDNN 9.19 writes them down, and 9.28: those of its data sheet and of compute capability 9.0.
constexpr std::string_view kH200 = R"({"deviceName": "NVIDIA H200", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0,
  "totalGlobalMem": 150000000000, "multiProcessorCount": 132, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000, "l2CacheSize": 62914560,
  "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "warpSize": 32, "regsPerBlock": 65536,
  "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
  "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1,
  "memoryBusWidth": 6144, "oversizedSharedMemoryPerBlock": 0, "smCountOrigin": 0})";

struct Described {
  Cudnn library;
  Descriptor properties;
  Described() : library({REID_CUDNN_FILES}), properties(library, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "a device's properties") {
    const std::string text(kH200);
    properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(text.size()) + 1, text.c_str());
    properties.finalize();
  }
  template <class Args>
  static Args arguments(const ConvShape& shape, DType dtype) {
    Args args{};
    args.shape = shape, args.dtype = dtype;
    return args;
  }
  template <class Args>
  std::vector<CudnnPlan> plans(const Args& args, VendorAllows allows, int most) {
    return plan_conv(library, {nullptr, properties.raw()}, conv_problem(args, allows), allows, most);
  }
  template <class Args>
  std::vector<CudnnPlan> plans(const ConvShape& shape, DType dtype, VendorAllows allows, int most) {
    return plans(arguments<Args>(shape, dtype), allows, most);
  }
  template <class Args>
  CudnnPlan plan(const ConvShape& shape, DType dtype, VendorAllows allows = {}) {
    return std::move(plans<Args>(shape, dtype, allows, 1).front());
  }
};

// Null, having said why, where there is no cuDNN.
Described* described() {
  static std::optional<Described> one;
  static const std::string missing = [] {
    try {
#ifdef REID_DEBUG
      fail("under sanitizers, which would report what cuDNN's heuristics leak");
#endif
      one.emplace();
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  }();
  if (!missing.empty()) MESSAGE("skipped: ", missing);
  return one ? &*one : nullptr;
}

ConvShape layer(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, int64_t r, int64_t stride) {
  ConvShape s{.n = n, .h = h, .w = w, .c = c, .k = k, .r = r, .s = r};
  s.stride[0] = s.stride[1] = stride, s.pad[0] = s.pad[1] = r / 2;
  return s;
}

// ResNet-50 at 256 x 128: the stem, and 1x1 and 3x3 of the first and the last stage, with and without stride.
const ConvShape kLayers[] = {layer(64, 256, 128, 3, 64, 7, 2),  layer(64, 64, 32, 64, 64, 3, 1),   layer(64, 64, 32, 64, 256, 1, 1),
                             layer(64, 64, 32, 128, 128, 3, 2), layer(64, 64, 32, 256, 512, 1, 2), layer(64, 16, 8, 512, 512, 3, 1),
                             layer(64, 16, 8, 1024, 2048, 1, 1)};

TEST_CASE("cudnn offers: an acceptable plan for each layer on an H200") {
  Described* d = described();
  if (!d) return;
  for (const ConvShape& shape : kLayers) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const bool narrow = dtype == DType::bf16;
      const VendorAllows rounded{.rounded_gradients = narrow};
      for (const CudnnPlan& plan : {d->plan<ConvForwardArgs>(shape, dtype), d->plan<ConvBackwardDataArgs>(shape, dtype),
                                    d->plan<ConvBackwardWeightArgs>(shape, dtype, rounded)}) {
        CHECK_MESSAGE(plan.plan, shape.c, " > ", shape.k, ", ", shape.r, "x", shape.s, "/", shape.stride[0], " ", dtype, ": ",
                      plan.refusal);
        CHECK(plan.workspace <= kCudnnWorkspace);
      }
    }
  }
}

TEST_CASE("cudnn offers: there is a choice of acceptable plans, the first one first") {
  Described* d = described();
  if (!d) return;
  for (const ConvShape& shape : kLayers) {
    const std::vector<CudnnPlan> plans = d->plans<ConvForwardArgs>(shape, DType::bf16, {}, 8);
    CHECK((plans.size() > 1 && plans.size() <= 8));
    for (const CudnnPlan& plan : plans) CHECK((plan.plan && plan.refusal.empty()));
    CHECK(plans[0].engine == d->plan<ConvForwardArgs>(shape, DType::bf16).engine);
  }
}

// Newer engines are compiled when they are planned: what refuses them may be the want of a driver, at the loading.
TEST_CASE("cudnn offers: from 9.24 on engines that write f32 filters from bf16 maps, but for the stem") {
  Described* d = described();
  if (!d) return;
  for (const ConvShape& shape : kLayers) {
    const std::string refusal = d->plan<ConvBackwardWeightArgs>(shape, DType::bf16).refusal;
    const bool none = d->library.version() < 92400 || shape.c == 3;
    CHECK_MESSAGE((refusal == "cuDNN offers no engine") == none, refusal);
  }
}

TEST_CASE("cudnn offers: other engines where more is allowed, odd shapes, groups and dilation") {
  Described* d = described();
  if (!d) return;
  const ConvShape& big = kLayers[1];
  CHECK(d->plan<ConvForwardArgs>(big, DType::f32).engine != d->plan<ConvForwardArgs>(big, DType::f32, {.tf32 = true}).engine);
  ConvShape odd = layer(2, 7, 5, 5, 7, 3, 2), groups = layer(2, 6, 5, 8, 12, 3, 1), dilated = layer(1, 9, 8, 6, 4, 3, 1);
  groups.groups = 4;
  dilated.dilation[0] = dilated.dilation[1] = dilated.pad[0] = dilated.pad[1] = 2;
  for (const ConvShape& shape : {odd, groups, dilated}) {
    CHECK(d->plan<ConvForwardArgs>(shape, DType::f32).refusal == "");
    CHECK(d->plan<ConvBackwardDataArgs>(shape, DType::f32).refusal == "");
    CHECK(d->plan<ConvBackwardWeightArgs>(shape, DType::f32).refusal == "");
    // What is fused may be refused, and is no error.
    for (const DType dtype : {DType::f32, DType::bf16}) {
      ConvForwardArgs taking = Described::arguments<ConvForwardArgs>(shape, dtype);
      taking.statistics[0].x = &taking;
      ConvBackwardDataArgs adding = Described::arguments<ConvBackwardDataArgs>(shape, dtype);
      adding.addend = &adding;
      for (const auto& plans : {d->plans(taking, {}, 1), d->plans(adding, {}, 1)}) CHECK((plans[0].plan || !plans[0].refusal.empty()));
    }
  }
}

#ifdef REID_DRIVER_STUB

constexpr const char* kWithStub = "REID_WITH_DRIVER_STUB";
constexpr const char* kCompiled = "graphs were compiled";

// What is said of a graph whose code was compiled, as all of its acceptable offers.
bool compiled(const CudnnPlan& plan) {
  const std::string every = "none of cuDNN's engines is acceptable: ";
  const std::string_view reasons = std::string_view(plan.refusal).substr(std::min(every.size(), plan.refusal.size()));
  return plan.refusal.starts_with(every) && reasons.find(" x CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER") < 4 &&
         reasons.find(';') == std::string_view::npos;
}

// Compiling takes seconds, so one layer each.
void check_compiled_graphs(Described& d) {
  ConvForwardArgs taking = Described::arguments<ConvForwardArgs>(kLayers[1], DType::bf16);
  taking.statistics[0].x = &taking;
  const CudnnPlan sums = std::move(d.plans(taking, {}, 1).front());
  CHECK_MESSAGE(compiled(sums), sums.refusal);
  taking.dtype = DType::f32;
  CHECK(d.plans(taking, {}, 1).front().refusal.ends_with(" x rounds f32 to TF32"));
  ConvBackwardDataArgs adding = Described::arguments<ConvBackwardDataArgs>(kLayers[4], DType::bf16);
  adding.addend = &adding;
  const CudnnPlan sum = std::move(d.plans(adding, {}, 1).front());
  CHECK_MESSAGE(compiled(sum), sum.refusal);
  MESSAGE(std::string(kCompiled));
}

TEST_CASE("cudnn offers: graphs of a convolution with sums of its result, and of a data gradient with an addend") {
  Described* d = described();
  if (!d) return;
  if (std::getenv(kWithStub)) return check_compiled_graphs(*d);
  // In a process of its own: the stub would tell everybody else, too, that there is a driver.
  const TemporaryFolder folder;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string(), log = folder / "log";
  const int status = std::system(
      str("LD_PRELOAD='", REID_DRIVER_STUB, "' ", kWithStub, "=1 '", self, "' -tc='cudnn offers: graphs*' >'", log, "' 2>&1").c_str());
  const std::string said = read_text(log);
  CHECK_MESSAGE((status == 0 && said.find(kCompiled) != std::string::npos), said);
}

#endif

TEST_CASE("cudnn offers: what does not fit together is the library's error, in its words") {
  Described* d = described();
  if (!d) return;
  ConvForwardArgs args{};
  args.shape = kLayers[1], args.dtype = DType::f32;
  ConvProblem problem = conv_problem(args);
  problem.map.extents[3] += 1;
  CHECK_THROWS_WITH_AS(static_cast<void>(plan_conv(d->library, {nullptr, d->properties.raw()}, problem, {})),
                       doctest::Contains("cuDNN: finalizing the operation: CUDNN_STATUS_BAD_PARAM"), Error);
}

#endif

}  // namespace
}  // namespace reid::test
