// Images on their way to a device and embeddings on their way back: what travels is 8-bit images, and the views have the CPU's bits.

#include "harness.h"

#include "formats/scratch.h"
#include "on_device.h"
#include "reid/engine/ops.h"
#include "reid/engine/replay.h"
#include "reid/formats/files.h"
#include "reid/learning/embedding.h"
#include "reid/learning/method.h"

namespace reid::test {
namespace {

struct Files {
  Scratch scratch{"feed"};
  std::vector<Sample> samples;
  Files() {
    for (int64_t i = 0; i < 12; ++i) {
      Image image(40 + static_cast<int>(i % 3), 21);
      Rng rng = Rng(31).at(static_cast<uint64_t>(i));
      for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
      samples.push_back({.path = (scratch / str(10 + i, ".jpg")).string(), .person = i / 3, .camera = i % 3});
      write_file(samples.back().path, encode_jpeg(image, 90));
    }
  }
  Loader load(const TransformConfig& transform, int64_t batch, bool pixels) const {
    return {samples, sequential_plan(samples, batch), {.transform = transform, .pixels = pixels, .workers = 2}, Rng(5)};
  }
};

TransformConfig transform(double colors, int height = 25, int width = 11) {
  TransformConfig t{.height = height, .width = width, .pad = 3, .blur = colors, .jitter = colors, .erase = 0.6};
  t.erase_value = {0.5f, -2.f, 0.f};
  return t;
}

TEST_CASE("device feed: views made there have the CPU's bits, whatever is drawn") {
  const Files files;
  at_both_paces([&] {
    for (const double colors : {0.0, 0.4, 1.0})
      for (const DType dtype : {DType::f32, DType::bf16}) {
        CAPTURE(colors);
        CAPTURE(dtype);
        const TransformConfig t = transform(colors);
        Feed feed(test_device(), t, dtype);
        Loader here = files.load(t, 5, false), there = files.load(t, 5, feed.pixels());  // 5, 5 and 2 images
        Feed::Batches batches(feed, there);
        while (const std::optional<Batch> expected = here.next()) {
          const std::optional<Batch> batch = batches.next();
          REQUIRE(batch.has_value());
          CHECK(batch->index == expected->index);
          CHECK(batch->entries == expected->entries);
          // What travels: one image for both views, seven integers and, where it may be blurred or colored, 12 and 7 weights.
          int64_t bytes = 0;
          for (const Tensor& tensor : {batch->augmented, batch->original, batch->pixels.images, batch->pixels.changes, batch->pixels.views})
            if (tensor.defined()) bytes += tensor.device() == test_device() ? tensor.bytes() : -1;
          CHECK(bytes == batch->size() * (25 * 11 * 3 + 28 + (colors > 0 ? 19 * 4 : 0)));
          const Batch views = feed.with_views(feed.in_place(*batch));
          CHECK(views.entries == expected->entries);
          CHECK(views.augmented.device() == test_device());
          CHECK(bitwise_equal(views.augmented, expected->augmented.to(dtype)));
          CHECK(bitwise_equal(views.original, expected->original.to(dtype)));
        }
        CHECK(!batches.next());
        CHECK(!batches.next());
      }
  });
}

TEST_CASE("device feed: on the CPU a batch stays what the loader made") {
  const Files files;
  Feed feed(Device{}, transform(0.5));
  CHECK(!feed.pixels());
  Loader loader = files.load(feed.transform(), 6, feed.pixels());
  Feed::Batches batches(feed, loader);
  const std::optional<Batch> batch = batches.next();
  REQUIRE(batch.has_value());
  CHECK(!batch->pixels.images.defined());
  const Batch same = feed.with_views(feed.in_place(*batch));
  CHECK(same.augmented.raw() == batch->augmented.raw());
  CHECK(same.original.raw() == batch->original.raw());
}

// Each step's sums of a network's output over both views, and how the steps were run.
struct Sums {
  std::vector<Tensor> values;
  Replay::Counts counts;
};

Sums steps(const Files& files, const TransformConfig& t, const std::string& precision, bool pixels) {
  Encoder encoder({.backbone = {.depth = 18, .ibn = "a", .width = 2}, .precision = precision}, DType::f32, Rng(0));
  move_to(test_device(), inventory(encoder));
  Feed feed(test_device(), t, precision == "bf16" ? DType::bf16 : DType::f32);
  Replay replay(pixels ? test_device() : Device{});
  const Tensor sum_of = Tensor::zeros({2}, DType::f32, test_device());
  Sums sums;
  const auto step = [&](const Batch& batch) {
    Tape tape;
    sum_of.rows(0, 1).copy_from(sum(encoder(Var(batch.augmented), training_pass(tape))).value());
    sum_of.rows(1, 2).copy_from(sum(encoder(Var(batch.original), training_pass(tape))).value());
  };
  for (int epoch = 0; epoch < 2; ++epoch) {
    Loader loader = files.load(t, 3, pixels);
    Feed::Batches batches(feed, loader);
    while (std::optional<Batch> batch = pixels ? batches.next() : loader.next()) {
      if (pixels) {
        const Batch here = feed.in_place(*batch);
        replay.run([&] { step(feed.with_views(here)); });
      } else {
        batch->augmented = batch->augmented.to(test_device()), batch->original = batch->original.to(test_device());
        replay.run([&] { step(*batch); });
      }
      sums.values.push_back(sum_of.to(Device{}));
    }
  }
  sums.counts = replay.counts();
  return sums;
}

TEST_CASE("device feed: a replayed step makes its views within its one graph, with the bits of numbers that were sent") {
  const Files files;
  at_both_paces([&] {
    for (const auto& [precision, colors] : {std::pair{"f32", 0.5}, {"bf16", 0.0}, {"bf16", 1.0}}) {
      const TransformConfig t = transform(colors, 32, 16);
      const Sums sent = steps(files, t, precision, false), made = steps(files, t, precision, true);
      REQUIRE(made.values.size() == 8);
      for (size_t i = 0; i < 8; ++i) CHECK(bitwise_equal(made.values[i], sent.values[i]));
      CHECK(!bitwise_equal(made.values[1], made.values[2]));
      CHECK(made.counts.replayed == 6);  // behind an eager step and a recorded one
      CHECK(made.counts.graphs == 1);
    }
  });
}

TEST_CASE("device feed: extraction gives the rows of single images") {
  const Files files;
  const TransformConfig t = transform(0.5, 32, 16);
  Encoder encoder({.backbone = {.depth = 18, .ibn = "a", .width = 4}}, DType::f32, Rng(0));
  move_to(test_device(), inventory(encoder));
  std::vector<Tensor> expected;
  Loader loader = evaluation_loader(files.samples, 1, {.transform = t, .workers = 0});
  while (const std::optional<Batch> one = loader.next())
    expected.push_back(encoder(Var(one->original.to(test_device())), inference_pass()).value().to(Device{}));
  at_both_paces([&] {
    Feed feed(test_device(), t);
    DataSettings data;
    for (const int64_t batch : {1, 5, 12}) {
      data.embed_batch = batch;
      const auto embed = [&](const Tensor& images) {
        CHECK(images.device() == test_device());
        return encoder(Var(images), inference_pass()).value();
      };
      const Tensor rows = extract(files.samples, embed, data, feed, std::make_shared<ImageCache>(0), batch == 5 ? 0 : 2);
      REQUIRE(rows.dim(0) == 12);
      for (int64_t i = 0; i < 12; ++i) CHECK(bitwise_equal(rows.rows(i, i + 1), expected[static_cast<size_t>(i)]));
    }
  });
}

TEST_CASE("device feed: means with mirror images and unit rows stay where the encoder computes") {
  const TransformConfig t = transform(0, 32, 16);
  ModelSettings model;
  model.depth = 18, model.width = 4;
  LoadedEncoder encoder(model, t, 3);
  encoder.move_to(test_device());
  const Tensor images = normal_tensor("images", {3, 32, 16, 3}).to(DType::f32), mirrored = Tensor::empty(images.shape(), DType::f32);
  for (int64_t i = 0; i < images.numel(); ++i) {
    const int64_t pixel = i / 3, column = pixel % 16;
    mirrored.data<float>()[i] = images.data<float>()[(pixel - column + 15 - column) * 3 + i % 3];
  }
  const Tensor there = images.to(test_device());
  const Tensor plain = encoder.embed(there), turned = encoder.embed(mirrored.to(test_device()));
  CHECK(!bitwise_equal(plain.to(Device{}), turned.to(Device{})));
  const Tensor mean = ops::scale(ops::add(plain.to(Device{}), turned.to(Device{})), 0.5);
  at_both_paces([&] {
    for (const bool flip : {false, true})
      for (const bool normalize : {false, true}) {
        const Tensor rows = embed(encoder, there, {.flip = flip, .normalize = normalize});
        CHECK(rows.device() == test_device());
        const Tensor raw = flip ? mean : plain.to(Device{});
        if (!normalize) CHECK(bitwise_equal(rows.to(Device{}), raw));
        if (normalize) CHECK(bitwise_equal(rows, ops::l2_normalize(raw.to(test_device())).y));
      }
  });
}

}  // namespace
}  // namespace reid::test
