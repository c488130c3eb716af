// What reid bench measures on a device, on the emulated one: never how fast it is, but whose time it takes and what it is held against.

#include <doctest/doctest.h>

#include <chrono>
#include <set>
#include <thread>

#include "on_device.h"
#include "program/bench.h"

namespace reid::program {

// In place of main.cpp's: what a measurement says.
static std::vector<std::string> said;
void Context::say_line(const std::string& line) const { said.push_back(line); }

namespace {

using test::on_emulated_device;
using test::test_device;

BenchOptions tiny(const std::string& dtype) {
  BenchOptions o;
  o.dtype = dtype, o.device = test_device();
  o.height = 32, o.width = 16, o.batch = 2, o.steps = 2, o.warmup = 0, o.model.width = 8;
  o.sizes = {"16x24x32"};
  return o;
}

Context on_device() {
  said.clear();
  Context context;
  context.device = test_device();
  return context;
}

void check_floor(const Json& row, const Json& peak) {
  const double bytes = row.at("bytes").number() / (peak.at("copy").at("gigabytes_per_second").number() * 1e9);
  const double flop = row.at("flop").number() / (peak.at("gflops").number() * 1e9);
  CHECK(row.at("floor").number() == doctest::Approx(std::max(bytes, flop)));
  CHECK(row.at("share_of_floor").number() == doctest::Approx(row.at("floor").number() / row.at("times").at("median").number()));
}

TEST_CASE("device bench: the host's time is not the device's, and caches are cleared only where that is asked for") {
  if (!on_emulated_device()) return;
  const BenchOptions o = tiny("f32");
  const Tensor x = random_normal({64, 64}, Rng(1), DType::f32, o.device);
  constexpr double kHost = 0.15;
  const auto call = [&] {
    std::this_thread::sleep_for(std::chrono::duration<double>(kHost));
    x.clone();
  };
  const auto launched = [&](Caches caches) {
    const int64_t before = emu::launches();
    const Times times = measure(o, call, caches);
    REQUIRE(times.seconds.size() == 2);
    CHECK(times.least() > 0);
    CHECK(times.least() < kHost);  // of two tries of a copy of 16 KB one is not put off for as long
    return emu::launches() - before;
  };
  const int64_t before = emu::launches();
  Tensor::zeros({1 << 20}, DType::u8, o.device);
  const int64_t fill = emu::launches() - before;  // debug builds fill new memory, too
  CHECK(fill >= 1);
  const int64_t left = launched(Caches::as_left), cleared = launched(Caches::cleared);
  CHECK(cleared == left + 2 * fill);
}

TEST_CASE("device bench: steps that follow one another are timed from end to end, on the host and on a device") {
  for (const Device device : {Device{}, test_device()}) {
    BenchOptions o = tiny("f32");
    o.device = device, o.steps = 4;
    const Tensor x = Tensor::zeros({8}, DType::f32, device);
    int steps = 0;
    const Stopwatch all;
    const Times times = measure_following(o, [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(++steps == 3 ? 60 : 10));
      x.fill(steps);
    });
    const double wall = all.seconds();
    CHECK(steps == 4);
    REQUIRE(times.seconds.size() == 4);
    // The emulated queue works when somebody waits: its steps end as late as the next one is queued.
    const size_t slow = device.type == DeviceType::cpu || !on_emulated_device() ? 2 : 1;
    for (size_t i = 0; i <= slow; ++i) CHECK(times.seconds[i] >= (i == slow ? 0.059 : 0.009));
    double sum = 0;
    for (const double s : times.seconds) sum += s;
    CHECK(sum <= wall + 1e-3);
    o.steps = 1000, o.patience = 0.03;
    CHECK(measure_following(o, [&] { std::this_thread::sleep_for(std::chrono::milliseconds(20)), x.fill(1); }).seconds.size() <= 3);
  }
}

TEST_CASE("device bench: a measurement ends when its patience does, after one call") {
  BenchOptions o = tiny("f32");
  o.steps = 1000, o.warmup = 1000, o.patience = 0.03;
  int calls = 0;
  const Times times = measure(o, [&] { ++calls, std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  CHECK(times.seconds.size() >= 1);
  CHECK(calls <= 4);
  CHECK(calls > static_cast<int>(times.seconds.size()));
}

TEST_CASE("device bench: an implementation that fails is told, and the next one measured") {
  BenchOptions o = tiny("f32");
  o.device = {};
  const Tensor x = Tensor::full({4}, -1, DType::f32), y = Tensor::full({4}, 7, DType::f32);
  const ReluArgs args{x.raw(), y.raw(), 4, DType::f32};
  const Impl<Relu> broken{"broken", nullptr, [](const ReluArgs&, Stream&) { fail("no engine"); }};
  const Cell cell = time_implementation<Relu>(o, broken, args);
  CHECK(cell.refused == "failed: no engine");
  CHECK(cell.times.seconds.empty());
  const Cell next = time_implementation<Relu>(o, Registry::implementations<Relu>(DeviceType::cpu).back(), args);
  CHECK(next.refused.empty());
  CHECK(y.data<float>()[3] == 0);
}

TEST_CASE("device bench: random numbers repeat after a prime wherever they are made, in both types") {
  const Shape shape{3, 65537};
  const Tensor here = random_normal(shape, Rng(7)), there = random_normal(shape, Rng(7), DType::f32, test_device());
  CHECK(bitwise_equal(here, there.to(Device{})));
  CHECK(bitwise_equal(here.rows(0, 1), here.rows(2, 3)));
  CHECK(bitwise_equal(here.to(DType::bf16), random_normal(shape, Rng(7), DType::bf16, test_device()).to(Device{})));
  CHECK(bitwise_equal(random_normal({5}, Rng(7)), here.reshape({3 * 65537}).rows(0, 5)));
}

TEST_CASE("device bench: ceilings are the fastest implementation's and a copy's") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Peak peak(test_device(), dtype);
    const double bandwidth = peak.bandwidth(), rate = peak.rate();
    CHECK(rate > 0);
    CHECK(peak.floor(bandwidth, rate / 2) == doctest::Approx(1));  // a second's bytes, half a second's flop
    CHECK(peak.floor(bandwidth, rate * 3) == doctest::Approx(3));
    CHECK(peak.share(bandwidth, 0, 4) == doctest::Approx(0.25));
    const Json json = peak.json();
    CHECK(json.at("dtype").string() == name_of(dtype));
    const std::string by = json.at("implementation").string();
    CHECK((dtype == DType::f32 ? by.ends_with(":fma_registers") : by.ends_with(":mma_registers") || by.ends_with(":sm90_wgmma")));
    CHECK(peak.text().size() == 2);
  }
}

TEST_CASE("device bench: layers stand beside the longer of their bytes' and their flop's time") {
  for (const char* dtype : {"f32", "bf16"}) {
    const Context context = on_device();
    BenchOptions o = tiny(dtype);
    o.steps = 1;
    const Json json = bench_layers(context, o);
    const double size = std::string(dtype) == "f32" ? 4 : 2;
    for (const Json& row : json.at("rows").items()) {
      for (const char* pass : {"forward", "data", "weight"}) {
        Json cell = row.at(pass);
        if (cell.find("refused")) continue;
        cell["flop"] = row.at("gflop").number() * 1e9;
        check_floor(cell, json.at("peak"));
      }
      if (row.at("name").string() != "layer1.0.conv2") continue;
      // 2 maps of 8 x 4 pixels, 8 channels in and out, filters of 3 x 3, whose gradients are f32.
      const double maps = 2.0 * 2 * 8 * 4 * 8, filters = 8.0 * 8 * 9;
      CHECK(row.at("forward").at("bytes").number() == size * (maps + filters));
      CHECK(row.at("data").at("bytes").number() == size * (maps + filters));
      CHECK(row.at("weight").at("bytes").number() == size * maps + 4 * filters);
    }
    // The sum's share is that of the times that stand in the rows.
    double floor = 0, seconds = 0;
    for (const Json& row : json.at("rows").items()) {
      floor += row.at("count").number() * row.at("forward").at("floor").number();
      seconds += row.at("count").number() * row.at("forward").at("times").at("median").number();
    }
    CHECK(json.at("sums").at("all").at("forward").at("share_of_floor").number() == doctest::Approx(floor / seconds));
  }
}

TEST_CASE("device bench: norms, pools, losses and optimizers, with what they must move") {
  for (const char* dtype : {"f32", "bf16"}) {
    const Context context = on_device();
    BenchOptions o = tiny(dtype);
    o.steps = 1;
    const Json json = bench_ops(context, o);
    const double size = std::string(dtype) == "f32" ? 4 : 2;
    std::set<std::string> ops, names;
    for (const Json& row : json.at("rows").items()) {
      const std::string name = row.at("name").string();
      INFO(name);
      CHECK(names.insert(name).second);
      REQUIRE(!row.find("refused"));
      if (row.find("op")) ops.insert(row.at("op").string());
      const bool f32 = std::string(dtype) == "f32" || row.at("flop").number() == 0;
      check_floor(
          row, f32 ? json.at("peak") : [&] {
            Json both = json.at("peak");
            both["gflops"] = json.at("peak_f32").at("gflops");
            return both;
          }());
      const double map = 2.0 * 8 * 4 * 32 * size, sums = 4.0 * 32;  // 32 channels of 8 x 4 pixels, 2 images
      if (name == "batch norm 32 x 8 x 4: statistics") CHECK(row.at("bytes").number() == map + 2 * sums);
      if (name == "batch norm 32 x 8 x 4: apply, residual, ReLU") CHECK(row.at("bytes").number() == 3 * map + 4 * sums);
      if (name == "batch norm 32 x 8 x 4: backward, residual, ReLU") CHECK(row.at("bytes").number() == 5 * map + 5 * sums);
      if (name == "views of 32 x 16") CHECK(row.at("bytes").number() == 2 * 32 * 16 * 3 * (1.0 + size) + 2 * 7 * 4);
      if (name.starts_with("Adam, ")) CHECK(row.at("bytes").number() == 28 * std::stod(name.substr(6)));
      if (name.starts_with("Adam with")) CHECK(row.at("bytes").number() == 44 * std::stod(name.substr(name.rfind(", ") + 2)));
      if (name.starts_with("SGD")) CHECK(row.at("bytes").number() == 20 * std::stod(name.substr(5)));
      if (name.starts_with("moving average")) CHECK(row.at("bytes").number() == 12 * std::stod(name.substr(16)));
    }
    CHECK(ops == std::set<std::string>{"norm_statistics",
                                       "norm_gradient",
                                       "norm_apply",
                                       "norm_backward",
                                       "max_pool",
                                       "max_pool_backward",
                                       "global_pool",
                                       "global_pool_backward",
                                       "one_positive_rows",
                                       "softmax_rows",
                                       "centroid_rows",
                                       "l2_normalize",
                                       "adam",
                                       "sgd",
                                       "ema_update",
                                       "cast",
                                       "views_from_pixels",
                                       "color_pixels",
                                       "hardest_negatives",
                                       "center_rows",
                                       "merge_nearest",
                                       "rank_nearest",
                                       "select_pairs",
                                       "count_before",
                                       "select_undecided",
                                       "pair_distances"});
    for (const char* part : {"IBN 8 x 8 x 4: statistics and apply, ReLU", "instance norm 8 x 8 x 4: statistics"})
      CHECK(names.contains(part));
  }
}

TEST_CASE("device bench: every version of an op is timed, or says why it refuses") {
  const Context context = on_device();
  BenchOptions o = tiny("bf16");
  o.steps = 1;
  const Json json = bench_kernels(context, o);
  for (const Json& row : json.at("rows").items()) {
    for (const Json& version : row.at("versions").items()) {
      INFO(row.at("name").string(), " ", version.at("implementation").string());
      CHECK((version.find("refused") != nullptr) != (version.find("times") != nullptr));
    }
  }
  const Json& product = json.at("rows").items()[0];
  CHECK(product.at("op").string() == "matmul");
  CHECK(product.at("flop").number() == 2.0 * 16 * 24 * 32);
  std::vector<std::string> listed, registered;
  for (const Json& version : product.at("versions").items()) listed.push_back(version.at("implementation").string());
  for (const auto& impl : Registry::implementations<Gemm>(test_device().type)) registered.emplace_back(impl.name);
  CHECK(listed == registered);
}

}  // namespace
}  // namespace reid::program
