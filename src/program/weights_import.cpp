// reid weights import: another program's file becomes an encoder of this one.

#include "program/inputs.h"
#include "program/weights.h"

#include "reid/learning/method.h"

#include <filesystem>
#include <map>
#include <memory>

namespace reid::program {
namespace {

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

Json to_json(const EmbeddingComparison& c) {
  return Json::object({{"images", c.images}, {"difference", c.largest_relative}, {"changed_rankings", c.changed_ranks}});
}

Json compare_on(const std::vector<std::string>& images, const Context& context, LoadedEncoder& a, LoadedEncoder& b) {
  const std::vector<Sample> samples = list_images(images);
  const auto embed = [&](LoadedEncoder& encoder) {
    const auto batch = [&](const Tensor& x) { return encoder.embed(x); };
    Feed feed(Device{}, encoder.transform());
    return extract(samples, batch, DataSettings{}, feed, std::make_shared<ImageCache>(0), context.threads);  // [N, D]
  };
  const EmbeddingComparison compared = compare_embeddings(embed(a), embed(b), "the first", "the second");
  context.say(compared.images, " images embedded with both: ", compared.summary());
  return to_json(compared);
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
    result["verified"] = compare_on(o.images, context, before, after);
  }
  context.write_json(result);
}

}  // namespace reid::program
