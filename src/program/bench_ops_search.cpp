// The steps of a search among rows of features, each alone, on one tile of products: what `reid bench search` is made of on a device.

#include <vector>

#include "program/bench_rows.h"
#include "reid/engine/op_args_pairs.h"

namespace reid::program {

namespace {

constexpr int64_t kList = 50, kWanted = 29;  // of k1 = 30 without the row itself, and what its list is longer
constexpr int64_t kPlaces = 40;              // matches of a query

// A tile of `side` x `side` random products and rows of features on both sides.
class Tile {
 public:
  Tile(BenchRows& rows, int64_t side, int64_t features) : rows_(rows), side_(side), features_(features) {}

  const float* products() const { return static_cast<const float*>(rows_.random({side_, side_}, DType::f32)); }
  const float* floats(int64_t count, float value) const {
    return static_cast<const float*>(rows_.from(std::vector<float>(static_cast<size_t>(count), value)));
  }
  void set(RowSets& sets) const {
    sets.x = rows_.random({side_, features_}, DType::f32), sets.y = rows_.random({side_, features_}, DType::f32);
    sets.scale_x = sets.scale_y = rows_.from(std::vector<double>(static_cast<size_t>(side_), 1));
    sets.m = sets.n = side_, sets.columns = features_;
    sets.form = DistanceForm::cosine, sets.dtype = DType::f32;
  }
  // Lists that the tile's products fill.
  MergeNearestArgs merging() const {
    const Shape lists{side_, kList};
    void* const before = rows_.from(std::vector<int64_t>(static_cast<size_t>(lists.numel()), -1));
    return {products(), floats(side_, 0), before, rows_.zeros(lists, DType::i64), side_, side_, kList, 0, -1, false};
  }
  void set(FoundPairs& found, int64_t capacity) const {
    found.pairs = static_cast<int32_t*>(rows_.zeros({capacity, 2}, DType::i32));
    found.found = static_cast<int32_t*>(rows_.zeros({1}, DType::i32));
    found.capacity = capacity;
  }
  // Places among the largest products of each row, some of them with an undecided pair.
  void set(RankedTile& tile) const {
    std::vector<int32_t> first{0};
    std::vector<float> bars;
    for (int64_t i = 0; i < side_; ++i) {
      for (int64_t p = 0; p < kPlaces; ++p) bars.push_back(3 - 0.05f * static_cast<float>(p));
      first.push_back(static_cast<int32_t>(bars.size()));
    }
    tile.products = products();
    tile.sure_edge = tile.maybe_edge = floats(side_, 0);
    tile.places = static_cast<const int32_t*>(rows_.from(first));
    tile.sure_bar = static_cast<const float*>(rows_.from(bars));
    for (float& bar : bars) bar -= 1e-5f;
    tile.maybe_bar = static_cast<const float*>(rows_.from(bars));
    tile.m = tile.n = side_, tile.place_count = static_cast<int64_t>(bars.size());
  }

 private:
  BenchRows& rows_;
  int64_t side_, features_;
};

}  // namespace

void search_rows(BenchRows& rows, int64_t features) {
  const int64_t side = 64 * rows.batch();
  const Tile tile(rows, side, features);
  const std::string of = str(side, " x ", side);
  rows.time<CenterRows>(str("centered rows, ", side, " x ", features),
                        {rows.random({side, features}, DType::f32), rows.from(std::vector<double>(static_cast<size_t>(side), 1)),
                         rows.from(std::vector<double>(static_cast<size_t>(features), 0)), rows.zeros({side, features}, DType::bf16),
                         rows.zeros({side, features}, DType::bf16), rows.zeros({side}, DType::f64), side, features, DType::f32});
  const MergeNearestArgs merging = tile.merging();
  rows.time<MergeNearest>(str("nearest ", kList, " of ", of), merging);
  const MergeNearestArgs merged = tile.merging();
  dispatch<MergeNearest>(rows.options().device, merged);
  RankNearestArgs ranking{};
  tile.set(ranking);
  ranking.lists = merged.after, ranking.count = kList, ranking.wanted = kWanted, ranking.slack = 0;
  ranking.index = static_cast<int32_t*>(rows.zeros({side, kWanted}, DType::i32));
  ranking.d = rows.zeros({side, kWanted}, DType::f64), ranking.open = static_cast<uint8_t*>(rows.zeros({side}, DType::u8));
  rows.time<RankNearest>(str("ranked ", kWanted, " of ", side, " lists, rows of ", features), ranking);
  SelectPairsArgs selecting{};
  tile.set(selecting, side * 16);
  selecting.products = tile.products(), selecting.edge = tile.floats(side, 0), selecting.bar = tile.floats(side, 3);
  selecting.m = selecting.n = side;
  rows.time<SelectPairs>("pairs above a bar of " + of, selecting);
  CountBeforeArgs counting{};
  tile.set(counting);
  counting.before = static_cast<int32_t*>(rows.zeros({counting.place_count}, DType::i32));
  rows.time<CountBefore>(str("ranks of ", kPlaces, " places, ", of), counting);
  SelectUndecidedArgs undecided{};
  tile.set(static_cast<RankedTile&>(undecided));
  tile.set(static_cast<FoundPairs&>(undecided), side * 16);
  rows.time<SelectUndecided>(str("undecided pairs of ", kPlaces, " places, ", of), undecided);
  PairDistancesArgs measuring{};
  tile.set(measuring);
  std::vector<int32_t> pairs;
  for (int64_t p = 0; p < side * 16; ++p) {
    pairs.push_back(static_cast<int32_t>(p / 16));
    pairs.push_back(static_cast<int32_t>(p * 7919 % side));
  }
  measuring.pairs = static_cast<const int32_t*>(rows.from(pairs)), measuring.count = side * 16;
  measuring.d = rows.zeros({measuring.count}, DType::f64);
  rows.time<PairDistances>(str("distances of ", measuring.count, " pairs of rows of ", features), measuring);
}

}  // namespace reid::program
