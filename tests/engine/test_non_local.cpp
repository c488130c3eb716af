// Non-local blocks against PyTorch's golden, and where a network has them.

#include <algorithm>
#include <set>

#include "harness.h"
#include "reid/engine/nn.h"
#include "reid/formats/weights.h"

namespace reid::test {
namespace {

constexpr double kTight = 1e-10;

TEST_CASE("golden: non-local blocks, forward and every gradient") {
  for (const Golden& g : golden_cases("non_local", "non_local")) {
    NonLocalBlock block(6, g.integer("width"), DType::f64, Rng(0));
    const Inventory module = inventory(block);
    for (const auto& [name, p] : module.parameters) {
      p->value.copy_from(filters_from_file(g["parameter/" + name]));
      p->ensure_grad();
    }
    Tape tape;
    const Var x = tape.input(g["x"]), y = block(x, training_pass(tape));
    CHECK_MESSAGE(difference(y.value(), g["y"], kTight) == "", g.prefix());
    tape.backward(y, g["dy"]);
    CHECK_MESSAGE(difference(tape.gradient(x), g["dx"], kTight) == "", g.prefix());
    for (const auto& parameter : module.parameters) {
      const auto& name = parameter.name;
      const Parameter* p = parameter.parameter;
      // A bias in front of a batch norm has no gradient but rounding: it is held against one.
      const double floor = name == "W.0.bias" ? 1 : 0;
      CHECK_MESSAGE(difference(filters_to_file(p->grad), g["gradient/" + name], kTight, floor) == "", g.prefix(), " ", name);
    }
    for (const auto& [name, buffer] : module.buffers) CHECK(difference(*buffer, g["buffer/" + name], kTight) == "");
  }
}

TEST_CASE("non-local: a ResNet-50 has five, named as in AGW's code, and begins as if it had none") {
  const ResNetConfig plain{.depth = 50, .ibn = "none", .width = 4};
  ResNetConfig with = plain;
  with.non_local = true;
  ResNet a(plain, DType::f64, Rng(3)), b(with, DType::f64, Rng(3));
  std::set<std::string> blocks;
  for (const auto& [name, p] : inventory(b).parameters) {
    if (name.starts_with("NL_")) blocks.insert(name.substr(0, 6));
  }
  CHECK(blocks == std::set<std::string>{"NL_2.0", "NL_2.1", "NL_3.0", "NL_3.1", "NL_3.2"});
  const Var images(normal_tensor("images", {2, 64, 32, 3}));
  CHECK(bitwise_equal(a(images, own_statistics_pass()).value(), b(images, own_statistics_pass()).value()));

  with.depth = 18;
  CHECK_THROWS_AS(ResNet(with, DType::f64, Rng(3)), Error);
  with.depth = 101;
  ResNet deep(with, DType::f64, Rng(3));
  CHECK(std::ranges::count_if(inventory(deep).parameters, [](const auto& p) { return p.name.ends_with("theta.bias"); }) == 11);
  with.non_local_width = 0;
  CHECK_THROWS_AS(ResNet(with, DType::f64, Rng(3)), Error);
}

}  // namespace
}  // namespace reid::test
