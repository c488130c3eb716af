#pragma once
// What is made of a convolution's output while it is in cache: the statistics for a norm behind it, or that norm itself where its
// statistics are known. The same values as norm_statistics' and norm_apply's, without their way to memory.

#include <cstdint>
#include <optional>
#include <vector>

#include "reid/engine/device.h"
#include "reid/engine/op_args.h"

namespace reid::cpu {

class Finish {
 public:
  explicit Finish(const NormApplyArgs& norm);  // of one group; x is y
  // Rows [row, row + rows) of [.., channels], of their channels [column, column + columns) those the norm is for.
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns) const;

 private:
  NormApplyArgs norm_;
  std::vector<float> scale_;  // gamma / sqrt(variance + eps)
};

// Statistics that are summed chunk by chunk, in any order and by any threads.
class ChunkedStatistics {
 public:
  explicit ChunkedStatistics(const NormStatisticsArgs& statistics);  // f32 or bf16
  int64_t chunks() const;                                            // of all groups
  void sum(int64_t chunk) const;
  // Channels [column, column + columns) of rows [row, row + rows), counted through all groups, are written: sums the chunks that were
  // waiting for them alone. Every element is to be announced once.
  void written(int64_t row, int64_t rows, int64_t column, int64_t columns) const;
  void merge() const;  // when all chunks are summed: writes mean and variance

 private:
  void merge_group(int64_t group) const;
  NormStatisticsArgs args_;
  Storage memory_;
  double* partial_;   // [chunk][2][count]: mean, and sum of squared deviations from it
  int64_t* missing_;  // [chunk] elements that are not written yet
};

class Behind {
 public:
  explicit Behind(const ConvForwardArgs& args);
  bool any() const { return finish_ || statistics_[0]; }
  // What ChunkedStatistics::written says of its rows, to all that wait for them.
  void operator()(int64_t row, int64_t rows, int64_t column, int64_t columns) const;
  void complete() const;  // when all is written

 private:
  std::optional<Finish> finish_;
  std::optional<ChunkedStatistics> statistics_[2];
};

}  // namespace reid::cpu
