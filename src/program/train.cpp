// reid train: a recipe's configuration in, a run folder out.

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "program/training.h"
#include "program/verb.h"
#include "reid/learning/matrix.h"

namespace reid::program {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config, out;
  std::vector<std::string> overrides;
  bool resume = false, each = false, eager = false;
};

void declare(Flags& f, Options& o) {
  f.argument("CONFIG", o.config, "TOML file of the run; see configs/", Presence::required);
  f.arguments("KEY=VALUE", o.overrides, "settings that replace the file's, e.g. run.seed=2 loss.tau_camera=0.1");
  f.option("--out", o.out, "RUN", "folder that the run writes", Presence::required);
  f.flag("--resume", o.resume, "continue the run in --out; it ends bitwise equal to one that was never stopped");
  f.flag("--eager", o.eager, "with --device cuda: launch every kernel by itself, never a step as graphs; results are the same");
  f.flag("--each", o.each, "train every row of the protocol in turn, each in a folder of --out, and write one matrix");
}

ConfiguredRecipe configure(const Options& o, const ProtocolChoice* row) {
  ConfiguredRecipe configured = read_recipe(o.config, o.overrides);
  RunConfig& common = configured.recipe->common();
  common.eager = o.eager;
  if (row) common.protocol.choice = *row;
  common.protocol.apply(common.data);
  return configured;
}

// One run after the other, in folders named by what each leaves out or trains on.
void train_each(const Context& context, const Options& o) {
  const ConfiguredRecipe first = read_recipe(o.config, o.overrides);
  const ProtocolChoice& choice = first.recipe->common().protocol.choice;
  REID_CHECK(!choice.protocol.empty(), "--each needs a protocol: set protocol.name and protocol.sets");
  const std::vector<ProtocolChoice> choices = every_row(choice);
  for (const ProtocolChoice& row : choices) configure(o, &row);  // whatever is wrong shows before the first starts

  std::vector<MatrixRow> matrix;
  for (const ProtocolChoice& row : choices) {
    const fs::path folder = fs::path(o.out) / (!row.target.empty()   ? "to-" + row.target
                                               : !row.source.empty() ? "from-" + row.source
                                                                     : row.protocol);
    const ConfiguredRecipe configured = configure(o, &row);
    const bool resume = o.resume && fs::exists(folder / "config.toml");
    context.say("\n", folder.string());
    if (!train_recipe(context, *configured.recipe, configured.keys, folder.string(), resume)) return;
    for (MatrixRow& finished : read_matrix(folder)) matrix.push_back(std::move(finished));
  }
  write_matrix_files(matrix, o.out);
  context.say("\nmAP / Rank-1, %\n", matrix_markdown(matrix), "\nmatrix: ", (fs::path(o.out) / "matrix.md").string());
  context.write_json(matrix_json(matrix));
}

void run(const Context& context, const Options& o) {
  if (o.each) return train_each(context, o);
  const ConfiguredRecipe configured = configure(o, nullptr);
  const std::optional<Json> results = train_recipe(context, *configured.recipe, configured.keys, o.out, o.resume);
  if (results) context.write_json(*results);
}

}  // namespace

RunPorts screen_ports(const Context& context) {
  const bool terminal = isatty(STDOUT_FILENO) == 1 && !context.quiet && context.json != "-";
  RunPorts ports;
  ports.stop_requested = stop_requested;
  ports.say = [terminal, context](const std::string& line) {
    if (terminal) std::fputs("\r\x1b[K", stdout);
    context.say(line);
    std::fflush(stdout);
  };
  // A terminal sees one line that changes; a log sees a line every ten seconds.
  auto last = std::make_shared<std::chrono::steady_clock::time_point>();
  ports.progress = [terminal, context, last](const std::string& line) {
    const auto now = std::chrono::steady_clock::now();
    if (now - *last < (terminal ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return;
    *last = now;
    if (terminal) {
      std::printf("\r\x1b[K%s", line.c_str());
    } else {
      context.say(line);
    }
    std::fflush(stdout);
  };
  return ports;
}

std::optional<Json> train_recipe(const Context& context, Recipe& recipe, const ConfigKeys& keys, const std::string& out, bool resume) {
  recipe.check();
  recipe.common().device = context.device;
  const RunConfig& config = recipe.common();
  if (!config.protocol.text.empty()) context.say(config.protocol.text);
  watch_for_stop();
  Run run(out, resume, config, keys, screen_ports(context));
  const std::unique_ptr<Method> method = recipe.prepare(run);
  if (!run.train(*method)) return std::nullopt;
  const std::string results = (std::filesystem::path(out) / "results.json").string();
  context.say("encoder: ", (std::filesystem::path(out) / "encoder.safetensors").string(), "\nresults: ", results);
  if (!config.run.best_on.empty()) {
    context.say("also kept, chosen by the labels of ", config.run.best_on, ": ",
                (std::filesystem::path(out) / "best_encoder.safetensors").string());
  }
  return parse_json(read_text(results), results);
}

Verb train_verb() {
  auto o = std::make_shared<Options>();
  return {"train",
          "train an encoder by a recipe",
          "reid train configs/demo.toml run.seed=2 --out runs/demo",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
