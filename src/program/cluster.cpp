// reid cluster: DBSCAN labels for the rows of a feature file.

#include "program/inputs.h"
#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/people/cluster.h"

#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string features, out, metric = "cosine";
  double eps = 0;
  int64_t min_samples = 4, k1 = 30, k2 = 6;
};

void declare(Flags& f, Options& o) {
  f.option("--features", o.features, "FILE", "safetensors file with 'features' [N, D]", Presence::required);
  f.option("--eps", o.eps, "neighbors are at most this far apart", Range::above(0), Presence::required);
  f.option("--min-samples", o.min_samples, "a core point has this many neighbors, itself included", Range::at_least(1));
  f.choice("--metric", o.metric, {"cosine", "euclidean", "jaccard"}, "distance between rows");
  f.option("--k1", o.k1, "jaccard: neighbors looked at", Range::at_least(1));
  f.option("--k2", o.k2, "jaccard: rows averaged by query expansion", Range::at_least(1));
  f.option("--out", o.out, "FILE", "CSV to write: index,label (noise is -1)", Presence::required);
}

void run(const Context& context, const Options& o) {
  const Tensor features = read_features(o.features);
  const DbscanOptions dbscan_options{o.eps, o.min_samples};
  Metric base = Metric::cosine;
  if (o.metric != "jaccard") base = parse_metric(o.metric);
  check_features(features, base, o.features);
  Clusters found;
  if (o.metric == "jaccard") {
    JaccardOptions jaccard;
    jaccard.k1 = o.k1;
    jaccard.k2 = o.k2;
    found = dbscan_jaccard(features, jaccard, dbscan_options);
  } else {
    found = dbscan_features(features, base, dbscan_options);
  }

  std::string csv = "index,label\n";
  for (size_t i = 0; i < found.labels.size(); ++i) csv += std::to_string(i) + "," + std::to_string(found.labels[i]) + "\n";
  write_file(o.out, csv);
  context.say(features.dim(0), " rows: ", found.count, " clusters, ", found.noise, " noise -> ", o.out);
  context.write_json(Json::object({{"rows", features.dim(0)},
                                   {"clusters", found.count},
                                   {"noise", found.noise},
                                   {"metric", o.metric},
                                   {"eps", o.eps},
                                   {"min_samples", o.min_samples},
                                   {"labels", o.out}}));
}

}  // namespace

Verb cluster_verb() {
  auto o = std::make_shared<Options>();
  return {"cluster", "group the rows of a feature file by DBSCAN",
          "reid cluster --features E.safetensors --metric cosine --eps 0.3 --min-samples 4 --out labels.csv",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
