#pragma once
// Expansion and re-ranking as `reid eval` and `reid rerank` offer them.

#include "program/training.h"
#include "program/verb.h"

#include "reid/people/rerank.h"

#include <optional>
#include <string>

namespace reid::program {

struct RefineFlags {
  std::string rerank, variant = "auto", aqe, dba;
};
void declare_refinement(Flags& f, RefineFlags& flags);

struct Refinement {
  std::optional<ExpansionOptions> dba, aqe;
  bool aqe_union = false;
  std::optional<RerankOptions> rerank;

  bool any() const { return dba || aqe || rerank; }
  std::string describe() const;  // "database expansion (k 10, alpha 3); re-ranked as zhong (k1 20, k2 6, lambda 0.3)"
  // Database expansion, then that of the queries.
  void expand(const Context& context, Tensor& query, Tensor& gallery) const;
  // The distances to rank by: re-ranked, which says what memory it will take before it starts, or those of `metric`.
  DistanceRows distances(const Context& context, const Tensor& query, const Tensor& gallery, Metric metric) const;
};
// Shows how far a search for neighbors is, then says how long it took.
class SearchScreen {
 public:
  explicit SearchScreen(const Context& context) : ports_(screen_ports(context)) {}
  WorkProgress progress() const;
  void finish(const std::string& what) const;  // "neighbors found"

 private:
  RunPorts ports_;
  Stopwatch watch_;
};

// Throws UsageError for what cannot be read. `preset` decides on a variant that is "auto"; neighbors are searched on `device`.
Refinement parse_refinement(const RefineFlags& flags, const std::string& preset, Device device);

}  // namespace reid::program
