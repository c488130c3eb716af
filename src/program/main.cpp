// The command line: finds the verb, parses its flags, runs it, turns errors into one line and an exit status.
//
// Exit status: 0 done, 1 the work failed (reid::Error), 2 the command line is wrong (UsageError).

#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/formats/image.h"

#include <CLI/CLI.hpp>

#include <csignal>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <exception>
#include <iostream>

namespace reid::program {
namespace {

std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

void on_signal(int) { g_stop = true; }

template <class Number>
Number parse_number(const std::string& flag, const std::string& text, const char* kind, const Range& range) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  std::string limits = range.text();
  if (limits.starts_with("[") || limits.starts_with("(")) limits = "in " + limits;
  if (error != std::errc{} || stopped != end || !range.contains(static_cast<double>(value)))
    throw UsageError(str(flag, " takes ", kind, limits.empty() ? "" : " ", limits, ", not '", text, "'"));
  return value;
}

template <class Number>
std::string shown(Number value) {
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

std::string with_range(const std::string& doc, const Range& range) {
  const std::string limits = range.text();
  return limits.empty() ? doc : doc + "; " + limits;
}

}  // namespace

void Flags::flag(const std::string& name, bool& value, const std::string& doc) {
  app_.add_flag(name, value, doc);
  names_.push_back(name);
}

void Flags::option(const std::string& name, std::string& value, const std::string& placeholder, const std::string& doc, Presence presence) {
  auto* added =
      app_.add_option(name, value, doc)->type_name(placeholder)->option_text(placeholder + (value.empty() ? "" : " [" + value + "]"));
  if (presence == Presence::required) required_.push_back(added->get_name());
  names_.push_back(name);
}

void Flags::option(const std::string& name, int64_t& value, const std::string& doc, Range range, Presence presence) {
  const auto read = [name, range, &value](const std::string& text) { value = parse_number<int64_t>(name, text, "an integer", range); };
  app_.add_option_function<std::string>(name, read, with_range(doc, range))
      ->option_text(presence == Presence::required ? "N" : "N [" + shown(value) + "]");
  if (presence == Presence::required) required_.push_back(name);
  names_.push_back(name);
}

void Flags::option(const std::string& name, double& value, const std::string& doc, Range range, Presence presence) {
  const auto read = [name, range, &value](const std::string& text) { value = parse_number<double>(name, text, "a number", range); };
  app_.add_option_function<std::string>(name, read, with_range(doc, range))
      ->option_text(presence == Presence::required ? "X" : "X [" + shown(value) + "]");
  if (presence == Presence::required) required_.push_back(name);
  names_.push_back(name);
}

void Flags::options(const std::string& name, std::vector<std::string>& values, const std::string& placeholder, const std::string& doc,
                    Presence presence) {
  app_.add_option(name, values, doc)->option_text(placeholder + " ...");
  if (presence == Presence::required) required_.push_back(name);
  names_.push_back(name);
}

void Flags::choice(const std::string& name, std::string& value, std::vector<std::string> allowed, const std::string& doc) {
  std::string list;
  for (const std::string& one : allowed) list += (list.empty() ? "" : "|") + one;
  const auto read = [name, list, allowed = std::move(allowed), &value](const std::string& text) {
    if (std::find(allowed.begin(), allowed.end(), text) == allowed.end())
      throw UsageError(str(name, " takes ", list, ", not '", text, "'"));
    value = text;
  };
  app_.add_option_function<std::string>(name, read, doc)->option_text(list + (value.empty() ? "" : " [" + value + "]"));
  names_.push_back(name);
}

void Flags::argument(const std::string& name, std::string& value, const std::string& doc, Presence presence) {
  app_.add_option(name, value, doc)->option_text(" ");
  if (presence == Presence::required) required_.push_back(name);
}

void Flags::arguments(const std::string& name, std::vector<std::string>& values, const std::string& doc, Presence presence) {
  app_.add_option(name, values, doc)->option_text("...");
  if (presence == Presence::required) required_.push_back(name);
}

void Flags::check_required() const {
  for (const std::string& name : required_) {
    if (app_.get_option(name)->count() == 0) throw UsageError(name + " is missing");
  }
}

void Context::say_line(const std::string& line) const {
  if (!quiet && json != "-") std::cout << line << '\n' << std::flush;
}

void Context::write_json(const Json& result) const {
  if (json.empty()) return;
  const std::string text = result.dump(2) + "\n";
  if (json == "-") {
    std::cout << text;
  } else {
    write_file(json, text);
  }
}

void watch_for_stop() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() { return g_stop; }

std::string version() { return "reid " REID_VERSION; }

namespace {

std::vector<Verb> all_verbs() {
  return {synth_verb(),   data_verb(),    train_verb(), matrix_verb(), eval_verb(), rerank_verb(), embed_verb(),
          cluster_verb(), weights_verb(), op_verb(),    bench_verb(),  keys_verb(), demo_verb()};
}

std::string general_help(const std::vector<Verb>& verbs) {
  std::string out = version() + ": person re-identification\n\nUsage: reid VERB [flags]\n\n";
  for (const Verb& verb : verbs)
    out += "  " + verb.name + std::string(10 - std::min<size_t>(9, verb.name.size()), ' ') + verb.summary + "\n";
  return out +
         "\n  reid VERB --help      the flags of a verb, with an example\n  reid --version        the version, the image decoder, the "
         "processor\n";
}

void run_verb(const Verb& verb, std::vector<std::string> words) {
  CLI::App app(verb.summary, "reid " + verb.name);
  app.allow_extras();  // refused below, with a hint
  app.set_help_flag("--help,-h", "this text");
  app.get_formatter()->column_width(36);
  app.footer("Example:\n  " + verb.example);

  Flags flags(app);
  verb.declare(flags);
  Context context;
  context.words = words;
  std::string device = "cpu";
  int64_t thread_count = threads();
  flags.option("--device", device, "DEVICE",
               verb.on_device ? "where networks compute and rows are searched: cpu, cuda or cuda:N" : "cpu: this verb computes there");
  flags.option("--threads", thread_count, "worker threads; results do not depend on it", Range::closed(1, 1024));
  flags.flag("--quiet", context.quiet, "print nothing but errors");
  flags.option("--json", context.json, "FILE", "write the result as JSON ('-': standard output)");

  std::reverse(words.begin(), words.end());  // the parser takes words from the back
  try {
    app.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return;
  } catch (const CLI::ParseError& e) {
    throw UsageError(e.what());
  }
  for (const std::string& word : app.remaining()) {
    if (!word.starts_with("-")) throw UsageError("'" + word + "' is one argument too many");
    const std::string guess = nearest(word.substr(0, word.find('=')), flags.names());
    throw UsageError("unknown flag " + word + (guess.empty() ? "" : "; did you mean " + guess + "?"));
  }
  flags.check_required();
  if (device != "cpu" && !device.starts_with("cuda")) throw UsageError("--device takes cpu, cuda or cuda:N, not '" + device + "'");
  if (device != "cpu" && !verb.on_device) throw UsageError("--device " + device + ": this verb computes on the CPU");
  context.device = parse_device(device);
  context.threads = static_cast<int>(thread_count);
  set_threads(context.threads);
  verb.run(context);
}

int run(const std::vector<std::string>& words) {
  const std::vector<Verb> verbs = all_verbs();
  if (words.empty()) {
    std::cerr << general_help(verbs);
    return 2;
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    std::cout << general_help(verbs);
    return 0;
  }
  if (words[0] == "--version") {
    std::cout << version() << "\nimages: " << image_decoder() << "\ncpu: " << describe_cpu() << "\n";
    return 0;
  }
  std::string where = "reid";
  try {
    for (const Verb& verb : verbs) {
      if (verb.name != words[0]) continue;
      where = "reid " + verb.name;
      run_verb(verb, {words.begin() + 1, words.end()});
      std::cout << std::flush;
      REID_CHECK(std::cout.good(), "standard output cannot be written (is the disk full?)");
      return 0;
    }
    std::vector<std::string> names;
    for (const Verb& verb : verbs) names.push_back(verb.name);
    const std::string guess = nearest(words[0], names);
    throw UsageError("unknown verb '" + words[0] + "'" + (guess.empty() ? "" : "; did you mean '" + guess + "'?"));
  } catch (const UsageError& e) {
    std::cerr << where << ": " << e.what() << "\nTry: " << where << " --help\n";
    return 2;
  } catch (const std::bad_alloc&) {
    std::cerr << "reid: out of memory\n";
  } catch (const std::exception& e) {
    std::cerr << "reid: " << e.what() << "\n";
  }
  return 1;
}

}  // namespace
}  // namespace reid::program

int main(int argc, char** argv) {
#if defined(__GLIBC__)
  // An image takes some buffers of about 100 KB. By default their memory may go back to the system after each image, and the page faults
  // of the next one take as long as resizing it: 93 us or 52 us (Xeon at 2.5 GHz, 2026-11).
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
  return reid::program::run(std::vector<std::string>(argv + 1, argv + argc));
}
