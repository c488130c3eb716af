// What the epilogues of convolutions need for the statistics that they take: statistics.cuh.

#include "conv/statistics.cuh"

namespace reid::REID_TARGET {

namespace {

bool wanted(const NormStatisticsArgs& s) { return s.x && s.window.groups > 0 && s.window.length > 0 && s.window.count > 0; }

}  // namespace

const char* refuse_statistics(const ConvForwardArgs& a, int64_t rows) {
  for (const NormStatisticsArgs& s : a.statistics) {
    if (s.x && a.finish.mean) return "takes statistics, or finishes";
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
  NormStatisticsArgs windows[2];
  int number = 0;
  for (const NormStatisticsArgs& s : a.statistics) {
    if (wanted(s)) windows[number++] = s;
  }
  if (number > 0) merge_moments(moments, {rows, a.shape.k, 0}, windows, number, stream);
}

}  // namespace reid::REID_TARGET
