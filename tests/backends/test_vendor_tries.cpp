// Offers of cuDNN and cuBLASLt chosen by timing (REID_VENDOR_TRY): by the played libraries' clock, which moves by what a test says that
// engines cost. Engines 3, 4, 5 of the one and algorithms 2, 3, 4 of the other are acceptable, in this order, and compute the same.

#include "harness.h"

#include <chrono>
#include <thread>

#include "backends/vendor_cases.h"
#include "emu/device.h"

namespace reid::test {
namespace {

using namespace cuda;
using Prices = std::vector<double>;

constexpr double kUnit = 0x1p-20;  // seconds, about a microsecond: multiples of it add up exactly

// A played library whose engines have prices as long as this lives.
class Market {
 public:
  explicit Market(const char* file) : file_(file) {}
  ~Market() {
    for (int64_t engine = 0; engine < 6; ++engine) price(engine, {});
    offer_first(1 << 10);
  }
  Market(const Market&) = delete;
  Market& operator=(const Market&) = delete;
  void price(int64_t engine, Prices units) const {
    for (double& unit : units) unit *= kUnit;
    played<void(int64_t, const double*, int64_t)>(file_, "played_price")(engine, units.data(), static_cast<int64_t>(units.size()));
  }
  void offer_first(int64_t count) const { played<void(int64_t)>(file_, "played_offer_first")(count); }
  int64_t runs(int64_t engine) const { return played<int64_t(int64_t)>(file_, "played_runs")(engine); }
  VendorPlace place(int tries, VendorAllows allows = {}) const {
    VendorPlace place = played_place(file_, allows);
    place.tries = tries;
    place.seconds = [clock = played<double()>(file_, "played_clock")](Stream&, FunctionRef<void()> work) {
      const double before = clock();
      work();
      return clock() - before;
    };
    return place;
  }

 private:
  const char* file_;
};

Pass small_pass(DType dtype = DType::f32) { return Pass(shape_of(2, 6, 5, 8, 8, 3, 1, 1), dtype); }

// The engine that is chosen where those of the played cuDNN cost so many units.
int64_t chosen(int tries, const Prices& third, const Prices& fourth, const Prices& fifth) {
  const Market market(REID_PLAYED_CUDNN);
  market.price(3, third), market.price(4, fourth), market.price(5, fifth);
  Convolutions conv(market.place(tries));
  return conv.plan(small_pass().forward(), current_stream({})).engine;
}

// The lines about plans that a call leaves.
std::vector<std::string> plan_lines(FunctionRef<void()> call) {
  std::vector<std::string> lines;
  trace_to(&lines);
  call();
  trace_to(nullptr);
  std::erase_if(lines, [](const std::string& line) { return line.find("plan") == std::string::npos; });
  return lines;
}

struct Product {
  Tensor a = normal_tensor("a", {5, 7}, DType::f32), b = normal_tensor("b", {7, 3}, DType::f32), c = normal_tensor("c", {5, 3}, DType::f32);
  GemmArgs args(bool accumulate = false) const {
    return {.a = a.raw(), .b = b.raw(), .c = c.raw(), .m = 5, .n = 3, .k = 7, .accumulate = accumulate, .dtype = DType::f32};
  }
};

TEST_CASE("vendor tries: how many is a whole number from 1 to 64") {
  CHECK((parse_vendor_tries("") == 1 && parse_vendor_tries("1") == 1 && parse_vendor_tries("8") == 8 && parse_vendor_tries("64") == 64));
  for (const char* text : {"0", "65", "-1", "+8", " 8", "8 ", "8x", "1e1", "eight", "99999999999999999999"}) {
    CHECK_THROWS_WITH_AS(parse_vendor_tries(text),
                         doctest::Contains(str("REID_VENDOR_TRY: '", text, "' is not a whole number from 1 to 64").c_str()), Error);
  }
}

TEST_CASE("vendor tries: of the first so many acceptable offers the fastest is kept, the earlier one of equals") {
  CHECK(chosen(64, {3}, {1}, {2}) == 4);
  CHECK(chosen(3, {3}, {2}, {1}) == 5);
  CHECK(chosen(2, {3}, {2}, {1}) == 4);
  CHECK(chosen(1, {3}, {2}, {1}) == 3);
  CHECK(chosen(64, {2}, {2}, {2}) == 3);
  CHECK(chosen(64, {3}, {2}, {2}) == 4);
  // The least of three runs counts (2 against 3 and 4), and what comes before them does not.
  CHECK(chosen(64, {1, 4}, {9, 5, 2, 5}, {9, 3}) == 4);
  CHECK(chosen(64, {1, 4}, {9, 5, 5, 5, 2}, {9, 3}) == 5);
}

TEST_CASE("vendor tries: offers are tried once, the plan's line says how it was chosen, and nothing is left behind") {
  const Market market(REID_PLAYED_CUDNN);
  market.price(3, {3}), market.price(4, {1}), market.price(5, {2});
  auto* living = played<int64_t()>(REID_PLAYED_CUDNN, "played_descriptors");
  const Pass pass = small_pass();
  Stream stream{Device{}};
  VendorPlace place = market.place(8);
  std::vector<int64_t> cached;  // before each run
  place.seconds = [&, clock = place.seconds](Stream& s, FunctionRef<void()> work) {
    cached.push_back(allocator_stats({}).bytes_cached);
    return clock(s, work);
  };
  Convolutions conv(place), first(market.place(1));
  const int64_t before = living();
  const auto lines = plan_lines([&] { conv.plan(pass.forward(), stream); });
  CHECK(allocator_stats({}).bytes_cached == 0);
  REQUIRE(cached.size() == 12);
  CHECK((cached[4] == 0 && cached[8] == 0));  // what an offer needed is gone when the next begins
  for (int i = 0; i < 3; ++i) conv.run(pass.forward(), stream);
  REQUIRE(lines.size() == 1);
  CHECK_MESSAGE(lines[0].ends_with(str(": engine 4, scratch 384 bytes, the fastest of 3 offers: ", 1e6 * kUnit, " us")), lines[0]);
  CHECK((market.runs(3) == 4 && market.runs(4) == 4 + 3 && market.runs(5) == 4));
  CHECK((conv.statistics().made == 1 && conv.statistics().found == 3));
  CHECK(living() == before + 1);                      // the plan
  CHECK(stream.workspace_storage()->bytes() == 384);  // the chosen one's, though engine 5 asks for more
  const auto untried = plan_lines([&] { first.plan(pass.forward(), stream); });
  REQUIRE(untried.size() == 1);
  CHECK_MESSAGE(untried[0].ends_with(": engine 3, scratch 192 bytes"), untried[0]);
  CHECK(market.runs(3) == 4);
}

TEST_CASE("vendor tries: an offer that fails is left out, and is an error where all do") {
  CHECK(chosen(64, {-1}, {2}, {3}) == 4);
  CHECK(chosen(64, {1, 1, -1}, {3}, {2}) == 5);
  CHECK(chosen(64, {2}, {3}, {-1}) == 3);
  const Market market(REID_PLAYED_CUDNN);
  const Pass pass = small_pass();
  Convolutions conv(market.place(8));
  const auto plan = [&]() -> const CudnnPlan& { return conv.plan(pass.forward(), current_stream({})); };
  for (const int64_t engine : {3, 4, 5}) market.price(engine, {-1});
  CHECK_THROWS_WITH_AS(plan(), "cuDNN: executing a plan: CUDNN_STATUS_EXECUTION_FAILED (engine 3 fails)", Error);
  CHECK(conv.statistics().made == 0);
  CHECK(allocator_stats({}).bytes_cached == 0);
  market.price(4, {1}), market.price(5, {2});
  const auto lines = plan_lines([&] { CHECK(plan().engine == 4); });
  REQUIRE(lines.size() == 1);
  CHECK_MESSAGE(lines[0].ends_with(" us (1 failed, first: cuDNN: executing a plan: CUDNN_STATUS_EXECUTION_FAILED (engine 3 fails))"),
                lines[0]);
}

// The condition may be asked long before the op's turn comes.
TEST_CASE("vendor tries: operands are as they were, whatever an op writes") {
  const Market market(REID_PLAYED_CUDNN);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const VendorAllows allows{.rounded_gradients = dtype == DType::bf16};
    Convolutions tries(market.place(8, allows)), first(market.place(1, allows));
    const auto check = [&](auto arguments) {
      const Pass pass = small_pass(dtype), same = small_pass(dtype);
      market.price(3, {3}), market.price(4, {1}), market.price(5, {2});
      tries.plan(arguments(pass), current_stream({}));
      CHECK((market.runs(3) == 4 && market.runs(4) == 4 && market.runs(5) == 4));
      const auto equal = [&] {
        return bitwise_equal(pass.x, same.x) && bitwise_equal(pass.w, same.w) && bitwise_equal(pass.y, same.y) &&
               bitwise_equal(pass.dw, same.dw);
      };
      CHECK(equal());
      tries.run(arguments(pass), current_stream({}));
      CHECK(!equal());
      first.run(arguments(same), current_stream({}));
      CHECK(equal());
    };
    check([](const Pass& pass) { return pass.forward(); });
    check([](const Pass& pass) { return pass.data(); });
    check([](const Pass& pass) { return pass.weight(); });
  }
}

TEST_CASE("vendor tries: who asks without operands is told of the first offer, and nothing runs") {
  const Market market(REID_PLAYED_CUDNN);
  market.price(3, {2}), market.price(4, {1}), market.price(5, {3});
  const Pass pass = small_pass();
  Convolutions conv(market.place(8));
  ConvForwardArgs nothing = pass.forward();
  nothing.x = nullptr;
  CHECK(conv.plan(nothing, current_stream({})).engine == 3);
  CHECK((market.runs(3) == 0 && market.runs(4) == 0 && market.runs(5) == 0));
  CHECK(conv.plan(pass.forward(), current_stream({})).engine == 4);
  // Nor with operands that are elsewhere.
  VendorPlace place = market.place(8);
  const Tensor far = Tensor::zeros({4}, DType::f32, Device{DeviceType::emulated});
  CHECK((place.tries_on({pass.x.raw(), pass.y.raw()}) == 8 && place.tries_on({pass.x.raw(), far.raw()}) == 1));
}

TEST_CASE("vendor tries: products that add to what is there are tried elsewhere") {
  const Market market(REID_PLAYED_CUBLASLT);
  market.price(2, {2}), market.price(3, {3}), market.price(4, {1});
  Products tries(market.place(8)), first(market.place(1));
  Stream stream{Device{}};
  for (const bool accumulate : {false, true}) {
    const Product tried, plain;
    const auto lines = plan_lines([&] { CHECK(tries.refusal(tried.args(accumulate), stream) == ""); });
    REQUIRE(lines.size() == 1);
    CHECK_MESSAGE(lines[0].ends_with(str(": scratch 768 bytes, the fastest of 3 offers: ", 1e6 * kUnit, " us")), lines[0]);
    CHECK(bitwise_equal(tried.c, plain.c));
    const int64_t before = market.runs(4);
    tries.run(tried.args(accumulate), stream);
    CHECK(market.runs(4) == before + 1);
    CHECK(!bitwise_equal(tried.c, plain.c));
    first.run(plain.args(accumulate), stream);
    CHECK(bitwise_equal(tried.c, plain.c));
  }
  CHECK((tries.statistics().made == 2 && tries.statistics().found == 2));
  CHECK((market.runs(2) == 2 * 4 + 2 && market.runs(3) == 2 * 4 && market.runs(4) == 2 * 4 + 2));

  GemmArgs nothing = Product().args();
  nothing.c = nullptr;
  Products asked(market.place(8));
  CHECK(asked.refusal(nothing, stream) == "");
  CHECK(market.runs(4) == 2 * 4 + 2);
  CHECK(asked.refusal(Product().args(), stream) == "");
  CHECK(market.runs(4) == 3 * 4 + 2);

  market.price(2, {1}), market.price(4, {-1});
  Products two(market.place(2));
  CHECK(two.refusal(Product().args(), stream) == "");
  CHECK((market.runs(2) == 4 && market.runs(4) == 0));
  for (const int64_t algorithm : {2, 3}) market.price(algorithm, {-1});
  Products none(market.place(8));
  CHECK_THROWS_WITH_AS(static_cast<void>(none.refusal(Product().args(), stream)), "cuBLASLt: multiplying: the played product failed",
                       Error);
}

TEST_CASE("vendor tries: what is refused, and a single offer, are as without") {
  const Pass pass = small_pass(DType::bf16);
  for (const int tries : {1, 8}) {
    const Market cudnn(REID_PLAYED_CUDNN), cublas(REID_PLAYED_CUBLASLT);
    Stream& stream = current_stream({});
    const Product product;
    CHECK(Convolutions(cudnn.place(tries)).plan(pass.weight(), stream).refusal == "cuDNN offers no engine");
    cudnn.offer_first(3);
    CHECK(Convolutions(cudnn.place(tries)).plan(pass.forward(), stream).refusal ==
          "none of cuDNN's engines is acceptable: 1 x PLAYED_STATUS (this engine does not run here); 1 x nondeterministic; 1 x rounds its "
          "inputs");
    cudnn.offer_first(4);
    const auto single = plan_lines([&] { CHECK(Convolutions(cudnn.place(tries)).plan(pass.forward(), stream).engine == 3); });
    REQUIRE(single.size() == 1);
    CHECK_MESSAGE(single[0].ends_with(": engine 3, scratch 192 bytes"), single[0]);
    CHECK(cudnn.runs(3) == 0);
    cublas.offer_first(0);
    CHECK(Products(cublas.place(tries)).refusal(product.args(), stream) == "cuBLASLt offers no algorithm");
    cublas.offer_first(2);
    CHECK(Products(cublas.place(tries)).refusal(product.args(), stream) ==
          "none of cuBLASLt's algorithms is acceptable, the last: sums in less than f32");
    cublas.offer_first(3);
    CHECK(Products(cublas.place(tries)).refusal(product.args(), stream) == "");
    CHECK(cublas.runs(2) == 0);
  }
}

// On the emulated device, whose events take the host's time when their turn comes.
TEST_CASE("vendor tries: time on a device is that of the work alone, and none is taken while a graph is captured") {
  const Device device{DeviceType::emulated};
  Stream& stream = current_stream(device);
  const auto sleeps = [&](int milliseconds) {
    emu::detail::submit(stream, [=] { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); });
  };
  sleeps(400);  // not yet done when the time is asked for
  const double seconds = device_seconds(stream, [&] { sleeps(20); });
  CHECK((seconds >= 0.02 && seconds < 0.4));
  const auto fails = [&] {
    device_seconds(stream, [&] {
      sleeps(0);
      fail("an engine that does not run");
    });
  };
  CHECK_THROWS_WITH_AS(fails(), "an engine that does not run", Error);
  accelerator(device).begin_capture(stream.native());
  bool asked = false;
  CHECK_THROWS_WITH_AS(device_seconds(stream, [&] { asked = true; }),
                       doctest::Contains("while a graph is captured: run the op once before"), Error);
  CHECK((accelerator(device).end_capture(stream.native()) == nullptr && !asked));
  CHECK(device_seconds(stream, [&] { sleeps(1); }) >= 0.001);
}

}  // namespace
}  // namespace reid::test
