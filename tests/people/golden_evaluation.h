#pragma once
// The committed answers of tools/golden_evaluation.py, by case.

#include "people/golden.h"
#include "reid/people/evaluation.h"

namespace reid::test {

struct EvaluationGolden {
  std::string prefix;
  const Tensor& tensor(const std::string& key) const {
    static const NamedTensors all = read_safetensors(REID_SOURCE_DIR "/data/golden/evaluation.safetensors");
    return all.at(prefix + "/" + key);
  }
  std::vector<int64_t> integers(const std::string& key) const {
    const auto values = tensor(key).span<int64_t>();
    return {values.begin(), values.end()};
  }
  std::vector<double> numbers(const std::string& key) const {
    const Tensor wide = tensor(key).to(DType::f64);
    const auto values = wide.span<double>();
    return {values.begin(), values.end()};
  }
  double number(const std::string& key) const { return numbers(key).at(0); }

  EvaluationInput input() const {
    EvaluationInput in;
    in.query = tensor("query");
    in.gallery = tensor("gallery");
    in.query_ids = integers("query_ids");
    in.query_cameras = integers("query_cameras");
    in.gallery_ids = integers("gallery_ids");
    in.gallery_cameras = integers("gallery_cameras");
    return in;
  }
};

}  // namespace reid::test
