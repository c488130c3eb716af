// reid cluster: DBSCAN labels for the rows of a feature file.

#include "program/inputs.h"
#include "program/training.h"
#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/people/cluster.h"

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string features, out, metric = "cosine", k1_counts_self = "yes";
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
  f.choice("--k1-counts-self", o.k1_counts_self, {"yes", "no"},
           "jaccard: a row is one of its k1 neighbors (ICE, Cluster Contrast), or comes on top of them (Zhong et al.)");
  f.option("--out", o.out, "FILE", "CSV to write: index,label (noise is -1)", Presence::required);
}

// Times the phases of a clustering and shows where it is.
class Phases {
 public:
  explicit Phases(const Context& context) : ports_(screen_ports(context)) {}

  ClusterProgress hear() {
    return [this](const std::string& phase, double share) {
      const auto now = std::chrono::steady_clock::now();
      if (seconds_.empty() || seconds_.back().first != phase) {
        close(now);
        seconds_.emplace_back(phase, 0);
      }
      if (now - first_ < std::chrono::seconds(2)) return;  // short work needs no progress
      char text[16];
      std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
      ports_.progress(str(phase, ": ", text));
    };
  }

  // "neighbors 3.1 s, encoding 0.2 s", on a line of its own.
  void finish() {
    close(std::chrono::steady_clock::now());
    std::string line;
    for (const auto& [phase, seconds] : seconds_) {
      char text[32];
      std::snprintf(text, sizeof text, " %.2f s", seconds);
      line += (line.empty() ? "" : ", ") + phase + text;
    }
    ports_.say(line);
  }

  Json json() const {
    Json all = Json::array();
    for (const auto& [phase, seconds] : seconds_) all.push_back(Json::object({{"phase", phase}, {"seconds", seconds}}));
    return all;
  }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void close(Time now) {
    if (!seconds_.empty()) seconds_.back().second = std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

  RunPorts ports_;
  Time first_ = std::chrono::steady_clock::now(), last_ = first_;
  std::vector<std::pair<std::string, double>> seconds_;
};

// Resident memory at its highest. Linux counts what the parent held before exec in getrusage(), but not in VmHWM.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;  // kB
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return usage.ru_maxrss;
#else
  return int64_t{usage.ru_maxrss} * 1024;
#endif
}

int64_t mebibytes(int64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

void run(const Context& context, const Options& o) {
  const Tensor features = read_features(o.features);
  check_can_write(o.out);
  const DbscanOptions options{.eps = o.eps, .min_samples = o.min_samples, .device = context.device};
  const bool by_jaccard = o.metric == "jaccard";
  const JaccardOptions jaccard{.k1 = o.k1, .k2 = o.k2, .k1_counts_self = o.k1_counts_self == "yes"};
  const Metric metric = by_jaccard ? Metric::cosine : parse_metric(o.metric);
  check_features(features, metric, o.features);

  const int64_t rows = features.dim(0), columns = features.dim(1);
  const int64_t needed = by_jaccard ? dbscan_jaccard_bytes(rows, columns, jaccard, options) : dbscan_features_bytes(rows, columns, options);
  const std::string beside =
      context.device == Device{} ? std::string("beside the features") : str("on ", context.device, " with the features");
  context.say(rows, " rows of ", columns, ": needs about ", mebibytes(needed), " MiB ", beside, " (", mebibytes(features.bytes()), " MiB)");
  if (by_jaccard && std::max(o.k1, o.k2) > rows) {
    context.say("--k1 ", o.k1, " and --k2 ", o.k2, " look at no more than the ", rows, " rows there are");
  }
  const Stopwatch watch;
  Phases phases(context);
  const Clusters found =
      by_jaccard ? dbscan_jaccard(features, jaccard, options, phases.hear()) : dbscan_features(features, metric, options, phases.hear());
  phases.finish();
  const double seconds = watch.seconds();

  std::string csv = "index,label\n";
  for (size_t i = 0; i < found.labels.size(); ++i) csv += std::to_string(i) + "," + std::to_string(found.labels[i]) + "\n";
  write_file(o.out, csv);
  const int64_t peak = peak_bytes();
  context.say(rows, " rows: ", found.count, " clusters, ", found.noise, " noise, ", mebibytes(peak), " MiB at the peak -> ", o.out);
  Json result = Json::object({{"rows", rows},
                              {"columns", columns},
                              {"clusters", found.count},
                              {"noise", found.noise},
                              {"metric", o.metric},
                              {"eps", o.eps},
                              {"min_samples", o.min_samples},
                              {"seconds", seconds},
                              {"phases", phases.json()},
                              {"estimated_bytes", needed},
                              {"feature_bytes", features.bytes()},
                              {"peak_bytes", peak},
                              {"labels", o.out}});
  if (by_jaccard) {
    result["k1"] = o.k1;
    result["k2"] = o.k2;
    result["k1_counts_self"] = jaccard.k1_counts_self;
  }
  context.write_json(result);
}

}  // namespace

Verb cluster_verb() {
  auto o = std::make_shared<Options>();
  return {"cluster",
          "group the rows of a feature file by DBSCAN",
          "reid cluster --features E.safetensors --metric cosine --eps 0.3 --min-samples 4 --out labels.csv",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
