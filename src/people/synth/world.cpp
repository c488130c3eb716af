#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "people/synth/plan.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"
#include "reid/formats/json.h"
#include "reid/people/synth.h"

namespace reid {
namespace {

namespace fs = std::filesystem;
using synth::Job;
using synth::Plan;

DomainConfig domain(const char* name, const char* style, int train_ids, int test_ids, int cameras, int distractors, int junk) {
  DomainConfig d;
  d.name = name;
  d.style = style;
  d.train_ids = train_ids;
  d.test_ids = test_ids;
  d.cameras = cameras;
  d.distractors = distractors;
  d.junk = junk;
  return d;
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

// What one crop left behind.
struct Written {
  uint64_t hash = 0;
  int64_t bytes = 0;
};

// A plain write: the folder gets its name only when all is written, so a crop needs no flush of its own to disk.
void write_crop(const fs::path& file, const std::vector<uint8_t>& bytes) {
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  out.close();
  REID_CHECK(out.good(), "cannot write ", file.string(), ": ", std::strerror(errno), "; check the space and the rights there");
}

// Draws and writes all crops; results land by index, so the number of threads changes nothing.
std::vector<Written> write_crops(const Plan& plan, const fs::path& folder, int threads, const WorldProgress& progress) {
  std::vector<Written> written(plan.jobs.size());
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  int64_t done = 0;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      synth::Workspace workspace;
      for (size_t i = next++; i < plan.jobs.size() && !stop; i = next++) {
        const Job& job = plan.jobs[i];
        int quality = 0;
        const Image image = draw_crop(plan, job, workspace, quality);
        const std::vector<uint8_t> bytes = encode_jpeg(image, quality);
        write_crop(folder / job.path, bytes);
        written[i] = {hash_bytes(bytes), static_cast<int64_t>(bytes.size())};
        const std::lock_guard<std::mutex> lock(mutex);
        ++done;
        if (progress) progress(done, static_cast<int64_t>(plan.jobs.size()));
      }
    } catch (...) {
      stop = true;
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
  return written;
}

uint64_t extend(uint64_t hash, const std::string& path, uint64_t file_hash) {
  hash = hash_bytes({reinterpret_cast<const uint8_t*>(path.data()), path.size()}, hash);
  const std::string digits = hex(file_hash);
  return hash_bytes({reinterpret_cast<const uint8_t*>(digits.data()), digits.size()}, hash);
}

std::string truth_table(const Plan& plan) {
  std::string text = "path,identity\n";
  for (const Job& job : plan.jobs)
    if (job.folder == "videos") text += str(job.path, ",", job.identity, "\n");
  return text;
}

WorldReport summarize(const Plan& plan, const std::vector<Written>& written, const std::string& truth, uint64_t seed) {
  WorldReport report;
  report.seed = seed;
  std::map<std::string, WorldCount> counts;
  std::map<std::string, std::set<int64_t>> identities;
  uint64_t hash = hash_bytes({});
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const Job& job = plan.jobs[i];
    WorldCount& c = counts[job.folder];
    c.folder = job.folder;
    ++c.images;
    c.bytes += written[i].bytes;
    if (job.identity > 0) identities[job.folder].insert(job.identity);
    ++report.images;
    report.bytes += written[i].bytes;
    hash = extend(hash, job.path, written[i].hash);
  }
  // "videos_truth.csv" sorts behind all of "videos/"; domains that sort later still come first, by this rule.
  hash = extend(hash, "videos_truth.csv", hash_bytes({reinterpret_cast<const uint8_t*>(truth.data()), truth.size()}));
  report.hash = hash;
  for (auto& [name, count] : counts) {
    count.identities = static_cast<int64_t>(identities[name].size());
    report.counts.push_back(count);
  }
  return report;
}

Json describe(const WorldConfig& config, const WorldReport& report) {
  Json counts = Json::array();
  for (const WorldCount& c : report.counts)
    counts.push_back(Json::object({{"folder", c.folder}, {"identities", c.identities}, {"images", c.images}, {"bytes", c.bytes}}));
  Json domains = Json::array();
  for (const DomainConfig& d : config.domains)
    domains.push_back(Json::object({{"name", d.name},
                                    {"style", d.style},
                                    {"train_ids", d.train_ids},
                                    {"test_ids", d.test_ids},
                                    {"cameras", d.cameras},
                                    {"images_per_camera", d.images_per_camera},
                                    {"distractors", d.distractors},
                                    {"junk", d.junk}}));
  const VideosConfig& v = config.videos;
  const Json videos = Json::object({{"count", v.count},
                                    {"min_people", v.min_people},
                                    {"max_people", v.max_people},
                                    {"min_frames", v.min_frames},
                                    {"max_frames", v.max_frames},
                                    {"layout", v.layout}});
  return Json::object({{"version", report.version},
                       {"preset", config.preset},
                       {"seed", str(report.seed)},
                       {"hash", hex(report.hash)},
                       {"height", config.height},
                       {"width", config.width},
                       {"images", report.images},
                       {"bytes", report.bytes},
                       {"folders", counts},
                       {"domains", domains},
                       {"videos", videos}});
}

// The folder everything is written to first; gone when writing fails.
class Draft {
 public:
  explicit Draft(const fs::path& target)
      : target_(target), folder_(target.parent_path() / str(".", target.filename().string(), ".", ::getpid(), ".part")) {
    make_folder(folder_);
  }
  ~Draft() {
    std::error_code ignored;
    if (!kept_) fs::remove_all(folder_, ignored);
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  const fs::path& folder() const { return folder_; }
  void keep() {
    std::error_code error;
    fs::remove(target_, error);  // an empty folder of that name was allowed
    fs::rename(folder_, target_, error);
    REID_CHECK(!error, "cannot name the finished world ", target_.string(), ": ", error.message());
    kept_ = true;
  }

 private:
  fs::path target_, folder_;
  bool kept_ = false;
};

void make_folders(const Plan& plan, const WorldConfig& config, const fs::path& root) {
  std::set<fs::path> folders;
  for (const Job& job : plan.jobs) folders.insert(fs::path(job.path).parent_path());
  for (const DomainConfig& d : config.domains)
    for (const char* part : {"bounding_box_train", "query", "bounding_box_test"}) folders.insert(fs::path(d.name) / part);
  for (const fs::path& f : folders) make_folder(root / f);
}

}  // namespace

std::vector<std::string> world_presets() { return {"tiny", "demo", "study", "market1501"}; }

WorldConfig world_preset(const std::string& name) {
  WorldConfig c;
  c.preset = name;
  if (name == "tiny") {
    c.domains = {domain("source", "campus", 8, 6, 3, 4, 3), domain("validation", "arcade", 4, 6, 3, 3, 2),
                 domain("target", "station", 4, 6, 3, 4, 3)};
    c.videos = {6, 3, 4, 5, 8, "folders"};
  } else if (name == "demo") {
    c.domains = {domain("source", "campus", 140, 50, 5, 60, 20), domain("validation", "arcade", 20, 40, 4, 120, 15),
                 domain("target", "station", 30, 60, 4, 200, 25)};
    c.videos = {100, 3, 8, 5, 10, "folders"};
  } else if (name == "study") {
    c.domains = {domain("source", "campus", 350, 80, 6, 120, 40), domain("validation", "arcade", 40, 80, 5, 240, 30),
                 domain("target", "station", 100, 120, 6, 400, 50)};
    c.videos = {250, 3, 8, 5, 10, "folders"};
  } else if (name == "market1501") {
    c.domains = {domain("source", "campus", 751, 750, 5, 6061, 3819)};
  } else {
    std::string nearest, all;
    for (const std::string& p : world_presets()) {
      if (nearest.empty() || edit_distance(name, p) < edit_distance(name, nearest)) nearest = p;
      all += (all.empty() ? "" : ", ") + p;
    }
    fail(str("[synth] unknown preset '", name, "'; did you mean '", nearest, "'? There are ", all));
  }
  return c;
}

WorldReport write_world(const WorldConfig& config, uint64_t seed, const fs::path& folder, int threads, const WorldProgress& progress) {
  REID_CHECK(threads >= 1, "[synth] threads is ", threads, "; must be at least 1");
  REID_CHECK(!folder.empty(), "[synth] no folder given for the world");
  const fs::path target = (folder.has_filename() ? folder : folder.parent_path()).lexically_normal();
  std::error_code error;
  if (fs::exists(target, error)) {
    REID_CHECK(fs::is_directory(target), "[synth] ", target.string(), " exists and is no folder; give another --out");
    REID_CHECK(fs::is_empty(target, error) && !error, "[synth] ", target.string(),
               " exists and is not empty; remove it or give another --out");
  }
  const Plan plan = synth::make_plan(config, seed);
  Draft draft(fs::absolute(target));
  make_folders(plan, config, draft.folder());
  const std::vector<Written> written = write_crops(plan, draft.folder(), threads, progress);
  const std::string truth = truth_table(plan);
  write_file(draft.folder() / "videos_truth.csv", truth);
  const WorldReport report = summarize(plan, written, truth, seed);
  write_file(draft.folder() / "world.json", describe(config, report).dump(2) + "\n");
  draft.keep();
  return report;
}

}  // namespace reid
