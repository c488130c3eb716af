#include "program/refine.h"

#include <charconv>
#include <cstdio>

namespace reid::program {
namespace {

// "20,6,0.3" -> numbers; as many as `form` has parts.
std::vector<double> numbers(const std::string& flag, const std::string& text, size_t count, const char* form) {
  std::vector<double> values;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (at < end) {
    double value = 0;
    const auto [stopped, error] = std::from_chars(at, end, value);
    if (error != std::errc{} || (stopped != end && (*stopped != ',' || stopped + 1 == end))) break;
    values.push_back(value);
    at = stopped == end ? end : stopped + 1;
  }
  if (at != end || values.size() != count) throw UsageError(str(flag, " takes ", form, ", not '", text, "'"));
  return values;
}

int64_t whole(const std::string& flag, const char* name, double value) {
  const auto number = static_cast<int64_t>(value);
  if (value < 1 || value > 1e9 || static_cast<double>(number) != value)
    throw UsageError(str(flag, ": ", name, " is ", value, ", expected an integer >= 1"));
  return number;
}

ExpansionOptions parse_expansion(const std::string& flag, const std::string& text, Device device) {
  const std::vector<double> values = numbers(flag, text, 2, "K,ALPHA, such as 10,3");
  if (!(values[1] >= 0 && values[1] < 1e6)) throw UsageError(str(flag, ": ALPHA is ", values[1], ", expected a number >= 0"));
  return {whole(flag, "K", values[0]), values[1], device};
}

std::string memory_words(int64_t bytes) {
  char text[32];
  const bool small = bytes < 1000000000;
  std::snprintf(text, sizeof text, small ? "%.0f MB" : "%.1f GB", static_cast<double>(bytes) / (small ? 1e6 : 1e9));
  return text;
}

// The search takes all rows where it asks for more than there are, which is rarely what was meant.
void note_few_rows(const Context& context, const char* flag, int64_t neighbors, int64_t rows) {
  if (neighbors > rows) context.say("note: ", flag, " looks for ", neighbors, " neighbors; there are ", rows, " rows");
}

}  // namespace

void declare_refinement(Flags& f, RefineFlags& flags) {
  f.option("--rerank", flags.rerank, "K1,K2,LAMBDA", "k-reciprocal re-ranking; the paper's values: 20,6,0.3");
  f.choice("--rerank-variant", flags.variant, {"auto", "zhong", "bot", "torchreid", "fastreid"},
           "whose; auto: the preset's program, else the authors'");
  f.option("--aqe", flags.aqe, "K,ALPHA[,union]",
           "queries become means of their K nearest, by cosine^ALPHA; union: both sides among all (fast-reid)");
  f.option("--dba", flags.dba, "K,ALPHA", "the same for the gallery among itself, before");
}

Refinement parse_refinement(const RefineFlags& flags, const std::string& preset, Device device) {
  Refinement r;
  if (!flags.dba.empty()) r.dba = parse_expansion("--dba", flags.dba, device);
  if (!flags.aqe.empty()) {
    r.aqe_union = flags.aqe.ends_with(",union");
    r.aqe = parse_expansion("--aqe", r.aqe_union ? flags.aqe.substr(0, flags.aqe.size() - 6) : flags.aqe, device);
  }
  if (flags.rerank.empty()) {
    if (flags.variant != "auto") throw UsageError("--rerank-variant needs --rerank K1,K2,LAMBDA");
    return r;
  }
  const std::vector<double> values = numbers("--rerank", flags.rerank, 3, "K1,K2,LAMBDA, such as 20,6,0.3");
  r.rerank = RerankOptions{whole("--rerank", "K1", values[0]), whole("--rerank", "K2", values[1]), values[2], RerankVariant::zhong, device};
  if (!(values[2] >= 0 && values[2] <= 1)) throw UsageError(str("--rerank: LAMBDA is ", values[2], ", expected a number in [0, 1]"));
  const bool has_own = preset == "fastreid" || preset == "torchreid";
  r.rerank->variant = parse_rerank_variant(flags.variant != "auto" ? flags.variant : has_own ? preset : "zhong");
  return r;
}

std::string Refinement::describe() const {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
  if (dba) add(str("database expansion (k ", dba->k, ", alpha ", dba->alpha, ")"));
  if (aqe) add(str(aqe_union ? "expansion of both sides among all (k " : "query expansion (k ", aqe->k, ", alpha ", aqe->alpha, ")"));
  if (rerank) {
    add(str("re-ranked as ", name_of(rerank->variant), " (k1 ", rerank->k1, ", k2 ", rerank->k2, ", lambda ", rerank->lambda, ")"));
  }
  return text;
}

void Refinement::expand(const Context& context, Tensor& query, Tensor& gallery) const {
  const int64_t queries = query.dim(0), rows = gallery.dim(0);
  if (dba) note_few_rows(context, "--dba", dba->k, rows);
  if (aqe) note_few_rows(context, "--aqe", aqe->k, aqe_union ? queries + rows : rows);
  if (dba) gallery = expand_rows(gallery, *dba);
  if (!aqe) return;
  if (aqe_union) {
    ExpandedSides both = expand_union(query, gallery, *aqe);
    query = both.query;
    gallery = both.gallery;
  } else {
    query = expand_queries(query, gallery, *aqe);
  }
}

WorkProgress SearchScreen::progress() const {
  return [ports = ports_](double share) {
    if (share < 1) ports.progress(str("neighbors ", static_cast<int>(100 * share), " %"));
  };
}

void SearchScreen::finish(const std::string& what) const {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f", watch_.seconds());
  ports_.say(str(what, " in ", seconds, " s"));
}

DistanceRows Refinement::distances(const Context& context, const Tensor& query, const Tensor& gallery, Metric metric) const {
  if (!rerank) return distance_rows(query, gallery, metric, context.device);
  note_few_rows(context, "--rerank", std::max(rerank->k1, rerank->k2), query.dim(0) + gallery.dim(0));
  context.say("re-ranking ", query.dim(0), " queries and ", gallery.dim(0), " gallery images: about ",
              memory_words(rerank_bytes(query.dim(0), gallery.dim(0), query.dim(1), query.dtype(), *rerank)), " beside the features");
  const SearchScreen screen(context);
  DistanceRows rows = reid::rerank(query, gallery, *rerank, screen.progress());
  screen.finish("neighbors found and encoded");
  return rows;
}

}  // namespace reid::program
