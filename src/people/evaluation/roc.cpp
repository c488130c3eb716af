#include "people/evaluation/roc.h"

#include <cmath>

namespace reid {

namespace {

double share(int64_t part, int64_t whole) { return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0; }

// Accepting up to values[k]; k = -1 accepts nothing.
OperatingPoint point_at(const RocCounts& c, int64_t k) {
  OperatingPoint point;
  if (k < 0) return point;
  int64_t same = 0;
  for (size_t i = 0; i <= static_cast<size_t>(k); ++i) same += c.same[i];
  const auto at = static_cast<size_t>(k);
  return {c.values[at], share(c.below[at] + c.at[at], c.different), share(same, c.same_total)};
}

// The last value of a same pair of these counts up to which at most `rate` of the different pairs lie; -1 when there is none.
int64_t last_within(const RocCounts& c, double rate) {
  int64_t last = -1;
  for (size_t k = 0; k < c.values.size() && share(c.below[k] + c.at[k], c.different) <= rate; ++k) {
    if (c.same[k] > 0) last = static_cast<int64_t>(k);
  }
  return last;
}

// The polyline's corners, two for each value: (false accepts, true accepts) just below it and at it.
void add_equal_error(const RocCounts& c, VerificationReport& report) {
  double far = 0, tar = 0;  // of the corner before
  int64_t same = 0;
  const auto crossed = [&](double next_far, double next_tar, double value) {
    const double before = 1 - tar - far, after = 1 - next_tar - next_far;  // false rejects minus false accepts, falling
    if (after > 0) {
      far = next_far, tar = next_tar;
      return false;
    }
    report.equal_error_rate = far + (next_far - far) * (before / (before - after));
    report.equal_error_threshold = value;
    return true;
  };
  for (size_t k = 0; k < c.values.size(); ++k) {
    if (crossed(share(c.below[k], c.different), share(same, c.same_total), c.values[k])) return;
    same += c.same[k];
    if (crossed(share(c.below[k] + c.at[k], c.different), share(same, c.same_total), c.values[k])) return;
  }
}

void add_area(const RocCounts& c, VerificationReport& report) {
  double pairs = 0;  // (same, different) with the same one nearer; in doubles, as counts reach 10^18
  for (size_t k = 0; k < c.values.size(); ++k) {
    const double beyond = static_cast<double>(c.different - c.below[k] - c.at[k]) + static_cast<double>(c.at[k]) / 2;
    pairs += static_cast<double>(c.same[k]) * beyond;
  }
  report.area = pairs / static_cast<double>(c.same_total) / static_cast<double>(c.different);
}

// fast-reid scores pairs by distance and asks for different ones, from the far end: at a value the share of same pairs at or beyond it is
// the "false positive rate". roc_curve drops points between two equal steps, and starts at (0, 0).
double fastreid_rate(const RocCounts& c, double rate) {
  double nearest = rate, result = 0;  // the point (0, 0)
  int64_t reached = 0;                // same pairs at or beyond the value
  for (size_t k = c.values.size(); k-- > 0;) {
    if (c.same[k] == 0) continue;
    reached += c.same[k];
    const bool is_first = k + 1 == c.values.size() && c.below[k] + c.at[k] == c.different;
    const bool next_is_same = k > 0 && c.below[k] == c.below[k - 1] + c.at[k - 1];
    const bool dropped = !is_first && next_is_same && c.same[k - 1] == c.same[k] && c.at[k - 1] == c.at[k];
    const double gap = std::fabs(share(reached, c.same_total) - rate);
    if (!dropped && gap < nearest) nearest = gap, result = share(c.different - c.below[k], c.different);
  }
  return result;
}

}  // namespace

VerificationReport verification_report(const RocCounts& counts, const VerificationOptions& options) {
  VerificationReport report;
  report.same_pairs = counts.same_total;
  report.different_pairs = counts.different;
  report.rates = options.rates;
  report.wanted = options.wanted;
  for (double rate : options.rates) {
    report.points.push_back(point_at(counts, last_within(counts, rate)));
    report.fastreid.push_back(fastreid_rate(counts, rate));
  }
  for (int tenth = -60; tenth <= 0; ++tenth) report.curve.push_back(point_at(counts, last_within(counts, std::pow(10, tenth / 10.0))));
  add_equal_error(counts, report);
  add_area(counts, report);
  return report;
}

void recommend(const RocCounts& chosen_on, const RocCounts& measured_on, VerificationReport& report) {
  const int64_t k = last_within(chosen_on, report.wanted);
  report.chosen = point_at(chosen_on, k);
  report.measured = point_at(measured_on, k);
  report.chosen_same = chosen_on.same_total;
  report.chosen_different = chosen_on.different;
  report.measured_same = measured_on.same_total;
  report.measured_different = measured_on.different;
}

}  // namespace reid
