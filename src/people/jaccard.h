#pragma once
// Inside the people wing: k-reciprocal encodings (Zhong et al., CVPR 2017) and their Jaccard distance, sparse throughout.

#include <cstdint>
#include <span>
#include <vector>

#include "people/neighbors.h"

namespace reid {

// Columns ascending within a row.
struct SparseRows {
  std::vector<int64_t> offsets{0};  // [rows + 1]
  std::vector<int32_t> columns;
  std::vector<double> values;

  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
  std::span<const int32_t> columns_of(int64_t i) const { return {columns.data() + begin_of(i), size_of_row(i)}; }
  std::span<const double> values_of(int64_t i) const { return {values.data() + begin_of(i), size_of_row(i)}; }
  int64_t begin_of(int64_t i) const { return offsets[static_cast<size_t>(i)]; }
  int64_t bytes() const { return static_cast<int64_t>(offsets.size() * 8 + columns.size() * 4 + values.size() * 8); }

 private:
  size_t size_of_row(int64_t i) const { return static_cast<size_t>(offsets[static_cast<size_t>(i) + 1] - begin_of(i)); }
};

// (distance / largest)^power, where power is 2 or 4.
inline double scaled_distance(double distance, double largest, int power) {
  const double share = distance / largest, square = share * share;
  return power == 4 ? square * square : square;
}

// The weight of j in row i, before the row is scaled to sum 1: exp(-2 d), which under cosine is exp(-|z_i - z_j|^2), or, where rows are
// given their largest distances [N], all above 0, exp(-scaled_distance()).
struct EncodingWeights {
  std::span<const double> largest;
  int power = 2;

  double operator()(int64_t i, double distance) const;
};

struct EncodingOptions {
  int64_t k1 = 30, k2 = 6;  // >= 1
  bool k1_counts_self = true;
  EncodingWeights weights = {};
};

// List entries that stand for k1, for k1/2 and for k2. Lists longer than the set are cut, so k may be anything: bounded before adding.
struct EncodingLengths {
  EncodingLengths(const EncodingOptions& options, int64_t count);
  int64_t full, half, expansion;
};
// Entries of neighbor lists that an encoding of `count` rows reads.
int64_t encoding_list_length(const EncodingOptions& options, int64_t count);

// An estimate of the memory of an encoding while it is made: the entries of V depend on the data (see dbscan_jaccard_bytes).
int64_t encoding_bytes(const EncodingOptions& options, int64_t count);

// V of jaccard_distance (cluster.h) for a set among itself, with its transpose: 24 bytes an entry.
class KReciprocalEncoding {
 public:
  // `neighbors` of the set among itself, at least encoding_list_length() wide (or as wide as the set), with or without distances.
  // Distances that the lists do not hold are computed by pairs.pair().
  KReciprocalEncoding(const DistanceTiles& pairs, const Neighbors& neighbors, const EncodingOptions& options);

  int64_t count() const { return rows_.count(); }
  const SparseRows& rows() const { return rows_; }

  // The Jaccard distances of rows [begin, end) to the rows from `first_column` on with which they share an entry of V. All others
  // have distance 1; a row to itself has 0. Symmetric bit for bit.
  SparseRows distances(int64_t begin, int64_t end, int64_t first_column = 0) const;

  // All pairs i < j with a distance <= radius < 1, as for_each_pair_within of neighbors.h hands them out.
  void for_each_pair_within(double radius, const Progress& progress,
                            FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use) const;

 private:
  struct Scratch;
  template <class Use>
  void visit(int64_t i, int64_t first_column, Scratch& scratch, Use&& use) const;  // use(j, distance), j in no order

  SparseRows rows_, inverse_;
};

// What the options of jaccard_distance mean, and the neighbor lists that they need; phases "neighbors" and, at the end, "encoding".
EncodingOptions encoding_options(const JaccardOptions& options);
Neighbors encoding_lists(const DistanceTiles& pairs, const JaccardOptions& options, const ClusterProgress& progress);
// The encoding of jaccard_distance; phases as above.
KReciprocalEncoding encode(const DistanceTiles& pairs, const JaccardOptions& options, const ClusterProgress& progress = {});

}  // namespace reid
