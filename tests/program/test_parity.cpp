// Weights of other projects through `reid weights import` and `reid embed`: the embeddings are those that PyTorch computes from the
// same JPEG files by the project's own conventions (tools/golden_parity.py).

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "program/run_program.h"
#include "reid/formats/image.h"
#include "reid/formats/safetensors.h"

namespace reid::test {
namespace {

const std::string kGolden = std::string(REID_SOURCE_DIR) + "/data/golden/";

// The largest |got - want| / |want| of a row.
double largest_difference(const Tensor& got, const Tensor& want) {
  REQUIRE(got.shape() == want.shape());
  const Tensor a = got.to(DType::f64), b = want.to(DType::f64);
  double worst = 0;
  for (int64_t row = 0; row < a.dim(0); ++row) {
    double difference = 0, length = 0;
    for (int64_t i = 0; i < a.dim(1); ++i) {
      const auto at = static_cast<size_t>(row * a.dim(1) + i);
      difference += std::pow(a.span<double>()[at] - b.span<double>()[at], 2);
      length += std::pow(b.span<double>()[at], 2);
    }
    worst = std::max(worst, std::sqrt(difference / length));
  }
  return worst;
}

}  // namespace

TEST_CASE("parity: other projects' weights give their embeddings, from the JPEG file on") {
  if (!image_decoder().starts_with("libjpeg")) {
    MESSAGE("skipped: this build decodes JPEG with stb_image, Pillow with libjpeg-turbo; pixels differ");
    return;
  }
  const NamedTensors golden = read_safetensors(kGolden + "parity.safetensors");
  REQUIRE(golden.tensors.size() == 5);
  for (const auto& [file, want] : golden.tensors) {
    const std::string& name = file;
    const TemporaryFolder folder;
    const std::string weights = folder / "w.safetensors", embeddings = folder / "e.safetensors";
    // Only the size is said: these networks were run on smaller images than their projects use.
    const Outcome imported =
        run_reid({"weights", "import", kGolden + "parity/" + name, "--out", weights, "data.height=96", "data.width=48"});
    REQUIRE_MESSAGE(imported.status == 0, name, ": ", imported.err);
    const Outcome embedded =
        run_reid({"embed", "--weights", weights, "--out", embeddings, kGolden + "parity/person_0.jpg", kGolden + "parity/person_1.jpg"});
    REQUIRE_MESSAGE(embedded.status == 0, name, ": ", embedded.err);
    const Tensor got = read_safetensors(embeddings).at("features");
    const double difference = largest_difference(got, want);
    // f32 against f64 over some fifty layers; the demand on the program is 1e-4.
    CHECK_MESSAGE(difference < 1e-5, name, ": ", difference);
    // The other image's embedding is far away, so that agreement means something.
    CHECK(largest_difference(got.rows(0, 1), want.rows(1, 2)) > 0.05);
  }
}

}  // namespace reid::test
