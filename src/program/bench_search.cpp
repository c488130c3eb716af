// reid bench search: clustering, evaluation and exact search among rows of features, host and device together.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "program/bench.h"
#include "reid/people/evaluation.h"
#include "reid/people/rerank.h"

namespace reid::program {

namespace {

struct Scale {
  const char* name;
  int64_t rows;              // to cluster, and to search among: a training set's images
  int64_t queries, gallery;  // 0: nothing to evaluate
  bool encode;               // Jaccard distances of the rows, too
  bool rerank;               // on the CPU, too, where that takes seconds, not minutes
};

constexpr Scale kScales[] = {{"small", 1000, 200, 1000, true, true},
                             {"market1501", 12936, 3368, 15913, true, true},
                             {"msmt17", 32621, 11659, 82161, true, false},
                             {"large", 100000, 0, 0, true, false},
                             {"million", 1000000, 0, 0, false, false}};
constexpr int64_t kAsked = 3368, kTop = 10;  // queries of the search for the nearest rows: Market-1501's

constexpr int64_t kWidth = 2048, kImages = 17, kAlike = 8, kCameras = 6;

// Rows [first, first + count) of a world of identities with some 17 images each, in groups of eight that look alike, with noise whose
// strength differs from image to image. Row i shows identity i / 17; of the gallery, the identities of the queries come first.
Tensor drawn_rows(int64_t count, std::string_view side) {
  const Tensor x = Tensor::empty({count, kWidth}, DType::f32);
  const Rng world(7);
  parallel_for(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto person = static_cast<uint64_t>(i / kImages);
      Rng group = world.at("group").at(person / kAlike), own = world.at("person").at(person),
          image = world.at(side).at(static_cast<uint64_t>(i));
      const double strength = 0.8 + 1.2 * static_cast<double>(image.below(1000)) / 1000;
      for (int64_t k = 0; k < kWidth; ++k)
        x.data<float>()[i * kWidth + k] = static_cast<float>(group.normal() + 0.4 * own.normal() + strength * image.normal());
    }
  });
  return x;
}

// Queries and gallery of one set of people.
EvaluationInput drawn_input(const Scale& scale) {
  EvaluationInput input;
  input.query = drawn_rows(scale.queries, "query"), input.gallery = drawn_rows(scale.gallery, "gallery");
  for (int64_t q = 0; q < scale.queries; ++q) input.query_ids.push_back(q / kImages), input.query_cameras.push_back(q % kCameras);
  for (int64_t g = 0; g < scale.gallery; ++g) input.gallery_ids.push_back(g / kImages), input.gallery_cameras.push_back(g % kCameras);
  return input;
}

class SearchRows {
 public:
  SearchRows(const Context& context, const BenchOptions& o) : context_(context), o_(o) {}

  // `call` returns what it found, in words, which must not change from call to call.
  template <class Call>
  void time(const std::string& name, Call&& call) {
    std::string found;
    Times times;
    const Stopwatch all;
    for (int64_t i = -1; i < o_.steps && (i < 1 || all.seconds() < o_.patience); ++i) {  // the first call fills caches of memory
      phases_.clear();
      watch_ = Stopwatch();
      const std::string now = call();
      const double seconds = watch_.seconds();
      if (i >= 0) times.seconds.push_back(seconds);
      phases_.emplace_back("", seconds);
      REID_CHECK(found.empty() || now == found, name, " found ", now, " after ", found, ": results must not differ");
      found = now;
    }
    char line[160];
    std::snprintf(line, sizeof line, "%-45s %9.1f ms (%.1f to %.1f)", name.c_str(), 1e3 * times.median(), 1e3 * times.least(),
                  1e3 * times.most());
    context_.say(line, "  ", found);
    Json row = times.json(), phases = Json::object({});
    std::string text;
    for (size_t p = 0; p + 1 < phases_.size(); ++p) {
      const double seconds = phases_[p + 1].second - phases_[p].second;
      std::snprintf(line, sizeof line, "%s%s %.1f ms", p == 0 ? "" : ", ", phases_[p].first.c_str(), 1e3 * seconds);
      phases[phases_[p].first] = seconds;
      text += line;
    }
    if (!text.empty()) context_.say("    ", text);
    row["name"] = name;
    row["found"] = found;
    row["phases_of_last"] = phases;
    rows_.push_back(row);
  }

  // For a call to tell when its phases begin.
  ClusterProgress phases() {
    return [this](const std::string& phase, double share) {
      if (share == 0) phases_.emplace_back(phase, watch_.seconds());
    };
  }

  const Json& json() const { return rows_; }

 private:
  const Context& context_;
  const BenchOptions& o_;
  Stopwatch watch_;                                     // since the call at hand began
  std::vector<std::pair<std::string, double>> phases_;  // of that call, and when each began; at last its end
  Json rows_ = Json::array();
};

std::string words_of(const Clusters& c) { return str(c.count, " clusters, ", c.noise, " noise"); }
std::string words_of(const EvaluationReport& r) {
  char text[64];
  std::snprintf(text, sizeof text, "mAP %.4f, rank-1 %.4f", r.mAP, r.rank(1));
  return text;
}

}  // namespace

std::vector<std::string> search_scales() {
  std::vector<std::string> names;
  for (const Scale& scale : kScales) names.emplace_back(scale.name);
  return names;
}

Json bench_search(const Context& context, const BenchOptions& o) {
  const Scale& scale = *std::ranges::find_if(kScales, [&](const Scale& s) { return o.scale == s.name; });
  context.say(scale.name, ": rows of ", kWidth, " numbers, drawn; median, least and most of calls with features on the host");
  SearchRows rows(context, o);
  {
    const Tensor features = drawn_rows(scale.rows, "training");
    const DbscanOptions by_jaccard{.eps = 0.5, .min_samples = 4, .device = o.device},
        by_cosine{.eps = 0.5, .min_samples = 4, .device = o.device};
    if (scale.encode) {
      rows.time(str("Jaccard (30, 6) and DBSCAN, ", scale.rows),
                [&] { return words_of(dbscan_jaccard(features, {}, by_jaccard, rows.phases())); });
    }
    rows.time(str("cosine DBSCAN, ", scale.rows),
              [&] { return words_of(dbscan_features(features, Metric::cosine, by_cosine, rows.phases())); });
    const Tensor asked = drawn_rows(std::min(kAsked, scale.rows), "query");
    rows.time(str("nearest ", kTop, ", ", asked.dim(0), " x ", scale.rows), [&] {
      const NearestRows found = nearest_rows(asked, features, Metric::cosine, kTop, o.device);
      const std::span<const double> all = found.distance.span<double>();
      char text[64];
      std::snprintf(text, sizeof text, "mean distance %.6f",
                    std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size()));
      return std::string(text);
    });
  }
  if (scale.queries > 0) {
    const EvaluationInput input = drawn_input(scale);
    EvaluationOptions options;
    options.device = o.device;
    const std::string size = str(scale.queries, " x ", scale.gallery);
    rows.time("mAP and CMC, " + size, [&] { return words_of(evaluate(input, options)); });
    rows.time("query expansion by 10, " + size, [&] {
      const Tensor expanded = expand_queries(input.query, input.gallery, {.k = 10, .alpha = 3, .device = o.device});
      return str("first number ", expanded.data<float>()[0]);
    });
    if (scale.rerank || o.device != Device{}) {
      rows.time("re-ranking (20, 6), mAP and CMC, " + size,
                [&] { return words_of(evaluate(input, rerank(input.query, input.gallery, {.device = o.device}), options)); });
    }
  }
  return Json::object({{"what", "search"}, {"scale", scale.name}, {"width", kWidth}, {"rows", rows.json()}});
}

}  // namespace reid::program
