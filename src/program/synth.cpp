// reid synth: draws a synthetic world as ordinary JPEG data sets.

#include "program/verb.h"

#include "reid/people/synth.h"

#include <cstdio>
#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string out, preset = "demo", layout = "folders", sheet;
  int64_t seed = 1;
};

void declare(Flags& f, Options& o) {
  f.option("--out", o.out, "DIR", "folder to write; must not exist or be empty", Presence::required);
  f.choice("--preset", o.preset, world_presets(), "how large a world");
  f.option("--seed", o.seed, "another seed, another world; the same seed, the same bytes", Range::at_least(0));
  f.choice("--videos", o.layout, {"folders", "luperson"}, "a folder for each video, or LUPerson key names in one folder");
  f.option("--sheet", o.sheet, "FILE", "also draw a contact sheet (PNG) of the world");
}

void run(const Context& context, const Options& o) {
  WorldConfig config = world_preset(o.preset);
  config.videos.layout = o.layout;
  int64_t shown = 0;
  const WorldProgress progress = [&](int64_t done, int64_t total) {
    const int64_t tenth = total > 0 ? done * 10 / total : 0;
    if (tenth == shown) return;
    shown = tenth;
    context.say("drawn ", done, " of ", total, " images");
  };
  const auto seed = static_cast<uint64_t>(o.seed);
  const WorldReport report = write_world(config, seed, o.out, context.threads, progress);
  if (!o.sheet.empty()) write_contact_sheet(config, seed, o.sheet);

  Json counts = Json::array();
  for (const WorldCount& count : report.counts) {
    char line[160];
    std::snprintf(line, sizeof line, "  %-32s %5lld identities %7lld images", count.folder.c_str(),
                  static_cast<long long>(count.identities), static_cast<long long>(count.images));
    context.say(line);
    counts.push_back(
        Json::object({{"folder", count.folder}, {"identities", count.identities}, {"images", count.images}, {"bytes", count.bytes}}));
  }
  context.say("world version ", report.version, ", seed ", report.seed, ", hash ", hex(report.hash), ": ", report.images, " images in ",
              o.out);
  Json result = Json::object({{"out", o.out},
                              {"preset", o.preset},
                              {"version", report.version},
                              {"seed", o.seed},
                              {"hash", hex(report.hash)},
                              {"images", report.images},
                              {"bytes", report.bytes}});
  result["counts"] = std::move(counts);
  context.write_json(result);
}

}  // namespace

Verb synth_verb() {
  auto o = std::make_shared<Options>();
  return {"synth", "draw a synthetic world: people, cameras, data sets", "reid synth --out data/world --preset demo --seed 1",
          [o](Flags& f) { declare(f, *o); }, [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
