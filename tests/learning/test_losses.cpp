// The ReMix losses with all their switches: against PyTorch's goldens, central differences, and the invariants of the definitions.

#include <cstring>

#include "harness.h"
#include "reid/learning/losses.h"

namespace reid::test {
namespace {

constexpr double kTight = 1e-10;

std::vector<int64_t> longs(const Tensor& t) { return {t.span<int64_t>().begin(), t.span<int64_t>().end()}; }

BatchPeople people_of(const Golden& g) {
  BatchPeople people{.labels = longs(g["labels"]), .cameras = {}, .single = {}};
  people.cameras.assign(people.labels.size(), 0);
  people.single.assign(people.labels.size(), 0);
  if (g.has("cameras")) std::copy_n(g["cameras"].span<int64_t>().begin(), g["cameras"].numel(), people.cameras.begin());
  if (g.has("single")) std::copy_n(g["single"].span<uint8_t>().begin(), g["single"].numel(), people.single.begin());
  return people;
}

void check_loss(const Golden& g, const std::function<Var(const Var&)>& loss) {
  Tape tape;
  const Var f = tape.input(g["f"]), y = loss(f);
  CHECK_MESSAGE(difference(y.value(), g["y"], kTight) == "", g.prefix());
  if (y.tape()) tape.backward(y);
  CHECK_MESSAGE(difference(tape.gradient(f), g["df"], kTight) == "", g.prefix(), " df");
}

InstanceLossOptions instance_options(const Golden& g) {
  return {.tau_multi = g.number("tau_multi"),
          .tau_single = g.number("tau_single"),
          .scope = {.joint = !g.flag("neg_scope_same_type"), .pooled = g.flag("pooled")},
          .self_positive = g.flag("self_positive"),
          .supcon = g.flag("supcon")};
}

CentroidLossOptions centroid_options(const Golden& g) {
  return {.tau_multi = g.number("tau_multi"),
          .tau_single = g.number("tau_single"),
          .scope = {.joint = !g.flag("scope_same_type"), .pooled = g.flag("pooled")},
          .smoothing = g.number("smoothing")};
}

Centroids camera_centroids_of(const Golden& g) {
  const Tensor& rows = g["centroids"];
  return {.rows = rows,
          .labels = longs(g["centroid_labels"]),
          .cameras = longs(g["centroid_cameras"]),
          .counts = std::vector<int64_t>(static_cast<size_t>(rows.dim(0)), 1)};
}

TEST_CASE("golden: instance loss") {
  for (const Golden& g : golden_cases("losses", "instance")) {
    check_loss(g, [&](const Var& f) { return instance_loss(f, g["m"], people_of(g), instance_options(g)); });
  }
}

TEST_CASE("golden: augmentation loss") {
  for (const Golden& g : golden_cases("losses", "augmentation")) {
    const AugmentationLossOptions options{.tau = g.number("tau"),
                                          .scope = {.joint = !g.flag("neg_scope_same_type"), .pooled = g.flag("pooled")}};
    check_loss(g, [&](const Var& f) { return augmentation_loss(f, g["m"], people_of(g), options); });
  }
}

TEST_CASE("golden: centroid loss") {
  for (const Golden& g : golden_cases("losses", "centroid")) {
    check_loss(g,
               [&](const Var& f) { return centroid_loss(f, g["centroids"], g.integer("multi_count"), people_of(g), centroid_options(g)); });
  }
}

TEST_CASE("golden: camera centroid loss") {
  for (const Golden& g : golden_cases("losses", "camera_centroid")) {
    const CameraCentroidLossOptions options{
        .tau = g.number("tau"), .hard_negatives = g.integer("hardest"), .include_own_camera = g.flag("own_camera")};
    check_loss(g, [&](const Var& f) { return camera_centroid_loss(f, camera_centroids_of(g), people_of(g), options); });
  }
}

TEST_CASE("golden: cross-entropy") {
  for (const Golden& g : golden_cases("rows", "cross_entropy")) {
    Tape tape;
    const Var x = tape.input(g["x"]), y = cross_entropy(x, longs(g["labels"]), g.number("smoothing"));
    CHECK(difference(y.value(), g["y"], kTight) == "");
    tape.backward(y);
    CHECK(difference(tape.gradient(x), g["dx"], kTight) == "");
  }
}

// --- properties ---

Tensor unit_rows(const std::string& name, int64_t rows, int64_t columns) {
  return ops::l2_normalize(normal_tensor(name, {rows, columns})).y;
}

// Two data types: 3 labelled people with 3 images each, 2 pseudo-labelled ones with 2 each.
const BatchPeople kMixed{.labels = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4},
                         .cameras = {0, 1, 2, 0, 0, 1, 2, 1, 0, 0, 0, 0, 0},
                         .single = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1}};

Centroids nine_cameras(const std::string& name) {
  Centroids c{.rows = unit_rows(name, 9, 6), .labels = {}, .cameras = {}, .counts = std::vector<int64_t>(9, 1)};
  for (int64_t k = 0; k < 9; ++k) c.labels.push_back(k / 3), c.cameras.push_back(k % 3);
  return c;
}

double total(const Tensor& f, const Tensor& m, const Tensor& table, const Centroids& cameras, const BatchPeople& people,
             const LossScope& scope) {
  return instance_loss(Var(f), m, people, {.scope = scope}).value().item() +
         augmentation_loss(Var(f), m, people, {.scope = scope}).value().item() +
         centroid_loss(Var(f), table, 3, people, {.scope = scope}).value().item() +
         camera_centroid_loss(Var(f), cameras, people, {}).value().item();
}

TEST_CASE("losses: central differences through the normalization") {
  const Tensor z = normal_tensor("z", {13, 6}), m = unit_rows("m", 13, 6), table = unit_rows("p", 5, 6);
  const Centroids cameras = nine_cameras("pc");
  // All hard negatives are taken, so no choice changes within h.
  const auto loss = [&](const Var& v) {
    const Var f = l2_normalize(v);
    const Var a = add(instance_loss(f, m, kMixed, {}), augmentation_loss(f, m, kMixed, {}));
    return add(add(a, centroid_loss(f, table, 3, kMixed, {})), camera_centroid_loss(f, cameras, kMixed, {}), 0.5);
  };
  Tape tape;
  const Var leaf = tape.input(z.clone());
  tape.backward(loss(leaf));
  Tensor numeric = Tensor::empty(z.shape(), DType::f64);
  for (size_t i = 0; i < numeric.span<double>().size(); ++i) {
    double side[2];
    for (const int sign : {-1, 1}) {
      const Tensor moved = z.clone();
      moved.span<double>()[i] += sign * 1e-5;
      side[sign > 0] = loss(Var(moved)).value().item();
    }
    numeric.span<double>()[i] = (side[1] - side[0]) / 2e-5;
  }
  CHECK(difference(tape.gradient(leaf), numeric, 1e-6) == "");
}

TEST_CASE("losses: a huge temperature makes the centroid loss log C") {
  const Tensor f = unit_rows("f", 13, 6), table = unit_rows("p", 5, 6);
  const double joint = centroid_loss(Var(f), table, 3, kMixed, {.tau_multi = 1e9, .tau_single = 1e9, .scope = {}}).value().item();
  CHECK(joint == doctest::Approx(2 * std::log(5)).epsilon(1e-8));
  const double own =
      centroid_loss(Var(f), table, 3, kMixed, {.tau_multi = 1e9, .tau_single = 1e9, .scope = {.joint = false}}).value().item();
  CHECK(own == doctest::Approx(std::log(3) + std::log(2)).epsilon(1e-8));
}

TEST_CASE("losses: equal embeddings make the augmentation loss log(1 + |N|) at any temperature") {
  const Tensor one = unit_rows("one", 1, 6), same = Tensor::empty({13, 6}, DType::f64);
  for (int64_t i = 0; i < 13; ++i) same.rows(i, i + 1).copy_from(one);
  for (const double tau : {0.05, 1.0, 7.0}) {
    const double loss = augmentation_loss(Var(same), same, kMixed, {.tau = tau, .scope = {}}).value().item();
    CHECK(loss == doctest::Approx(std::log(1 + 10) + std::log(1 + 11)).epsilon(1e-12));
  }
}

TEST_CASE("losses: one positive and no negative make the camera loss zero") {
  const Centroids two{.rows = unit_rows("two", 2, 6), .labels = {0, 0}, .cameras = {0, 1}, .counts = {1, 1}};
  const BatchPeople one{.labels = {0}, .cameras = {0}, .single = {0}};
  CHECK(std::abs(camera_centroid_loss(Var(unit_rows("f", 1, 6)), two, one, {}).value().item()) < 1e-12);
}

TEST_CASE("losses: with one image per person the instance loss is the augmentation loss") {
  const BatchPeople apart{.labels = {0, 1, 2, 3}, .cameras = {0, 0, 0, 0}, .single = {0, 0, 1, 1}};
  const Tensor f = unit_rows("f", 4, 6), m = unit_rows("m", 4, 6);
  const double instance = instance_loss(Var(f), m, apart, {.tau_multi = 0.1, .tau_single = 0.1, .scope = {}}).value().item();
  CHECK(instance == doctest::Approx(augmentation_loss(Var(f), m, apart, {.tau = 0.1, .scope = {}}).value().item()).epsilon(1e-13));
}

TEST_CASE("losses: the order of the batch does not matter") {
  const Tensor f = unit_rows("f", 13, 6), m = unit_rows("m", 13, 6), table = unit_rows("p", 5, 6);
  const Centroids cameras = nine_cameras("pc");
  const double before = total(f, m, table, cameras, kMixed, {});
  std::vector<size_t> order(13);
  for (size_t i = 0; i < 13; ++i) order[i] = i * 5 % 13;
  Tensor g = Tensor::empty({13, 6}, DType::f64), n = Tensor::empty({13, 6}, DType::f64);
  BatchPeople people;
  for (size_t i = 0; i < 13; ++i) {
    const int64_t to = static_cast<int64_t>(i), from = static_cast<int64_t>(order[i]);
    g.rows(to, to + 1).copy_from(f.rows(from, from + 1));
    n.rows(to, to + 1).copy_from(m.rows(from, from + 1));
    people.labels.push_back(kMixed.labels[order[i]]), people.cameras.push_back(kMixed.cameras[order[i]]),
        people.single.push_back(kMixed.single[order[i]]);
  }
  CHECK(total(g, n, table, cameras, people, {}) == doctest::Approx(before).epsilon(1e-13));
}

TEST_CASE("losses: use_single = false equals a batch without the single-camera images") {
  const Tensor f = unit_rows("f", 13, 6), m = unit_rows("m", 13, 6), table = unit_rows("p", 5, 6);
  BatchPeople multi;
  multi.labels.assign(kMixed.labels.begin(), kMixed.labels.begin() + 9);
  multi.cameras.assign(kMixed.cameras.begin(), kMixed.cameras.begin() + 9);
  multi.single.assign(9, 0);
  const LossScope off{.use_single = false};
  const Tensor f9 = f.rows(0, 9), m9 = m.rows(0, 9);
  CHECK(instance_loss(Var(f), m, kMixed, {.scope = off}).value().item() ==
        doctest::Approx(instance_loss(Var(f9), m9, multi, {}).value().item()).epsilon(1e-13));
  CHECK(augmentation_loss(Var(f), m, kMixed, {.scope = off}).value().item() ==
        doctest::Approx(augmentation_loss(Var(f9), m9, multi, {}).value().item()).epsilon(1e-13));
  CHECK(centroid_loss(Var(f), table, 3, kMixed, {.scope = off}).value().item() ==
        doctest::Approx(centroid_loss(Var(f9), table.rows(0, 3), 3, multi, {}).value().item()).epsilon(1e-13));
  Tape tape;
  const Var leaf = tape.input(f.clone());
  tape.backward(instance_loss(leaf, m, kMixed, {.scope = off}));
  CHECK(largest(tape.gradient(leaf).rows(9, 13)) == 0);
}

TEST_CASE("losses: single-camera rows never enter the camera loss") {
  const Centroids cameras = nine_cameras("pc");
  const Tensor f = unit_rows("f", 13, 6);
  BatchPeople multi;
  multi.labels.assign(kMixed.labels.begin(), kMixed.labels.begin() + 9);
  multi.cameras.assign(kMixed.cameras.begin(), kMixed.cameras.begin() + 9);
  multi.single.assign(9, 0);
  const double mixed = camera_centroid_loss(Var(f), cameras, kMixed, {}).value().item();
  CHECK(mixed == doctest::Approx(camera_centroid_loss(Var(f.rows(0, 9)), cameras, multi, {}).value().item()).epsilon(1e-14));
}

TEST_CASE("losses: f32 is the double path but for rounding") {
  const Tensor f = unit_rows("f", 13, 6), m = unit_rows("m", 13, 6), table = unit_rows("p", 5, 6);
  Centroids cameras = nine_cameras("pc");
  const double wide = total(f, m, table, cameras, kMixed, {});
  cameras.rows = cameras.rows.to(DType::f32);
  const double narrow = total(f.to(DType::f32), m.to(DType::f32), table.to(DType::f32), cameras, kMixed, {});
  // Similarities of unit rows err by (sqrt(6) + 3) u; over the smallest temperature, 0.07, that is the error of a logit, and each
  // of the seven means adds at most two logits' errors.
  CHECK(std::abs(narrow - wide) <= 7 * 2 * (std::sqrt(6.0) + 3) * 0x1p-24 / 0.07 + 8 * 0x1p-24 * wide);
}

// The centroid loss as a mask over all similarities, as it is defined.
Var masked_centroid_loss(const Var& f, const Tensor& table, int64_t multi_count, const BatchPeople& people, const CentroidLossOptions& o) {
  const size_t rows = people.labels.size();
  const int64_t count = table.dim(0);
  double anchors[2] = {0, 0};
  for (const uint8_t s : people.single) anchors[s] += s == 0 || o.scope.use_single ? 1 : 0;
  std::vector<uint8_t> mask;
  std::vector<double> tau(rows, 1), weight(rows, 0);
  for (size_t i = 0; i < rows; ++i) {
    const uint8_t type = people.single[i];
    const bool anchor = type == 0 || o.scope.use_single;
    if (anchor) weight[i] = 1 / (o.scope.pooled ? anchors[0] + anchors[1] : anchors[type]);
    if (anchor) tau[i] = type ? o.tau_single : o.tau_multi;
    for (int64_t k = 0; k < count; ++k) {
      const bool single = k >= multi_count, counts = o.scope.joint ? o.scope.use_single || !single : single == (type == 1);
      mask.push_back(!anchor || !counts ? kIgnored : k == people.labels[i] ? kPositive : kNegative);
    }
  }
  const DType sums = wide(f.value().dtype());
  return softmax_rows(matmul(f, Var(table), false, true), Tensor::from(mask, Shape{f.shape()[0], count}), Tensor::from(tau).to(sums),
                      Tensor::from(weight).to(sums), o.smoothing);
}

struct LossAndGradient {
  Tensor loss, df;
};
LossAndGradient gradient_of(const Tensor& f, const std::function<Var(const Var&)>& loss) {
  Tape tape;
  const Var leaf = tape.input(f.clone()), y = loss(leaf);
  tape.backward(y);
  return {y.value(), tape.gradient(leaf)};
}

std::vector<CentroidLossOptions> all_centroid_options() {
  std::vector<CentroidLossOptions> all;
  for (const bool joint : {true, false}) {
    for (const bool pooled : {true, false}) {
      for (const bool use_single : {true, false}) {
        for (const double smoothing : {0.0, 0.1}) {
          all.push_back({.tau_multi = 0.1,
                         .tau_single = 0.15,
                         .scope = {.joint = joint, .pooled = pooled, .use_single = use_single},
                         .smoothing = smoothing});
        }
      }
    }
  }
  return all;
}

std::string told(const CentroidLossOptions& o) {
  return str("joint ", o.scope.joint, ", pooled ", o.scope.pooled, ", use_single ", o.scope.use_single, ", smoothing ", o.smoothing);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel() * size_of(a.dtype()))) == 0;
}

TEST_CASE("losses: the centroid loss is that of a mask, in f32 to the bit") {
  const Tensor f = unit_rows("f", 13, 70), table = unit_rows("p", 5, 70);
  for (const CentroidLossOptions& o : all_centroid_options()) {
    INFO(told(o));
    for (const DType dtype : {DType::f64, DType::f32}) {
      const Tensor rows = f.to(dtype), centroids = table.to(dtype);
      const LossAndGradient fused = gradient_of(rows, [&](const Var&v) { return centroid_loss(v, centroids, 3, kMixed, o); }),
                            masked = gradient_of(rows, [&](const Var&v) { return masked_centroid_loss(v, centroids, 3, kMixed, o); });
      // In double the orders of sums of 70 terms differ.
      CHECK(difference(fused.loss, masked.loss, 1e-14) == "");
      CHECK(difference(fused.df, masked.df, 1e-13) == "");
      if (dtype == DType::f32) CHECK(same_bits(fused.loss, masked.loss));
      if (dtype == DType::f32) CHECK(same_bits(fused.df, masked.df));
    }
  }
}

TEST_CASE("losses: more centroids than are compared at a time") {
  const int64_t count = 24000, multi = 20000;
  const BatchPeople people{.labels = {0, 16390, 20000, 23999, 8000}, .cameras = {0, 0, 0, 0, 0}, .single = {0, 0, 1, 1, 0}};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor f = unit_rows("f", 5, 8).to(dtype), table = unit_rows("many", count, 8).to(dtype);
    for (const CentroidLossOptions& o : all_centroid_options()) {
      INFO(told(o), ", ", str(dtype));
      const LossAndGradient fused = gradient_of(f, [&](const Var& v) { return centroid_loss(v, table, multi, people, o); });
      const LossAndGradient exact =
          gradient_of(f.to(DType::f64), [&](const Var& v) { return masked_centroid_loss(v, table.to(DType::f64), multi, people, o); });
      // Similarities of unit rows err by (sqrt(8) + 3) u, logits by that over 0.1, and a softmax by twice as much of itself. Sums over the
      // centroids of softmax |c| are at most 1, of which products round 4 sqrt(M) u; weights over temperatures are at most 10.
      const double logit = (std::sqrt(8.0) + 3) / 0.1, u = 0x1p-24, rounded = dtype == DType::bf16 ? 0x1p-8 : 0;
      CHECK(std::abs(fused.loss.item() - exact.loss.item()) <= 2 * 2 * logit * u + 8 * u * exact.loss.item());
      const Tensor got = fused.df.to(DType::f64);
      for (int64_t i = 0; i < got.numel(); ++i) {
        const double want = exact.df.data<double>()[i];
        CHECK(std::abs(got.data<double>()[i] - want) <= rounded * std::abs(want) + 10 * (2 * logit + 8 + 4 * std::sqrt(24000.0)) * u);
      }
    }
  }
}

TEST_CASE("losses: the centroid loss in bf16 is that of the rounded rows, and its gradient is rounded once") {
  const Tensor f = unit_rows("f", 13, 72).to(DType::bf16), table = unit_rows("p", 5, 72).to(DType::bf16);
  const Tensor wide_f = f.to(DType::f64), wide_table = table.to(DType::f64);
  for (const CentroidLossOptions& o : all_centroid_options()) {
    INFO(told(o));
    const LossAndGradient exact = gradient_of(wide_f, [&](const Var&v) { return scale(centroid_loss(v, wide_table, 3, kMixed, o), 0.7); }),
                          fused = gradient_of(f, [&](const Var&v) { return scale(centroid_loss(v, table, 3, kMixed, o), 0.7); });
    CHECK(fused.loss.dtype() == DType::f32);
    CHECK(fused.df.dtype() == DType::bf16);
    const double logit = (4 * std::sqrt(72.0) + 4) / 0.1, u = 0x1p-24;
    CHECK(std::abs(fused.loss.item() - exact.loss.item()) <= 2 * 2 * logit * u + 8 * u * exact.loss.item());
    const Tensor got = fused.df.to(DType::f64);
    for (int64_t i = 0; i < got.numel(); ++i) {
      const double want = exact.df.data<double>()[i];
      CHECK(std::abs(got.data<double>()[i] - want) <= 0x1p-8 * std::abs(want) + 10 * (4 * logit + 32) * u);
    }
  }
}

TEST_CASE("losses: what cannot be computed is refused by name") {
  const Tensor f = unit_rows("f", 13, 6), m = unit_rows("m", 13, 6);
  const auto message = [](const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(message([&] { instance_loss(Var(f), m.rows(0, 9), kMixed, {}); }).find("[instance_loss]") == 0);
  CHECK(message([&] { instance_loss(Var(f), m, kMixed, {.tau_multi = 0, .scope = {}}); }).find("temperature 0") != std::string::npos);
  CHECK(message([&] { centroid_loss(Var(f), unit_rows("p", 4, 6), 3, kMixed, {}); }).find("label 4 of row 11") != std::string::npos);
  CHECK(message([&] { centroid_loss(Var(f), unit_rows("p", 5, 7), 3, kMixed, {}); }).find("differ in width") != std::string::npos);
  CHECK(message([&] { cross_entropy(Var(f), std::vector<int64_t>(13, 6)); }) != "");
}

}  // namespace
}  // namespace reid::test
