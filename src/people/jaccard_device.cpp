// k-reciprocal encodings on an accelerator. What it computes are the operations of op_args_jaccard.h.

#include "people/jaccard_device.h"

#include <algorithm>
#include <cmath>

namespace reid {

DeviceEncoding::DeviceEncoding(const Tensor& features, const Tensor& scales, const Tensor& index, const Tensor& distance,
                               const EncodingOptions& options) {
  REID_CHECK(index.defined() && index.shape().rank() == 2, "[jaccard_distance] neighbor lists must be [N, width]");
  const int64_t count = index.dim(0), width = index.dim(1), wanted = encoding_list_length(options, count);
  REID_CHECK(width >= wanted, "[jaccard_distance] neighbor lists have ", width, " entries, expected ", wanted);
  const EncodingLengths lengths(options, count);
  const std::span<const double> largest = options.weights.largest;
  {
    const ops::ReciprocalSets sets = ops::reciprocal_members(index, std::min(lengths.full, width), std::min(lengths.half, width));
    const Tensor scaled_by = largest.empty() ? Tensor() : Tensor::from(largest, {count}, index.device());
    rows_ = ops::reciprocal_rows(features, scales, index, distance, sets, scaled_by, options.weights.power);
  }
  if (lengths.expansion > 1) rows_ = ops::mean_rows(rows_, index, lengths.expansion);
  inverse_ = ops::transpose_rows(rows_);
}

// Some rows with what ops::jaccard_within found, on the host.
struct DeviceEncoding::Block {
  int64_t first, end, capacity;
  Tensor count, found, distance;

  size_t size(int64_t i) const { return static_cast<size_t>(count.data<int32_t>()[i - first]); }
  std::span<const int32_t> columns(int64_t i) const { return {found.data<int32_t>() + (i - first) * capacity, size(i)}; }
  std::span<const double> distances(int64_t i) const { return {distance.data<double>() + (i - first) * capacity, size(i)}; }
};

void DeviceEncoding::for_each_block(int64_t begin, int64_t end, double radius, int64_t first_column, bool distances, int64_t block_bytes,
                                    FunctionRef<void(const Block&)> use) const {
  const int64_t each = distances ? 12 : 4;
  const int64_t least = distances ? 1024 : 64;
  int64_t capacity = std::min(least, count());
  for (int64_t first = begin; first < end;) {
    const int64_t fitting = std::max<int64_t>(1, block_bytes / (each * capacity + 4)), last = std::min(first + fitting, end);
    const ops::RowsWithin within = ops::jaccard_within(rows_, inverse_, first, last, radius, capacity, first_column, distances);
    const Tensor counts = within.count.to(Device{});
    const int64_t most = std::ranges::max(counts.span<int32_t>());
    if (most > capacity) {  // the rows once more, and fewer of them; those that follow may be alike
      capacity = std::min(2 * most, count());
      continue;
    }
    use({first, last, capacity, counts, within.found.to(Device{}), distances ? within.distance.to(Device{}) : Tensor()});
    first = last;
    capacity = std::min(count(), std::max(least, 2 * most));
  }
}

void DeviceEncoding::for_each_pair_within(double radius, const Progress& progress,
                                          FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use, int64_t block_bytes) const {
  for_each_block(0, count(), radius, 0, false, block_bytes, [&](const Block& block) {
    for (int64_t i = block.first; i < block.end; ++i) {
      if (block.size(i) > 0) use(i, block.columns(i));
    }
    if (progress) progress(static_cast<double>(block.end) / static_cast<double>(count()));
  });
}

SparseRows DeviceEncoding::distances(int64_t begin, int64_t end, int64_t first_column, int64_t block_bytes) const {
  REID_CHECK(begin >= 0 && begin <= end && end <= first_column && first_column <= count(), "[jaccard_distance] rows ", begin, "..", end,
             " from column ", first_column, " of ", count());
  SparseRows rows;
  for_each_block(begin, end, std::nextafter(1.0, 0.0), first_column, true, block_bytes, [&](const Block& block) {
    for (int64_t i = block.first; i < block.end; ++i) {
      rows.columns.insert(rows.columns.end(), block.columns(i).begin(), block.columns(i).end());
      rows.values.insert(rows.values.end(), block.distances(i).begin(), block.distances(i).end());
      rows.offsets.push_back(static_cast<int64_t>(rows.columns.size()));
    }
  });
  return rows;
}

DeviceEncoding encode_there(const DistanceTiles& pairs, const Neighbors& lists, const EncodingOptions& options) {
  const bool cosine = pairs.metric() == Metric::cosine;
  REID_CHECK(pairs.metric() == (options.weights.largest.empty() ? Metric::cosine : Metric::euclidean), "[jaccard_distance] ",
             name_of(pairs.metric()), " distances and weights do not fit");
  const Shape shape{pairs.count(), lists.width};
  const Device device = pairs.device();
  const std::vector<double> scales =
      cosine ? inverse_lengths(pairs.squared_a()) : std::vector<double>(static_cast<size_t>(pairs.count()), 1);
  return {pairs.there_a(), Tensor::from(scales).to(device), Tensor::from(lists.index, shape, device),
          Tensor::from(lists.distance, shape, device), options};
}

}  // namespace reid
