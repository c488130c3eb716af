#pragma once
// The committed answers of tools/golden_evaluation.py, by case.

#include "people/evaluation/blocks.h"
#include "people/features.h"
#include "reid/people/evaluation.h"

namespace reid::test {

// Until the end of the test, evaluation takes this many distances at a time.
struct SmallBlocks {
  int64_t rows = distances_per_block, close = close_pairs_per_block;
  explicit SmallBlocks(int64_t distances) { distances_per_block = close_pairs_per_block = distances; }
  ~SmallBlocks() { distances_per_block = rows, close_pairs_per_block = close; }
  SmallBlocks(const SmallBlocks&) = delete;
  SmallBlocks& operator=(const SmallBlocks&) = delete;
};

// The features and labels of a case.
inline EvaluationInput input_of(const Golden& golden) {
  EvaluationInput in;
  in.query = golden["query"].clone();  // what a test writes must not reach the others
  in.gallery = golden["gallery"].clone();
  in.query_ids = golden.integers("query_ids");
  in.query_cameras = golden.integers("query_cameras");
  in.gallery_ids = golden.integers("gallery_ids");
  in.gallery_cameras = golden.integers("gallery_cameras");
  return in;
}

}  // namespace reid::test
