// The check of an exported model in ONNX Runtime: skipped, saying so, where that is not installed; its errors always.

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/learning/onnx_verify.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Scratch;

namespace {

// REID_PYTHON for the life of the object.
class ChosenPython {
 public:
  explicit ChosenPython(const std::string& program) {
    if (const char* before = ::getenv("REID_PYTHON")) before_ = before;
    ::setenv("REID_PYTHON", program.c_str(), 1);
  }
  ~ChosenPython() { before_.empty() ? ::unsetenv("REID_PYTHON") : ::setenv("REID_PYTHON", before_.c_str(), 1); }

 private:
  std::string before_;
};

ModelSettings small_model() {
  ModelSettings model;
  model.depth = 18;
  model.width = 4;
  return model;
}

TransformConfig small_images() {
  TransformConfig transform;
  transform.height = 64;
  transform.width = 32;
  return transform;
}

std::vector<Image> random_images(int count) {
  std::vector<Image> images;
  Rng rng(9);
  for (int i = 0; i < count; ++i) {
    Image& image = images.emplace_back(64, 32);
    for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
  }
  return images;
}

}  // namespace

TEST_CASE("onnx verify: what is missing is said, and how to go on") {
  const Scratch scratch("onnx");
  const Tensor images = Tensor::zeros({1, 3, 64, 32}, DType::f32);
  const auto failure = [&](const std::string& program) {
    const ChosenPython chosen(program);
    return failure_of([&] { run_in_onnxruntime(scratch / "a.onnx", images); });
  };
  const std::string absent = failure((scratch / "no-python").string());
  CHECK(contains(absent, "cannot start"));
  CHECK(contains(absent, "no-python"));
  CHECK(contains(absent, "REID_PYTHON"));
  const auto stands_for_python = [&](const char* name, const char* script) {
    write_file(scratch / name, std::string_view(script));
    ::chmod((scratch / name).c_str(), 0700);
    return (scratch / name).string();
  };
  const std::string bare = failure(stands_for_python("bare", "#!/bin/sh\necho \"No module named 'onnxruntime'\" >&2\nexit 3\n"));
  CHECK(contains(bare, "ONNX Runtime is not installed for"));
  CHECK(contains(bare, "No module named 'onnxruntime'"));
  CHECK(contains(bare, "pip install onnxruntime numpy"));
  const std::string broken = failure(stands_for_python("broken", "#!/bin/sh\necho 'no such operator' >&2\nexit 1\n"));
  CHECK(contains(broken, "a.onnx: ONNX Runtime fails"));
  CHECK(contains(broken, "no such operator"));
  const ChosenPython chosen((scratch / "bare").string());
  std::string reason;
  CHECK_FALSE(has_onnxruntime(reason));
  CHECK(contains(reason, "is not installed"));
}

TEST_CASE("onnx verify: ONNX Runtime finds what the encoder finds") {
  std::string reason;
  if (!has_onnxruntime(reason)) {
    MESSAGE("skipped: ", reason);
    return;
  }
  const Scratch scratch("onnx");
  LoadedEncoder encoder(small_model(), small_images(), 4);
  const NamedTensors weights = exported_encoder(encoder.weights(), small_model(), encoder.transform());
  const std::vector<Image> images = random_images(40);  // more than one batch
  for (const bool preprocess : {false, true}) {
    const std::filesystem::path file = scratch / (preprocess ? "pixels.onnx" : "planes.onnx");
    write_onnx(file, small_model().encoder(), weights, onnx_options(encoder.transform(), weights, preprocess));
    const EmbeddingComparison same = verify_onnx(file, encoder, images, preprocess);
    CHECK(same.images == 40);
    CHECK(same.largest_relative > 0);
    CHECK(same.largest_relative < 1e-5);  // rounding: 21 layers of sums of up to 288 products, 6e-8 each
    CHECK(same.largest_swap < 1e-5);
    CHECK(contains(failure_of([&] { verify_onnx(file, encoder, images, !preprocess); }), file.string()));
  }
  LoadedEncoder other(small_model(), small_images(), 5);
  CHECK(verify_onnx(scratch / "pixels.onnx", other, images, true).changed_ranks > 30);
  CHECK(contains(failure_of([&] { run_in_onnxruntime(scratch / "none.onnx", Tensor::zeros({1, 3, 64, 32}, DType::f32)); }), "none.onnx"));
}
