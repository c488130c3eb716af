#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "formats/scratch.h"
#include "reid/engine/ops.h"
#include "reid/formats/files.h"
#include "reid/people/data.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Scratch;

namespace {

// Twelve small images of four people.
struct Fixture {
  Scratch scratch{"loader"};
  std::vector<Sample> samples;
  std::vector<PlanEntry> entries;
  LoaderOptions options{.transform = {.height = 16, .width = 8, .pad = 2}};

  Fixture() {
    for (int64_t i = 0; i < 12; ++i) {
      Image image(20 + static_cast<int>(i % 3), 11);
      Rng rng = Rng(77).at(static_cast<uint64_t>(i));
      for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
      samples.push_back({.path = (scratch / str("image", 10 + i, ".jpg")).string(), .person = 1 + i / 3, .camera = i % 3});
      write_file(samples.back().path, encode_jpeg(image, 90));
      entries.push_back({i, i / 3, i % 3, i < 6 ? DataKind::multi : DataKind::single});
    }
  }
  void damage(size_t i) const { write_file(samples[i].path, std::string_view("no image")); }
  BatchPlan plan(int64_t batches = 6) const { return multi_camera_plan(entries, {3, 2}, batches, Rng(9)); }
};

std::vector<Batch> load(const Fixture& f, const BatchPlan& plan, LoaderOptions options, int64_t first = 0) {
  Loader loader(f.samples, plan, std::move(options), Rng(5), first);
  std::vector<Batch> batches;
  while (auto batch = loader.next()) batches.push_back(std::move(*batch));
  return batches;
}

bool same(const Batch& a, const Batch& b) {
  return a.index == b.index && a.entries == b.entries && bitwise_equal(a.augmented, b.augmented) && bitwise_equal(a.original, b.original);
}

}  // namespace

TEST_CASE("loader: the plan's batches in order, bitwise equal for every number of workers") {
  const Fixture f;
  const BatchPlan plan = f.plan();
  LoaderOptions options = f.options;
  options.workers = 0;
  const std::vector<Batch> expected = load(f, plan, options);
  REQUIRE(expected.size() == 6);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(expected[i].index == static_cast<int64_t>(i));
    CHECK(expected[i].entries == plan.batches[i]);
    CHECK(expected[i].augmented.shape() == Shape{6, 16, 8, 3});
    CHECK(expected[i].original.shape() == Shape{6, 16, 8, 3});
    CHECK(!bitwise_equal(expected[i].augmented, expected[i].original));
  }
  CHECK(expected[1].labels()[0] == plan.batches[1][0].label);
  CHECK(expected[1].cameras()[1] == plan.batches[1][1].camera);
  CHECK(expected[1].samples()[2] == plan.batches[1][2].sample);
  CHECK(expected[1].kinds()[5] == plan.batches[1][5].kind);
  for (const int workers : {1, 2, 5})
    for (const int prefetch : {1, 3}) {
      options.workers = workers;
      options.prefetch = prefetch;
      options.cache = workers == 2 ? std::make_shared<ImageCache>(1 << 20) : nullptr;
      const std::vector<Batch> batches = load(f, plan, options);
      REQUIRE(batches.size() == 6);
      for (size_t i = 0; i < 6; ++i) CHECK(same(batches[i], expected[i]));
    }
}

TEST_CASE("loader: a run resumed at any batch sees what it would have seen") {
  const Fixture f;
  LoaderOptions options = f.options;
  options.workers = 2;
  const std::vector<Batch> expected = load(f, f.plan(), options);
  for (int64_t first = 0; first <= 6; ++first) {
    const std::vector<Batch> rest = load(f, f.plan(), options, first);
    REQUIRE(rest.size() == static_cast<size_t>(6 - first));
    for (size_t i = 0; i < rest.size(); ++i) CHECK(same(rest[i], expected[i + static_cast<size_t>(first)]));
  }
  CHECK(contains(failure_of([&] { load(f, f.plan(), options, 7); }), "cannot start at batch 7 of 6"));
}

TEST_CASE("loader: the weak view is resized and normalized, an image drawn twice is augmented twice") {
  const Fixture f;
  BatchPlan plan;
  plan.batches = {{f.entries[4], f.entries[4]}, {f.entries[4]}};
  const std::vector<Batch> batches = load(f, plan, f.options);
  std::vector<float> weak(16 * 8 * 3);
  weak_view(resize(read_image(f.samples[4].path), 16, 8, Filter::bicubic), Normalizer(f.options.transform), weak.data());
  for (const Batch& batch : batches)
    for (int64_t i = 0; i < batch.size(); ++i)
      CHECK(std::memcmp(batch.original.data<float>() + i * 16 * 8 * 3, weak.data(), weak.size() * sizeof(float)) == 0);
  CHECK(!bitwise_equal(batches[0].augmented.rows(0, 1), batches[0].augmented.rows(1, 2)));
  CHECK(!bitwise_equal(batches[0].augmented.rows(0, 1), batches[1].augmented));

  // The draws belong to the position in the whole plan.
  std::vector<float> view(16 * 8 * 3);
  const Image resized = resize(read_image(f.samples[4].path), 16, 8, Filter::bicubic);
  augmented_view(resized, f.options.transform, Normalizer(f.options.transform), Rng(5).at(2).at("augmented"), view.data());
  CHECK(std::memcmp(batches[1].augmented.data<float>(), view.data(), view.size() * sizeof(float)) == 0);
}

TEST_CASE("loader: views of its pixels are its views, bit for bit") {
  const Fixture f;
  f.damage(4);  // dropped: its batch is closed up
  BatchPlan plan;
  for (size_t i = 0; i < 12; i += 4) plan.batches.push_back({f.entries[i], f.entries[i + 1], f.entries[i + 2], f.entries[i + 3]});
  for (const double colors : {0.0, 0.5})
    for (const int workers : {0, 3}) {
      LoaderOptions options = f.options;
      options.transform.blur = options.transform.jitter = colors;
      options.transform.erase = 0.5;
      options.workers = workers;
      options.on_damage = OnDamage::drop;
      const std::vector<Batch> expected = load(f, plan, options);
      options.pixels = true;
      const std::vector<Batch> batches = load(f, plan, options);
      REQUIRE(batches.size() == 3);
      for (size_t i = 0; i < 3; ++i) {
        const BatchPixels& p = batches[i].pixels;
        CHECK(batches[i].entries == expected[i].entries);
        CHECK(!batches[i].original.defined());
        CHECK(!batches[i].augmented.defined());
        CHECK(p.changes.defined() == (colors > 0));
        const Tensor changed = colors > 0 ? ops::color_pixels(p.images, p.changes) : p.images;
        CHECK(p.images.shape() == Shape{i == 1 ? 3 : 4, 16, 8, 3});
        const PixelColors normal = pixel_colors(options.transform);
        const Tensor whole = Tensor::zeros(p.views.shape(), DType::i32);
        CHECK(bitwise_equal(ops::views_from_pixels(p.images, whole, normal), expected[i].original));
        CHECK(bitwise_equal(ops::views_from_pixels(changed, p.views, normal), expected[i].augmented));
      }
      options.augment = false;
      const std::vector<Batch> weak = load(f, plan, options);
      CHECK(bitwise_equal(weak[1].pixels.images, batches[1].pixels.images));
      CHECK(!weak[1].pixels.changes.defined());
      CHECK(!weak[1].pixels.views.defined());
    }
}

TEST_CASE("loader: an unreadable image is an error in the turn of its batch, and loading can go on") {
  const Fixture f;
  BatchPlan plan;
  for (size_t i = 0; i < 6; ++i) plan.batches.push_back({f.entries[2 * i], f.entries[2 * i + 1]});
  f.damage(6);
  f.damage(7);
  std::filesystem::remove(f.samples[9].path);
  for (const int workers : {0, 1, 4}) {
    LoaderOptions options = f.options;
    options.workers = workers;
    options.prefetch = 6;
    Loader loader(f.samples, plan, options, Rng(5));
    for (int64_t b = 0; b < 3; ++b) CHECK(loader.next()->index == b);
    CHECK(failure_of([&] { loader.next(); }) == f.samples[6].path + ": not a JPEG, PNG or BMP image");
    CHECK(contains(failure_of([&] { loader.next(); }), "cannot open " + f.samples[9].path));
    CHECK(loader.next()->index == 5);
    CHECK(!loader.next());
    CHECK(loader.damaged().empty());
  }
}

TEST_CASE("loader: damaged images are replaced alike by every number of workers, and listed") {
  const Fixture f;
  f.damage(1);
  f.damage(9), f.damage(10), f.damage(11);  // a whole identity
  BatchPlan plan;
  for (size_t i = 0; i < 12; i += 3) plan.batches.push_back({f.entries[i], f.entries[i + 1], f.entries[i + 2]});
  for (const int workers : {0, 1, 3}) {
    LoaderOptions options = f.options;
    options.workers = workers;
    options.on_damage = OnDamage::replace;
    Loader loader(f.samples, plan, options, Rng(5));
    const auto first = loader.next();
    REQUIRE(first.has_value());
    CHECK(first->samples() == std::vector<int64_t>{0, 2, 2});
    CHECK(first->cameras() == std::vector<int64_t>{0, 2, 2});
    CHECK(loader.damaged() == std::vector<std::string>{f.samples[1].path + ": not a JPEG, PNG or BMP image"});
    loader.next(), loader.next();
    const auto last = loader.next();
    REQUIRE(last.has_value());
    CHECK(last->samples() == std::vector<int64_t>{6, 6, 6});  // the next of its kind: the plan goes around
    CHECK(last->labels() == std::vector<int64_t>{2, 2, 2});
    CHECK(loader.damaged().size() == 4);
  }
  for (size_t i = 0; i < 12; ++i) f.damage(i);
  LoaderOptions options = f.options;
  options.on_damage = OnDamage::replace;
  Loader loader(f.samples, plan, options, Rng(5));
  CHECK(contains(failure_of([&] { loader.next(); }), "no image can take the place of a damaged one: " + f.samples[0].path));
}

TEST_CASE("loader: evaluation keeps the order; damaged images fail or are dropped") {
  const Fixture f;
  LoaderOptions options = f.options;
  options.workers = 2;
  {
    Loader loader = evaluation_loader(f.samples, 5, options);
    std::vector<int64_t> seen;
    while (const auto batch = loader.next()) {
      CHECK(!batch->augmented.defined());
      CHECK(batch->original.dim(0) == batch->size());
      const auto part = batch->samples();
      seen.insert(seen.end(), part.begin(), part.end());
    }
    CHECK(seen == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  }
  const auto whole = [&] {
    Loader loader = evaluation_loader(f.samples, 12, options);
    return std::move(*loader.next());
  }();
  for (const size_t i : {3u, 4u, 5u, 7u}) f.damage(i);
  {
    Loader loader = evaluation_loader(f.samples, 3, options);
    loader.next();
    CHECK(contains(failure_of([&] { loader.next(); }), f.samples[3].path));
  }
  options.on_damage = OnDamage::drop;
  Loader loader = evaluation_loader(f.samples, 3, options);
  std::vector<std::vector<int64_t>> parts;
  while (const auto batch = loader.next()) {
    parts.push_back(batch->samples());
    for (int64_t i = 0; i < batch->size(); ++i) {
      const int64_t sample = parts.back()[static_cast<size_t>(i)];
      CHECK(bitwise_equal(batch->original.rows(i, i + 1), whole.original.rows(sample, sample + 1)));
    }
  }
  CHECK(parts == std::vector<std::vector<int64_t>>{{0, 1, 2}, {6, 8}, {9, 10, 11}});
  CHECK(loader.damaged().size() == 4);
  options.on_damage = OnDamage::replace;
  CHECK(contains(failure_of([&] { evaluation_loader(f.samples, 3, options); }), "must not replace"));
}

TEST_CASE("loader: leaving early, and plans that are wrong or empty") {
  const Fixture f;
  LoaderOptions options = f.options;
  options.workers = 4;
  for (int taken = 0; taken < 3; ++taken) {
    Loader loader(f.samples, f.plan(40), options, Rng(5));
    for (int i = 0; i < taken; ++i) loader.next();
  }
  CHECK(load(f, {}, options).empty());
  BatchPlan plan;
  plan.batches = {{}, {f.entries[0]}, {}};
  CHECK(load(f, plan, options).size() == 1);
  plan.batches = {{{12, 0, 0, DataKind::multi}}};
  CHECK(contains(failure_of([&] { load(f, plan, options); }), "batch 0 of the plan wants sample 12, there are 12"));
  options.prefetch = 0;
  CHECK(contains(failure_of([&] { load(f, f.plan(), options); }), "0 batches ahead"));
}

TEST_CASE("loader: the cache keeps what fits") {
  const Fixture f;
  ImageCache cache(2 * (16 * 8 * 3 + 300));
  for (int round = 0; round < 2; ++round)
    for (const Sample& sample : f.samples) cache.load(sample.path, f.options.transform);
  CHECK(cache.hits() == 2);
  CHECK(cache.misses() == 22);
  CHECK(cache.bytes() <= 2 * (16 * 8 * 3 + 300));
  TransformConfig other = f.options.transform;
  other.height = 10;
  CHECK(cache.load(f.samples[0].path, other)->height == 10);
  other.height = 16;
  other.filter = Filter::bilinear;
  CHECK(cache.load(f.samples[0].path, other)->rgb != cache.load(f.samples[0].path, f.options.transform)->rgb);
  ImageCache none(0);
  none.load(f.samples[0].path, f.options.transform);
  none.load(f.samples[0].path, f.options.transform);
  CHECK(none.hits() == 0);
  CHECK(none.bytes() == 0);
}
