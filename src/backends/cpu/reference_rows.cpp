// Reference: rows of embeddings, the two row losses, what is picked and counted in rows, the memory of clusters.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "reference.h"

namespace reid::cpu {

namespace {

template <class T>
void l2_normalize(const L2NormalizeArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    const T* x = in<T>(a.x) + b * a.columns;
    double squares = 0;
    for (int64_t d = 0; d < a.columns; ++d) squares += double{x[d]} * double{x[d]};
    const double norm = std::sqrt(squares), divisor = std::max(norm, a.eps);
    for (int64_t d = 0; d < a.columns; ++d) out<T>(a.y)[b * a.columns + d] = static_cast<T>(double{x[d]} / divisor);
    out<T>(a.norm)[b] = static_cast<T>(norm);
  }
}

// dx = (dy - <dy, y> y) / |x|; below eps the divisor is a constant and the projection falls away.
template <class T>
void l2_normalize_backward(const L2NormalizeBackwardArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    const T* dy = in<T>(a.dy) + b * a.columns;
    const T* y = in<T>(a.y) + b * a.columns;
    const double norm = double{in<T>(a.norm)[b]};
    double dot = 0;
    for (int64_t d = 0; d < a.columns; ++d) dot += double{dy[d]} * double{y[d]};
    if (norm < a.eps) dot = 0;
    for (int64_t d = 0; d < a.columns; ++d) {
      out<T>(a.dx)[b * a.columns + d] = static_cast<T>((double{dy[d]} - dot * double{y[d]}) / std::max(norm, a.eps));
    }
  }
}

// log sum exp of s / tau over the entries whose mask is in `wanted`; -inf when there are none.
template <class T, class Mask, class Wanted>
double log_sum_exp(const T* s, const Mask& mask, int64_t count, double tau, Wanted&& wanted) {
  return cpu::log_sum_exp(count,
                          [&](int64_t j) { return wanted(mask[j]) ? double{s[j]} / tau : -std::numeric_limits<double>::infinity(); });
}

template <class Mask>
int64_t count_of(const Mask& mask, int64_t count, uint8_t kind) {
  int64_t found = 0;
  for (int64_t j = 0; j < count; ++j) found += mask[j] == kind;
  return found;
}

// With q_p = sigmoid(S - s_p / tau): dloss/ds_p = -q_p / (tau |P|), dloss/ds_n = exp(s_n / tau - S) * sum_p q_p / (tau |P|).
template <class T>
void one_positive_rows(const OnePositiveRowsArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    const T* s = in<T>(a.s) + b * a.columns;
    const uint8_t* mask = a.mask + b * a.columns;
    T* ds = out<T>(a.ds) + b * a.columns;
    std::fill(ds, ds + a.columns, T{0});
    out<T>(a.loss)[b] = 0;
    const int64_t positives = count_of(mask, a.columns, kPositive);
    if (positives == 0 || count_of(mask, a.columns, kNegative) == 0) continue;
    const double tau = double{in<T>(a.tau)[b]};
    const double negatives = log_sum_exp(s, mask, a.columns, tau, [](uint8_t m) { return m == kNegative; });
    const double share = double{in<T>(a.weight)[b]} / static_cast<double>(positives);
    double loss = 0, pulled = 0;
    for (int64_t j = 0; j < a.columns; ++j) {
      if (mask[j] != kPositive) continue;
      const double gap = negatives - double{s[j]} / tau, q = sigmoid(gap);
      loss += softplus(gap);
      pulled += q;
      ds[j] = static_cast<T>(-share * q / tau);
    }
    for (int64_t j = 0; j < a.columns; ++j) {
      if (mask[j] == kNegative) ds[j] = static_cast<T>(share * pulled / tau * std::exp(double{s[j]} / tau - negatives));
    }
    out<T>(a.loss)[b] = static_cast<T>(share * loss);
  }
}

// A row's mask, or what stands for it.
struct RowMask {
  const uint8_t* mask;
  int64_t label;
  RowMask(const SoftmaxRowsArgs& a, int64_t b) : mask(a.mask ? a.mask + b * a.columns : nullptr), label(a.mask ? 0 : a.label[b]) {}
  uint8_t operator[](int64_t j) const { return mask ? mask[j] : uint8_t{j == label ? kPositive : kNegative}; }
};

template <class T>
void softmax_rows(const SoftmaxRowsArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    const T* s = in<T>(a.s) + b * a.columns;
    const RowMask mask(a, b);
    T* ds = out<T>(a.ds) + b * a.columns;
    std::fill(ds, ds + a.columns, T{0});
    out<T>(a.loss)[b] = 0;
    const int64_t positives = count_of(mask, a.columns, kPositive), negatives = count_of(mask, a.columns, kNegative);
    if (positives == 0) continue;
    const double tau = double{in<T>(a.tau)[b]}, weight = double{in<T>(a.weight)[b]};
    const double total = log_sum_exp(s, mask, a.columns, tau, [](uint8_t m) { return m != kIgnored; });
    const double floor = a.smoothing / static_cast<double>(positives + negatives);
    const double target = (1 - a.smoothing) / static_cast<double>(positives) + floor;
    double loss = 0;
    for (int64_t j = 0; j < a.columns; ++j) {
      if (mask[j] == kIgnored) continue;
      const double log_probability = double{s[j]} / tau - total, q = mask[j] == kPositive ? target : floor;
      if (q != 0) loss -= q * log_probability;
      ds[j] = static_cast<T>(weight * (std::exp(log_probability) - q) / tau);
    }
    out<T>(a.loss)[b] = static_cast<T>(weight * loss);
  }
}

template <class T>
void running_update(const RunningUpdateArgs& a) {
  for (const RunningMove& m : std::span(a.moves, static_cast<size_t>(a.number))) {
    const auto move = [&](void* running, const void* seen, double share) {
      const T kept = static_cast<T>(1 - m.momentum), taken = static_cast<T>(share);
      for (int64_t j = 0; j < m.count; ++j) {
        double sum = 0;
        for (int64_t g = 0; g < m.groups; ++g) sum += double{in<T>(seen)[g * m.count + j]};
        out<T>(running)[j] = kept * out<T>(running)[j] + taken * static_cast<T>(sum);
      }
    };
    const double share = m.momentum / static_cast<double>(m.groups);
    move(m.mean, m.seen_mean, share);
    move(m.variance, m.seen_variance, share * m.unbiased);
  }
}

template <class T>
void sums_statistics(const SumsStatisticsArgs& a) {
  const auto rows = static_cast<double>(a.rows);
  for (int64_t j = 0; j < a.count; ++j) {
    const double mean = double{in<T>(a.sums)[j]} / rows;
    out<T>(a.mean)[j] = static_cast<T>(mean);
    out<T>(a.variance)[j] = static_cast<T>(std::max(double{in<T>(a.squares)[j]} / rows - mean * mean, 0.0));
  }
}

template <class T>
void add_pairs(const AddPairsArgs& a) {
  for (const AddPair& pair : std::span(a.pairs, static_cast<size_t>(a.number))) {
    for (int64_t i = 0; i < pair.count; ++i) out<T>(pair.to)[i] += in<T>(pair.from)[i];
  }
}

template <class T>
void top_share(const TopShareArgs& a) {
  int64_t right = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* s = in<T>(a.s) + i * a.columns;
    right += std::max_element(s, s + a.columns) - s == a.label[i];
  }
  *out<double>(a.share) = a.rows == 0 ? 0 : static_cast<double>(right) / static_cast<double>(a.rows);
}

// Moves one vector towards v.
template <class T>
void move_towards(T* c, const std::vector<double>& v, double momentum) {
  std::vector<double> moved(v.size());
  double squared = 0;
  for (size_t d = 0; d < v.size(); ++d) {
    moved[d] = momentum * double{c[d]} + (1 - momentum) * v[d];
    squared += moved[d] * moved[d];
  }
  if (squared == 0) return;
  for (size_t d = 0; d < v.size(); ++d) c[d] = static_cast<T>(moved[d] / std::sqrt(squared));
}

template <class T>
std::vector<double> least_alike(const std::vector<const T*>& rows, const T* c, int64_t columns) {
  const auto product = [&](const T* row) {
    double sum = 0;
    for (int64_t d = 0; d < columns; ++d) sum += double{row[d]} * double{c[d]};
    return sum;
  };
  const T* least = rows.front();
  for (const T* row : rows) {
    if (product(row) < product(least)) least = row;
  }
  return {least, least + columns};
}

template <class T>
std::vector<double> mean_of(const std::vector<const T*>& rows, int64_t columns) {
  std::vector<double> mean(static_cast<size_t>(columns));
  for (const T* row : rows) {
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += double{row[d]} / static_cast<double>(rows.size());
  }
  return mean;
}

template <class T>
void memory_update(const MemoryUpdateArgs& a) {
  std::map<int32_t, std::vector<const T*>> batch;
  for (int64_t i = 0; i < a.rows; ++i) batch[a.label[i]].push_back(in<T>(a.f) + i * a.columns);
  for (const auto& [label, rows] : batch) {  // clusters do not meet: their order does not matter
    T* c = out<T>(a.c) + label * a.columns;
    switch (a.rule) {
      case MemoryRule::all:
        for (const T* row : rows) move_towards(c, std::vector<double>(row, row + a.columns), a.momentum);
        break;
      case MemoryRule::hard: move_towards(c, least_alike<T>(rows, c, a.columns), a.momentum); break;
      case MemoryRule::mean: move_towards(c, mean_of(rows, a.columns), a.momentum); break;
    }
  }
}

template <class T>
void hardest_negatives(const HardestNegativesArgs& a) {
  std::vector<int64_t> negatives;
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* s = in<T>(a.s) + i * a.columns;
    uint8_t* kept = a.kept + i * a.columns;
    negatives.clear();
    for (int64_t j = 0; j < a.columns; ++j) {
      kept[j] = a.mask[i * a.columns + j];
      if (kept[j] == kNegative) negatives.push_back(j);
    }
    const int64_t count = std::min(a.count, static_cast<int64_t>(negatives.size()));
    std::partial_sort(negatives.begin(), negatives.begin() + count, negatives.end(),
                      [s](int64_t u, int64_t v) { return s[u] > s[v] || (s[u] == s[v] && u < v); });
    for (auto other = negatives.begin() + count; other != negatives.end(); ++other) kept[*other] = kIgnored;
  }
}

}  // namespace

void register_reference_rows() {
  REID_REFERENCE(L2Normalize, l2_normalize);
  REID_REFERENCE(L2NormalizeBackward, l2_normalize_backward);
  REID_REFERENCE(OnePositiveRows, one_positive_rows);
  REID_REFERENCE(SoftmaxRows, softmax_rows);
  REID_REFERENCE(HardestNegatives, hardest_negatives);
  REID_REFERENCE(TopShare, top_share);
  REID_REFERENCE(RunningUpdate, running_update);
  REID_REFERENCE(SumsStatistics, sums_statistics);
  REID_REFERENCE(AddPairs, add_pairs);
  REID_REFERENCE(MemoryUpdate, memory_update);
}

}  // namespace reid::cpu
