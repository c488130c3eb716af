// reid train: a recipe's configuration in, a run folder out.

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "program/training.h"
#include "program/verb.h"

namespace reid::program {
namespace {

struct Options {
  std::string config, out;
  std::vector<std::string> overrides;
  bool resume = false;
};

void declare(Flags& f, Options& o) {
  f.argument("CONFIG", o.config, "TOML file of the run; see configs/", Presence::required);
  f.arguments("KEY=VALUE", o.overrides, "settings that replace the file's, e.g. run.seed=2 loss.tau_camera=0.1");
  f.option("--out", o.out, "RUN", "folder that the run writes", Presence::required);
  f.flag("--resume", o.resume, "continue the run in --out; it ends bitwise equal to one that was never stopped");
}

void run(const Context& context, const Options& o) {
  ReMixConfig config;
  ConfigKeys keys = keys_of(config);
  keys.read_file(o.config);
  for (const std::string& assignment : o.overrides) keys.set(assignment);
  const std::optional<Json> results = train_remix(context, config, keys, o.out, o.resume);
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

std::optional<Json> train_remix(const Context& context, const ReMixConfig& config, const ConfigKeys& keys, const std::string& out,
                                bool resume) {
  config.check();
  watch_for_stop();
  Run run(out, resume, config.common, keys, screen_ports(context));
  Dataset multi = run.read_training(config.common.data.multi);
  require_training(multi);
  Dataset single = config.common.data.single.empty() ? Dataset{} : run.read_training(config.common.data.single);
  ReMix method(config, std::move(multi), std::move(single));
  if (!run.train(method)) return std::nullopt;
  const std::string results = (std::filesystem::path(out) / "results.json").string();
  context.say("encoder: ", (std::filesystem::path(out) / "encoder.safetensors").string(), "\nresults: ", results);
  return parse_json(read_text(results), results);
}

Verb train_verb() {
  auto o = std::make_shared<Options>();
  return {"train", "train an encoder by a recipe", "reid train configs/demo.toml run.seed=2 --out runs/demo",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
