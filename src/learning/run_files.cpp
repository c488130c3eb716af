#include "run_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "reid/engine/accelerator.h"
#include "reid/formats/files.h"

namespace reid {

namespace fs = std::filesystem;

namespace {

std::string reason() { return std::strerror(errno); }

const char* instruction_set() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") ? "avx512" : __builtin_cpu_supports("avx2") ? "avx2" : "sse2";
#else
  return "portable";
#endif
}

}  // namespace

std::string precision_text(const RunConfig& config) {
  if (config.model.precision != "bf16") return config.model.precision;
  return config.device.type == DeviceType::cpu
             ? "bf16, widened to f32 for every multiplication: on the CPU it halves the memory, not the time"
             : "bf16, summed in f32";
}

Json make_manifest(const RunConfig& config, const Json& census) {
  Json manifest = Json::object({{"reid", REID_VERSION},
                                {"compiler", "C++ " __VERSION__},
                                {"seed", config.run.seed},
                                {"device", describe_cpu()},
                                {"instruction_set", instruction_set()},
                                {"precision", precision_text(config)},
                                {"image_decoder", image_decoder()},
                                {"data", census}});
  if (config.device.type != DeviceType::cpu) manifest["accelerator"] = describe(config.device);
  return manifest;
}

void check_same_settings(const std::string& stored_toml, const std::string& name, const ConfigKeys& keys) {
  const Json stored = parse_toml(stored_toml, name), now = parse_toml(keys.toml(), "settings");
  std::string differing;
  for (const ConfigKey& key : keys.keys()) {
    if (key.name == "run.workers" || key.name == "data.cache_mib" || key.name == "data.embed_batch") continue;
    const size_t dot = key.name.find('.');
    const Json* section = stored.find(key.name.substr(0, dot));
    const Json* then = section ? section->find(key.name.substr(dot + 1)) : nullptr;
    const Json& value = now.at(key.name.substr(0, dot)).at(key.name.substr(dot + 1));
    if (!then || !(*then == value))
      differing += str(differing.empty() ? "" : "; ", key.name, " was ", then ? then->dump() : "not set", ", is ", value.dump());
  }
  REID_CHECK(differing.empty(), "cannot resume with other settings than ", name, ": ", differing);
}

int64_t append_lines(const fs::path& file, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  REID_CHECK(descriptor >= 0, "cannot append to ", file.string(), ": ", reason());
  const ssize_t written = ::write(descriptor, text.data(), text.size());
  const std::string why = reason();
  ::close(descriptor);
  REID_CHECK(written == static_cast<ssize_t>(text.size()), "cannot append to ", file.string(), ": ",
             written < 0 ? why : "the disk is full");
  return written;
}

void truncate_file(const fs::path& file, int64_t bytes) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  REID_CHECK(!error && static_cast<int64_t>(size) >= bytes, file.string(),
             " is shorter than the checkpoint says: it was changed, or its disk lost data");
  fs::resize_file(file, static_cast<uintmax_t>(bytes), error);
  REID_CHECK(!error, "cannot shorten ", file.string(), ": ", error.message());
}

void sync_file(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  REID_CHECK(descriptor >= 0, "cannot open ", file.string(), ": ", reason());
  const int failed = ::fsync(descriptor);
  const std::string why = reason();
  ::close(descriptor);
  REID_CHECK(failed == 0, "cannot flush ", file.string(), ": ", why);
}

std::vector<std::string> remove_damaged(std::vector<Sample>& samples, ImageCache& cache, const TransformConfig& transform) {
  std::vector<std::string> errors(samples.size());
  parallel_for(static_cast<int64_t>(samples.size()), 64, [&](int64_t begin, int64_t end, int) {
    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      try {
        cache.load(samples[i].path, transform);
      } catch (const Error& e) {
        errors[i] = e.what();
      }
    }
  });
  std::vector<Sample> kept;
  std::vector<std::string> damaged;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (errors[i].empty()) {
      kept.push_back(std::move(samples[i]));
    } else {
      damaged.push_back(std::move(errors[i]));
    }
  }
  samples = std::move(kept);
  return damaged;
}

}  // namespace reid
