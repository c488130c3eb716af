// reid rerank: the best of a gallery for each query, after expansion and re-ranking; from feature files, without labels.

#include "program/inputs.h"
#include "program/refine.h"
#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <numeric>

namespace reid::program {
namespace {

struct Options {
  std::string query, gallery, out, metric = "cosine";
  int64_t top = 10;
  bool distances = false;
  RefineFlags refine;
};

void declare(Flags& f, Options& o) {
  f.option("--query", o.query, "FILE", "safetensors file with 'features' [Q, D]", Presence::required);
  f.option("--gallery", o.gallery, "FILE", "safetensors file with 'features' [G, D]", Presence::required);
  f.option("--out", o.out, "FILE", "file to write, .csv or .safetensors", Presence::required);
  f.option("--top", o.top, "gallery rows listed for each query, nearest first", Range::closed(1, 1e9));
  f.flag("--distances", o.distances, "write all distances [Q, G] instead of lists (.safetensors)");
  f.choice("--metric", o.metric, {"cosine", "euclidean"}, "distance, where nothing re-ranks");
  declare_refinement(f, o.refine);
}

struct Lists {
  int64_t top = 0;
  std::vector<int64_t> index;   // [Q, top]
  std::vector<float> distance;  // [Q, top]
};

// Where lists are longer, measuring their entries one by one takes longer than all distances.
bool is_short(int64_t top, int64_t gallery) { return top <= std::max<int64_t>(32, gallery / 8); }

// By distances in double, rounded.
Lists nearest(const Context& context, const Tensor& query, const Tensor& gallery, Metric metric, int64_t top) {
  const SearchScreen screen(context);
  const NearestRows rows = nearest_rows(query, gallery, metric, top, context.device, screen.progress());
  screen.finish("neighbors found");
  Lists lists;
  lists.top = rows.index.dim(1);
  lists.index.assign(rows.index.data<int32_t>(), rows.index.data<int32_t>() + rows.index.numel());
  const Tensor rounded = rows.distance.to(DType::f32);
  lists.distance.assign(rounded.data<float>(), rounded.data<float>() + rounded.numel());
  return lists;
}

constexpr int64_t kBlockValues = int64_t{1} << 24;  // distances at a time: 64 MB

template <class Use>
void for_each_block(const DistanceRows& rows, Use&& use) {
  const int64_t step = std::max<int64_t>(1, kBlockValues / rows.gallery);
  for (int64_t begin = 0; begin < rows.queries; begin += step)
    use(begin, rows.rows(begin, std::min(begin + step, rows.queries)).to(DType::f32));
}

// Ties by gallery row.
Lists best_of(const DistanceRows& rows, int64_t top) {
  Lists lists;
  lists.top = std::min(top, rows.gallery);
  lists.index.resize(static_cast<size_t>(rows.queries * lists.top));
  lists.distance.resize(lists.index.size());
  for_each_block(rows, [&](int64_t begin, const Tensor& tile) {
    parallel_for(tile.dim(0), 4, [&](int64_t first, int64_t last, int) {
      std::vector<int64_t> order(static_cast<size_t>(rows.gallery));
      for (int64_t r = first; r < last; ++r) {
        const float* d = tile.data<float>() + r * rows.gallery;
        std::iota(order.begin(), order.end(), int64_t{0});
        std::partial_sort(order.begin(), order.begin() + lists.top, order.end(),
                          [d](int64_t a, int64_t b) { return d[a] != d[b] ? d[a] < d[b] : a < b; });
        for (int64_t k = 0; k < lists.top; ++k) {
          const auto to = static_cast<size_t>((begin + r) * lists.top + k);
          lists.index[to] = order[static_cast<size_t>(k)];
          lists.distance[to] = d[order[static_cast<size_t>(k)]];
        }
      }
    });
  });
  return lists;
}

// Columns query_path and gallery_path when both files carry paths.
std::string as_csv(const Lists& lists, const std::vector<std::string>& queries, const std::vector<std::string>& gallery) {
  const bool named = !queries.empty() && !gallery.empty();
  std::string text = named ? "query,rank,gallery,distance,query_path,gallery_path\n" : "query,rank,gallery,distance\n";
  char digits[32];  // the fewest that read back as the same float
  for (size_t at = 0; at < lists.index.size(); ++at) {
    const size_t q = at / static_cast<size_t>(lists.top), j = static_cast<size_t>(lists.index[at]);
    text += str(q, ",", at % static_cast<size_t>(lists.top) + 1, ",", j, ",");
    text.append(digits, std::to_chars(digits, digits + sizeof digits, lists.distance[at]).ptr);
    if (named) text += "," + csv_field(queries[q]) + "," + csv_field(gallery[j]);
    text += '\n';
  }
  return text;
}

void write_lists(const Options& o, const Lists& lists, int64_t queries, int64_t gallery, const std::string& refinement) {
  if (o.out.ends_with(".csv")) {
    write_file(o.out, as_csv(lists, read_paths(o.query, queries), read_paths(o.gallery, gallery)));
    return;
  }
  NamedTensors content;
  content.add("index", Tensor::from(lists.index, {queries, lists.top}));
  content.add("distance", Tensor::from(lists.distance, {queries, lists.top}));
  content.metadata = {{"format", "reid.lists.v1"}, {"refinement", refinement}};
  write_safetensors(o.out, content);
}

// From features in f64 by blocks, which are rounded; else the block of all queries is what is written.
Tensor all_distances(const DistanceRows& rows, bool wide) {
  if (!wide) return rows.rows(0, rows.queries);
  const Tensor all = Tensor::empty({rows.queries, rows.gallery}, DType::f32);
  for_each_block(rows, [&](int64_t begin, const Tensor& tile) { all.rows(begin, begin + tile.dim(0)).copy_from(tile); });
  return all;
}

void write_distances(const Options& o, const Tensor& all, const std::string& refinement) {
  NamedTensors content;
  content.add("distances", all);
  content.metadata = {{"format", "reid.distances.v1"}, {"refinement", refinement}};
  write_safetensors(o.out, content);
}

void run(const Context& context, const Options& o) {
  const bool csv = o.out.ends_with(".csv");
  if (!csv && !o.out.ends_with(".safetensors")) throw UsageError("--out " + o.out + " ends in neither .csv nor .safetensors: rename it");
  if (csv && o.distances) throw UsageError("--distances writes .safetensors: rename --out");
  const Refinement refinement = parse_refinement(o.refine, "", context.device);
  check_can_write(o.out);
  const Metric metric = parse_metric(o.metric);
  Tensor query = read_features(o.query), gallery = read_features(o.gallery);
  check_features(query, metric, o.query);
  check_features(gallery, metric, o.gallery);
  REID_CHECK(query.dim(1) == gallery.dim(1), "features have ", query.dim(1), " columns in ", o.query, " but ", gallery.dim(1), " in ",
             o.gallery);
  const bool wide = query.dtype() == DType::f64 || gallery.dtype() == DType::f64;
  query = query.to(wide ? DType::f64 : DType::f32);
  gallery = gallery.to(wide ? DType::f64 : DType::f32);
  const Stopwatch watch;
  refinement.expand(context, query, gallery);

  const Shape shape{query.dim(0), gallery.dim(0)};
  Json result = Json::object({{"out", o.out}, {"queries", shape[0]}, {"gallery", shape[1]}});
  result["refinement"] = refinement.describe();
  const std::string how = refinement.any() ? refinement.describe() : str(o.metric, " distance");
  if (o.distances) {
    const Tensor distances = all_distances(refinement.distances(context, query, gallery, metric), wide);
    result["seconds"] = watch.seconds();  // without reading and writing
    write_distances(o, distances, refinement.describe());
    context.say(how, ": distances ", shape, " -> ", o.out);
  } else {
    const bool by_search = !refinement.rerank && is_short(o.top, shape[1]);
    const Lists lists =
        by_search ? nearest(context, query, gallery, metric, o.top) : best_of(refinement.distances(context, query, gallery, metric), o.top);
    result["seconds"] = watch.seconds();
    if (lists.top < o.top) context.say("note: --top ", o.top, " is more than the gallery: lists have all ", lists.top);
    write_lists(o, lists, shape[0], shape[1], refinement.describe());
    result["top"] = lists.top;
    context.say(how, ": the best ", lists.top, " of ", shape[1], " for each of ", shape[0], " queries -> ", o.out);
  }
  context.write_json(result);
}

}  // namespace

Verb rerank_verb() {
  auto o = std::make_shared<Options>();
  return {"rerank",
          "rank a gallery for each query, with re-ranking and expansion",
          "reid rerank --query Q.safetensors --gallery G.safetensors --rerank 20,6,0.3 --top 10 --out lists.csv",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
