#pragma once
// The parts of reid eval: what is compared, and how results look.

#include "program/refine.h"
#include "program/verb.h"

#include "reid/people/evaluation.h"
#include "reid/people/verification.h"

#include <optional>
#include <string>
#include <vector>

namespace reid::program {

struct EvalOptions {
  std::string weights, query, gallery, preset = "fastreid", metric = "auto", multi_query = "off";
  std::vector<std::string> data;
  int64_t frames = 0, repeats = 10, seed = 1;
  double accept = 1e-3;
  bool flip = false, verification = false;
  RefineFlags refine;
};

// One row of the table: a data set, with an input for each of its splits.
struct EvalTarget {
  std::string name;
  std::vector<EvaluationInput> splits;
};

EvalTarget read_feature_target(const EvalOptions& o, Metric metric);
// Each image is embedded once, however many splits and data sets name it.
std::vector<EvalTarget> embed_targets(const Context& context, const EvalOptions& o, Metric metric);

struct SplitResult {
  EvaluationReport report;
  int64_t queries = 0, gallery = 0;
  std::optional<VerificationReport> verification;
};
struct TargetResult {
  std::string name;
  std::vector<SplitResult> splits;
};

std::string wrapped(const std::string& text);  // broken after "; " into lines of at most 110 characters
void show_table(const Context& context, const std::vector<TargetResult>& results);
void show_verification(const Context& context, const VerificationReport& report);
Json to_json(const std::vector<TargetResult>& results, const EvaluationOptions& options, const std::string& refinement);

}  // namespace reid::program
