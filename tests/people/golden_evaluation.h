#pragma once
// The committed answers of tools/golden_evaluation.py, by case.

#include "people/evaluation/blocks.h"
#include "people/features.h"
#include "reid/people/evaluation.h"

namespace reid::test {

// Until the end of the test, evaluation takes this many distances at a time.
struct SmallBlocks {
  int64_t before = distances_per_block;
  explicit SmallBlocks(int64_t distances) { distances_per_block = distances; }
  ~SmallBlocks() { distances_per_block = before; }
  SmallBlocks(const SmallBlocks&) = delete;
  SmallBlocks& operator=(const SmallBlocks&) = delete;
};

// The features and labels of a case.
inline EvaluationInput input_of(const Golden& golden) {
  EvaluationInput in;
  in.query = golden["query"];
  in.gallery = golden["gallery"];
  in.query_ids = golden.integers("query_ids");
  in.query_cameras = golden.integers("query_cameras");
  in.gallery_ids = golden.integers("gallery_ids");
  in.gallery_cameras = golden.integers("gallery_cameras");
  return in;
}

}  // namespace reid::test
