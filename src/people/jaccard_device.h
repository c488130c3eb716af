#pragma once
// Inside the people wing: k-reciprocal encodings of features and neighbor lists that lie on one device, and stay there.

#include "people/jaccard.h"
#include "reid/engine/ops.h"

namespace reid {

// The rows, distances and pairs of KReciprocalEncoding, bit for bit, on any device.
class DeviceEncoding {
 public:
  // All on one device, lists at least encoding_list_length() wide:
  //   features [N, D] f32 or f64, no row of zeros, all finite
  //   scales   f64 [N], 1 / |row|: 1 / sqrt of squared_lengths(); with largest distances (EncodingWeights) of 1
  //   index    i32 [N, width], distance f64 [N, width]: Neighbors of the set among itself, by cosine distance, or by euclidean
  DeviceEncoding(const Tensor& features, const Tensor& scales, const Tensor& index, const Tensor& distance, const EncodingOptions& options);

  int64_t count() const { return rows_.offset.dim(0) - 1; }
  const ops::SparseRows& rows() const { return rows_; }

  // All pairs i < j with a distance <= radius < 1, as KReciprocalEncoding hands them out. They come from the device by blocks of rows, of
  // at most `block_bytes` where no row has more: which blocks changes nothing else.
  void for_each_pair_within(double radius, const Progress& progress, FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use,
                            int64_t block_bytes = int64_t{16} << 20) const;

  // The distances below 1 of rows [begin, end) to the rows from first_column >= end on, on the host.
  SparseRows distances(int64_t begin, int64_t end, int64_t first_column, int64_t block_bytes = int64_t{16} << 20) const;

 private:
  struct Block;
  void for_each_block(int64_t begin, int64_t end, double radius, int64_t first_column, bool distances, int64_t block_bytes,
                      FunctionRef<void(const Block&)> use) const;

  ops::SparseRows rows_, inverse_;
};

// KReciprocalEncoding's, where pairs.device() is; cosine distances, or euclidean ones with largest distances. Beside the features the
// device holds the lists, 2 k1 bytes a row, and as much as encoding_bytes() says of V and its transpose.
DeviceEncoding encode_there(const DistanceTiles& pairs, const Neighbors& lists, const EncodingOptions& options);

}  // namespace reid
