#include "people/synth/plan.h"

#include <cstdio>
#include <set>

namespace reid::synth {
namespace {

struct Style {
  Wardrobe wardrobe;
  SceneStyle scene;
};

Style style_named(const std::string& name) {
  if (name == "campus") return {summer_wardrobe(), campus_style()};
  if (name == "arcade") return {autumn_wardrobe(), arcade_style()};
  if (name == "station") return {winter_wardrobe(), station_style()};
  fail(str("unknown domain style '", name, "'; there are campus, arcade and station"));
}

// People of one place, no two with the same outfit in words.
std::vector<Person> cast(const Wardrobe& wardrobe, int count, Rng rng) {
  std::set<std::string> worn;
  std::vector<Person> people;
  people.reserve(static_cast<size_t>(count));
  for (uint64_t index = 0; static_cast<int>(people.size()) < count; ++index) {
    std::string outfit;
    Person person = draw_person(wardrobe, rng.at(index), outfit);
    // Wardrobes have far more outfits than places have people; the limit only ends a config that asks for too many.
    if (worn.insert(outfit).second || index > 100u * static_cast<uint64_t>(count)) people.push_back(person);
  }
  return people;
}

std::string numbered(const char* format, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e) {
  char text[80];
  std::snprintf(text, sizeof text, format, static_cast<int>(a), static_cast<int>(b), static_cast<int>(c), static_cast<int>(d),
                static_cast<int>(e));
  return text;
}

std::string market_name(int64_t identity, int camera, int sequence, int frame, int box) {
  const char* format = identity < 0 ? "%d_c%ds%d_%06d_%02d.jpg" : "%04d_c%ds%d_%06d_%02d.jpg";
  return numbered(format, identity, camera + 1, sequence + 1, frame, box);
}

// Which cameras an identity passes: two at least, most of them.
std::vector<int> cameras_of(int cameras, Rng rng) {
  std::vector<int> order;
  for (int c = 0; c < cameras; ++c) order.push_back(c);
  rng.shuffle(order);
  std::vector<int> seen;
  for (const int c : order)
    if (seen.size() < 2 || rng.chance(0.8)) seen.push_back(c);
  std::sort(seen.begin(), seen.end());
  return seen;
}

// The crops of one identity of a labeled domain. In each camera it walks through once or twice.
void plan_identity(Plan& plan, const DomainConfig& d, int place, int person, int64_t identity) {
  const Rng rng = plan.places[static_cast<size_t>(place)].rng.at("schedule").at(static_cast<uint64_t>(person));
  const bool test = person >= d.train_ids;
  for (const int camera : cameras_of(d.cameras, rng.at("cameras"))) {
    Rng own = rng.at(static_cast<uint64_t>(camera));
    const int n = d.images_per_camera;
    const int first_walk = n > 2 && own.chance(0.5) ? (n + 1) / 2 : n;
    const int start = static_cast<int>(own.below(3000)), query = static_cast<int>(own.below(n));
    for (int i = 0; i < n; ++i) {
      Job job;
      job.place = place;
      job.person = person;
      job.camera = camera;
      job.track = i < first_walk ? 0 : 1;
      job.frame = i < first_walk ? i : i - first_walk;
      job.identity = identity;
      const char* part = !test ? "bounding_box_train" : (i == query ? "query" : "bounding_box_test");
      job.folder = d.name + "/" + part;
      const int frame = 1 + 4000 * (job.track) + start + 25 * job.frame;
      job.path = job.folder + "/" + market_name(identity, camera, job.track, frame, 1);
      plan.jobs.push_back(job);
    }
  }
}

void plan_domain(Plan& plan, const DomainConfig& d, const Rng& root, int64_t& next_identity) {
  Style style = style_named(d.style);
  const int place = static_cast<int>(plan.places.size());
  Place where;
  where.rng = root.at("domain").at(d.name);
  draw_site(style.scene, where.rng.at("site"));
  where.wardrobe = style.wardrobe;
  where.people = cast(style.wardrobe, d.train_ids + d.test_ids, where.rng.at("people"));
  for (int c = 0; c < d.cameras; ++c)
    where.cameras.push_back(draw_camera(style.scene, where.rng.at("camera").at(static_cast<uint64_t>(c))));
  plan.places.push_back(std::move(where));
  for (int p = 0; p < d.train_ids + d.test_ids; ++p) plan_identity(plan, d, place, p, next_identity++);
  const std::string gallery = d.name + "/bounding_box_test";
  for (int i = 0; i < d.distractors + d.junk; ++i) {
    Job job;
    job.kind = i < d.distractors ? JobKind::distractor : JobKind::junk;
    job.identity = job.kind == JobKind::junk ? -1 : 0;
    job.place = place;
    job.person = i;
    job.camera = i % d.cameras;
    job.folder = gallery;
    job.path = gallery + "/" + market_name(job.identity, job.camera, 0, 10000 + i, 0);
    plan.jobs.push_back(job);
  }
}

void plan_video(Plan& plan, const VideosConfig& v, int video, const Rng& root, int64_t& next_identity) {
  const int place = static_cast<int>(plan.places.size());
  Place where;
  where.rng = root.at("video").at(static_cast<uint64_t>(video));
  where.wardrobe = mixed_wardrobe(where.rng.at("wardrobe"));
  Rng draws = where.rng.at("schedule");
  const int people = v.min_people + static_cast<int>(draws.below(v.max_people - v.min_people + 1));
  where.people = cast(where.wardrobe, people, where.rng.at("people"));
  SceneStyle scene = any_style(where.rng.at("style"));
  draw_site(scene, where.rng.at("site"));
  where.cameras.push_back(draw_camera(scene, where.rng.at("camera")));
  plan.places.push_back(std::move(where));

  struct Seen {
    int time, person, frame;
  };
  std::vector<Seen> seen;
  for (int p = 0; p < people; ++p) {
    const int frames = v.min_frames + static_cast<int>(draws.below(v.max_frames - v.min_frames + 1)),
              start = static_cast<int>(draws.below(12));
    for (int f = 0; f < frames; ++f) seen.push_back({start + f, p, f});
  }
  draws.shuffle(seen);  // boxes of one frame come in no order that would tell who is who
  std::stable_sort(seen.begin(), seen.end(), [](const Seen& a, const Seen& b) { return a.time < b.time; });
  for (size_t i = 0; i < seen.size(); ++i) {
    Job job;
    job.place = place;
    job.person = seen[i].person;
    job.frame = seen[i].frame;
    job.identity = next_identity + seen[i].person;
    job.folder = "videos";
    const int64_t index = static_cast<int64_t>(i);
    job.path = v.layout == "luperson" ? "videos/" + numbered("%02d_%02d_%04d_%08d.jpg", video % 7, video % 13, video, index, 0)
                                      : "videos/" + numbered("%04d/%06d_%02d.jpg", video, 8 * seen[i].time, index, 0, 0);
    plan.jobs.push_back(job);
  }
  next_identity += people;
}

}  // namespace

void check_config(const WorldConfig& config) {
  REID_CHECK(config.height >= 32 && config.width >= 16 && config.height <= 1024 && config.width <= 512, "[synth] crops of ", config.height,
             "x", config.width, " pixels; height must be 32..1024 and width 16..512");
  std::set<std::string> names;
  int64_t identities = 0;
  for (const DomainConfig& d : config.domains) {
    REID_CHECK(!d.name.empty() && d.name != "videos" && d.name.find('/') == std::string::npos && d.name[0] != '.', "[synth] domain name '",
               d.name, "' cannot be a folder of the world");
    REID_CHECK(names.insert(d.name).second, "[synth] two domains are named '", d.name, "'");
    REID_CHECK(d.cameras >= 2 && d.cameras <= 9, "[synth] ", d.name, ".cameras is ", d.cameras, "; a domain has 2..9");
    REID_CHECK(d.images_per_camera >= 2 && d.images_per_camera <= 100, "[synth] ", d.name, ".images_per_camera is ", d.images_per_camera,
               "; must be 2..100");
    REID_CHECK(d.train_ids >= 0 && d.test_ids >= 0 && d.distractors >= 0 && d.junk >= 0 && d.train_ids + d.test_ids >= 1, "[synth] ",
               d.name, ": counts cannot be negative, and one identity at least is needed");
    REID_CHECK(d.distractors + d.junk < 900000, "[synth] ", d.name, ": more than 900,000 distractors and junk boxes");
    identities += d.train_ids + d.test_ids;
    style_named(d.style);
  }
  REID_CHECK(identities < 10000, "[synth] ", identities, " labeled identities; four digits allow 9,999");
  const VideosConfig& v = config.videos;
  REID_CHECK(v.count >= 0 && v.count < 10000, "[synth] videos.count is ", v.count, "; must be 0..9999");
  REID_CHECK(v.min_people >= 1 && v.max_people >= v.min_people, "[synth] videos.min_people is ", v.min_people, " and max_people ",
             v.max_people);
  REID_CHECK(v.min_frames >= 1 && v.max_frames >= v.min_frames && v.max_frames <= 1000, "[synth] videos.min_frames is ", v.min_frames,
             " and max_frames ", v.max_frames);
  REID_CHECK(v.layout == "folders" || v.layout == "luperson", "[synth] unknown videos.layout '", v.layout,
             "'; there are folders and luperson");
}

Plan make_plan(const WorldConfig& config, uint64_t seed) {
  check_config(config);
  const Rng root = Rng(seed).at("world").at(static_cast<uint64_t>(kWorldVersion));
  Plan plan;
  plan.height = config.height;
  plan.width = config.width;
  int64_t next_identity = 1;
  for (const DomainConfig& d : config.domains) plan_domain(plan, d, root, next_identity);
  for (int v = 0; v < config.videos.count; ++v) plan_video(plan, config.videos, v, root, next_identity);
  std::sort(plan.jobs.begin(), plan.jobs.end(), [](const Job& a, const Job& b) { return a.path < b.path; });
  for (size_t i = 1; i < plan.jobs.size(); ++i)
    REID_CHECK(plan.jobs[i - 1].path != plan.jobs[i].path, "[synth] two crops would be named ", plan.jobs[i].path,
               "; lower images_per_camera");
  return plan;
}

}  // namespace reid::synth
