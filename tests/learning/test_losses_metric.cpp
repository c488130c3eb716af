// The losses of supervised re-identification: against PyTorch's goldens, and what each refuses.

#include "harness.h"
#include "reid/learning/losses.h"
#include "reid/learning/losses_metric.h"

namespace reid::test {
namespace {

constexpr double kTight = 1e-10;

// A loss of f (and of w, where the case has one) against the golden's value and gradients.
void check_loss(const Golden& g, const std::function<Var(const Var& f, const Var& w)>& loss) {
  Tape tape;
  const Var f = tape.input(g["f"]), w = g.has("w") ? tape.input(g["w"]) : Var();
  const Var y = loss(f, w);
  CHECK_MESSAGE(difference(y.value(), g["y"], kTight) == "", g.prefix());
  tape.backward(y);
  CHECK_MESSAGE(difference(tape.gradient(f), g["df"], kTight) == "", g.prefix(), " df");
  if (g.has("w")) CHECK_MESSAGE(difference(tape.gradient(w), g["dw"], kTight) == "", g.prefix(), " dw");
}

TEST_CASE("golden: triplet losses") {
  for (const Golden& g : golden_cases("metric_losses", "triplet")) {
    const TripletOptions options{.margin = g.number("margin"), .weighted = g.flag("weighted"), .normalize = g.flag("normalize")};
    check_loss(g, [&](const Var& f, const Var&) { return triplet_loss(f, g.integers("labels"), options); });
  }
}

TEST_CASE("golden: label smoothing over all classes and over the others") {
  for (const Golden& g : golden_cases("metric_losses", "smoothing")) {
    check_loss(g, [&](const Var& f, const Var&) {
      const double share = g.number("smoothing");
      return cross_entropy(f, g.integers("labels"), g.flag("others") ? smoothing_over_others(share, f.shape()[1]) : share);
    });
  }
}

TEST_CASE("golden: circle loss at class level, center loss") {
  for (const Golden& g : golden_cases("metric_losses", "circle")) {
    check_loss(g, [&](const Var& f, const Var& w) {
      const std::vector<int64_t> labels = g.integers("labels");
      return cross_entropy(circle_classifier(f, w, labels, {.scale = g.number("scale"), .margin = g.number("margin")}), labels);
    });
  }
  for (const Golden& g : golden_cases("metric_losses", "center"))
    check_loss(g, [&](const Var& f, const Var& w) { return center_loss(f, w, g.integers("labels")); });
}

TEST_CASE("metric losses: what makes no sense is refused") {
  const Var f(Tensor::zeros({3, 2}, DType::f64)), w(Tensor::zeros({4, 2}, DType::f64));
  CHECK_THROWS_AS(triplet_loss(f, {0, 1}, {}), Error);
  CHECK_THROWS_AS(triplet_loss(f, {0, 1, 1}, {.margin = -1}), Error);
  CHECK_THROWS_AS(center_loss(f, w, {0, 1, 4}), Error);
  CHECK_THROWS_AS(circle_classifier(f, w, {0, -1, 2}, {}), Error);
  CHECK_THROWS_AS(center_loss(f, Var(Tensor::zeros({4, 3}, DType::f64)), {0, 1, 2}), Error);
  CHECK_THROWS_AS(smoothing_over_others(0.1, 1), Error);
  CHECK_THROWS_AS(smoothing_over_others(0.6, 2), Error);
  CHECK(accuracy(Tensor::from(std::vector<double>{1, 3, 3, 0, 2, 1}, {2, 3}), {1, 2}).item() == 0.5);
}

}  // namespace
}  // namespace reid::test
