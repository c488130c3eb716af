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
  //   scales   f64 [N], 1 / |row|: 1 / sqrt of squared_lengths()
  //   index    i32 [N, width], distance f64 [N, width]: Neighbors of the cosine distance of the set among itself
  DeviceEncoding(const Tensor& features, const Tensor& scales, const Tensor& index, const Tensor& distance, const EncodingOptions& options);

  int64_t count() const { return rows_.offset.dim(0) - 1; }
  const ops::SparseRows& rows() const { return rows_; }

  // All pairs i < j with a distance <= radius < 1, as KReciprocalEncoding hands them out. They come from the device by blocks of rows, of
  // at most `block_bytes` where no row has more: which blocks changes nothing else.
  void for_each_pair_within(double radius, const Progress& progress, FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use,
                            int64_t block_bytes = int64_t{16} << 20) const;

 private:
  ops::SparseRows rows_, inverse_;
};

// The encoding of jaccard_distance from these, see DeviceEncoding. Beside them the device holds 2 k1 bytes a row, and as much as
// encoding_bytes() says of V and its transpose.
DeviceEncoding encode_on_device(const Tensor& features, const Tensor& scales, const Tensor& index, const Tensor& distance,
                                const JaccardOptions& options);
// encode() of jaccard.h where pairs.device() is, from lists that are found there; phases as there.
DeviceEncoding encode_there(const DistanceTiles& pairs, const JaccardOptions& options, const ClusterProgress& progress);

}  // namespace reid
