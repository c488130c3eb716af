// reid rerank: the best of a gallery for each query, after expansion and re-ranking; from feature files, without labels.

#include "program/inputs.h"
#include "program/refine.h"
#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"

#include <algorithm>
#include <charconv>
#include <memory>

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

struct Inputs {
  NamedFeatures query, gallery;
};

// Of one dtype, f64 where one side is.
Inputs read_inputs(const Options& o, Metric metric) {
  Inputs in{read_named_features(o.query), read_named_features(o.gallery)};
  Tensor &query = in.query.features, &gallery = in.gallery.features;
  check_features(query, metric, o.query);
  check_features(gallery, metric, o.gallery);
  REID_CHECK(query.dim(1) == gallery.dim(1), "features have ", query.dim(1), " columns in ", o.query, " but ", gallery.dim(1), " in ",
             o.gallery);
  const bool wide = query.dtype() == DType::f64 || gallery.dtype() == DType::f64;
  query = query.to(wide ? DType::f64 : DType::f32);
  gallery = gallery.to(wide ? DType::f64 : DType::f32);
  return in;
}

struct Lists {
  int64_t top;
  Tensor index, distance;  // i64 and f32 [Q, top]
};

Lists lists_of(const Context& context, const DistanceRows& distances, int64_t top) {
  const SearchScreen screen(context);
  const NearestRows rows = first_ranked(distances, top, screen.progress());
  screen.finish("lists made");
  return {rows.index.dim(1), rows.index.to(DType::i64), rows.distance.to(DType::f32)};
}

// Columns query_path and gallery_path when both files carry paths.
std::string as_csv(const Lists& lists, const std::vector<std::string>& queries, const std::vector<std::string>& gallery) {
  const bool named = !queries.empty() && !gallery.empty();
  std::string text = named ? "query,rank,gallery,distance,query_path,gallery_path\n" : "query,rank,gallery,distance\n";
  char digits[32];  // the fewest that read back as the same float
  for (int64_t at = 0; at < lists.index.numel(); ++at) {
    const auto q = static_cast<size_t>(at / lists.top), j = static_cast<size_t>(lists.index.data<int64_t>()[at]);
    text += str(q, ",", at % lists.top + 1, ",", j, ",");
    text.append(digits, std::to_chars(digits, digits + sizeof digits, lists.distance.data<float>()[at]).ptr);
    if (named) text += "," + csv_field(queries[q]) + "," + csv_field(gallery[j]);
    text += '\n';
  }
  return text;
}

void write_lists(const Options& o, const Lists& lists, const Inputs& inputs, const std::string& refinement) {
  if (o.out.ends_with(".csv")) {
    write_file(o.out, as_csv(lists, inputs.query.paths, inputs.gallery.paths));
    return;
  }
  NamedTensors content;
  content.add("index", lists.index);
  content.add("distance", lists.distance);
  content.metadata = {{"format", "reid.lists.v1"}, {"refinement", refinement}};
  write_safetensors(o.out, content);
}

constexpr int64_t kBlockValues = int64_t{1} << 24;  // distances at a time: 64 MB in f32

// From features in f64 by blocks, which are rounded; else the block of all queries is what is written.
Tensor all_distances(const DistanceRows& rows, bool wide) {
  if (!wide) return rows.rows(0, rows.queries);
  const Tensor all = Tensor::empty({rows.queries, rows.gallery}, DType::f32);
  const int64_t step = std::max<int64_t>(1, kBlockValues / rows.gallery);
  for (int64_t begin = 0; begin < rows.queries; begin += step) {
    const int64_t end = std::min(begin + step, rows.queries);
    all.rows(begin, end).copy_from(rows.rows(begin, end).to(DType::f32));
  }
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
  Inputs in = read_inputs(o, metric);
  const bool wide = in.query.features.dtype() == DType::f64;
  const Stopwatch watch;
  refinement.expand(context, in.query.features, in.gallery.features);
  const DistanceRows rows = refinement.distances(context, in.query.features, in.gallery.features, metric);
  in.query.features = in.gallery.features = {};  // re-ranking has a copy

  Json result = Json::object({{"out", o.out}, {"queries", rows.queries}, {"gallery", rows.gallery}});
  result["refinement"] = refinement.describe();
  const std::string how = refinement.any() ? refinement.describe() : str(o.metric, " distance");
  if (o.distances) {
    const Tensor distances = all_distances(rows, wide);
    result["seconds"] = watch.seconds();  // without reading and writing
    write_distances(o, distances, refinement.describe());
    context.say(how, ": distances ", distances.shape(), " -> ", o.out);
  } else {
    const Lists lists = lists_of(context, rows, o.top);
    result["seconds"] = watch.seconds();
    if (lists.top < o.top) context.say("note: --top ", o.top, " is more than the gallery: lists have all ", lists.top);
    write_lists(o, lists, in, refinement.describe());
    result["top"] = lists.top;
    context.say(how, ": the best ", lists.top, " of ", rows.gallery, " for each of ", rows.queries, " queries -> ", o.out);
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
