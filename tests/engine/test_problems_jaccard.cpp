// Problem families of the operations of k-reciprocal encodings. Their results are defined to the last bit: nothing may differ.

#include <numeric>

#include "problems.h"
#include "reid/engine/op_args_jaccard.h"

namespace reid::test {
namespace {

// Lists of rows that lie in groups (i modulo `groups`, so that columns are far apart): row i, then its group in an order of its own
// with a stranger here and there, then the rest of the set. So some entries are answered and some are not, and sets differ in length.
Tensor lists(const ProblemLine& line) {
  const int64_t n = line.at("n"), width = line.at("width"), groups = line.get("groups", 1);
  std::vector<int32_t> index;
  for (int64_t i = 0; i < n; ++i) {
    Rng rng = Rng(5).at(line.text).at(static_cast<uint64_t>(i));
    std::vector<int32_t> near, list{static_cast<int32_t>(i)};
    for (int64_t j = i % groups; j < n; j += groups) near.push_back(static_cast<int32_t>(j));
    for (size_t t = near.size(); t > 1; --t) std::swap(near[t - 1], near[static_cast<size_t>(rng.below(static_cast<int64_t>(t)))]);
    for (size_t t = 0; t + 6 < near.size(); t += 7) near[t] = static_cast<int32_t>(rng.below(n));
    for (int64_t t = 0; t < n; ++t) near.push_back(static_cast<int32_t>((i + t) % n));
    std::vector<bool> seen(static_cast<size_t>(n), false);
    seen[static_cast<size_t>(i)] = true;
    for (size_t t = 0; static_cast<int64_t>(list.size()) < width; ++t) {
      if (seen[static_cast<size_t>(near[t])]) continue;
      seen[static_cast<size_t>(near[t])] = true;
      list.push_back(near[t]);
    }
    index.insert(index.end(), list.begin(), list.end());
  }
  return Tensor::from(index, {n, width});
}

// A problem whose inputs are given as tensors.
template <class Op>
struct Given {
  using A = typename Op::Args;
  Problem<Op> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  std::vector<std::pair<std::string, Tensor>> inputs = {};

  void in(const char* name, Place<A> place, const Tensor& t) {
    inputs.emplace_back(name, t);
    p.fields.push_back({name, Field<A>::input, place, t.shape(), Content::any, t.dtype()});
    if (t.dtype() == DType::f32) p.fields.back().dtype.reset();
  }
  void out(const char* name, Place<A> place, Shape shape, DType dtype) {
    p.fields.push_back({name, Field<A>::output, place, shape, Content::any, dtype});
  }
  void check(const ProblemLine& line, Sweep& sweep) {
    p.adjust = [this](Run& run, DType) {
      for (const auto& [name, t] : inputs) std::memcpy(run.memory.at(name).data(), t.raw(), static_cast<size_t>(t.bytes()));
    };
    p.bound = [](const Values&, const Values& oracle) { return oracle; };
    check_problem(p, line, sweep);
  }
};

template <class Op>
void given_lists(Given<Op>& g, const Tensor& index) {
  g.p.args.rows = index.dim(0), g.p.args.width = index.dim(1);
  g.in("index", &Op::Args::index, index);
}

void check_members(const ProblemLine& line, Sweep& sweep, const Tensor& index, int64_t full, int64_t half) {
  using A = ReciprocalMembersArgs;
  Given<ReciprocalMembers> g;
  given_lists(g, index);
  g.p.args.full = full, g.p.args.half = half;
  g.out("member", &A::member, {index.dim(0), full}, DType::u8);
  g.out("joins", &A::joins, {index.dim(0), full}, DType::u8);
  g.check(line, sweep);
}

// The places of entries, then the entries.
template <class Op, class Inputs>
void check_counted(const ProblemLine& line, Sweep& sweep, const ops::SparseRows& made, Inputs inputs) {
  using A = typename Op::Args;
  const int64_t rows = made.offset.dim(0) - 1, entries = made.column.dim(0);
  Given<Op> places, filled;
  inputs(places);
  inputs(filled);
  places.out("made", &A::made, {rows + 1}, DType::i64);
  filled.p.args.entries = entries;
  filled.in("offset", &A::offset, made.offset);
  filled.out("column", &A::column, {entries}, DType::i32);
  filled.out("value", &A::value, {entries}, DType::f64);
  places.check(line, sweep);
  filled.check(line, sweep);
}

void check_transpose(const ProblemLine& line, Sweep& sweep, const ops::SparseRows& rows) {
  using A = TransposeRowsArgs;
  Given<TransposeRows> g;
  const Shape entries = rows.column.shape();
  g.p.args.rows = rows.offset.dim(0) - 1, g.p.args.entries = entries[0];
  g.in("in_offset", &A::in_offset, rows.offset);
  g.in("in_column", &A::in_column, rows.column);
  g.in("in_value", &A::in_value, rows.value);
  g.out("offset", &A::offset, rows.offset.shape(), DType::i64);
  g.out("column", &A::column, entries, DType::i32);
  g.out("value", &A::value, entries, DType::f64);
  g.check(line, sweep);
}

void check_within(const ProblemLine& line, Sweep& sweep, const ops::SparseRows& v) {
  using A = JaccardWithinArgs;
  const ops::SparseRows inverse = ops::transpose_rows(v);
  const int64_t n = line.at("n"), first = line.get("first", 0), rows = line.get("rows", n - first), capacity = line.get("capacity", 8);
  Given<JaccardWithin> g;
  g.p.args.total = n, g.p.args.first = first, g.p.args.rows = rows, g.p.args.capacity = capacity, g.p.args.entries = v.column.dim(0);
  g.p.args.radius = line.real("radius", 0.7), g.p.args.first_column = line.get("from", 0);
  g.in("offset", &A::offset, v.offset);
  g.in("column", &A::column, v.column);
  g.in("value", &A::value, v.value);
  g.in("inverse_offset", &A::inverse_offset, inverse.offset);
  g.in("inverse_column", &A::inverse_column, inverse.column);
  g.in("inverse_value", &A::inverse_value, inverse.value);
  g.out("count", &A::count, {rows}, DType::i32);
  g.out("found", &A::found, {rows, capacity}, DType::i32);
  if (line.get("distances", 0) != 0) g.out("distance", &A::distance, {rows, capacity}, DType::f64);
  g.check(line, sweep);
}

void check_means(const ProblemLine& line, Sweep& sweep, const ops::SparseRows& rows, const Tensor& index, int64_t terms) {
  check_counted<MeanRows>(line, sweep, ops::mean_rows(rows, index, terms), [&](Given<MeanRows>& g) {
    using A = MeanRowsArgs;
    given_lists(g, index);
    g.p.args.terms = terms, g.p.args.in_entries = rows.column.dim(0);
    g.in("in_offset", &A::in_offset, rows.offset);
    g.in("in_column", &A::in_column, rows.column);
    g.in("in_value", &A::in_value, rows.value);
  });
}

// A matrix with entries in the first row, in the first column and on the diagonal: the longest rows and columns among the shortest.
void arrow(const ProblemLine& line, Sweep& sweep) {
  const auto n = static_cast<int32_t>(line.at("n"));
  Rng rng = Rng(8).at(line.text);
  std::vector<int64_t> offset{0};
  std::vector<int32_t> column, index;
  std::vector<double> value;
  for (int32_t i = 0; i < n; ++i) {
    for (int32_t g = 0; g < n; ++g) {
      if (i == 0 || g == 0 || i == g) column.push_back(g), value.push_back(0.3 + 0.2 * rng.uniform());
    }
    offset.push_back(static_cast<int64_t>(column.size()));
    index.insert(index.end(), {i, i % 50 == 7 ? 0 : (i + 1) % n});
  }
  const ops::SparseRows rows{Tensor::from(offset), Tensor::from(column), Tensor::from(value)};
  check_means(line, sweep, rows, Tensor::from(index, {n, 2}), 2);
  check_transpose(line, sweep, rows);
  check_within(line, sweep, rows);
}

// All operations from lists to pairs. What each reads was made by the reference, which the CPU prefers.
void jaccard(const ProblemLine& line, Sweep& sweep) {
  const int64_t n = line.at("n"), width = line.at("width"), full = line.get("full", width), half = line.at("half");
  const int64_t terms = line.get("terms", 1), depth = line.get("depth", 5);
  const Tensor index = lists(line), x = normal_tensor(line.text, {n, depth}, DType::f32);
  const Tensor scale = Tensor::full({n}, 0.4, DType::f64), distance = Tensor::empty({n, width}, DType::f64);
  const int power = static_cast<int>(line.get("power", 0));  // 0: no largest distances
  Rng rng = Rng(6).at(line.text);
  for (double& d : distance.span<double>()) d = 2 * rng.uniform();
  Tensor largest;
  if (power != 0) {
    largest = Tensor::empty({n}, DType::f64);
    for (double& l : largest.span<double>()) l = 2 + rng.uniform();
  }
  check_members(line, sweep, index, full, half);
  const ops::ReciprocalSets sets = ops::reciprocal_members(index, full, half);
  const ops::SparseRows plain = ops::reciprocal_rows(x, scale, index, distance, sets, largest, power == 0 ? 2 : power);
  check_counted<ReciprocalRows>(line, sweep, plain, [&](Given<ReciprocalRows>& g) {
    using A = ReciprocalRowsArgs;
    given_lists(g, index);
    g.p.args.full = full, g.p.args.half = half, g.p.args.depth = depth;
    g.in("x", &A::x, x);
    g.in("scale", &A::scale, scale);
    if (power != 0) g.in("largest", &A::largest, largest);
    g.p.args.power = power;
    g.in("distance", &A::distance, distance);
    g.in("member", &A::member, sets.member);
    g.in("joins", &A::joins, sets.joins);
  });
  check_means(line, sweep, plain, index, terms);
  const ops::SparseRows v = ops::mean_rows(plain, index, terms);
  check_transpose(line, sweep, v);
  check_within(line, sweep, v);
}

}  // namespace

Families jaccard_families() { return {{"jaccard", jaccard}, {"arrow", arrow}}; }

}  // namespace reid::test
