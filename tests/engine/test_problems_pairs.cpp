// Problem families of a search among rows of features. Each operation has one right result, to the last bit.

#include <bit>

#include "problems.h"
#include "reid/engine/op_args_pairs.h"

namespace reid::test {
namespace {

// What no floating tolerance applies to: all fields have types of their own. Lists are compared as halves of 32 bits: doubles hold no 64.
template <class Op>
Problem<Op> exact_problem() {
  return {.args = {}, .fields = {}, .bound = [](const Values&, const Values& oracle) { return oracle; }};
}

template <class T>
T* memory_of(Run& run, const char* name) {
  return static_cast<T*>(run.memory.at(name).data());
}

template <class A>
std::vector<Field<A>> row_sets(A& args, const ProblemLine& line) {
  args.m = line.at("m"), args.n = line.at("n"), args.columns = line.at("d");
  args.form = static_cast<DistanceForm>(line.get("form", 0));
  return {{"x", Field<A>::input, &A::x, {args.m, args.columns}},
          {"y", Field<A>::input, &A::y, {args.n, args.columns}},
          {"scale_x", Field<A>::input, &A::scale_x, {args.m}, Content::positive, DType::f64},
          {"scale_y", Field<A>::input, &A::scale_y, {args.n}, Content::positive, DType::f64}};
}

void center_rows(const ProblemLine& line, Sweep& sweep) {
  using A = CenterRowsArgs;
  auto p = exact_problem<CenterRows>();
  const int64_t n = p.args.rows = line.at("n"), d = p.args.columns = line.at("d");
  p.fields = {{"x", Field<A>::input, &A::x, {n, d}},
              {"scale", Field<A>::input, &A::scale, {n}, Content::positive, DType::f64},
              {"center", Field<A>::input, &A::center, {d}, Content::any, DType::f64},
              {"high", Field<A>::output, &A::high, {n, d}, Content::any, DType::bf16},
              {"low", Field<A>::output, &A::low, {n, d}, Content::any, DType::bf16},
              {"half", Field<A>::output, &A::half, {n}, Content::any, DType::f64}};
  p.adjust = [n](Run& run, DType) {  // numbers that bf16 does not hold
    for (int64_t i = 0; i < n; ++i) memory_of<double>(run, "scale")[i] /= 3;
  };
  check_problem(p, line, sweep);
}

void pair_distances(const ProblemLine& line, Sweep& sweep) {
  using A = PairDistancesArgs;
  auto p = exact_problem<PairDistances>();
  p.fields = row_sets<A>(p.args, line);
  p.args.count = line.at("pairs");
  p.fields.push_back({"pairs", Field<A>::input, &A::pairs, {p.args.count, 2}, Content::any, DType::i32});
  p.fields.push_back({"d", Field<A>::output, &A::d, {p.args.count}, Content::any, DType::f64});
  p.adjust = [&](Run& run, DType) {
    for (int64_t e = 0; e < p.args.count; ++e) {
      memory_of<int32_t>(run, "pairs")[2 * e] = static_cast<int32_t>((e * 5 + 2) % p.args.m);
      memory_of<int32_t>(run, "pairs")[2 * e + 1] = static_cast<int32_t>((e * 3 + 1) % p.args.n);
    }
  };
  check_problem(p, line, sweep);
}

uint64_t place_of(float key, int64_t column) {
  return uint64_t{ordered_bits(std::bit_cast<uint32_t>(key))} << 32 | static_cast<uint32_t>(column);
}

// free=1: nothing was seen yet. Else lists hold columns before the tile's, the last of some rows' places free.
void merge_nearest(const ProblemLine& line, Sweep& sweep) {
  using A = MergeNearestArgs;
  auto p = exact_problem<MergeNearest>();
  A& a = p.args;
  a.m = line.at("m"), a.n = line.at("n"), a.count = line.at("count");
  a.first_column = line.get("first", 0), a.own_column = line.get("own", -1), a.farthest = line.get("farthest", 0) != 0;
  p.fields = {{"products", Field<A>::input, &A::products, {a.m, a.n}, Content::any, DType::f32},
              {"edge", Field<A>::input, &A::edge, {a.n}, Content::any, DType::f32},
              {"before", Field<A>::input, &A::before, {a.m, a.count, 2}, Content::any, DType::i32},
              {"after", Field<A>::output, &A::after, {a.m, a.count, 2}, Content::any, DType::i32}};
  p.adjust = [&](Run& run, DType) {
    Rng rng = Rng(5).at(line.text);
    for (int64_t i = 0; i < a.m; ++i) {
      uint64_t* list = memory_of<uint64_t>(run, "before") + i * a.count;
      const int64_t held = line.get("free", 0) != 0 ? 0 : std::min(a.first_column, a.count - i % 3);
      for (int64_t e = 0; e < a.count; ++e) {
        list[e] = e < held ? place_of(static_cast<float>(rng.normal()), e * a.first_column / std::max<int64_t>(held, 1)) : kFreePlace;
      }
      std::sort(list, list + a.count);
    }
  };
  check_problem(p, line, sweep);
}

// Keys that are often equal, so that slack reaches some lists' ends; free: how many places of every fourth list are.
void rank_nearest(const ProblemLine& line, Sweep& sweep) {
  using A = RankNearestArgs;
  auto p = exact_problem<RankNearest>();
  A& a = p.args;
  p.fields = row_sets<A>(a, line);
  a.count = line.at("count"), a.wanted = line.at("wanted"), a.slack = 0.5, a.farthest = line.get("farthest", 0) != 0;
  p.fields.push_back({"lists", Field<A>::input, &A::lists, {a.m, a.count, 2}, Content::any, DType::i32});
  p.fields.push_back({"index", Field<A>::output, &A::index, {a.m, a.wanted}, Content::any, DType::i32});
  p.fields.push_back({"d", Field<A>::output, &A::d, {a.m, a.wanted}, Content::any, DType::f64});
  p.fields.push_back({"open", Field<A>::output, &A::open, {a.m}, Content::any, DType::u8});
  p.adjust = [&](Run& run, DType dtype) {
    for (int64_t i = 0; i < a.m; ++i) {
      uint64_t* list = memory_of<uint64_t>(run, "lists") + i * a.count;
      const int64_t held = a.count - (i % 4 == 0 ? line.get("free", 0) : std::max<int64_t>(0, a.count - a.n));
      for (int64_t e = 0; e < a.count; ++e) {
        const float key = static_cast<float>(e) * (i % 3 == 1 ? 0.25f : 0.01f) - 1;
        list[e] = e < held ? place_of(key, (e * 7 + i) % a.n) : kFreePlace;
      }
      std::sort(list, list + a.count);
    }
    // Equal rows: their distances tie.
    for (int64_t k = 0; a.n > 2 && k < a.columns; ++k) {
      REID_CHECK(dtype == DType::f32, "the problem is in ", dtype);
      memory_of<float>(run, "y")[a.columns + k] = memory_of<float>(run, "y")[2 * a.columns + k];
      memory_of<double>(run, "scale_y")[1] = memory_of<double>(run, "scale_y")[2];
    }
  };
  check_problem(p, line, sweep);
}

// What no pair is written to keeps a number that no pair has.
void fill_pairs(Run& run, int64_t capacity) { std::fill_n(memory_of<int32_t>(run, "pairs"), 2 * capacity, -7); }

template <class A>
void found_pairs(A& a, std::vector<Field<A>>& fields, const ProblemLine& line) {
  a.first_row = line.get("first_row", 0), a.first_column = line.get("first_column", 0), a.capacity = line.at("capacity");
  fields.push_back({"pairs", Field<A>::both, &A::pairs, {a.capacity, 2}, Content::any, DType::i32});
  fields.push_back({"found", Field<A>::output, &A::found, {1}, Content::any, DType::i32});
}

// Some rows without a pair, some with all.
void select_pairs(const ProblemLine& line, Sweep& sweep) {
  using A = SelectPairsArgs;
  auto p = exact_problem<SelectPairs>();
  A& a = p.args;
  a.m = line.at("m"), a.n = line.at("n"), a.above = line.get("above", 0) != 0, a.below = line.get("below", 0) != 0;
  p.fields = {{"products", Field<A>::input, &A::products, {a.m, a.n}, Content::any, DType::f32},
              {"edge", Field<A>::input, &A::edge, {a.n}, Content::positive, DType::f32},
              {"bar", Field<A>::input, &A::bar, {a.m}, Content::any, DType::f32}};
  found_pairs(a, p.fields, line);
  p.adjust = [&](Run& run, DType) {
    fill_pairs(run, a.capacity);
    for (int64_t i = 0; i < a.m; ++i) {
      if (i % 4 == 1) memory_of<float>(run, "bar")[i] = 1e6f;
      if (i % 4 == 2) memory_of<float>(run, "bar")[i] = -1e6f;
    }
  };
  check_problem(p, line, sweep);
}

// Up to `most` places a row, none for some; a few columns that take no part. Perhaps-bars lie below sure ones.
template <class Op>
Problem<Op> places_problem(const ProblemLine& line) {
  using A = typename Op::Args;
  auto p = exact_problem<Op>();
  A& a = p.args;
  a.m = line.at("m"), a.n = line.at("n");
  const int64_t most = line.at("most");
  std::vector<int32_t> first{0};
  for (int64_t i = 0; i < a.m; ++i) first.push_back(first.back() + static_cast<int32_t>(i % 4 == 2 ? 0 : std::max<int64_t>(1, most - i)));
  a.place_count = first.back();
  p.fields = {{"products", Field<A>::input, &A::products, {a.m, a.n}, Content::any, DType::f32},
              {"sure_edge", Field<A>::input, &A::sure_edge, {a.n}, Content::positive, DType::f32},
              {"maybe_edge", Field<A>::input, &A::maybe_edge, {a.n}, Content::positive, DType::f32},
              {"places", Field<A>::input, &A::places, {a.m + 1}, Content::any, DType::i32},
              {"sure_bar", Field<A>::input, &A::sure_bar, {a.place_count}, Content::any, DType::f32},
              {"maybe_bar", Field<A>::input, &A::maybe_bar, {a.place_count}, Content::any, DType::f32}};
  p.adjust = [first, a](Run& run, DType) {
    std::copy(first.begin(), first.end(), memory_of<int32_t>(run, "places"));
    float *sure = memory_of<float>(run, "sure_bar"), *maybe = memory_of<float>(run, "maybe_bar");
    for (int64_t i = 0; i < a.m; ++i)
      std::sort(sure + first[static_cast<size_t>(i)], sure + first[static_cast<size_t>(i) + 1], std::greater<>());
    for (int64_t e = 0; e < a.place_count; ++e) maybe[e] = sure[e] - 0.25f;
    for (int64_t j = 0; j < a.n; ++j) {
      memory_of<float>(run, "maybe_edge")[j] = memory_of<float>(run, "sure_edge")[j];
      if (j % 11 == 3) memory_of<float>(run, "maybe_edge")[j] = memory_of<float>(run, "sure_edge")[j] = INFINITY;
    }
  };
  return p;
}

void places(const ProblemLine& line, Sweep& sweep) {
  {
    using A = CountBeforeArgs;
    auto p = places_problem<CountBefore>(line);
    p.fields.push_back({"before", Field<A>::both, &A::before, {p.args.place_count}, Content::any, DType::i32});
    p.adjust = [&p, set = p.adjust](Run& run, DType dtype) {
      set(run, dtype);
      for (int64_t e = 0; e < p.args.place_count; ++e) memory_of<int32_t>(run, "before")[e] = static_cast<int32_t>(e % 50);
    };
    check_problem(p, line, sweep);
  }
  auto p = places_problem<SelectUndecided>(line);
  found_pairs(p.args, p.fields, line);
  p.adjust = [&p, set = p.adjust](Run& run, DType dtype) {
    set(run, dtype);
    fill_pairs(run, p.args.capacity);
  };
  check_problem(p, line, sweep);
}

}  // namespace

Families pairs_families() {
  return {{"center_rows", center_rows},   {"pair_distances", pair_distances}, {"merge_nearest", merge_nearest},
          {"rank_nearest", rank_nearest}, {"select_pairs", select_pairs},     {"places", places}};
}

}  // namespace reid::test
