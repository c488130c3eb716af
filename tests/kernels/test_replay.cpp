// Steps as graphs on a device: replayed steps give the bits of eager ones, whatever the step does to prevent it.

#include "harness.h"

#include "on_device.h"
#include "reid/engine/optim.h"
#include "reid/engine/replay.h"
#include "reid/engine/transfer.h"

namespace reid::test {
namespace {

// A step on two layers that can be made to misbehave; every number it makes is compared.
class Toy {
 public:
  Toy() {
    move_to(test_device(), inventory(layer_));
    store_ = ParameterStore(layer_);
    optimizer_ = Optimizer(store_, {});
  }

  struct Options {
    bool branch = false;       // one op more
    bool read_inside = false;  // the host looks at the loss in the middle
    bool narrow = false;       // half of the batch
    bool keep = false;         // a tensor outlives the step
    bool hold = false;         // a tensor lives longer within the step
    bool leave = false;        // the optimizer's turn does not come
    bool grow = false;         // more workspace than any step before
    double factor = 1;         // an attribute
  };

  void step(const Tensor& images, const std::vector<float>& target, double lr, const Options& o) {
    Tape tape;
    const Tensor x = o.narrow ? images.rows(0, 2) : images;
    std::vector<Tensor> held;
    const Var hidden = relu(layer_(Var(x), training_pass(tape)));
    if (o.hold) held.push_back(ops::relu(hidden.value()));
    if (o.grow) {
      Stream& stream = current_stream(test_device());
      const auto now = stream.workspace_storage();
      stream.workspace(now ? 2 * static_cast<size_t>(now->bytes()) : size_t{1} << 16);
    }
    const Tensor wanted = Tensor::from(std::vector<float>(target.begin(), target.begin() + x.dim(0) * 4), {x.dim(0), 4}, test_device());
    Var away = add(hidden, Var(wanted), -1);
    if (o.branch) away = scale(away, 2);
    const Var loss = scale(sum(l2_normalize(away)), o.factor);
    if (o.read_inside) seen.push_back(loss.value().item());
    store_.zero_grad();
    tape.backward(loss);
    if (!o.leave) optimizer_.step(store_, lr);
    if (o.keep) kept.push_back(loss.value());
  }

  Tensor weights() const { return store_.values().to(Device{}); }
  Tensor gradients() const { return store_.grads().to(Device{}); }
  std::vector<double> seen;
  std::vector<Tensor> kept;

 private:
  Linear layer_{3, 4, DType::f32, Rng(1)};
  ParameterStore store_;
  Optimizer optimizer_;
};

using Script = std::vector<Toy::Options>;

// The weights and gradients after every step of the script. Inputs and learning rates differ from step to step.
std::vector<Tensor> follow(const Script& script, Replay& replay, Toy& toy) {
  std::vector<Tensor> states;
  const Tensor images = Tensor::empty({4, 3}, DType::f32, test_device());
  for (size_t i = 0; i < script.size(); ++i) {
    images.copy_from(normal_tensor(str("images", i), {4, 3}, DType::f32));
    const Tensor target = normal_tensor(str("target", i), {16}, DType::f32);
    const std::vector<float> values(target.data<float>(), target.data<float>() + 16);
    replay.run([&] { toy.step(images, values, 0.1 / static_cast<double>(i + 1), script[i]); });
    states.push_back(toy.weights());
    states.push_back(toy.gradients());
  }
  return states;
}

// Follows the script with graphs and without; the counts of the former.
Replay::Counts check_script(const Script& script) {
  Replay::Counts counts;
  Toy plain;
  Replay none(Device{});  // of the CPU: steps are called
  const std::vector<Tensor> expected = follow(script, none, plain);
  for (const emu::Pace pace : {emu::Pace::late, emu::Pace::early}) {
    emu::set_pace(pace);
    Toy toy;
    Replay replay(test_device());
    const std::vector<Tensor> got = follow(script, replay, toy);
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(bitwise_equal(got[i], expected[i]));
    }
    CHECK(toy.seen == plain.seen);
    for (size_t i = 0; i < toy.kept.size(); ++i) CHECK(bitwise_equal(toy.kept[i], plain.kept[i]));
    counts = replay.counts();
  }
  emu::set_pace(emu::Pace::late);
  return counts;
}

TEST_CASE("replay: steps that repeat run as graphs, with the bits of eager ones") {
  const Replay::Counts c = check_script(Script(6));
  CHECK(c.eager == 1);
  CHECK(c.recorded == 1);
  CHECK(c.replayed == 4);
  CHECK(c.ended == 0);
  CHECK(c.graphs == 1);  // up to the optimizer's step
}

TEST_CASE("replay: what steps left cached goes back before one is recorded") {
  Replay replay(test_device());
  std::vector<int64_t> cached;
  for (int step = 0; step < 3; ++step) {
    replay.run([&] {
      const AllocatorStats memory = allocator_stats(test_device());
      cached.push_back(memory.bytes_cached);
      Tensor::zeros({1 << 16}, DType::u8, test_device());
    });
    Tensor::zeros({1 << 20}, DType::u8, test_device());  // outside of any step
  }
  CHECK(replay.counts().recorded == 1);
  CHECK(cached[1] == 0);
  CHECK(cached[2] >= 1 << 20);
}

TEST_CASE("replay: a step that reads its loss is two graphs, and reads the right one") {
  const Replay::Counts c = check_script(Script(6, {.read_inside = true}));
  CHECK(c.replayed == 4);
  CHECK(c.graphs == 2);
}

TEST_CASE("replay: other work than recorded ends it, and is done") {
  for (const Toy::Options& odd : {Toy::Options{.branch = true}, Toy::Options{.narrow = true}, Toy::Options{.hold = true},
                                  Toy::Options{.leave = true}, Toy::Options{.factor = 3}, Toy::Options{.read_inside = true}}) {
    Script script(9);
    script[4] = odd;
    const Replay::Counts c = check_script(script);
    CHECK(c.ended == 1);
    CHECK(c.recorded == 2);
    CHECK(c.replayed == 5);  // of 9: one before everything, two recordings, one ended
  }
}

TEST_CASE("replay: a step whose tensors outlive it is not replayed over them") {
  Script script(6);
  script[1].keep = true;  // the recorded one
  const Replay::Counts c = check_script(script);
  CHECK(c.recorded == 2);
  CHECK(c.replayed == 2);
}

TEST_CASE("replay: workspace that grows while a step is recorded is no tensor of it") {
  Script script(6);
  script[1].grow = true;
  const Replay::Counts c = check_script(script);
  CHECK(c.recorded == 1);
  CHECK(c.replayed == 4);
}

TEST_CASE("replay: steps that never repeat are left alone after a while") {
  Script script(24);
  for (size_t i = 0; i < script.size(); ++i) script[i].factor = static_cast<double>(i + 1);
  const Replay::Counts c = check_script(script);
  CHECK(c.replayed == 0);
  CHECK(c.recorded == 8);
  CHECK(c.eager == 24 - 16);
}

TEST_CASE("replay: a replayed step asks for a few graphs instead of hundreds of launches") {
  Encoder encoder({.backbone = {.depth = 18, .ibn = "a", .width = 4}}, DType::f32, Rng(0));
  move_to(test_device(), inventory(encoder));
  ParameterStore store(encoder);
  const Tensor images = normal_tensor("images", {2, 32, 16, 3}, DType::f32).to(test_device());
  Replay replay(test_device());
  const auto step = [&] {
    Tape tape;
    const Var y = encoder(Var(images), training_pass(tape));
    store.zero_grad();
    tape.backward(sum(y));
  };
  const auto launched = [&] {
    const int64_t before = emu::launches();
    replay.run(step);
    return emu::launches() - before;
  };
  const int64_t eager = launched();
  launched();
  const int64_t graphed = launched();
  CHECK(replay.reason() == "");
  CHECK(replay.counts().graphs == 1);
  if (!on_emulated_device()) return;
  CHECK(eager > 200);
  CHECK(graphed <= 3);  // the graph, behind the two ones that the gradient begins with
}

TEST_CASE("replay: an error in a step reaches the caller, and the next step is right") {
  Toy toy, plain;
  Replay replay(test_device());
  const Tensor x = Tensor::full({4, 3}, 1, DType::f32, test_device());
  const std::vector<float> target(16, 0.5f);
  for (int i = 0; i < 4; ++i) {  // the first as it comes, the others while it is recorded
    CHECK_THROWS_WITH_AS(replay.run([&] {
      toy.step(x, target, 0.1, {});
      fail("stop here");
    }),
                         "stop here", Error);
  }
  for (int i = 0; i < 3; ++i) replay.run([&] { toy.step(x, target, 0.1, {}); });
  for (int i = 0; i < 7; ++i) plain.step(x, target, 0.1, {});
  CHECK(replay.counts().recorded == 4);
  CHECK(replay.counts().replayed == 2);
  CHECK(bitwise_equal(toy.weights(), plain.weights()));
}

TEST_CASE("replay: a kernel that fails inside of a step is an error like any other") {
  if (!on_emulated_device()) return;
  Toy toy;
  Replay replay(test_device());
  const Tensor x = Tensor::full({4, 3}, 1, DType::f32, test_device());
  const std::vector<float> target(16, 0.5f);
  bool broken = false;
  const auto step = [&] {
    toy.step(x, target, 0.1, {});
    if (!broken) return;
    emu::detail::submit(current_stream(test_device()), [] { fail("a kernel's complaint"); });
    toy.weights();  // waits
  };
  for (int i = 0; i < 3; ++i) replay.run(step);
  CHECK(replay.counts().replayed == 1);
  broken = true;
  CHECK_THROWS_WITH_AS(replay.run(step), "a kernel's complaint", Error);
  broken = false;
  for (int i = 0; i < 2; ++i) replay.run(step);
  CHECK(replay.counts().recorded == 2);
  CHECK(replay.counts().replayed == 2);
}

TEST_CASE("replay: what keeps a step from becoming a graph is told, not that no graph came of it") {
  if (!on_emulated_device()) return;
  Replay replay(test_device());
  int runs = 0;
  const auto step = [&] {
    if (Recorder* r = recorder(test_device()))
      r->repeats({1},
                 [&](Stream& stream) { ++runs == 1 ? static_cast<void>(0) : accelerator(test_device()).synchronize(stream.native()); });
  };
  replay.run(step);
  replay.run(step);
  CHECK(runs == 2);
  CHECK(replay.reason() == "no graph could be made of it: [emulated device] the host waits for a queue while a graph is captured on it");
  replay.run([] {});  // the queue is out of it
  CHECK_NOTHROW(current_stream(test_device()).synchronize());
}

TEST_CASE("transfer: tensors of any size go there in pieces, and their numbers are taken at once") {
  for (const emu::Pace pace : {emu::Pace::late, emu::Pace::early}) {
    emu::set_pace(pace);
    const int64_t piece = int64_t{4} << 20;
    for (const int64_t size : {int64_t{1}, piece - 1, piece + 1, 16 * piece + 3}) {  // a ring holds 16 pieces
      std::vector<uint8_t> values(static_cast<size_t>(size));
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i % 251);
      Tensor host = Tensor::from(values, Shape{size});
      const Tensor there = host.to(test_device());
      host.fill(0);
      CHECK(bitwise_equal(there.to(Device{}), Tensor::from(values, Shape{size})));
    }
  }
  emu::set_pace(emu::Pace::late);
}

TEST_CASE("transfer: batches arrive beside computing, scalars come back later") {
  for (const emu::Pace pace : {emu::Pace::late, emu::Pace::early}) {
    emu::set_pace(pace);
    Uploads uploads(test_device());
    Readback readback(test_device());
    std::vector<double> expected;
    Tensor ahead;
    for (int i = 0; i < 20; ++i) {
      Tensor host = Tensor::full({50}, i, DType::f32);
      uploads.arrive();
      const Tensor now = ahead;
      ahead = uploads.start(host);
      host.fill(-1);  // its numbers were taken
      if (!now.defined()) continue;
      readback.add(ops::sum(now));
      expected.push_back(50.0 * (i - 1));
    }
    CHECK(readback.take() == expected);
    CHECK(readback.take().empty());
  }
  emu::set_pace(emu::Pace::late);
}

TEST_CASE("transfer: rows come back in order, beside computing") {
  for (const emu::Pace pace : {emu::Pace::late, emu::Pace::early}) {
    emu::set_pace(pace);
    Downloads downloads(test_device());
    for (int round = 0; round < 2; ++round) {
      const int64_t size = round == 0 ? 3 : 700;
      const Tensor all = Tensor::full({5, size}, -1, DType::f32);
      for (int64_t i = 0; i < 5; ++i) {
        downloads.start(ops::relu(Tensor::full({1, size}, static_cast<double>(i), DType::f32, test_device())), all.rows(i, i + 1));
        const int64_t waiting = std::max<int64_t>(i - 1, 0);  // the last two are never waited for
        for (int64_t row = waiting; row <= i; ++row) CHECK(all.data<float>()[row * size] == -1);
        for (int64_t row = 0; row < waiting; ++row) CHECK(all.data<float>()[row * size] == static_cast<float>(row));
      }
      downloads.finish();
      for (int64_t i = 0; i < 5; ++i) CHECK(bitwise_equal(all.rows(i, i + 1), Tensor::full({1, size}, static_cast<double>(i), DType::f32)));
    }
    const Tensor here = Tensor::full({2}, 1, DType::f32), there = here.to(test_device());
    CHECK_THROWS_WITH_AS(downloads.start(there, there), doctest::Contains("to the CPU"), Error);
    CHECK_THROWS_WITH_AS(downloads.start(there, Tensor::empty({3}, DType::f32)), doctest::Contains("[2] f32 on"), Error);
    const Tensor copied = Tensor::empty({2}, DType::f32);
    downloads.start(here, copied);  // computed on the CPU
    CHECK(bitwise_equal(copied, here));
  }
  emu::set_pace(emu::Pace::late);
}

TEST_CASE("transfer: only f32 scalars of the device are read back, 64 at a time") {
  Readback readback(test_device());
  const Tensor one = Tensor::full({1}, 1, DType::f32, test_device());
  CHECK_THROWS_WITH_AS(readback.add(one.to(Device{})), doctest::Contains("got [1] f32 on cpu"), Error);
  CHECK_THROWS_WITH_AS(readback.add(one.to(DType::bf16)), doctest::Contains("got [1] bf16"), Error);
  CHECK_THROWS_WITH_AS(readback.add(Tensor::full({2}, 1, DType::f32, test_device())), doctest::Contains("got [2] f32"), Error);
  for (int i = 0; i < 64; ++i) readback.add(one);
  CHECK_THROWS_WITH_AS(readback.add(one), "[readback] 64 scalars wait already: take them first", Error);
  CHECK(readback.take() == std::vector<double>(64, 1.0));
}

}  // namespace
}  // namespace reid::test
