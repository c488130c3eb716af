// Reference: k-reciprocal encodings and the pairs within a Jaccard distance. Contraction is off: sums are as they are written.

#include <set>
#include <utility>
#include <vector>

#include "reference.h"
#include "reid/engine/exponential.h"
#include "reid/engine/op_args_jaccard.h"

namespace reid::cpu {

namespace {

void reciprocal_members(const ReciprocalMembersArgs& a) {
  const auto entry = [&](int64_t i, int64_t e) { return a.index[i * a.width + e]; };
  const auto bits = [&](int64_t i, int64_t e) -> uint8_t& { return a.member[i * a.full + e]; };
  const auto lists = [&](int64_t j, int64_t length, int64_t i) {
    const int32_t* list = a.index + j * a.width;
    return std::find(list, list + length, i) != list + length;
  };
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t e = 0; e < a.full; ++e) {
      const bool near = e < a.half && lists(entry(i, e), a.half, i);
      bits(i, e) = static_cast<uint8_t>((lists(entry(i, e), a.full, i) ? 1 : 0) + (near ? 2 : 0));
    }
  }
  for (int64_t i = 0; i < a.rows; ++i) {
    std::set<int32_t> own;
    for (int64_t e = 0; e < a.full; ++e) {
      if (bits(i, e) & 1) own.insert(entry(i, e));
    }
    for (int64_t e = 0; e < a.full; ++e) {
      const int64_t c = entry(i, e);
      int64_t size = 0, common = 0;
      for (int64_t t = 0; t < a.half; ++t) {
        if (!(bits(c, t) & 2)) continue;
        ++size;
        common += own.contains(entry(c, t));
      }
      a.joins[i * a.full + e] = bits(i, e) & 1 && 3 * common > 2 * size;
    }
  }
}

double distance(const ReciprocalRowsArgs& a, double square) { return a.largest ? std::sqrt(square) : std::min(2.0, square / 2); }
double exponent(const ReciprocalRowsArgs& a, int64_t i, double d) {
  if (!a.largest) return 2 * d;
  const double share = d / a.largest[i], square = share * share;
  return a.power == 4 ? square * square : square;
}

template <class T>
void reciprocal_rows(const ReciprocalRowsArgs& a) {
  if (!a.offset) a.made[0] = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    const int32_t* list = a.index + i * a.width;
    std::set<int32_t> all;
    for (int64_t e = 0; e < a.full; ++e) {
      if (a.member[i * a.full + e] & 1) all.insert(list[e]);
      for (int64_t t = 0; a.joins[i * a.full + e] && t < a.half; ++t) {
        if (a.member[list[e] * a.full + t] & 2) all.insert(a.index[list[e] * a.width + t]);
      }
    }
    if (!a.offset) {
      a.made[i + 1] = a.made[i] + static_cast<int64_t>(all.size());
      continue;
    }
    double sum = 0;
    int64_t at = a.offset[i];
    for (const int32_t j : all) {
      const auto e = std::find(list, list + a.width, j) - list;
      const double square = e < a.width ? 0 : sum_of_squares(a.depth, [&](int64_t k) {
        return double{in<T>(a.x)[i * a.depth + k]} * a.scale[i] - double{in<T>(a.x)[j * a.depth + k]} * a.scale[j];
      });
      a.column[at] = j;
      a.value[at] = exponential(-exponent(a, i, e < a.width ? a.distance[i * a.width + e] : distance(a, square)));
      sum += a.value[at++];
    }
    std::for_each(a.value + a.offset[i], a.value + at, [&](double& v) { v /= sum; });
  }
}

void mean_rows(const MeanRowsArgs& a) {
  if (!a.offset) a.made[0] = 0;
  std::vector<double> sums(static_cast<size_t>(a.rows), 0.0);
  for (int64_t i = 0; i < a.rows; ++i) {
    std::set<int32_t> all;
    for (int64_t r = 0; r < a.terms; ++r) {
      const int64_t j = a.index[i * a.width + r];
      for (int64_t e = a.in_offset[j]; e < a.in_offset[j + 1]; ++e) {
        all.insert(a.in_column[e]);
        sums[static_cast<size_t>(a.in_column[e])] += a.in_value[e];
      }
    }
    if (!a.offset) a.made[i + 1] = a.made[i] + static_cast<int64_t>(all.size());
    int64_t at = a.offset ? a.offset[i] : 0;
    for (const int32_t g : all) {
      const double sum = std::exchange(sums[static_cast<size_t>(g)], 0.0);
      if (!a.offset) continue;
      a.column[at] = g;
      a.value[at++] = sum / static_cast<double>(a.terms);
    }
  }
}

void transpose_rows(const TransposeRowsArgs& a) {
  std::fill_n(a.offset, a.rows + 1, int64_t{0});
  for (int64_t e = 0; e < a.entries; ++e) ++a.offset[a.in_column[e] + 1];
  for (int64_t i = 0; i < a.rows; ++i) a.offset[i + 1] += a.offset[i];
  std::vector<int64_t> next(a.offset, a.offset + a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t e = a.in_offset[i]; e < a.in_offset[i + 1]; ++e) {
      const int64_t to = next[static_cast<size_t>(a.in_column[e])]++;
      a.column[to] = static_cast<int32_t>(i);
      a.value[to] = a.in_value[e];
    }
  }
}

void jaccard_within(const JaccardWithinArgs& a) {
  std::vector<double> shared(static_cast<size_t>(a.total));
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t i = a.first + r;
    std::fill(shared.begin(), shared.end(), 0.0);
    for (int64_t e = a.offset[i]; e < a.offset[i + 1]; ++e) {
      for (int64_t t = a.inverse_offset[a.column[e]]; t < a.inverse_offset[a.column[e] + 1]; ++t)
        shared[static_cast<size_t>(a.inverse_column[t])] += std::min(a.value[e], a.inverse_value[t]);
    }
    int32_t* found = a.found + r * a.capacity;
    std::fill_n(found, a.capacity, -1);
    if (a.distance) std::fill_n(a.distance + r * a.capacity, a.capacity, 1.0);
    a.count[r] = 0;
    for (int64_t j = std::max(i + 1, a.first_column); j < a.total; ++j) {
      const double s = shared[static_cast<size_t>(j)], d = std::max(0.0, 1 - s / (2 - s));
      if (d > a.radius) continue;
      if (a.count[r] < a.capacity) found[a.count[r]] = static_cast<int32_t>(j);
      if (a.count[r] < a.capacity && a.distance) a.distance[r * a.capacity + a.count[r]] = d;
      ++a.count[r];
    }
  }
}

template <class Op, auto body>
void add() {
  Registry::add<Op>(DeviceType::cpu, {"reference", nullptr, [](const typename Op::Args& a, Stream&) { body(a); }});
}

}  // namespace

void register_reference_jaccard() {
  add<ReciprocalMembers, reciprocal_members>();
  REID_REFERENCE(ReciprocalRows, reciprocal_rows);
  add<MeanRows, mean_rows>();
  add<TransposeRows, transpose_rows>();
  add<JaccardWithin, jaccard_within>();
}

}  // namespace reid::cpu
