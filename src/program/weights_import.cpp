// reid weights import: another program's file becomes an encoder of this one.

#include "program/inputs.h"
#include "program/weights.h"

#include "reid/learning/method.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

namespace reid::program {
namespace {

// For each image the others, most similar (cosine) first.
std::vector<std::vector<size_t>> rankings(const Tensor& features) {
  const Tensor wide = features.to(DType::f64);
  const auto count = static_cast<size_t>(wide.dim(0)), width = static_cast<size_t>(wide.dim(1));
  const double* x = wide.data<double>();
  const auto dot = [&](size_t i, size_t j) { return std::inner_product(x + i * width, x + (i + 1) * width, x + j * width, 0.0); };
  std::vector<double> norms(count);
  for (size_t i = 0; i < count; ++i) norms[i] = std::max(std::sqrt(dot(i, i)), 1e-300);
  std::vector<std::vector<size_t>> orders(count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<double> similarity(count);
    for (size_t j = 0; j < count; ++j) similarity[j] = dot(i, j) / norms[j];
    for (size_t j = 0; j < count; ++j) {
      if (j != i) orders[i].push_back(j);
    }
    std::stable_sort(orders[i].begin(), orders[i].end(), [&](size_t p, size_t q) { return similarity[p] > similarity[q]; });
  }
  return orders;
}

// Largest |a - b| / |a| of a row; infinite when a value is not finite.
double largest_row_difference(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(DType::f64), y = b.to(DType::f64);
  double worst = 0;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const Tensor p = x.rows(row, row + 1), q = y.rows(row, row + 1);
    double difference = 0, size = 0;
    for (int64_t i = 0; i < p.numel(); ++i) {
      const double u = p.data<double>()[i], v = q.data<double>()[i];
      difference += (u - v) * (u - v);
      size += u * u;
    }
    const double relative = difference == 0 ? 0 : std::sqrt(difference / size);
    worst = std::isfinite(difference) && std::isfinite(relative) ? std::max(worst, relative) : INFINITY;
  }
  return worst;
}

Json to_json(const ImportedEncoder& e, const WeightsOptions& o) {
  Json settings = Json::object(), fate = Json::array();
  for (const SettingSource& s : e.resolved.sources) settings[s.key] = Json::object({{"value", s.value}, {"source", name_of(s.source)}});
  for (const SourceTensor& t : e.mapped->fate)
    fate.push_back(Json::object({{"name", t.name}, {"fate", name_of(t.fate)}, {"note", t.note}}));
  return Json::object({{"out", o.out},
                       {"origin", e.mapped->origin},
                       {"convention", e.convention},
                       {"exact", e.mapped->exact},
                       {"settings", std::move(settings)},
                       {"matched", static_cast<int64_t>(e.match.matched.size())},
                       {"missing", name_list(e.match.fresh)},
                       {"unexpected", name_list(e.match.unused)},
                       {"tensors", std::move(fate)}});
}

void report(const Context& context, const ImportedEncoder& e, const WeightsOptions& o) {
  const MappedWeights& m = *e.mapped;
  context.say("origin: ", m.origin, " (", m.remark, "), at '", m.root, "'");
  if (!m.exact) context.say("warning: ", m.remark);
  context.say("convention: ", e.convention, " (", find_convention(e.convention).whose, ")");
  for (const SettingSource& s : e.resolved.sources) context.say("  ", column(s.key, 20), column(s.value, 40), name_of(s.source));
  context.say("network: ", e.match.matched.size(), " tensors matched, ", e.match.fresh.size(), " missing, ", e.match.unused.size(),
              " unexpected");
  if (!e.match.fresh.empty()) context.say("  missing, with initial values: ", listed(e.match.fresh, o.all));
  if (!e.match.unused.empty()) context.say("  unexpected, left out: ", listed(e.match.unused, o.all));
  std::map<Fate, std::vector<std::string>> left;
  for (const SourceTensor& t : m.fate) left[t.fate].push_back(t.name);
  for (const auto& [fate, names] : left) {
    const bool brief = fate == Fate::imported || fate == Fate::counter;
    context.say("file: ", names.size(), " ", name_of(fate), brief ? "" : ": ", brief ? "" : listed(names, o.all));
  }
}

}  // namespace

ImportedEncoder import_encoder(const TensorFile& file, const std::string& name, const WeightsOptions& o) {
  ImportedEncoder e;
  if (is_encoder(file.content)) {
    e.content = file.content;
    return e;
  }
  e.mapped = map_weights(file.content);
  REID_CHECK(e.mapped->exact || o.inexact, name, ": these are weights of ", e.mapped->origin, ": ", e.mapped->remark,
             "; --inexact takes them nevertheless");
  e.convention = o.convention.empty() ? e.mapped->convention : o.convention;
  const std::vector<std::string> words = o.action == "import" ? o.words : std::vector<std::string>{};
  e.resolved = resolve_settings(encoder_shown_by(e.mapped->weights), find_convention(e.convention), e.mapped->mean, e.mapped->std, words);
  const ModelSettings& model = e.resolved.settings.model;
  Encoder network(model.encoder(), DType::f32, Rng(0));
  e.match = load_mapped(inventory(network), e.mapped->weights);
  e.content = exported_encoder(inventory(network), model, e.resolved.settings.transform());
  e.content.source = name;
  e.content.metadata.insert(e.content.metadata.end(), {{"origin", e.mapped->origin},
                                                       {"convention", e.convention},
                                                       {"exact", e.mapped->exact ? "true" : "false"},
                                                       {"source", std::filesystem::path(name).filename().string()}});
  return e;
}

Json compare_embeddings(const Context& context, LoadedEncoder& a, LoadedEncoder& b, const std::vector<std::string>& images) {
  const std::vector<Sample> samples = list_images(images);
  const auto embed = [&](LoadedEncoder& encoder) {
    const auto batch = [&](const Tensor& x) { return encoder.embed(x); };
    return extract(samples, batch, DataSettings{}, encoder.transform(), std::make_shared<ImageCache>(0), context.threads);  // [N, D]
  };
  const Tensor x = embed(a), y = embed(b);
  REID_CHECK(x.shape() == y.shape(), "embeddings of ", x.dim(1), " and ", y.dim(1), " numbers cannot be compared");
  const double difference = largest_row_difference(x, y);
  const auto p = rankings(x), q = rankings(y);
  int64_t changed = 0;
  for (size_t i = 0; i < p.size(); ++i) changed += p[i] != q[i];
  context.say(samples.size(), " images: embeddings differ by at most ", difference,
              " of their length; the ranking of the others changed for ", changed);
  return Json::object({{"images", static_cast<int64_t>(samples.size())}, {"difference", difference}, {"changed_rankings", changed}});
}

void import_weights(const Context& context, const WeightsOptions& o) {
  if (o.out.empty()) throw UsageError("--out is missing");
  const TensorFile file = read_tensor_file(o.file);
  REID_CHECK(!is_encoder(file.content), o.file, " is an encoder of this program already");
  const ImportedEncoder imported = import_encoder(file, o.file, o);
  write_safetensors(o.out, imported.content);
  report(context, imported, o);
  context.say("-> ", o.out);
  Json result = to_json(imported, o);
  if (!o.images.empty()) {
    LoadedEncoder before(imported.content), after{std::filesystem::path(o.out)};
    result["verified"] = compare_embeddings(context, before, after, o.images);
  }
  context.write_json(result);
}

}  // namespace reid::program
