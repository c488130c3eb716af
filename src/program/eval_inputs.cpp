// What reid eval compares: feature files, or data sets through an encoder.

#include "program/eval.h"
#include "program/inputs.h"
#include "program/training.h"

#include "reid/learning/embedding.h"
#include "reid/learning/method.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <unordered_map>

namespace reid::program {
namespace {

// ---- Feature files

// Without cameras a query's own file is found by the paths that both files carry, or by the row when they are one file.
void number_files(const EvalOptions& o, const LabeledFeatures& query, const LabeledFeatures& gallery, EvaluationInput& input) {
  std::error_code ignored;
  if (std::filesystem::equivalent(o.query, o.gallery, ignored)) {
    for (int64_t i = 0; i < query.features.dim(0); ++i) input.query_files.push_back(i);
    input.gallery_files = input.query_files;
  } else if (!query.paths.empty() && !gallery.paths.empty()) {
    std::unordered_map<std::string, int64_t> numbers;
    const auto number = [&](const std::string& path) { return numbers.emplace(path, static_cast<int64_t>(numbers.size())).first->second; };
    for (const std::string& path : query.paths) input.query_files.push_back(number(path));
    for (const std::string& path : gallery.paths) input.gallery_files.push_back(number(path));
  }
}

// ---- Data sets

// Rows of features by path. Every image goes through the network once.
class FeatureStore {
 public:
  void want(const std::vector<Sample>& samples) {
    for (const Sample& sample : samples) {
      if (rows_.emplace(sample.path, static_cast<int64_t>(samples_.size())).second) samples_.push_back(sample);
    }
  }
  void embed_all(const Context& context, const EvalOptions& o) {
    constexpr size_t kSlice = 512;  // images between two lines of progress
    LoadedEncoder encoder(o.weights);
    encoder.move_to(context.device);
    Feed feed(context.device, encoder.transform());
    const RunPorts ports = screen_ports(context);
    const auto cache = std::make_shared<ImageCache>(0);
    features_ = Tensor::empty({static_cast<int64_t>(samples_.size()), encoder.width()}, DType::f32);
    for (size_t begin = 0; begin < samples_.size(); begin += kSlice) {
      const size_t end = std::min(begin + kSlice, samples_.size());
      const std::vector<Sample> slice(samples_.begin() + static_cast<int64_t>(begin), samples_.begin() + static_cast<int64_t>(end));
      const Tensor rows = extract(
          slice, [&](const Tensor& images) { return embed(encoder, images, {.flip = o.flip, .normalize = false}); }, DataSettings{}, feed,
          cache, context.threads);
      features_.rows(static_cast<int64_t>(begin), static_cast<int64_t>(end)).copy_from(rows);
      if (end < samples_.size()) ports.progress(str(end, "/", samples_.size(), " images"));
    }
    ports.say(str(samples_.size(), " images embedded"));
  }
  Tensor of(const std::vector<Sample>& samples) const {
    const Tensor out = Tensor::empty({static_cast<int64_t>(samples.size()), features_.dim(1)}, DType::f32);
    for (size_t i = 0; i < samples.size(); ++i) {
      const int64_t row = rows_.at(samples[i].path), to = static_cast<int64_t>(i);
      out.rows(to, to + 1).copy_from(features_.rows(row, row + 1));
    }
    return out;
  }

 private:
  std::vector<Sample> samples_;
  std::unordered_map<std::string, int64_t> rows_;
  Tensor features_;
};

EvaluationInput input_of(Dataset& set, const FeatureStore& store, const EvalOptions& o, Metric metric) {
  EvaluationInput input;
  input.query = pool_tracklets(store.of(set.query), set.query);
  input.gallery = pool_tracklets(store.of(set.gallery), set.gallery);
  static_cast<RetrievalLabels&>(input) = retrieval_labels(set);
  if (o.multi_query != "off") {
    const std::vector<Sample>& images = set.multi_query.empty() ? set.query : set.multi_query;
    std::vector<int64_t> ids, cameras;
    for (const Sample& sample : images) ids.push_back(sample.person), cameras.push_back(sample.camera);
    const Tensor rows = set.multi_query.empty() ? input.query : store.of(images);
    const Pooling pooling = o.multi_query == "max" ? Pooling::max : Pooling::mean;
    input.query = multi_query(input, rows, ids, cameras, pooling, metric == Metric::cosine);
  }
  return input;
}

}  // namespace

EvalTarget read_feature_target(const EvalOptions& o, Metric metric) {
  LabeledFeatures query = read_labeled_features(o.query), gallery = read_labeled_features(o.gallery);
  check_features(query.features, metric, o.query);
  check_features(gallery.features, metric, o.gallery);
  REID_CHECK(query.features.dim(1) == gallery.features.dim(1), "features have ", query.features.dim(1), " columns in ", o.query, " but ",
             gallery.features.dim(1), " in ", o.gallery);
  REID_CHECK(query.cameras.empty() == gallery.cameras.empty(), query.cameras.empty() ? o.query : o.gallery,
             ": holds no 'cameras', and the other file does: give both or neither");
  EvaluationInput input;
  const bool wide = query.features.dtype() == DType::f64 || gallery.features.dtype() == DType::f64;
  input.query = query.features.to(wide ? DType::f64 : DType::f32);
  input.gallery = gallery.features.to(wide ? DType::f64 : DType::f32);
  input.cameras_known = !query.cameras.empty();
  if (!input.cameras_known) number_files(o, query, gallery, input);
  input.query_ids = std::move(query.ids);
  input.query_cameras = std::move(query.cameras);
  input.gallery_ids = std::move(gallery.ids);
  input.gallery_cameras = std::move(gallery.cameras);
  return {"features", {std::move(input)}};
}

std::vector<EvalTarget> embed_targets(const Context& context, const EvalOptions& o, Metric metric) {
  std::vector<std::vector<Dataset>> sets;
  FeatureStore store;
  for (const std::string& spec : o.data) {
    sets.push_back(read_splits(spec));
    for (Dataset& set : sets.back()) {
      require_evaluation(set);
      REID_CHECK(o.multi_query == "off" || set.cameras_known, set.name,
                 ": --multi-query joins a query with the images of its identity and camera, and this set knows no cameras");
      set.query = tracklet_frames(set.query, o.frames);
      set.gallery = tracklet_frames(set.gallery, o.frames);
      store.want(set.query);
      store.want(set.gallery);
      if (o.multi_query != "off") store.want(set.multi_query);
    }
  }
  store.embed_all(context, o);
  std::vector<EvalTarget> targets;
  for (size_t i = 0; i < sets.size(); ++i) {
    EvalTarget target{o.data[i], {}};
    for (Dataset& set : sets[i]) target.splits.push_back(input_of(set, store, o, metric));
    targets.push_back(std::move(target));
  }
  return targets;
}

}  // namespace reid::program
