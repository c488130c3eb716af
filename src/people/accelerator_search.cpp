#include "people/accelerator_search.h"

#include <limits>
#include <optional>

#include "reid/engine/op_args_pairs.h"
#include "reid/engine/registry.h"

namespace reid {

namespace {

template <class T>
Tensor upload(const std::vector<T>& values, Device device) {
  return Tensor::from(values, Shape{static_cast<int64_t>(values.size())}, device);
}

// The rows of both sides with what their distances need, for an operation's arguments.
class Rows {
 public:
  explicit Rows(const DistanceTiles& pairs)
      : pairs_(pairs), scale_a_(scales(pairs.squared_a())), scale_b_(pairs.same() ? scale_a_ : scales(pairs.squared_b())) {}

  Device device() const { return pairs_.device(); }

  void set(RowSets& r) const {
    r.x = pairs_.there_a().raw(), r.y = pairs_.there_b().raw();
    r.scale_x = scale_a_.raw(), r.scale_y = scale_b_.raw();
    r.m = pairs_.count(), r.n = pairs_.width(), r.columns = pairs_.a().dim(1);
    r.dtype = pairs_.dtype();
    switch (pairs_.metric()) {
      case Metric::cosine: r.form = DistanceForm::cosine; break;
      case Metric::euclidean: r.form = DistanceForm::euclidean; break;
      case Metric::squared_euclidean: r.form = DistanceForm::squared; break;
    }
  }

  // indices [P, 2] i32 there -> [P] f64 on the host
  Tensor distances(const Tensor& indices) const {
    const Tensor d = Tensor::empty({indices.dim(0)}, DType::f64, device());
    PairDistancesArgs a{};
    set(a);
    a.pairs = indices.address<int32_t>(), a.d = d.raw(), a.count = indices.dim(0);
    dispatch<PairDistances>(device(), a);
    return d.to(Device{});
  }

 private:
  Tensor scales(const std::vector<double>& squared) const {
    const bool cosine = pairs_.metric() == Metric::cosine;
    return upload(cosine ? inverse_lengths(squared) : std::vector<double>(squared.size(), 1), device());
  }

  const DistanceTiles& pairs_;
  Tensor scale_a_, scale_b_;
};

// Room for pairs that an operation finds, and their way to the host.
class PairBuffer {
 public:
  explicit PairBuffer(const Rows& rows)
      : rows_(rows),
        capacity_(std::max(pairs_at_a_time, accelerator_tile)),
        pairs_(Tensor::empty({capacity_, 2}, DType::i32, rows.device())),
        found_(Tensor::empty({1}, DType::i32, rows.device())) {}

  // Calls run(out, first, rows) for rows of a tile, which finds pairs among them; for half as many where it finds more than there is room
  // for. Any tile's row has room.
  template <class Run>
  void find(const ProductTile& tile, int64_t first, int64_t rows, Run&& run, UsePairs use) {
    run(FoundPairs{.pairs = pairs_.address<int32_t>(),
                   .found = found_.address<int32_t>(),
                   .first_row = tile.row + first,
                   .first_column = tile.column,
                   .capacity = capacity_},
        first, rows);
    const int64_t count = static_cast<int64_t>(found_.to(Device{}).item());
    if (count == 0) return;
    if (count > capacity_) {
      find(tile, first, rows / 2, run, use);
      find(tile, first + rows / 2, rows - rows / 2, run, use);
      return;
    }
    const Tensor pairs = pairs_.rows(0, count), distances = rows_.distances(pairs), here = pairs.to(Device{});
    use(here.span<int32_t>(), distances.span<double>());
  }

 private:
  const Rows& rows_;
  int64_t capacity_;
  Tensor pairs_, found_;
};

// Calls use with the pairs of a tile that reach a bar from above or from below: edges [N], bars [M] of all rows, there.
enum class Side : uint8_t { above, below };
void find_reaching(PairBuffer& buffer, const ProductTile& tile, const Tensor& edges, const Tensor& bars, Side side, bool upper_triangle,
                   UsePairs use) {
  const auto run = [&](const FoundPairs& out, int64_t first, int64_t rows) {
    SelectPairsArgs a{};
    static_cast<FoundPairs&>(a) = out;
    a.products = tile.products + first * tile.columns;
    a.edge = edges.address<float>() + tile.column, a.bar = bars.address<float>() + tile.row + first;
    a.m = rows, a.n = tile.columns;
    a.above = upper_triangle, a.below = side == Side::below;
    dispatch<SelectPairs>(edges.device(), a);
  };
  buffer.find(tile, 0, tile.rows, run, use);
}

// --- the nearest rows ---

// Of lists in which `sought` are sought among `others`: longer by some whose place the products may leave open.
int64_t list_length(int64_t others, int64_t sought) { return std::min(others, sought + sought / 4 + 16); }

struct Ranked {
  Tensor index, distance, open;  // [M, sought], [M, sought], [M]; on the host
};

// Running lists of the nearest rows (or the farthest).
class Lists {
 public:
  Lists(const DistanceTiles& pairs, const PairFilter& filter, const Rows& rows, int64_t sought, bool farthest)
      : pairs_(pairs), filter_(filter), rows_(rows), sought_(sought), farthest_(farthest) {
    length_ = list_length(candidates(), sought);
    const double weight = farthest ? -1 - filter.margin() : 1 - filter.margin();
    std::vector<float> edges;
    for (double h : filter.half_b()) edges.push_back(to_float(weight * h));
    edges_ = upload(edges, rows.device());
    now_ = next_ = Tensor::full({pairs.count(), length_}, -1, DType::i64).to(rows.device());
    next_ = now_.clone();
  }

  // Strips of columns come one after the other, so that each row's list is merged in turn.
  void add(const ProductTile& tile) {
    if (tile.column != column_ && column_ >= 0) std::swap(now_, next_);
    column_ = tile.column;
    dispatch<MergeNearest>(rows_.device(), {.products = tile.products,
                                            .edge = edges_.address<float>() + tile.column,
                                            .before = now_.rows(tile.row, tile.row + tile.rows).raw(),
                                            .after = next_.rows(tile.row, tile.row + tile.rows).raw(),
                                            .m = tile.rows,
                                            .n = tile.columns,
                                            .count = length_,
                                            .first_column = tile.column,
                                            .own_column = skips_self() ? tile.row : -1,
                                            .farthest = farthest_});
  }

  Ranked rank() const {
    const int64_t count = pairs_.count();
    const auto most = [](std::span<const double> h) { return *std::max_element(h.begin(), h.end()); };
    const double longest = std::max(most(filter_.half_a()), most(filter_.half_b()));
    const Device device = rows_.device();
    const Tensor index = Tensor::empty({count, sought_}, DType::i32, device), open = Tensor::empty({count}, DType::u8, device);
    const Tensor distance = Tensor::empty({count, sought_}, DType::f64, device);
    RankNearestArgs a{};
    rows_.set(a);
    a.lists = next_.raw(), a.index = index.address<int32_t>(), a.d = distance.raw(), a.open = open.address<uint8_t>();
    a.count = length_, a.wanted = sought_, a.farthest = farthest_;
    // q lies within c (h_i + h_j) + t of what a key says: two keys that differ by more than twice that are in the order of their distances.
    a.slack = 4 * filter_.margin() * longest + 2 * filter_.absolute();
    dispatch<RankNearest>(device, a);
    Ranked ranked{index.to(Device{}), distance.to(Device{}), open.to(Device{})};
    if (length_ == candidates()) ranked.open.fill(0);  // nothing fell off the end
    return ranked;
  }

 private:
  bool skips_self() const { return pairs_.same() && !farthest_; }
  int64_t candidates() const { return pairs_.width() - (skips_self() ? 1 : 0); }

  const DistanceTiles& pairs_;
  const PairFilter& filter_;
  const Rows& rows_;
  int64_t sought_, length_ = 0, column_ = -1;
  bool farthest_;
  Tensor edges_, now_, next_;  // the lists before and after the strip of columns at hand
};

using Place = std::pair<double, int32_t>;

// The first few of a row by (distance, column), or by (-distance, column).
class BestPlaces {
 public:
  void add(double distance, int32_t column, size_t wanted, bool farthest) {
    places_.emplace_back(farthest ? -distance : distance, column);
    if (places_.size() < 2 * wanted + 16) return;  // memory does not grow with what ties
    std::nth_element(places_.begin(), places_.begin() + static_cast<std::ptrdiff_t>(wanted), places_.end());
    places_.resize(wanted);
  }
  const std::vector<Place>& sorted() {
    std::sort(places_.begin(), places_.end());
    return places_;
  }

 private:
  std::vector<Place> places_;
};

// The nearest (or farthest) of rows whose list left some out that may belong to it: all pairs that can be within the last distance of the
// list, which bounds it, are measured. One more pass over the products.
void close_lists(const DistanceTiles& pairs, const PairFilter& filter, const Rows& rows, bool farthest, const Ranked& ranked) {
  const int64_t count = pairs.count(), sought = ranked.index.dim(1);
  const std::span<const uint8_t> open = ranked.open.span<uint8_t>();
  if (std::find(open.begin(), open.end(), 1) == open.end()) return;
  const double sign = farthest ? -1 : 1;
  std::vector<float> bars;
  for (int64_t i = 0; i < count; ++i) {
    const double key = filter.half_square(ranked.distance.data<double>()[i * sought + sought - 1]);
    const double room = 0x1p-50 * key + 2 * filter.absolute();
    const double bar = (1 - sign * filter.margin()) * filter.half_a()[static_cast<size_t>(i)] - key - sign * room;
    const bool is_open = open[static_cast<size_t>(i)] != 0;
    bars.push_back(is_open ? to_float(bar) : static_cast<float>(sign) * std::numeric_limits<float>::infinity());
  }
  const Tensor bars_there = upload(bars, rows.device());
  const Tensor edges = upload(farthest ? filter.upper_edges() : filter.lower_edges(), rows.device());
  std::vector<BestPlaces> found(static_cast<size_t>(count));
  PairBuffer buffer(rows);
  const auto use = [&](std::span<const int32_t> indices, std::span<const double> distances) {
    for (size_t p = 0; p < distances.size(); ++p) {
      const int32_t i = indices[2 * p], j = indices[2 * p + 1];
      if (farthest || !pairs.same() || i != j) found[static_cast<size_t>(i)].add(distances[p], j, static_cast<size_t>(sought), farthest);
    }
  };
  const Side side = farthest ? Side::below : Side::above;
  filter.for_each(
      {}, [&](const ProductTile& tile) { find_reaching(buffer, tile, edges, bars_there, side, false, use); }, true);
  for (int64_t i = 0; i < count; ++i) {
    if (open[static_cast<size_t>(i)] == 0) continue;
    const std::vector<Place>& places = found[static_cast<size_t>(i)].sorted();
    REID_CHECK(static_cast<int64_t>(places.size()) >= sought, "[neighbors] ", rows.device(), " found ", places.size(), " of ", sought,
               " neighbors of row ", i, ": its products are less exact than this program relies on");
    for (int64_t e = 0; e < sought; ++e) {
      ranked.distance.data<double>()[i * sought + e] = sign * places[static_cast<size_t>(e)].first;
      ranked.index.data<int32_t>()[i * sought + e] = places[static_cast<size_t>(e)].second;
    }
  }
}

// Lists of `width`, the row itself first in a set among itself.
void write_lists(const DistanceTiles& pairs, const Ranked* ranked, Neighbors& result) {
  const int64_t sought = ranked ? ranked->index.dim(1) : 0, own = result.width - sought;
  for (int64_t i = 0; i < pairs.count(); ++i) {
    for (int64_t e = 0; e < result.width; ++e) {
      const size_t to = static_cast<size_t>(i * result.width + e);
      const int64_t from = i * sought + e - own;
      result.index[to] = e < own ? static_cast<int32_t>(i) : ranked->index.data<int32_t>()[from];
      if (!result.distance.empty()) result.distance[to] = e < own ? 0 : ranked->distance.data<double>()[from];
    }
  }
}

}  // namespace

std::vector<double> distances_there(const DistanceTiles& pairs, const std::vector<int32_t>& indices) {
  const int64_t count = static_cast<int64_t>(indices.size()) / 2;
  std::vector<double> distances;
  const Rows rows(pairs);
  for (int64_t first = 0; first < count; first += pairs_at_a_time) {
    const int64_t some = std::min(pairs_at_a_time, count - first);
    const std::span<const int32_t> part(indices.data() + 2 * first, static_cast<size_t>(2 * some));
    const Tensor d = rows.distances(Tensor::from(part, {some, 2}, pairs.device()));
    distances.insert(distances.end(), d.span<double>().begin(), d.span<double>().end());
  }
  return distances;
}

int64_t search_bytes_there(int64_t rows_a, int64_t rows_b, int64_t columns, bool same, int64_t width) {
  const int64_t rows = rows_a + (same ? 0 : rows_b), tile = std::min(rows_a, accelerator_tile) * std::min(rows_b, accelerator_tile);
  const int64_t each = columns * (4 + 2 * 2) + 4 * 8;  // features, two parts in bf16; scales, h and what is tested against
  const int64_t lists = rows_a * (list_length(rows_b, width) * (2 * 8 + 8) + width * (4 + 8) + 1);  // before, after, distances; results
  return rows * each + tile * 4 + std::max(pairs_at_a_time, accelerator_tile) * (2 * 4 + 8) + (width > 0 ? lists : 0);
}

Neighbors nearest_there(const DistanceTiles& pairs, const PairFilter& filter, int64_t width, const NeighborOptions& options) {
  Neighbors result;
  result.width = width;
  result.index.resize(static_cast<size_t>(pairs.count() * width));
  if (options.distances) result.distance.resize(result.index.size());
  const Rows rows(pairs);
  const int64_t sought = pairs.same() ? width - 1 : width;
  std::optional<Lists> nearest, farthest;
  if (sought > 0) nearest.emplace(pairs, filter, rows, sought, false);
  if (options.farthest) farthest.emplace(pairs, filter, rows, 1, true);
  if (nearest || farthest) {
    filter.for_each(
        options.progress,
        [&](const ProductTile& tile) {
          if (nearest) nearest->add(tile);
          if (farthest) farthest->add(tile);
        },
        true);
  }
  const auto ranked = [&](const std::optional<Lists>& lists, bool is_farthest) {
    std::optional<Ranked> found;
    if (!lists) return found;
    found = lists->rank();
    close_lists(pairs, filter, rows, is_farthest, *found);
    return found;
  };
  const std::optional<Ranked> near = ranked(nearest, false), far = ranked(farthest, true);
  write_lists(pairs, near ? &*near : nullptr, result);
  if (far) result.farthest.assign(far->distance.data<double>(), far->distance.data<double>() + pairs.count());
  return result;
}

void for_each_pair_within_there(const DistanceTiles& pairs, const PairFilter& filter, double radius, const Progress& progress,
                                FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use) {
  const Rows rows(pairs);
  const double key = filter.half_square(radius);
  std::vector<float> bars;
  for (double h : filter.half_a()) bars.push_back(to_float((1 - filter.margin()) * h - filter.absolute() - key));
  const Tensor bars_there = upload(bars, rows.device()), edges = upload(filter.lower_edges(), rows.device());
  PairBuffer buffer(rows);
  std::vector<int32_t> columns;
  filter.for_each(progress, [&](const ProductTile& tile) {
    find_reaching(buffer, tile, edges, bars_there, Side::above, filter.same(),
                  [&](std::span<const int32_t> indices, std::span<const double> distances) {
                    for (size_t p = 0; p < distances.size();) {
                      const int32_t i = indices[2 * p];
                      columns.clear();
                      for (; p < distances.size() && indices[2 * p] == i; ++p) {
                        if (distances[p] <= radius) columns.push_back(indices[2 * p + 1]);
                      }
                      if (!columns.empty()) use(i, columns);
                    }
                  });
  });
}

std::vector<int32_t> count_before_there(const DistanceTiles& pairs, const PairFilter& filter, const RankedPlaces& places, UsePairs use) {
  const Rows rows(pairs);
  const Device device = rows.device();
  const Tensor sure_edges = upload(places.sure_edges, device), maybe_edges = upload(places.maybe_edges, device);
  const Tensor first = upload(places.first, device), sure_bars = upload(places.sure_bars, device);
  const Tensor maybe_bars = upload(places.maybe_bars, device);
  const Tensor before = upload(std::vector<int32_t>(places.sure_bars.size(), 0), device);
  const auto ranked = [&](const ProductTile& tile, int64_t row, int64_t count) {
    return RankedTile{.products = tile.products + row * tile.columns,
                      .sure_edge = sure_edges.address<float>() + tile.column,
                      .maybe_edge = maybe_edges.address<float>() + tile.column,
                      .places = first.address<int32_t>() + tile.row + row,
                      .sure_bar = sure_bars.address<float>(),
                      .maybe_bar = maybe_bars.address<float>(),
                      .m = count,
                      .n = tile.columns,
                      .place_count = sure_bars.dim(0)};
  };
  PairBuffer buffer(rows);
  filter.for_each({}, [&](const ProductTile& tile) {
    CountBeforeArgs a{};
    static_cast<RankedTile&>(a) = ranked(tile, 0, tile.rows);
    a.before = before.address<int32_t>();
    dispatch<CountBefore>(device, a);
    const auto run = [&](const FoundPairs& out, int64_t row, int64_t count) {
      SelectUndecidedArgs u{};
      static_cast<RankedTile&>(u) = ranked(tile, row, count);
      static_cast<FoundPairs&>(u) = out;
      dispatch<SelectUndecided>(device, u);
    };
    buffer.find(tile, 0, tile.rows, run, use);
  });
  const Tensor here = before.to(Device{});
  return {here.data<int32_t>(), here.data<int32_t>() + here.numel()};
}

}  // namespace reid
