#include <cstring>
#include <map>

#include "people/synth/plan.h"
#include "reid/formats/image.h"
#include "reid/people/synth.h"

namespace reid {
namespace {

using synth::Job;
using synth::Plan;

constexpr int kGap = 2;

// The pictures of one row, left to right.
using Row = std::vector<const Job*>;

// For some identities of a domain: two pictures from every camera.
std::vector<Row> domain_rows(const Plan& plan, const std::string& name, int rows, int cameras) {
  std::map<int64_t, std::map<int, Row>> seen;  // identity, camera
  for (const Job& job : plan.jobs)
    if (job.identity > 0 && job.folder.rfind(name + "/", 0) == 0) seen[job.identity][job.camera].push_back(&job);
  std::vector<Row> result;
  for (const auto& [identity, by_camera] : seen) {
    Row row;
    for (int camera = 0; camera < cameras; ++camera) {
      const auto found = by_camera.find(camera);
      for (size_t k = 0; k < 2; ++k)
        row.push_back(found != by_camera.end() && k < found->second.size() ? found->second[found->second.size() - 1 - k] : nullptr);
    }
    result.push_back(row);
    if (static_cast<int>(result.size()) == rows) break;
  }
  return result;
}

std::vector<Row> video_rows(const Plan& plan, int rows, int columns) {
  std::map<int, Row> by_video;
  for (const Job& job : plan.jobs)
    if (job.folder == "videos") by_video[job.place].push_back(&job);
  std::vector<Row> result;
  for (const auto& [place, jobs] : by_video) {
    Row row;
    for (size_t i = 0; i < static_cast<size_t>(columns); ++i) row.push_back(jobs[i * jobs.size() / static_cast<size_t>(columns)]);
    result.push_back(row);
    if (static_cast<int>(result.size()) == rows) break;
  }
  return result;
}

void paste(Image& sheet, const Image& crop, int top, int left) {
  for (int y = 0; y < crop.height; ++y) std::memcpy(sheet.at(top + y, left), crop.at(y, 0), static_cast<size_t>(crop.width) * 3);
}

}  // namespace

void write_contact_sheet(const WorldConfig& config, uint64_t seed, const std::filesystem::path& file) {
  const Plan plan = synth::make_plan(config, seed);
  std::vector<Row> rows;
  size_t columns = 1;
  const auto append = [&](const std::vector<Row>& more) {
    for (const Row& row : more) {
      rows.push_back(row);
      columns = std::max(columns, row.size());
    }
  };
  for (const DomainConfig& d : config.domains) append(domain_rows(plan, d.name, 4, d.cameras));
  append(video_rows(plan, 8, static_cast<int>(std::max<size_t>(columns, 10))));
  REID_CHECK(!rows.empty(), "[synth] the world has no crops to show");
  Image sheet(kGap + static_cast<int>(rows.size()) * (config.height + kGap), kGap + static_cast<int>(columns) * (config.width + kGap));
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), static_cast<uint8_t>(24));
  synth::Workspace workspace;
  for (size_t r = 0; r < rows.size(); ++r)
    for (size_t c = 0; c < rows[r].size(); ++c) {
      if (rows[r][c] == nullptr) continue;
      int quality = 0;
      const Image crop = draw_crop(plan, *rows[r][c], workspace, quality);
      paste(sheet, crop, kGap + static_cast<int>(r) * (config.height + kGap), kGap + static_cast<int>(c) * (config.width + kGap));
    }
  write_png(file, sheet);
}

}  // namespace reid
