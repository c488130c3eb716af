// The moments that blocks of a convolution left, merged to the mean and the variance of each (group, channel): statistics.cuh.
//
// Map: a block for 8 neighboring channels of a group, 64 bytes of every row block. Its threads are 8 lanes by up to 64 slices: a slice
// merges neighboring row blocks in order, then slices merge in pairs, as a tree. With a and b of n_a and n_b row blocks of r rows:
//   m = m_a + (m_b - m_a) n_b / n,   M = M_a + M_b + (m_b - m_a)^2 r n_a n_b / n,   n = n_a + n_b
// One thread for each channel would wait for 1024 loads one after the other where y is 67 MB: here it is 16.

#include "conv/statistics.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kLanes = 8, kMostSlices = 64;

// Of `blocks` row blocks; 0: none.
struct Share {
  Moments of;
  float blocks;
};

// rows: of a row block.
__device__ Share joined(const Share& a, const Share& b, float rows) {
  if (a.blocks == 0) return b;
  if (b.blocks == 0) return a;
  const float blocks = a.blocks + b.blocks, difference = b.of.mean - a.of.mean, part = b.blocks / blocks;
  return {{a.of.mean + difference * part, a.of.squares + b.of.squares + difference * difference * (rows * a.blocks * part)}, blocks};
}

// moments [groups, chunks, channels]: each of `rows` rows.
__global__ void merge_moments_kernel(const Moments* moments, NormWindow w, int chunks, float rows, float* mean, float* variance) {
  SHARED_ARRAY(Share, shares, kLanes * kMostSlices);  // in a step of the tree the lower half is written, the upper half read
  const int64_t tiles = (w.count + kLanes - 1) / kLanes, group = blockIdx.x / tiles;
  const int lane = static_cast<int>(threadIdx.x) % kLanes, slice = static_cast<int>(threadIdx.x) / kLanes;
  const int slices = static_cast<int>(blockDim.x) / kLanes, each = (chunks + slices - 1) / slices;
  const int64_t column = blockIdx.x % tiles * kLanes + lane;
  const bool live = column < w.count;  // the tile may stick out of the window
  const Moments* from = moments + group * chunks * w.channels + w.first + column;
  const int end = (slice + 1) * each < chunks ? (slice + 1) * each : chunks;
  Share own{};
  for (int chunk = slice * each; live && chunk < end; ++chunk) own = joined(own, {from[chunk * w.channels], 1}, rows);
  Share* place = shares + threadIdx.x;
  *place = own;
  for (int half = slices / 2; half > 0; half /= 2) {
    __syncthreads();
    if (slice < half) *place = own = joined(own, place[half * kLanes], rows);
  }
  if (slice > 0 || !live) return;
  mean[group * w.count + column] = own.of.mean;
  variance[group * w.count + column] = own.of.squares / static_cast<float>(w.length);
}

bool wanted(const NormStatisticsArgs& s) { return s.x && s.window.groups > 0 && s.window.length > 0 && s.window.count > 0; }

}  // namespace

const char* refuse_statistics(const ConvForwardArgs& a, int64_t rows) {
  if (a.finish) return "finishes nothing";
  for (const NormStatisticsArgs& s : a.statistics) {
    if (s.x && s.window.length % rows != 0) return "takes statistics over groups of whole blocks of rows";
  }
  return nullptr;
}

int64_t count_moments(const ConvForwardArgs& a, int64_t rows) {
  const ConvShape& s = a.shape;
  return wanted(a.statistics[0]) || wanted(a.statistics[1]) ? s.n * s.p() * s.q() / rows * s.k : 0;
}

Moments* room_for_moments(const ConvForwardArgs& a, int64_t rows, Stream& stream) {
  const size_t bytes = static_cast<size_t>(count_moments(a, rows)) * sizeof(Moments);
  return bytes > 0 ? static_cast<Moments*>(stream.workspace(bytes)) : nullptr;
}

void merge_moments(const ConvForwardArgs& a, const Moments* moments, int64_t rows, Stream& stream) {
  for (const NormStatisticsArgs& s : a.statistics) {
    if (!wanted(s)) continue;
    const NormWindow& w = s.window;
    const int64_t chunks = w.length / rows;
    int slices = kWarpSize / kLanes;
    while (slices < kMostSlices && slices < chunks) slices *= 2;
    launch(merge_moments_kernel, blocks_for(ceil_div(w.count, kLanes) * w.groups, 1), static_cast<unsigned>(slices * kLanes), 0, stream,
           moments, w, static_cast<int>(chunks), static_cast<float>(rows), out<float>(s.mean), out<float>(s.variance));
  }
}

}  // namespace reid::REID_TARGET
