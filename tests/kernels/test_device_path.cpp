// The whole way of a tensor to a device and back, on the emulated one: memory, copies, dispatch, gradients, training steps.

#include "harness.h"

#include <sys/wait.h>
#include <unistd.h>

#include "on_device.h"
#include "reid/engine/accelerator.h"
#include "reid/engine/op_args_rows.h"
#include "reid/engine/optim.h"
#include "reid/learning/losses.h"

namespace reid::test {
namespace {

TEST_CASE("device: tensors go there and come back") {
  at_both_paces([] {
    const Tensor x = normal_tensor("there", {5, 7}, DType::f32);
    const Tensor there = x.to(test_device());
    CHECK(there.device() == test_device());
    CHECK(bitwise_equal(there.to(Device{}), x));
    CHECK(bitwise_equal(there.clone().rows(2, 4), x.rows(2, 4)));
    there.fill(3);
    CHECK(there.rows(1, 2).reshape({7}).rows(3, 4).item() == 3);
    CHECK(bitwise_equal(Tensor::zeros({3}, DType::i64, test_device()).to(Device{}), Tensor::zeros({3}, DType::i64)));
    CHECK(bitwise_equal(there.to(DType::f64), Tensor::full({5, 7}, 3, DType::f64)));
  });
}

TEST_CASE("device: the host cannot follow its pointers") {
  if (!on_emulated_device()) return;
  const Tensor there = Tensor::full({4}, 1, DType::f32, test_device());
  CHECK_THROWS_WITH_AS(there.data<float>(),
                       "[tensor] [4] f32 lies on emulated:0, where the host cannot read it: copy it with to(Device{}) first", Error);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    const volatile float* pointer = there.address<float>();
    _exit(*pointer == 1 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSEGV);
}

TEST_CASE("device: gradients of more parameters than a launch takes, of some twice") {
  at_both_paces([] {
    std::vector<Tensor> sums[2];
    for (const Device device : {Device{}, test_device()}) {
      std::vector<Parameter> parameters(AddPairsArgs::kMost + 3);
      Tape tape;
      Var all;
      for (size_t i = 0; i < parameters.size(); ++i) {
        parameters[i].value = normal_tensor(str("parameter ", i), {3, 3}, DType::f32).to(device);
        parameters[i].grad = Tensor::full({3, 3}, 0.5, DType::f32, device);  // of the step before
        const Var v = tape.watch(parameters[i]);
        all = i == 0 ? v : i % 50 == 0 ? add(add(all, v), tape.watch(parameters[i / 2])) : add(all, v);
      }
      tape.backward(all, normal_tensor("dy", {3, 3}, DType::f32).to(device));
      for (const Parameter& p : parameters) sums[device == Device{} ? 0 : 1].push_back(p.grad.to(Device{}));
    }
    for (size_t i = 0; i < sums[0].size(); ++i) CHECK(bitwise_equal(sums[0][i], sums[1][i]));
  });
}

TEST_CASE("device: timed events tell how long the work between them took, and not how long the host did") {
  at_both_paces([] {
    Accelerator& a = accelerator(test_device());
    void* const queue = current_stream(test_device()).native();
    void* const events[] = {a.open_event(0, true), a.open_event(0, true), a.open_event(0, true), a.open_event(0)};
    const Tensor x = normal_tensor("x", {200, 200}, DType::f32).to(test_device());
    ops::matmul(x, x);  // what is made at the first call
    a.record(events[0], queue);
    a.record(events[1], queue);
    ops::matmul(x, x);
    a.record(events[2], queue);
    if (on_emulated_device() && emu::pace() == emu::Pace::late) {
      CHECK_THROWS_WITH_AS(a.seconds_between(events[0], events[2]), doctest::Contains("has not happened, or was not waited for"), Error);
    }
    a.synchronize_event(events[2]);
    const double nothing = a.seconds_between(events[0], events[1]), product = a.seconds_between(events[1], events[2]);
    CHECK(nothing >= 0);
    CHECK(product > nothing);
    CHECK(a.seconds_between(events[0], events[2]) == doctest::Approx(nothing + product));
    a.record(events[3], queue);
    a.synchronize_event(events[3]);
    if (on_emulated_device()) {
      CHECK_THROWS_WITH_AS(a.seconds_between(events[0], events[3]), doctest::Contains("was not opened as timed"), Error);
    }
    for (void* event : events) a.close_event(event);
  });
}

TEST_CASE("device: operands of one op lie on one device") {
  const Tensor a = normal_tensor("a", {3, 4}, DType::f32), b = normal_tensor("b", {4, 5}, DType::f32);
  const std::string remedy = ": bring all operands to one device with to()";
  CHECK_THROWS_WITH_AS(ops::matmul(a.to(test_device()), b),
                       str("[matmul] b [4, 5] lies on cpu, the op runs on ", test_device(), remedy).c_str(), Error);
  CHECK_THROWS_WITH_AS(ops::matmul(a, b.to(test_device())),
                       str("[matmul] b [4, 5] lies on ", test_device(), ", the op runs on cpu", remedy).c_str(), Error);
  CHECK_THROWS_WITH_AS(ops::relu(a.to(DType::f64).to(test_device())), doctest::Contains("[relu] no implementation takes"), Error);
}

TEST_CASE("device: memory is used again, counted, and its end is reported") {
  if (!on_emulated_device()) return;
  release_cached_memory(test_device());
  const AllocatorStats start = allocator_stats(test_device());
  const void* first = Tensor::empty({1000}, DType::f32, test_device()).raw();
  CHECK(Tensor::empty({1010}, DType::f32, test_device()).raw() == first);
  CHECK(allocator_stats(test_device()).system_allocations == start.system_allocations + 1);
  const int64_t free = accelerator(test_device()).free_memory(0);
  emu::set_device_memory(static_cast<size_t>(accelerator(test_device()).info(0).memory - free) + (size_t{1} << 20));
  const Tensor kept = Tensor::empty({100, 1000}, DType::f32, test_device());
  CHECK_THROWS_WITH_AS(Tensor::empty({300, 1000}, DType::f32, test_device()), doctest::Contains("[allocator] emulated:0 has no 1 MiB left"),
                       OutOfMemory);
  CHECK_THROWS_WITH_AS(Tensor::empty({300, 1000}, DType::f32, test_device()), doctest::Contains("wanted for a tensor [300, 1000] f32"),
                       OutOfMemory);
  CHECK(Tensor::empty({100, 1000}, DType::f32, test_device()).defined());  // a smaller one still fits
  emu::set_device_memory(size_t{4} << 30);
}

TEST_CASE("device: its name is parsed, and refused where there is none") {
  if (!on_emulated_device()) return;
  CHECK(parse_device("emulated") == test_device());
  CHECK(parse_device("emulated:0") == test_device());
  CHECK_THROWS_WITH_AS(parse_device("emulated:1"), "device emulated:1: this machine has 1, numbered from emulated:0", Error);
  CHECK_THROWS_WITH_AS(parse_device("emulated:x"), doctest::Contains("is unknown"), Error);
}

TEST_CASE("device: an error inside a kernel reaches whoever waits") {
  if (!on_emulated_device()) return;
  at_both_paces([] {
    const Tensor x = Tensor::full({256}, 1, DType::f32, test_device());
    const auto run = [&] {
      emu::detail::submit(current_stream(test_device()), [] { fail("a kernel's complaint"); });
      current_stream(test_device()).synchronize();
    };
    CHECK_THROWS_WITH_AS(run(), "a kernel's complaint", Error);
    CHECK(ops::relu(x).to(Device{}).data<float>()[255] == 1);  // and later work runs
  });
}

// What a network gives before and leaves after a training step, in the order of its computation.
struct Trained {
  Tensor features;  // of a pass without gradients
  double loss;
  std::vector<Tensor> state;  // weights, gradients, running statistics
};

Trained train_step(Device device, DType dtype, int width = 4, const char* precision = "f32") {
  Encoder encoder({.backbone = {.depth = 50, .ibn = "a", .width = width}, .pooling = "gem", .precision = precision}, dtype, Rng(4));
  move_to(device, inventory(encoder));
  ParameterStore store(encoder);
  Optimizer optimizer(store, {.kind = "sgd"});
  const Tensor images = normal_tensor("images", {4, 64, 32, 3}, DType::f32).to(dtype).to(device);
  std::vector<uint8_t> mask(16, kNegative);
  for (size_t i = 0; i < 4; ++i) mask[i * 4 + i / 2 * 2] = mask[i * 4 + i / 2 * 2 + 1] = kPositive;
  const Tensor positives = Tensor::from(mask, {4, 4}, device), tau = Tensor::full({4}, 0.5, dtype, device),
               weight = Tensor::full({4}, 0.25, dtype, device);
  Trained result;
  result.features = encoder(Var(images), inference_pass()).value().to(Device{});
  Tape tape;
  const Var f = l2_normalize(encoder(Var(images), training_pass(tape)));
  const Var loss = softmax_rows(matmul(f, f, false, true), positives, tau, weight);
  store.zero_grad();
  tape.backward(loss);
  optimizer.step(store, 0.01);
  result.loss = loss.value().item();
  result.state = {store.values().to(Device{}), store.grads().to(Device{})};
  for (const NamedBuffer& b : inventory(encoder).buffers) result.state.push_back(b.tensor->to(Device{}));
  return result;
}

double relative_error(const Tensor& a, const Tensor& exact) {
  const Tensor wide = a.to(DType::f64);
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = wide.data<double>()[i], y = exact.data<double>()[i];
    difference += (x - y) * (x - y), norm += y * y;
  }
  return std::sqrt(difference / std::max(norm, 1e-300));
}

// The same in double says how far rounding carries the CPU's f32. A device rounds as often, in another order: twice that is allowed.
TEST_CASE("device: a training step of a network agrees with the CPU's, and twice gives the same bits") {
  const Trained exact = train_step({}, DType::f64), cpu = train_step({}, DType::f32), there = train_step(test_device(), DType::f32);
  CHECK(relative_error(there.features, exact.features) < 1e-5);
  CHECK(std::abs(there.loss - exact.loss) < 1e-5 * std::abs(exact.loss));
  for (size_t i = 0; i < exact.state.size(); ++i) {
    CAPTURE(i);
    CHECK(relative_error(there.state[i], exact.state[i]) <= 2 * relative_error(cpu.state[i], exact.state[i]) + 0x1p-22);
  }
  at_both_paces([&] {
    const Trained again = train_step(test_device(), DType::f32);
    CHECK(again.loss == there.loss);
    CHECK(bitwise_equal(again.features, there.features));
    for (size_t i = 0; i < there.state.size(); ++i) CHECK(bitwise_equal(again.state[i], there.state[i]));
  });
}

// Labels, temperatures and weights reach the device; so do ranges of centroids, which here are those of a row's own type.
TEST_CASE("device: the centroid loss agrees with the CPU's") {
  const BatchPeople people{.labels = {0, 40, 59, 7, 7}, .cameras = {0, 0, 0, 0, 0}, .single = {0, 1, 1, 0, 0}};
  const CentroidLossOptions options{.tau_multi = 0.1, .tau_single = 0.15, .scope = {.joint = false}, .smoothing = 0.1};
  const Tensor f = ops::l2_normalize(normal_tensor("f", {5, 64})).y, table = ops::l2_normalize(normal_tensor("table", {60, 64})).y;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(dtype);
    const auto run = [&](DType type, Device device) {
      Tape tape;
      const Var leaf = tape.input(f.to(dtype).to(type).to(device));
      const Var loss = scale(centroid_loss(leaf, table.to(dtype).to(type).to(device), 40, people, options), 0.75);
      tape.backward(loss);
      return std::pair(loss.value().item(), tape.gradient(leaf).to(Device{}).to(DType::f64));
    };
    const auto exact = run(DType::f64, {}), there = run(dtype, test_device());
    // As in the tests of losses: logits err by (4 sqrt(D) + 4) u / tau. bf16 keeps the gradient to 2^-8, and that of similarities to 2^-16.
    const double logit = (4 * 8 + 4) / 0.1, u = 0x1p-24, narrow = dtype == DType::bf16 ? 1 : 0;
    CHECK(std::abs(there.first - exact.first) <= 2 * 2 * logit * u + 8 * u * exact.first);
    for (int64_t i = 0; i < f.numel(); ++i) {
      const double want = exact.second.data<double>()[i];
      CHECK(std::abs(there.second.data<double>()[i] - want) <= narrow * 0x1p-8 * std::abs(want) + 10 * (4 * logit + 32 + narrow * 256) * u);
    }
  }
}

// Gradients of a norm with a residual whose y goes into `uses` convolutions and on, as between bottlenecks.
struct BlockCase {
  int uses;
  bool convolution_first, with_relu;
};
std::vector<Tensor> block_gradients(Device device, DType dtype, DType weights, const BlockCase& c) {
  constexpr int64_t kChannels = 64, kFilters = 32;
  const auto there = [&](const char* name, const Shape& shape, DType type) {
    return normal_tensor(name, shape).to(DType::bf16).to(type).to(device);
  };
  const Shape map{2, 9, 8, kChannels};
  const auto parameter = [&](const char* name, const Shape& shape) { return Parameter{.value = there(name, shape, weights), .grad = {}}; };
  Parameter gamma = parameter("gamma", {kChannels}), beta = parameter("beta", {kChannels});
  Parameter down = parameter("down", {kFilters, 1, 1, kChannels}), up = parameter("up", {kChannels, 1, 1, kFilters});
  up.grad = there("gathered before", {kChannels, 1, 1, kFilters}, weights);
  Tape tape;
  const Var x = tape.input(there("x", map, dtype)), residual = tape.input(there("residual", map, dtype));
  const NormWindow all{.groups = 1, .length = map[0] * map[1] * map[2], .channels = kChannels, .first = 0, .count = kChannels};
  const std::vector<NormPart> parts{{tape.watch(gamma), tape.watch(beta), all, {}}};
  // In double step by step, which leaves nothing to a convolution.
  const auto passed = [&](const Var& v) { return c.with_relu ? relu(v) : v; };
  const Var y = dtype == DType::f64 ? passed(add(norm_act(x, parts, Var(), 1e-5, false, nullptr), residual))
                                    : norm_act(x, parts, residual, 1e-5, c.with_relu, nullptr);
  Var sum = c.convolution_first ? Var() : scale(y, 1);
  for (int use = 0; use < c.uses; ++use) {
    const Var z = conv(conv(y, tape.watch(down), {}), tape.watch(up), {});
    sum = sum.value().defined() ? add(sum, z) : z;
  }
  tape.backward(c.convolution_first ? add(sum, y) : sum, there("dy", map, dtype));
  std::vector<Tensor> gradients{tape.gradient(x), tape.gradient(residual), gamma.grad, beta.grad, down.grad, up.grad};
  for (Tensor& t : gradients) t = t.to(Device{});
  return gradients;
}

TEST_CASE("device: the last convolution that a norm's gradient comes from takes the norm's sums, and no other") {
  for (const BlockCase& c : {BlockCase{1, true, true}, {2, true, true}, {1, false, true}, {1, true, false}}) {
    const bool takes = c.convolution_first && c.with_relu;
    CAPTURE(c.uses);
    CAPTURE(c.convolution_first);
    CAPTURE(c.with_relu);
    const auto exact = block_gradients({}, DType::f64, DType::f64, c);
    const auto cpu = block_gradients({}, DType::bf16, DType::f32, c);
    std::vector<std::string> lines;
    trace_to(&lines);
    const auto there = block_gradients(test_device(), DType::bf16, DType::f32, c);
    trace_to(nullptr);
    const auto of = [&](const char* op, const char* what) {
      return std::ranges::count_if(lines, [&](const std::string& l) { return l.starts_with(op) && l.find(what) != std::string::npos; });
    };
    if (on_emulated_device()) {
      CHECK(of("conv_backward_data", "norm_x") == takes);
      CHECK(of("conv_backward_data", "addend") == (c.convolution_first ? c.uses : 0));  // else the convolution's gradient is the first
      CHECK(of("norm_gradient", "") == takes);
      CHECK(of("norm_backward", "") == !takes);
      CHECK(of("conv_backward_weight", "accumulate=1") == 2 * c.uses);  // into the parameters' gradients
      CHECK(of("add_pairs", "") == 1);
    }
    for (size_t i = 0; i < exact.size(); ++i) {
      CAPTURE(i);
      CHECK(relative_error(there[i], exact[i]) <= 2 * relative_error(cpu[i], exact[i]) + 0x1p-22);
    }
  }
}

TEST_CASE("device: in bf16 a convolution finishes its result by a norm, with the bits of both in turn") {
  const auto there = [](const char* name, const Shape& shape, DType dtype) {
    return normal_tensor(name, shape).to(DType::f32).to(dtype).to(test_device());
  };
  struct Case {
    Shape x, w;
    ops::ConvGeometry geometry;
    DType dtype;
    bool finishes;
  };
  at_both_paces([&] {
    for (const Case& c : {Case{{2, 16, 9, 40}, {136, 3, 3, 40}, {.pad = 1}, DType::bf16, true},
                          {{2, 15, 9, 3}, {64, 7, 7, 3}, {.stride = 2, .pad = 3}, DType::bf16, true},
                          {{2, 8, 8, 5}, {7, 1, 1, 5}, {}, DType::bf16, false},
                          {{2, 8, 8, 16}, {24, 1, 1, 16}, {}, DType::f32, false}}) {
      const Tensor x = there("x", c.x, c.dtype), w = there("w", c.w, c.dtype), alone = ops::conv_forward(x, w, c.geometry);
      const int64_t k = c.w[0];
      const Tensor deviation = there("deviation", {1, k}, DType::f32), gamma = there("gamma", {k}, DType::f32);
      const ops::Statistics s{there("mean", {1, k}, DType::f32), ops::multiply(deviation, deviation)};
      const Tensor beta = there("beta", {k}, DType::f32), residual = there("residual", alone.shape(), c.dtype);
      const NormWindow all{.groups = 1, .length = alone.numel() / k, .channels = k, .first = 0, .count = k};
      for (const bool relu : {false, true}) {
        const Tensor more = relu ? residual : Tensor(), expected = Tensor::empty(alone.shape(), c.dtype, test_device());
        ops::norm_apply(alone, {{all, s, gamma, beta, true}}, more, 1e-5, relu, expected);
        std::vector<std::string> lines;
        trace_to(&lines);
        const Tensor y = ops::conv_norm(x, w, c.geometry, s, gamma, beta, more, 1e-5, relu);
        trace_to(nullptr);
        CHECK(bitwise_equal(y.to(Device{}), expected.to(Device{})));
        if (on_emulated_device()) CHECK(lines.size() == (c.finishes ? 1 : 2));
      }
    }
  });
}

// Here maps of the first stages are whole blocks of rows, and channels of all are in eights. That the CPU's statistics come from sums of
// doubles is far below bf16's roundings, which fall elsewhere where sums have another order: twice the CPU's errors, as above.
TEST_CASE("device: in bf16 convolutions take the statistics of the norms behind them, and a training step agrees with the CPU's") {
  const Trained exact = train_step({}, DType::f64, 8), cpu = train_step({}, DType::f32, 8, "bf16");
  std::vector<std::string> lines;
  trace_to(&lines);
  const Trained there = train_step(test_device(), DType::f32, 8, "bf16");
  trace_to(nullptr);
  if (on_emulated_device()) {
    const auto with = [&](const char* op, const char* what) {
      return std::ranges::count_if(lines, [&](const std::string& l) { return l.starts_with(op) && l.find(what) != std::string::npos; });
    };
    // 64 rows have the stem, the first stage, and of the second the first product and all behind which no channel has a norm for each
    // image: 1 + 10 + 1 + 9 batch norms. The inference before it takes those of images in four places more.
    CHECK(with("conv_forward", "statistics_groups=1 ") == 21);
    CHECK(with("conv_forward", "statistics_groups=4 ") == 8);
  }
  CHECK(std::abs(there.loss - exact.loss) <= 2 * std::abs(cpu.loss - exact.loss) + 0x1p-8 * std::abs(exact.loss));
  for (size_t i = 0; i < exact.state.size(); ++i) {
    CAPTURE(i);
    CHECK(relative_error(there.state[i], exact.state[i]) <= 2 * relative_error(cpu.state[i], exact.state[i]) + 0x1p-22);
  }
  at_both_paces([&] {
    const Trained again = train_step(test_device(), DType::f32, 8, "bf16");
    CHECK(again.loss == there.loss);
    for (size_t i = 0; i < there.state.size(); ++i) CHECK(bitwise_equal(again.state[i], there.state[i]));
  });
}

}  // namespace
}  // namespace reid::test
