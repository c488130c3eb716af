#pragma once
// Inside the people wing: rows of the k-reciprocal Jaccard distance, some at a time.

#include <vector>

#include "reid/people/cluster.h"

namespace reid {

// Sparse rows: columns ascending within a row.
struct SparseRows {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> columns;
  std::vector<double> values;
};

class JaccardTiles {
 public:
  JaccardTiles(const Tensor& features, const JaccardOptions& options);

  int64_t count() const { return count_; }
  DType dtype() const { return dtype_; }
  int64_t rows_per_block() const;
  Tensor rows(int64_t begin, int64_t end) const;  // [end - begin, count()]

 private:
  template <class T>
  void fill(int64_t begin, const Tensor& tile) const;

  int64_t count_;
  DType dtype_;
  SparseRows encoding_;  // V of jaccard_distance
  SparseRows inverse_;   // its transpose
};

}  // namespace reid
