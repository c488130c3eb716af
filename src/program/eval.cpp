// reid eval: mAP, mINP and CMC, of an encoder on a data set or of features computed elsewhere.

#include "program/inputs.h"
#include "program/verb.h"

#include "reid/learning/encoder_file.h"
#include "reid/learning/method.h"
#include "reid/people/evaluation.h"

#include <cstdio>
#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string weights, data, query, gallery, metric = "cosine";
};

void declare(Flags& f, Options& o) {
  std::string layouts;
  for (const DatasetLayout& layout : dataset_layouts()) layouts += (layouts.empty() ? "" : ", ") + layout.name;
  f.option("--weights", o.weights, "FILE", "encoder written by reid train (encoder.safetensors of a run)");
  f.option("--data", o.data, "LAYOUT:PATH", "its query and gallery images are embedded and matched; layouts: " + layouts);
  f.option("--query", o.query, "FILE", "instead: safetensors with 'features' [N, D], 'ids' [N] i64, 'cameras' [N] i64");
  f.option("--gallery", o.gallery, "FILE", "the same for the gallery");
  f.choice("--metric", o.metric, {"cosine", "euclidean"}, "distance between rows");
}

EvaluationInput read_files(const Options& o, Metric metric) {
  LabeledFeatures query = read_labeled_features(o.query), gallery = read_labeled_features(o.gallery);
  check_features(query.features, metric, o.query);
  check_features(gallery.features, metric, o.gallery);
  REID_CHECK(query.features.dim(1) == gallery.features.dim(1), "features have ", query.features.dim(1), " columns in ", o.query, " but ",
             gallery.features.dim(1), " in ", o.gallery);
  EvaluationInput input;
  const bool wide = query.features.dtype() == DType::f64 || gallery.features.dtype() == DType::f64;
  input.query = query.features.to(wide ? DType::f64 : DType::f32);
  input.gallery = gallery.features.to(wide ? DType::f64 : DType::f32);
  input.query_ids = std::move(query.ids);
  input.query_cameras = std::move(query.cameras);
  input.gallery_ids = std::move(gallery.ids);
  input.gallery_cameras = std::move(gallery.cameras);
  return input;
}

EvaluationInput embed_data(const Context& context, const Options& o) {
  LoadedEncoder encoder(o.weights);
  const Dataset set = read_dataset(o.data);
  require_evaluation(set);
  const auto cache = std::make_shared<ImageCache>(0);
  EvaluationInput input;
  const auto part = [&](const std::vector<Sample>& samples, Tensor& features, std::vector<int64_t>& ids, std::vector<int64_t>& cameras) {
    features = extract(
        samples, [&](const Tensor& images) { return encoder.embed(images); }, DataSettings{}, encoder.transform(), cache, context.threads);
    for (const Sample& sample : samples) {
      ids.push_back(sample.person);
      cameras.push_back(sample.camera);
    }
  };
  part(set.query, input.query, input.query_ids, input.query_cameras);
  part(set.gallery, input.gallery, input.gallery_ids, input.gallery_cameras);
  return input;
}

std::string percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", 100 * fraction);
  return text;
}

void run(const Context& context, const Options& o) {
  const bool files = !o.query.empty() || !o.gallery.empty(), network = !o.weights.empty() || !o.data.empty();
  if (files == network) throw UsageError("give either --weights and --data, or --query and --gallery");
  if (files && (o.query.empty() || o.gallery.empty())) throw UsageError(o.query.empty() ? "--query is missing" : "--gallery is missing");
  if (network && (o.weights.empty() || o.data.empty())) throw UsageError(o.weights.empty() ? "--weights is missing" : "--data is missing");

  EvaluationOptions options;
  options.metric = parse_metric(o.metric);
  const EvaluationInput input = files ? read_files(o, options.metric) : embed_data(context, o);
  const EvaluationReport report = evaluate(input, options);

  context.say("mAP ", percent(report.mAP), "  mINP ", percent(report.mINP), "  rank-1 ", percent(report.rank(1)), "  rank-5 ",
              percent(report.rank(5)), "  rank-10 ", percent(report.rank(10)), "  (%; ", report.evaluated, " queries, ",
              input.gallery.dim(0), " in the gallery)");
  if (report.unmatched > 0) context.say(report.unmatched, " queries have no right entry in the gallery and are left out");
  Json result = to_json(report);
  result["gallery"] = input.gallery.dim(0);
  result["junk_queries"] = report.junk_queries;
  result["junk_gallery"] = report.junk_gallery;
  result["metric"] = o.metric;
  context.write_json(result);
}

}  // namespace

Verb eval_verb() {
  auto o = std::make_shared<Options>();
  return {"eval", "measure retrieval: mAP, mINP, rank-1, rank-5, rank-10",
          "reid eval --weights demo/run/encoder.safetensors --data market1501:demo/world/target --json result.json",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
