// reid embed: images to vectors, in the order in which they were named.

#include "program/inputs.h"
#include "program/training.h"
#include "program/verb.h"

#include "reid/formats/files.h"
#include "reid/formats/tensor_file.h"
#include "reid/learning/embedding.h"
#include "reid/people/data.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>

namespace reid::program {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string weights, out, format = "auto", list;
  std::vector<std::string> images;
  int64_t batch = 64;
  EmbedOptions embed;
  bool skip_bad = false;
};

void declare(Flags& f, Options& o) {
  f.option("--weights", o.weights, "FILE", "encoder written by reid train (encoder.safetensors of a run)", Presence::required);
  f.option("--out", o.out, "FILE", "file to write, .safetensors, .npy or .csv; see docs/embedding.md", Presence::required);
  f.choice("--format", o.format, {"auto", "safetensors", "npy", "csv"}, "of --out; auto: as its name ends");
  f.option("--list", o.list, "FILE", "more images and folders, one path a line, after those named here ('-': standard input)");
  f.option("--batch", o.batch, "images at once; results do not depend on it", Range::closed(1, 4096));
  f.flag("--flip", o.embed.flip, "the mean with the embedding of the mirror image; takes twice the time");
  f.flag("--normalize", o.embed.normalize, "rows of length 1");
  f.flag("--skip-bad", o.skip_bad, "leave out images that cannot be read, instead of writing nothing");
  f.arguments("IMAGE|DIR", o.images, "images, and folders whose images are taken in the order of their names");
}

// ---- What to embed

std::vector<Sample> samples_of(const Options& o) {
  if (o.images.empty() && o.list.empty()) throw UsageError("what to embed is missing: name images or folders, or give --list");
  std::vector<Sample> samples = list_images(o.images);  // a missing one is a typing error; in a list it is a bad image
  if (o.list.empty()) return samples;
  const bool piped = o.list == "-";
  std::istringstream lines(piped ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : read_text(o.list));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) add_images(samples, line);
  }
  REID_CHECK(!samples.empty(), piped ? "the list on standard input" : o.list, " names no images");
  return samples;
}

// ---- Embedding

struct Skipped {
  std::string path, error;
};

struct Embedded {
  Tensor features;  // [N, D], of the images that could be read
  std::vector<std::string> paths;
  std::vector<Skipped> skipped;
};

void report_bad(const std::string& error) {
  if (isatty(STDERR_FILENO) == 1) std::fputs("\r\x1b[K", stderr);  // the progress line may be there
  std::fprintf(stderr, "reid embed: %s\n", error.c_str());
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string progress_line(size_t done, size_t total, double seconds) {
  const double rate = static_cast<double>(done) / std::max(seconds, 1e-9);
  const auto time = static_cast<long long>(done < total ? static_cast<double>(total - done) / rate : seconds);
  char text[128];
  std::snprintf(text, sizeof text, "%zu/%zu images  %.1f images/s  %lld:%02lld %s", done, total, rate, time / 60, time % 60,
                done < total ? "left" : "in all");
  return text;
}

// Every image is tried, so that one run names all bad ones; once something is bad that may not be, nothing is computed any more.
Embedded embed_all(const Context& context, const Options& o, LoadedEncoder& encoder, const std::vector<Sample>& samples) {
  const RunPorts ports = screen_ports(context);
  const auto started = std::chrono::steady_clock::now();
  Embedded all;
  all.features = Tensor::empty({static_cast<int64_t>(samples.size()), encoder.width()}, DType::f32);
  Feed feed(context.device, encoder.transform());
  const LoaderOptions options{
      .transform = feed.transform(), .pixels = feed.pixels(), .workers = context.threads, .on_damage = OnDamage::drop};
  Loader loader = evaluation_loader(samples, o.batch, options);
  Feed::Batches batches(feed, loader);
  size_t next = 0;  // samples before this one are settled
  const auto skip_to = [&](size_t end) {
    for (; next < end; ++next) {
      const std::string* error = loader.damage_of(samples[next].path);
      all.skipped.push_back({samples[next].path, error != nullptr ? *error : samples[next].path + ": cannot be read"});
      report_bad(all.skipped.back().error);
    }
  };
  while (const std::optional<Batch> batch = batches.next()) {
    const auto row = static_cast<int64_t>(all.paths.size());
    for (const int64_t sample : batch->samples()) {
      skip_to(static_cast<size_t>(sample));
      all.paths.push_back(samples[next++].path);
    }
    if (all.skipped.empty() || o.skip_bad)
      feed.fetch(embed(encoder, feed.with_views(*batch).original, o.embed), all.features.rows(row, row + batch->size()));
    if (next < samples.size()) ports.progress(progress_line(next, samples.size(), seconds_since(started)));
  }
  feed.fetched();
  skip_to(samples.size());
  ports.say(progress_line(samples.size(), samples.size(), seconds_since(started)));
  REID_CHECK(all.skipped.empty() || o.skip_bad, all.skipped.size(), " of ", samples.size(),
             " images cannot be read: nothing is written (--skip-bad leaves them out)");
  REID_CHECK(!all.paths.empty(), "none of the ", samples.size(), " images can be read: nothing is written");
  all.features = all.features.rows(0, static_cast<int64_t>(all.paths.size()));
  return all;
}

// ---- Writing

// auto, resolved by the name.
std::string format_of(const Options& o) {
  if (o.format != "auto") return o.format;
  for (const char* format : {"safetensors", "npy", "csv"})
    if (o.out.ends_with(str(".", format))) return format;
  throw UsageError("--out " + o.out + " ends in neither .safetensors nor .npy nor .csv: rename it or give --format");
}

Json to_json(const std::vector<std::string>& paths) {
  Json list = Json::array();
  for (const std::string& path : paths) list.push_back(path);
  return list;
}

Json to_json(const std::vector<Skipped>& skipped) {
  Json list = Json::array();
  for (const Skipped& one : skipped) list.push_back(Json::object({{"path", one.path}, {"error", one.error}}));
  return list;
}

void write_tensors(const Options& o, const Embedded& all) {
  NamedTensors content;
  content.add("features", all.features);
  content.metadata = {{"format", "reid.features.v1"},
                      {"weights", o.weights},
                      {"images", image_decoder()},
                      {"flip", o.embed.flip ? "true" : "false"},
                      {"normalize", o.embed.normalize ? "true" : "false"},
                      {"paths", to_json(all.paths).dump()},
                      {"skipped", to_json(all.skipped).dump()}};
  write_safetensors(o.out, content);
}

// The array knows no names: they go beside it, one a line, as --list reads them. First, so that who sees the array finds them too.
void write_array(const Options& o, const Embedded& all) {
  std::string lines;
  for (const std::string& path : all.paths) lines += path + '\n';
  write_file(fs::path(o.out).replace_extension(".paths.txt"), lines);
  write_npy(o.out, all.features);
}

void write_csv(const Options& o, const Embedded& all) {
  const int64_t width = all.features.dim(1);
  std::string text = "path";
  for (int64_t d = 0; d < width; ++d) text += str(",f", d);
  const float* value = all.features.data<float>();
  char digits[32];  // the fewest that read back as the same float
  for (const std::string& path : all.paths) {
    text += '\n' + csv_field(path);
    for (int64_t d = 0; d < width; ++d, ++value) {
      text += ',';
      text.append(digits, std::to_chars(digits, digits + sizeof digits, *value).ptr);
    }
  }
  write_file(o.out, text + '\n');
}

void run(const Context& context, const Options& o) {
  const std::string format = format_of(o);
  check_can_write(o.out);
  const std::vector<Sample> samples = samples_of(o);
  LoadedEncoder encoder(o.weights);
  encoder.move_to(context.device);
  for (const Sample& s : samples)
    REID_CHECK(format != "npy" || s.path.find('\n') == std::string::npos, s.path, ": a name with a line break does not fit the list of ",
               "paths beside an npy file: rename it or choose another --format");
  const Embedded all = embed_all(context, o, encoder, samples);
  (format == "npy" ? write_array : format == "csv" ? write_csv : write_tensors)(o, all);
  context.say(all.features.dim(0), " images -> ", o.out, ": features ", all.features.shape());
  Json result = Json::object({{"out", o.out}, {"images", all.features.dim(0)}, {"width", all.features.dim(1)}});
  result["paths"] = to_json(all.paths);
  result["skipped"] = to_json(all.skipped);
  context.write_json(result);
}

}  // namespace

Verb embed_verb() {
  auto o = std::make_shared<Options>();
  return {"embed",
          "turn images into vectors",
          "reid embed --weights demo/run/encoder.safetensors --out E.safetensors photos/ one.jpg",
          [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); },
          true};
}

}  // namespace reid::program
