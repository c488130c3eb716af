// reid data convert: a data set as a manifest, or as a folder in the layout of Market-1501.

#include "program/data.h"

#include "reid/formats/files.h"
#include "reid/formats/image.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace reid::program {
namespace {

namespace fs = std::filesystem;

// A folder that gets its name when all is in it; until then, and when anything fails, nothing is there.
class FolderDraft {
 public:
  explicit FolderDraft(const fs::path& target)
      : target_(target), folder_(target.parent_path() / str(".", target.filename().string(), ".", ::getpid(), ".part")) {
    make_folder(folder_);
  }
  ~FolderDraft() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  FolderDraft(const FolderDraft&) = delete;
  FolderDraft& operator=(const FolderDraft&) = delete;
  const fs::path& folder() const { return folder_; }
  void publish() {
    std::error_code error;
    fs::rename(folder_, target_, error);
    REID_CHECK(!error, "cannot name the finished folder ", target_.string(), ": ", error.message());
  }

 private:
  fs::path target_, folder_;
};

std::string padded(int64_t number, size_t width) {
  std::string text = std::to_string(number);
  return std::string(width - std::min(width, text.size()), '0') + text;
}

// A hard link, or a copy on another disk; what is no file of a usual kind is decoded and written as PNG.
void place_image(const std::string& source, const fs::path& stem) {
  std::error_code error;
  std::string extension = fs::path(source).extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool usual = extension == ".jpg" || extension == ".jpeg" || extension == ".png";
  if (!usual || !fs::is_regular_file(source, error)) return write_png(stem.string() + ".png", read_image(source));
  const fs::path target = stem.string() + extension;
  fs::create_hard_link(fs::canonical(source, error), target, error);
  if (error) fs::copy_file(source, target, error);
  REID_CHECK(!error, "cannot copy ", source, " to ", target.string(), ": ", error.message());
}

// PPPP_cC_NNNNNN: person, camera from 1, and the place in the list, which keeps names apart.
void place_part(const std::vector<Sample>& samples, const fs::path& folder) {
  if (samples.empty()) return;
  make_folder(folder);
  for (size_t i = 0; i < samples.size(); ++i) {
    const Sample& s = samples[i];
    place_image(s.path, folder / str(padded(s.person, 4), "_c", s.camera + 1, "_", padded(static_cast<int64_t>(i), 6)));
  }
}

void check_for_market(const Dataset& data) {
  for (const std::vector<Sample>* part : {&data.train, &data.query, &data.gallery})
    for (const Sample& sample : *part)
      REID_CHECK(sample.person >= 0, sample.path,
                 ": has no identity, which the layout market1501 cannot say: convert to a manifest instead");
  REID_CHECK(data.cameras_known, data.name,
             ": its cameras are not known, which the layout market1501 cannot say: convert to a manifest instead");
}

}  // namespace

void convert_data(const Context& context, const DataOptions& o) {
  const Recognition what = resolve_dataset(o.set);
  const fs::path given(o.out), out = given.has_filename() ? given : given.parent_path();
  std::error_code error;
  REID_CHECK(!fs::exists(out, error), out.string(), ": exists already; name another with --out");
  REID_CHECK(o.to != "manifest" || out.extension() == ".csv", out.string(), ": a manifest's name ends in .csv");
  const Dataset data = read_dataset(what.spec);
  if (o.to == "manifest") {
    write_file(out, manifest_csv(data, out));
  } else {
    check_for_market(data);
    FolderDraft draft(out);
    place_part(data.train, draft.folder() / "bounding_box_train");
    place_part(data.query, draft.folder() / "query");
    place_part(data.gallery, draft.folder() / "bounding_box_test");
    place_part(data.multi_query, draft.folder() / "gt_bbox");
    draft.publish();
  }
  const std::string written = o.to + ":" + out.string();
  context.say(data.name, " -> ", written, ": ", data.train.size(), " images to train, ", data.query.size(), " queries, ",
              data.gallery.size(), " in the gallery");
  context.write_json(Json::object({{"from", data.name}, {"to", written}, {"census", census(read_dataset(written))}}));
}

}  // namespace reid::program
