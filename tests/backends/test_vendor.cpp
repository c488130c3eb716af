// cuDNN and cuBLASLt without a GPU: what is described to them, what is refused of what they offer, what is kept, and what is said where
// they are missing. That the descriptions mean the right sums is shown by `problems*`, which runs emu:cudnn and emu:cublaslt on every line.

#include "problem.h"

#include <set>

#include "backends/vendor_cases.h"

namespace reid::test {
namespace {

using namespace cuda;

TEST_CASE("vendor: a missing library is one sentence, with the remedy") {
  CHECK_THROWS_WITH_AS(Cudnn({"/nowhere/libcudnn.so.9"}),
                       doctest::Contains("cuDNN was asked for and cannot be loaded (/nowhere/libcudnn.so.9:"), Error);
  CHECK_THROWS_WITH_AS(Cudnn({"/nowhere/a.so", "/nowhere/b.so"}), doctest::Contains("/nowhere/b.so: cannot open shared object file"),
                       Error);
  CHECK_THROWS_WITH_AS(Cudnn({"/nowhere/libcudnn.so.9"}), doctest::Contains("LD_LIBRARY_PATH"), Error);
  CHECK_THROWS_WITH_AS(Cudnn({REID_PLAYED_CUBLASLT}), doctest::Contains("has no function cudnnGetVersion"), Error);
  // The op and its arguments are named as well, and nothing is opened for what would be refused anyway.
  Convolutions nowhere(played_place("/nowhere/libcudnn.so.9"));
  const Pass pass(shape_of(1, 4, 4, 2, 3, 3, 1, 1));
  const auto run = [&] { naming_op<ConvForward>(pass.forward(), [&] { nowhere.run(pass.forward(), current_stream({})); }); };
  CHECK_THROWS_WITH_AS(run(), doctest::Contains("[conv_forward] cuDNN was asked for"), Error);
  CHECK_THROWS_WITH_AS(run(), doctest::Contains("x[1,4,4,2]f32 w[3,3,3,2]f32"), Error);
  CHECK(std::string(refuse_conv(pass.shape, DType::f64)) == "takes f32 and bf16");
}

TEST_CASE("vendor: what plans may do is asked for in words") {
  CHECK(!parse_vendor_allows("").tf32);
  const VendorAllows all = parse_vendor_allows("tf32,nondeterministic,rounded-gradients,loose-statistics");
  CHECK((all.tf32 && all.nondeterministic && all.rounded_gradients && all.loose_statistics));
  const VendorAllows one = parse_vendor_allows("nondeterministic");
  CHECK((!one.tf32 && one.nondeterministic && !one.rounded_gradients && !one.loose_statistics));
  CHECK_THROWS_WITH_AS(parse_vendor_allows("tf32,fast"),
                       "REID_VENDOR_ALLOW: 'fast' is not tf32, nondeterministic, rounded-gradients or loose-statistics", Error);
}

TEST_CASE("vendor: engines of cuDNN are refused for what they say of themselves") {
  using Note = cudnnBackendNumericalNote_t;
  const EngineRules f32{.f32 = true}, bf16{}, other{.f32 = true, .other_sums = true};
  const EngineRules tf32{.f32 = true, .allows = {.tf32 = true}}, loose{.allows = {.nondeterministic = true}};
  struct Row {
    std::vector<Note> notes;
    EngineRules rules;
    std::string reason;  // empty: accepted
  };
  const Row rows[] = {
      {{}, f32, ""},
      {{}, bf16, ""},
      {{CUDNN_NUMERICAL_NOTE_TYPE_COUNT}, f32, ""},  // one that newer libraries may know
      {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, bf16, ""},
      {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, f32, "rounds f32 to TF32"},
      {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, tf32, ""},
      {{CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, f32, "rounds its inputs"},
      {{CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, bf16, "rounds its inputs"},
      {{CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, tf32, ""},
      {{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, bf16, "nondeterministic"},
      {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, bf16, "nondeterministic"},
      {{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, loose, ""},
      {{CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, loose, "sums in less than f32"},
      {{CUDNN_NUMERICAL_NOTE_FFT}, other, "Fourier transforms"},
      {{CUDNN_NUMERICAL_NOTE_WINOGRAD}, f32, "other sums than the definition's"},
      {{CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4}, other, ""},
      {{CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6}, other, "minimal filtering with large tiles"},
      {{CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13}, other, "minimal filtering with large tiles"},
      {{CUDNN_NUMERICAL_NOTE_WINOGRAD}, EngineRules{.other_sums = true}, "minimal filtering of bf16"},
  };
  for (const Row& row : rows) {
    const char* reason = refuse_engine({row.notes, {}}, row.rules);
    CHECK(std::string(reason ? reason : "") == row.reason);
  }
  CHECK(!refuse_engine({{}, {CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION}}, f32));
  CHECK(refuse_engine({{}, {CUDNN_BEHAVIOR_NOTE_REQUIRES_FILTER_INT8x32_REORDER}}, f32) != nullptr);
}

TEST_CASE("vendor: algorithms of cuBLASLt are refused for what they say of themselves") {
  constexpr uint64_t kSums = CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F, kTensor = CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA;
  constexpr uint64_t kTf32 = kTensor | kSums | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32;
  constexpr uint64_t kBf16 = kTensor | kSums | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF;
  const auto reason = [](AlgorithmNotes notes, DType dtype, VendorAllows allows = {}) {
    const char* text = refuse_algorithm(notes, dtype, allows);
    return std::string(text ? text : "");
  };
  CHECK(reason({0, CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | kSums}, DType::f32) == "");
  CHECK(reason({0, kBf16}, DType::bf16) == "");
  CHECK(reason({0, kBf16}, DType::f32) == "rounds its inputs");
  CHECK(reason({0, kTf32}, DType::f32) == "rounds f32 to TF32");
  CHECK(reason({0, kTf32}, DType::f32, {.tf32 = true}) == "");
  CHECK(reason({0, kTensor | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F}, DType::bf16) == "sums in less than f32");
  CHECK(reason({0, kSums | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8F_E4M3}, DType::bf16) == "rounds its inputs");
  CHECK(reason({CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, kBf16}, DType::bf16) == "");
  for (const uint32_t scheme : {CUBLASLT_REDUCTION_SCHEME_INPLACE, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE}) {
    CHECK(reason({scheme, kBf16}, DType::bf16) == "sums in parts, put together where they arrive");
    CHECK(reason({scheme, kBf16}, DType::bf16, {.nondeterministic = true}) == "");
  }
}

TEST_CASE("vendor: a convolution's key holds all that a plan depends on") {
  const Pass pass(shape_of(2, 9, 8, 6, 4, 3, 2, 1));
  const auto key = [](const auto& args, VendorAllows allows = {}, int device = 0) {
    return conv_problem(args, allows).key(allows, device);
  };
  std::set<std::vector<int64_t>> keys{key(pass.forward()), key(pass.data()), key(pass.weight())};
  CHECK(keys.size() == 3);
  CHECK(keys.contains(key(Pass(pass.shape).forward())));  // wherever the operands lie
  const auto differs = [&](auto&& change) {
    ConvForwardArgs args = pass.forward();
    change(args);
    CHECK(keys.insert(key(args)).second);
  };
  differs([](auto& a) { a.shape.n = 3; });
  differs([](auto& a) { a.shape.stride[1] = 1; });
  differs([](auto& a) { a.shape.pad[0] = 0; });
  differs([](auto& a) { a.shape.dilation[0] = 2; });
  differs([](auto& a) { a.shape.groups = 2; });
  differs([](auto& a) { a.shape.other_sums = true; });
  differs([](auto& a) { a.statistics[0].x = a.y; });
  differs([](auto& a) { a.dtype = DType::bf16; });
  differs([](auto& a) { a.x = static_cast<const float*>(a.x) + 1; });
  differs([](auto& a) { a.y = static_cast<float*>(a.y) + 2; });
  for (const VendorAllows allows : {VendorAllows{.tf32 = true}, VendorAllows{.nondeterministic = true}})
    CHECK(keys.insert(key(pass.forward(), allows)).second);
  CHECK(keys.insert(key(pass.forward(), {}, 1)).second);
  ConvBackwardDataArgs adding = pass.data();
  adding.addend = pass.x.raw();
  CHECK(keys.insert(key(adding)).second);
  adding.addend = pass.x.data<float>() + 1;
  CHECK(keys.insert(key(adding)).second);
  const Pass narrow(pass.shape, DType::bf16);
  CHECK(key(narrow.weight()) != key(narrow.weight(), {.rounded_gradients = true}));
}

TEST_CASE("vendor: products are described as their transposes, in the order of columns") {
  const Tensor m = Tensor::zeros({64}, DType::f32);
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const GemmProblem p = gemm_problem(
          {.a = m.raw(), .b = m.raw(), .c = m.raw(), .m = 2, .n = 3, .k = 5, .transpose_a = ta, .transpose_b = tb, .dtype = DType::bf16});
      CHECK((p.left.rows == (tb ? 5 : 3) && p.left.columns == (tb ? 3 : 5) && p.left.stride == p.left.rows && p.left.transposed == tb));
      CHECK(
          (p.right.rows == (ta ? 2 : 5) && p.right.columns == (ta ? 5 : 2) && p.right.stride == p.right.rows && p.right.transposed == ta));
      CHECK((p.result.rows == 3 && p.result.columns == 2 && p.result.dtype == DType::f32 && p.left.dtype == DType::bf16));
    }
  }
}

TEST_CASE("vendor: plans are made once, refusals are remembered, errors are not") {
  struct Plan {
    std::string refusal;
    int number;
  };
  PlanCache<Plan> plans;
  int made = 0;
  const auto get = [&](int64_t key, const char* refusal) { return plans.get({key}, [&] { return Plan{refusal, ++made}; }).number; };
  CHECK((get(1, "") == 1 && get(2, "none") == 2 && get(1, "") == 1 && get(2, "none") == 2));
  CHECK_THROWS_AS(plans.get({3}, []() -> Plan { fail("no"); }), Error);
  CHECK(get(3, "") == 3);
  const PlanStatistics s = plans.statistics();
  CHECK((s.made == 2 && s.refused == 1 && s.found == 2));
}

TEST_CASE("vendor: convolutions are planned once, leave no descriptor behind, and say what failed") {
  Convolutions conv(played_place(REID_PLAYED_CUDNN));
  auto* living = played<int64_t()>(REID_PLAYED_CUDNN, "played_descriptors");
  const Pass pass(shape_of(2, 6, 5, 4, 6, 3, 1, 1));
  const int64_t before = living();
  for (int i = 0; i < 3; ++i) conv.run(pass.forward(), current_stream({}));
  CHECK(living() == before + 1);  // the plan
  CHECK((conv.statistics().made == 1 && conv.statistics().found == 2 && conv.statistics().refused == 0));
  CHECK(conv.plan(pass.forward(), current_stream({})).engine == 3);  // those before it round, or are not repeatable, or do not run
  played<void()>(REID_PLAYED_CUDNN, "played_fail_next_execution")();
  const auto run = [&] { naming_op<ConvForward>(pass.forward(), [&] { conv.run(pass.forward(), current_stream({})); }); };
  CHECK_THROWS_WITH_AS(run(),
                       doctest::Contains("[conv_forward] cuDNN: executing a plan: CUDNN_STATUS_EXECUTION_FAILED (as was asked for), for "
                                         "x[2,6,5,4]f32 w[6,3,3,4]f32 stride_h=1"),
                       Error);
  CHECK_NOTHROW(run());
  CHECK(living() == before + 1);
}

TEST_CASE("vendor: the gradient of bf16 filters is f32, or rounded where that is allowed") {
  const Pass pass(shape_of(2, 6, 5, 8, 8, 3, 1, 1), DType::bf16);
  Convolutions exact(played_place(REID_PLAYED_CUDNN)), rounding(played_place(REID_PLAYED_CUDNN, {.rounded_gradients = true}));
  CHECK(exact.plan(pass.weight(), current_stream({})).refusal == "cuDNN offers no engine");
  CHECK_THROWS_WITH_AS(exact.run(pass.weight(), current_stream({})), "cuDNN offers no engine", Error);
  reference_of<ConvBackwardWeight>().run(pass.weight(), current_stream({}));
  const Tensor want = pass.dw.to(DType::bf16).to(DType::f32);
  rounding.run(pass.weight(), current_stream({}));
  // Sums in f32 and in double may fall to two sides of a tie.
  CHECK(difference(pass.dw, want, 0x1p-7) == "");
  CHECK(bitwise_equal(pass.dw.to(DType::bf16).to(DType::f32), pass.dw));
}

TEST_CASE("vendor: what is fused with a convolution, and what is refused") {
  const Pass pass(shape_of(2, 6, 5, 4, 6, 3, 1, 1));
  const auto reason = [](const auto& args, VendorAllows allows = {}) {
    const char* text = refuse_fused(args, allows);
    return std::string(text ? text : "");
  };
  ConvForwardArgs taking = pass.forward();
  CHECK(reason(taking) == "");
  taking.statistics[0] = {.x = taking.y, .mean = nullptr, .variance = nullptr, .window = {1, 60, 6, 2, 4}, .dtype = DType::f32};
  CHECK(reason(taking) == "takes no statistics, unless loose ones are allowed");
  CHECK(reason(taking, {.loose_statistics = true}) == "");
  taking.statistics[1] = {.x = taking.y, .mean = nullptr, .variance = nullptr, .window = {2, 30, 6, 0, 2}, .dtype = DType::f32};
  CHECK(reason(taking, {.loose_statistics = true}) == "takes statistics of all rows only");
  ConvForwardArgs finishing = pass.forward();
  finishing.finish.mean = finishing.y;
  CHECK(reason(finishing) == "finishes nothing");
  ConvBackwardDataArgs adding = pass.data();
  adding.addend = adding.dy;
  CHECK(reason(adding) == "");
  adding.norm.x = adding.dx;
  CHECK(reason(adding, {.loose_statistics = true}) == "takes no sums of a norm's");
  CHECK(reason(pass.weight()) == "");
}

TEST_CASE("vendor: statistics of windows and addends come of the graphs that a step asks for") {
  Registry::prefer({"emu:cudnn"});
  const PlanStatistics before = cudnn_statistics(DeviceType::cpu);
  const Tensor x = normal_tensor("x", {2, 7, 6, 8}, DType::bf16), w = normal_tensor("w", {24, 3, 3, 8}, DType::bf16);
  const ops::ConvGeometry g{.pad = 1};
  const std::vector<NormWindow> windows = {{1, 84, 24, 3, 10}, {1, 84, 24, 13, 9}};
  const ops::ConvStatistics both = ops::conv_statistics(x, w, g, windows);
  const Tensor addend = normal_tensor("addend", x.shape(), DType::bf16), dx = ops::conv_backward_data(both.y, w, x.shape(), g, &addend);
  const PlanStatistics after = cudnn_statistics(DeviceType::cpu);
  Registry::prefer({"reference"});
  for (size_t i = 0; i < 2; ++i) {
    const ops::Statistics apart = ops::norm_statistics(both.y, windows[i]);
    CHECK(difference(both.taken[i].mean, apart.mean, 1e-6) == "");
    CHECK(difference(both.taken[i].variance, apart.variance, 1e-5) == "");
  }
  // Rounded once, with the addend: sums in f32 and in double may fall to two sides of a tie.
  const Tensor once = ops::conv_backward_data(both.y, w, x.shape(), g, &addend).to(DType::f32), got = dx.to(DType::f32);
  int64_t differing = 0;
  for (int64_t i = 0; i < got.numel(); ++i) differing += got.data<float>()[i] != once.data<float>()[i];
  CHECK(differing <= 2);
  Registry::prefer({});
  CHECK(after.made == before.made + 4);  // each convolution is planned alone, too, to know who would compute it
}

TEST_CASE("vendor: who cannot add to a gradient gives one of its own") {
  const Tensor x = normal_tensor("x", {2, 5, 4, 3}, DType::f32), dy = normal_tensor("dy", {2, 5, 4, 6}, DType::f32);
  const Tensor before = normal_tensor("before", {6, 3, 3, 3}, DType::f32), sum = before.to(DType::f64).to(DType::f32);
  const ops::ConvGeometry g{.pad = 1};
  Registry::force("conv_backward_weight", "emu:cudnn");
  const Tensor dw = ops::conv_backward_weight(x, dy, sum.shape(), g, &sum);
  CHECK((dw.defined() && bitwise_equal(sum, before)));
  Registry::force("conv_backward_weight", "reference");
  CHECK(!ops::conv_backward_weight(x, dy, sum.shape(), g, &sum).defined());
  CHECK(difference(sum, ops::add(before, dw), 1e-6) == "");
  const Tensor wide = sum.to(DType::f64);
  CHECK_THROWS_WITH_AS(ops::conv_backward_weight(x, dy, sum.shape(), g, &wide), doctest::Contains("[conv_backward_weight]"), Error);
  Registry::force("conv_backward_weight", "");
}

TEST_CASE("vendor: products say what failed") {
  Registry::force("matmul", "emu:cublaslt");
  const PlanStatistics before = cublaslt_statistics(DeviceType::cpu);
  const Tensor a = normal_tensor("a", {5, 7}, DType::f32), b = normal_tensor("b", {7, 3}, DType::f32);
  CHECK(difference(ops::matmul(a, b), ops::matmul(a, b), 0) == "");
  const PlanStatistics after = cublaslt_statistics(DeviceType::cpu);
  CHECK((after.made == before.made + 1 && after.found == before.found + 3));  // asked for by each condition and each run
  played<void()>(REID_PLAYED_CUBLASLT, "played_fail_next_product")();
  CHECK_THROWS_WITH_AS(ops::matmul(a, b),
                       doctest::Contains("[matmul] cuBLASLt: multiplying: the played product failed, for a[5,7]f32 b[7,3]f32"), Error);
  Registry::force("matmul", "");
}

TEST_CASE("vendor: an implementation can be preferred where it is there and accepts") {
  const Pass pass(shape_of(1, 4, 4, 2, 3, 3, 1, 1));
  const auto picked = [&](DType dtype) {
    ConvForwardArgs args = pass.forward();
    args.dtype = dtype;
    return std::string(Registry::pick<ConvForward>(DeviceType::cpu, args).name);
  };
  const std::string usual = picked(DType::f32);
  Registry::prefer({"emu:cublaslt", "emu:cudnn"});
  CHECK(picked(DType::f32) == "emu:cudnn");
  CHECK(picked(DType::f64) == "reference");  // which alone takes it
  Registry::force("conv_forward", "reference");
  CHECK(picked(DType::f32) == "reference");
  Registry::force("conv_forward", "");
  Registry::prefer({});
  CHECK((picked(DType::f32) == usual && usual != "emu:cudnn"));
}

}  // namespace
}  // namespace reid::test
