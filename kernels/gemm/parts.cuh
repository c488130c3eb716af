#pragma once
// Sums that several blocks make in parts (split-K), added in order.

#include "merge.cuh"

namespace reid::REID_TARGET {

// Steps of depth for a block: parts are made until `wanted` blocks have work, each of at least `least` steps.
inline int64_t steps_of_part(int64_t steps, int64_t tiles, int64_t wanted, int64_t least) {
  const int64_t parts = tiles < wanted ? ceil_div(wanted, tiles) : 1, each = ceil_div(steps, parts);
  return each > least ? each : least;
}

// Calls run(partial), which computes the parts [parts, count], and adds them up in y, or to it with `accumulate`; else one part is y
// itself.
template <class F>
void run_parts(int64_t parts, int64_t count, float* y, bool accumulate, Stream& stream, F run) {
  const bool whole = parts == 1 && !accumulate;
  auto* partial = whole ? y : static_cast<float*>(stream.workspace(static_cast<size_t>(parts * count) * sizeof(float)));
  run(partial);
  if (!whole) add_parts(partial, parts, count, y, accumulate, stream);
}

}  // namespace reid::REID_TARGET
