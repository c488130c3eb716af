// reid eval: mAP, mINP and CMC, of an encoder on data sets or of features computed elsewhere.

#include "program/eval.h"

#include <memory>

namespace reid::program {
namespace {

void declare(Flags& f, EvalOptions& o) {
  std::string layouts;
  for (const DatasetLayout& layout : dataset_layouts()) layouts += (layouts.empty() ? "" : ", ") + layout.name;
  f.option("--weights", o.weights, "FILE", "encoder written by reid train (encoder.safetensors of a run)");
  f.options("--data", o.data, "LAYOUT:PATH", "data sets whose query and gallery images are embedded and matched; layouts: " + layouts);
  f.option("--query", o.query, "FILE", "instead: safetensors with 'features' [N, D], 'ids' [N] i64, 'cameras' [N] i64 (where known)");
  f.option("--gallery", o.gallery, "FILE", "the same for the gallery");
  f.choice("--preset", o.preset, evaluation_presets(), "whose evaluation; docs/evaluation.md compares them");
  f.choice("--metric", o.metric, {"auto", "cosine", "euclidean"}, "distance between rows; auto: the preset's");
  f.flag("--flip", o.flip, "embed the mean with the mirror image; takes twice the time");
  f.choice("--multi-query", o.multi_query, {"off", "mean", "max"}, "pool the images of a query's identity and camera");
  f.option("--frames", o.frames, "of each tracklet, evenly chosen; their mean is compared (0: all)", Range::at_least(0));
  f.option("--repeats", o.repeats, "single-shot presets: draws of each query", Range::closed(1, 10000));
  f.option("--seed", o.seed, "single-shot presets: of the draws; verification: of the halves", Range::at_least(0));
  declare_refinement(f, o.refine);
  f.flag("--verification", o.verification, "same person or not: ROC, equal error rate, a threshold");
  f.option("--false-accept-rate", o.accept, "that the recommended threshold keeps",
           Range{.low = 0, .high = 1, .open_low = true, .open_high = true});
}

void check(const EvalOptions& o) {
  const bool files = !o.query.empty() || !o.gallery.empty(), network = !o.weights.empty() || !o.data.empty();
  if (files == network) throw UsageError("give either --weights and --data, or --query and --gallery");
  if (files && (o.query.empty() || o.gallery.empty())) throw UsageError(o.query.empty() ? "--query is missing" : "--gallery is missing");
  if (network && (o.weights.empty() || o.data.empty())) throw UsageError(o.weights.empty() ? "--weights is missing" : "--data is missing");
  const char* unused = o.flip ? "--flip" : o.multi_query != "off" ? "--multi-query" : o.frames > 0 ? "--frames" : nullptr;
  if (files && unused != nullptr) throw UsageError(str(unused, " is about images: it needs --weights and --data"));
}

SplitResult evaluate_split(const Context& context, EvaluationInput input, const EvaluationOptions& options, const EvalOptions& o,
                           const Refinement& refinement) {
  SplitResult result;
  refinement.expand(context, input.query, input.gallery);
  if (refinement.rerank) {
    result.report = evaluate(input, refinement.distances(context, input.query, input.gallery, options.metric), options);
  } else {
    result.report = evaluate(input, options);
  }
  result.queries = input.query.dim(0);
  result.gallery = input.gallery.dim(0);
  if (o.verification) {
    VerificationOptions verification;
    verification.metric = options.metric;
    verification.wanted = o.accept;
    verification.seed = static_cast<uint64_t>(o.seed);
    result.verification = verify(input, verification);
  }
  return result;
}

void run(const Context& context, const EvalOptions& o) {
  check(o);
  EvaluationOptions options = evaluation_preset(o.preset);
  if (o.metric != "auto") options.metric = parse_metric(o.metric);
  options.repeats = o.repeats;
  options.seed = static_cast<uint64_t>(o.seed);
  options.device = context.device;
  const Refinement refinement = parse_refinement(o.refine, o.preset, context.device);

  std::vector<EvalTarget> targets;
  if (o.data.empty()) {
    targets.push_back(read_feature_target(o, options.metric));
  } else {
    targets = embed_targets(context, o, options.metric);
  }
  const Stopwatch watch;
  std::vector<TargetResult> results;
  std::string protocol;
  for (EvalTarget& target : targets) {
    TargetResult result{target.name, {}};
    for (EvaluationInput& input : target.splits) {
      const std::string text = describe(options, input);
      if (text != protocol) context.say(wrapped(protocol.empty() ? text : target.name + ": " + text));
      protocol = text;
      try {
        result.splits.push_back(evaluate_split(context, std::move(input), options, o, refinement));
      } catch (const Error& e) {
        fail(o.data.empty() ? e.what() : target.name + ": " + e.what());
      }
    }
    results.push_back(std::move(result));
  }
  const double seconds = watch.seconds();
  if (refinement.any()) context.say(refinement.describe(), o.verification && refinement.rerank ? " (verification: not re-ranked)" : "");
  context.say("");
  show_table(context, results);
  for (const TargetResult& result : results) {
    if (o.verification && results.size() > 1) context.say("\n", result.name);
    if (o.verification) show_verification(context, *result.splits.front().verification);
  }
  Json json = to_json(results, options, refinement.describe());
  json["seconds"] = seconds;  // without reading and embedding
  context.write_json(json);
}

}  // namespace

Verb eval_verb() {
  auto o = std::make_shared<EvalOptions>();
  return {"eval",
          "measure retrieval: mAP, mINP, rank-1, rank-5, rank-10",
          "reid eval --weights demo/run/encoder.safetensors --data market1501:demo/world/target --json result.json",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
