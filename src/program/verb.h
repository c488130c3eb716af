#pragma once
// The verbs of the program: one file a verb declares its flags and runs it.
//
// Design: a thin layer over the command-line parser, so that only main.cpp pays for compiling it. A verb is a value: its
// texts, a function that declares flags on plain variables, and a function that runs once they hold what the user wrote.
//
//   Verb twice_verb() {
//     struct Options { int64_t number = 1; };
//     auto o = std::make_shared<Options>();
//     return {.name = "twice", .summary = "doubles a number", .example = "reid twice --number 3",
//             .declare = [o](Flags& f) { f.option("--number", o->number, "what to double", Range::at_least(0)); },
//             .run = [o](const Context& context) { context.say(2 * o->number); context.write_json(2 * o->number); }};
//   }
//
// Errors: reid::Error is printed as one line and ends the program with status 1; UsageError with status 2.

#include "reid/engine/base.h"
#include "reid/engine/device.h"
#include "reid/formats/json.h"
#include "reid/learning/config.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace reid::program {

// The command line itself is wrong: a flag, a value or a combination of them.
class UsageError : public Error {
 public:
  using Error::Error;
};

enum class Presence : uint8_t { optional, required };

// Declares the flags of one verb. Variables keep their value (the default, shown by --help) when a flag is not given.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}

  void flag(const std::string& name, bool& value, const std::string& doc);
  void option(const std::string& name, std::string& value, const std::string& placeholder, const std::string& doc,
              Presence = Presence::optional);
  void option(const std::string& name, int64_t& value, const std::string& doc, Range = {}, Presence = Presence::optional);
  void option(const std::string& name, double& value, const std::string& doc, Range = {}, Presence = Presence::optional);
  void options(const std::string& name, std::vector<std::string>& values, const std::string& placeholder, const std::string& doc,
               Presence = Presence::optional);  // takes every word up to the next flag, and may be repeated
  void choice(const std::string& name, std::string& value, std::vector<std::string> allowed, const std::string& doc);
  void argument(const std::string& name, std::string& value, const std::string& doc, Presence = Presence::optional);
  void arguments(const std::string& name, std::vector<std::string>& values, const std::string& doc, Presence = Presence::optional);

  const std::vector<std::string>& names() const { return names_; }  // every flag, for the nearest-name hint
  void check_required() const;                                      // throws UsageError naming what is missing

 private:
  CLI::App& app_;
  std::vector<std::string> names_, required_;
};

// What every verb can count on, whatever its flags.
struct Context {
  Device device;    // where networks compute and rows are searched
  int threads = 1;  // already handed to set_threads()
  bool quiet = false;
  std::string json;                // where --json writes, "-" for standard output, "" for nowhere
  std::vector<std::string> words;  // the command line as typed, for manifests

  // A line for people, on standard output; nothing under --quiet or when standard output carries the JSON.
  template <class... Parts>
  void say(const Parts&... parts) const {
    say_line(str(parts...));
  }
  void write_json(const Json& result) const;  // the machine-readable result; does nothing without --json

 private:
  void say_line(const std::string& line) const;
};

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Verb {
  std::string name, summary, example;
  std::function<void(Flags&)> declare;
  std::function<void(const Context&)> run;
  bool on_device = false;  // runs networks or searches among rows, on the device of --device
};

// Verbs that can stop in good order call watch_for_stop() first and then poll stop_requested(), which turns true on the
// first SIGINT or SIGTERM; a second signal ends the program at once. Without the call a signal ends the program as usual.
void watch_for_stop();
bool stop_requested();

std::string version();  // "reid 0.1.0"

// The verbs there are, each defined in its file; main.cpp lists them in the order of --help.
Verb synth_verb();
Verb data_verb();
Verb train_verb();
Verb eval_verb();
Verb matrix_verb();
Verb rerank_verb();
Verb embed_verb();
Verb cluster_verb();
Verb keys_verb();
Verb weights_verb();
Verb op_verb();
Verb bench_verb();
Verb demo_verb();

}  // namespace reid::program
