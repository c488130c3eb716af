// k-reciprocal encodings on an accelerator. What it computes are the operations of op_args_jaccard.h.

#include "people/jaccard_device.h"

#include <algorithm>

namespace reid {

DeviceEncoding::DeviceEncoding(const Tensor& features, const Tensor& scales, const Tensor& index, const Tensor& distance,
                               const EncodingOptions& options) {
  REID_CHECK(!options.weight, "[jaccard_distance] weights of one's own are made by the host");
  REID_CHECK(index.defined() && index.shape().rank() == 2, "[jaccard_distance] neighbor lists must be [N, width]");
  const int64_t count = index.dim(0), width = index.dim(1), wanted = encoding_list_length(options, count);
  REID_CHECK(width >= wanted, "[jaccard_distance] neighbor lists have ", width, " entries, expected ", wanted);
  const EncodingLengths lengths(options, count);
  {
    const ops::ReciprocalSets sets = ops::reciprocal_members(index, std::min(lengths.full, width), std::min(lengths.half, width));
    rows_ = ops::reciprocal_rows(features, scales, index, distance, sets);
  }
  if (lengths.expansion > 1) rows_ = ops::mean_rows(rows_, index, lengths.expansion);
  inverse_ = ops::transpose_rows(rows_);
}

void DeviceEncoding::for_each_pair_within(double radius, const Progress& progress,
                                          FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use, int64_t block_bytes) const {
  int64_t capacity = std::min<int64_t>(64, count());
  for (int64_t first = 0; first < count();) {
    const int64_t fitting = std::max<int64_t>(1, block_bytes / (4 * (capacity + 1))), last = std::min(first + fitting, count());
    const ops::RowsWithin within = ops::jaccard_within(rows_, inverse_, first, last, radius, capacity);
    const Tensor counts = within.count.to(Device{});
    const int64_t most = std::ranges::max(counts.span<int32_t>());
    if (most > capacity) {  // the rows once more, and fewer of them; those that follow may be alike
      capacity = std::min(2 * most, count());
      continue;
    }
    const Tensor found = within.found.to(Device{});
    for (int64_t i = first; i < last; ++i) {
      const size_t size = static_cast<size_t>(counts.data<int32_t>()[i - first]);
      if (size > 0) use(i, {found.data<int32_t>() + (i - first) * capacity, size});
    }
    first = last;
    capacity = std::min(count(), std::max<int64_t>(64, 2 * most));
    if (progress) progress(static_cast<double>(last) / static_cast<double>(count()));
  }
}

DeviceEncoding encode_on_device(const Tensor& features, const Tensor& scales, const Tensor& index, const Tensor& distance,
                                const JaccardOptions& options) {
  return {features, scales, index, distance, encoding_options(options)};
}

DeviceEncoding encode_there(const DistanceTiles& pairs, const JaccardOptions& options, const ClusterProgress& progress) {
  const Neighbors lists = encoding_lists(pairs, options, progress);
  const Shape shape{pairs.count(), lists.width};
  const Device device = pairs.device();
  return encode_on_device(pairs.there_a(), Tensor::from(inverse_lengths(pairs.squared_a())).to(device),
                          Tensor::from(lists.index, shape, device), Tensor::from(lists.distance, shape, device), options);
}

}  // namespace reid
