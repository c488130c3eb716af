// Images through a network, and data sets through the evaluation.

#include <cstdio>
#include <cstring>

#include "reid/learning/method.h"

namespace reid {

Tensor extract(const std::vector<Sample>& samples, const Embed& embed, const DataSettings& data, Feed& feed,
               const std::shared_ptr<ImageCache>& cache, int64_t workers) {
  LoaderOptions options{.transform = feed.transform(), .pixels = feed.pixels(), .workers = static_cast<int>(workers), .cache = cache};
  Loader loader = evaluation_loader(samples, data.embed_batch, options);
  Feed::Batches batches(feed, loader);
  Tensor all;
  int64_t row = 0;
  while (const std::optional<Batch> batch = batches.next()) {
    const Tensor rows = embed(feed.with_views(*batch).original);  // [B, D]
    if (!all.defined()) all = Tensor::empty({static_cast<int64_t>(samples.size()), rows.dim(1)}, rows.dtype());
    feed.fetch(rows, all.rows(row, row + rows.dim(0)));
    row += rows.dim(0);
  }
  feed.fetched();
  REID_CHECK(all.defined(), "there are no images to embed");
  return all;
}

namespace {

EvaluationReport evaluate_split(const Dataset& set, const Embed& embed, const DataSettings& data, Feed& feed,
                                const std::shared_ptr<ImageCache>& cache, int64_t workers) {
  require_evaluation(set);
  Dataset rows = set;  // of images, or of tracklets
  EvaluationInput input;
  input.query = pool_tracklets(extract(set.query, embed, data, feed, cache, workers), rows.query);
  input.gallery = pool_tracklets(extract(set.gallery, embed, data, feed, cache, workers), rows.gallery);
  static_cast<RetrievalLabels&>(input) = retrieval_labels(rows);
  EvaluationOptions options;
  options.device = feed.device();
  return evaluate(input, options);
}

}  // namespace

EvaluationReport evaluate_dataset(std::span<const Dataset> splits, const Embed& embed, const DataSettings& data, Feed& feed,
                                  const std::shared_ptr<ImageCache>& cache, int64_t workers) {
  REID_CHECK(!splits.empty(), "there is no data set to evaluate on");
  EvaluationReport mean = evaluate_split(splits.front(), embed, data, feed, cache, workers);
  for (const Dataset& split : splits.subspan(1)) {
    const EvaluationReport report = evaluate_split(split, embed, data, feed, cache, workers);
    mean.mAP += report.mAP;
    mean.mINP += report.mINP;
    for (size_t k = 0; k < mean.cmc.size(); ++k) mean.cmc[k] += report.cmc[k];
  }
  const double count = static_cast<double>(splits.size());
  mean.mAP /= count;
  mean.mINP /= count;
  for (double& share : mean.cmc) share /= count;
  return mean;
}

Json to_json(const EvaluationReport& r) {
  Json out = Json::object({{"mAP", r.mAP}, {"mINP", r.mINP}});
  for (size_t i = 0; i < r.ranks.size(); ++i) out[str("rank", r.ranks[i])] = r.cmc[i];
  out["evaluated_queries"] = r.evaluated;
  out["unmatched_queries"] = r.unmatched;
  out["distractors"] = r.distractors;
  return out;
}

std::string headline(const EvaluationReport& r) {
  char text[64];
  std::snprintf(text, sizeof text, "mAP %.1f %%, Rank-1 %.1f %%", 100 * r.mAP, 100 * r.rank(1));
  return text;
}

NamedDataset read_named_dataset(const std::string& spec) {
  const size_t equals = spec.find('=');
  REID_CHECK(equals != std::string::npos && equals > 0, "data.evaluate: '", spec,
             "' is not NAME=LAYOUT:PATH, e.g. target=market1501:data/market");
  NamedDataset named{spec.substr(0, equals), read_splits(spec.substr(equals + 1))};
  for (const Dataset& split : named.splits) require_evaluation(split);
  return named;
}

}  // namespace reid
