// The protocols by name. What each program computes is told in docs/evaluation.md, with where that stands in its source.

#include "reid/people/evaluation.h"

namespace reid {

namespace {

struct Preset {
  const char* name;
  Metric metric;
  PrecisionForm precision;
  bool count_unmatched, single_shot, separate_cameras;
};

constexpr Preset kPresets[] = {
    {"fastreid", Metric::cosine, PrecisionForm::step, false, false, false},
    {"torchreid", Metric::squared_euclidean, PrecisionForm::step, false, false, false},
    {"openreid", Metric::squared_euclidean, PrecisionForm::tied, false, false, false},
    {"market-matlab", Metric::cosine, PrecisionForm::trapezoidal, true, false, false},
    {"cuhk03-single-shot", Metric::squared_euclidean, PrecisionForm::step, false, true, false},
    {"cuhk03-openreid", Metric::squared_euclidean, PrecisionForm::tied, false, true, true},
};

const char* distance_words(Metric metric) {
  switch (metric) {
    case Metric::cosine: return "cosine distance";
    case Metric::euclidean: return "Euclidean distance of the features as they are";
    case Metric::squared_euclidean: return "squared Euclidean distance of the features as they are";
  }
  return "?";
}

}  // namespace

const char* name_of(PrecisionForm form) {
  switch (form) {
    case PrecisionForm::step: return "step";
    case PrecisionForm::trapezoidal: return "trapezoidal";
    case PrecisionForm::tied: return "tied";
  }
  return "?";
}

EvaluationOptions evaluation_preset(std::string_view name) {
  std::string known;
  for (const Preset& preset : kPresets) {
    if (name == preset.name) {
      EvaluationOptions options;
      options.preset = preset.name;
      options.metric = preset.metric;
      options.precision = preset.precision;
      options.count_unmatched = preset.count_unmatched;
      options.single_shot = preset.single_shot;
      options.separate_cameras = preset.separate_cameras;
      return options;
    }
    known += str(known.empty() ? "" : ", ", preset.name);
  }
  fail(str("unknown evaluation preset '", name, "': expected one of ", known));
}

std::vector<std::string> evaluation_presets() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

std::string describe(const EvaluationOptions& options, const RetrievalLabels& labels) {
  std::string text = str(options.preset, ": ", distance_words(options.metric), "; ");
  switch (options.precision) {
    case PrecisionForm::step: text += "non-interpolated AP"; break;
    case PrecisionForm::trapezoidal: text += "trapezoidal AP"; break;
    case PrecisionForm::tied: text += "non-interpolated AP with tied distances as one (scikit-learn)"; break;
  }
  text += labels.cameras_known          ? "; gallery images with the query's identity and camera removed"
          : !labels.query_files.empty() ? "; cameras unknown: only the query's own file removed"
                                        : "; cameras and files unknown: nothing removed";
  text += options.count_unmatched ? "; queries without a match count as zero" : "; queries without a match left out";
  if (options.single_shot) {
    text += str("; CMC over ", options.repeats, " draws of one gallery image of each identity",
                options.separate_cameras ? " in other cameras" : "", " (seed ", options.seed, ")");
  }
  return text;
}

}  // namespace reid
