// reid eval: mAP, mINP and CMC, of an encoder on a data set or of features computed elsewhere.

#include "program/inputs.h"
#include "program/verb.h"

#include "reid/people/evaluation.h"

#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string query, gallery, metric = "cosine";
};

void declare(Flags& f, Options& o) {
  f.option("--query", o.query, "FILE", "safetensors file with 'features' [N, D], 'ids' [N], 'cameras' [N]");
  f.option("--gallery", o.gallery, "FILE", "the same for the gallery");
  f.choice("--metric", o.metric, {"cosine", "euclidean"}, "distance between rows");
}

EvaluationInput read_files(const Options& o) {
  LabeledFeatures query = read_labeled_features(o.query), gallery = read_labeled_features(o.gallery);
  const Metric metric = parse_metric(o.metric);
  check_features(query.features, metric, o.query);
  check_features(gallery.features, metric, o.gallery);
  REID_CHECK(query.features.dim(1) == gallery.features.dim(1), "features have ", query.features.dim(1), " columns in ", o.query, " but ",
             gallery.features.dim(1), " in ", o.gallery);
  EvaluationInput input;
  input.query = query.features;
  input.gallery = gallery.features.to(query.features.dtype());
  input.query_ids = std::move(query.ids);
  input.query_cameras = std::move(query.cameras);
  input.gallery_ids = std::move(gallery.ids);
  input.gallery_cameras = std::move(gallery.cameras);
  return input;
}

std::string percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", 100 * fraction);
  return text;
}

void run(const Context& context, const Options& o) {
  if (o.query.empty() || o.gallery.empty()) throw UsageError("--query and --gallery are needed, both");
  const EvaluationInput input = read_files(o);
  EvaluationOptions options;
  options.metric = parse_metric(o.metric);
  const EvaluationReport report = evaluate(input, options);

  context.say("mAP ", percent(report.mAP), "  mINP ", percent(report.mINP), "  rank-1 ", percent(report.rank(1)), "  rank-5 ",
              percent(report.rank(5)), "  rank-10 ", percent(report.rank(10)), "  (%, ", report.evaluated, " queries, ",
              input.gallery.dim(0), " in the gallery)");
  if (report.unmatched > 0) context.say(report.unmatched, " queries have no right entry in the gallery and are left out");
  context.write_json(Json::object({{"mAP", report.mAP},
                                   {"mINP", report.mINP},
                                   {"rank1", report.rank(1)},
                                   {"rank5", report.rank(5)},
                                   {"rank10", report.rank(10)},
                                   {"queries", report.evaluated},
                                   {"queries_without_match", report.unmatched},
                                   {"junk_queries", report.junk_queries},
                                   {"junk_gallery", report.junk_gallery},
                                   {"distractors", report.distractors},
                                   {"gallery", input.gallery.dim(0)},
                                   {"metric", o.metric}}));
}

}  // namespace

Verb eval_verb() {
  auto o = std::make_shared<Options>();
  return {"eval", "measure retrieval: mAP, mINP, rank-1, rank-5, rank-10",
          "reid eval --query Q.safetensors --gallery G.safetensors --json result.json", [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
