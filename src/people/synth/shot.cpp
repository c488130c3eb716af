// How one crop comes about: the walk its person is on, where that person is at this frame, what stands in the way, and
// how well the detector's box fits.

#include "people/synth/plan.h"

namespace reid::synth {
namespace {

Pose walk(const Camera& camera, Rng rng, int frame, bool video) {
  Pose pose;
  const float drawn_z = -draw(rng, camera.near_z, camera.far_z), drawn_x = draw(rng, -0.18f, 0.18f) * drawn_z;
  float heading = camera.flow + (rng.chance(0.5) ? kPi : 0.0f) + 0.45f * static_cast<float>(rng.normal());
  if (rng.chance(0.25)) heading = draw(rng, -kPi, kPi);
  const bool standing = rng.chance(0.1);
  const float pace = standing ? 0.0f : draw(rng, 0.9f, 1.5f);
  const float turning = draw(rng, -0.35f, 0.35f) + (standing ? draw(rng, -0.5f, 0.5f) : 0.0f);
  const float step = video ? draw(rng, 0.2f, 0.4f) : draw(rng, 0.5f, 1.1f);
  const float phase = draw(rng, 0, 1);
  pose.head_yaw = draw(rng, -0.4f, 0.4f);
  const float t = step * as_float(frame);
  pose.speed = standing ? 0.0f : 1.0f;
  const std::array<float, 3> arms = {0.8f, 0.08f, 0.12f};
  pose.arms = static_cast<Arms>(draw_index(rng, arms));
  pose.phase = phase + 0.85f * pace * t;
  pose.yaw = heading + turning * t;
  pose.head_yaw += 0.15f * sine(1.3f * t + 6 * phase);
  const float middle = heading + 0.5f * turning * t;
  pose.place = {drawn_x + pace * t * sine(middle), 0, drawn_z + pace * t * cosine(middle)};
  pose.place.z = std::min(-0.8f * camera.near_z, std::max(-1.2f * camera.far_z, pose.place.z));
  return pose;
}

void misplace(Shot& shot, const Camera& camera, Rng rng, bool junk) {
  shot.scale = 1 + 0.035f * static_cast<float>(rng.normal());
  shot.shift_x = 0.012f * static_cast<float>(rng.normal());
  shot.shift_y = 0.012f * static_cast<float>(rng.normal());
  shot.aspect = draw(rng, 0.92f, 1.08f);
  if (rng.chance(static_cast<double>(camera.misplaced))) {
    const int kind = static_cast<int>(rng.below(4));
    const float amount = draw(rng, 0.04f, 0.13f);
    if (kind == 0) shot.scale += amount;                                        // too large
    if (kind == 1) shot.scale -= amount, shot.shift_y -= 0.5f * amount;         // feet cut
    if (kind == 2) shot.scale -= 0.5f * amount, shot.shift_y += 0.4f * amount;  // head cut
    if (kind == 3) shot.shift_x += rng.chance(0.5) ? amount : -amount;
  }
  if (!junk) return;
  const float side = rng.chance(0.5) ? 1.0f : -1.0f;
  shot.shift_x += side * draw(rng, 0.15f, 0.4f);
  shot.shift_y += draw(rng, -0.35f, 0.35f);
  shot.scale *= rng.chance(0.5) ? draw(rng, 0.35f, 0.6f) : draw(rng, 1.5f, 2.2f);
}

Occluder draw_occluder(Rng& rng) {
  Occluder o;
  o.kind = static_cast<Occluder::Kind>(1 + rng.below(5));
  o.place = draw(rng, 0.15f, 0.85f);
  o.size = draw(rng, 0.06f, 0.16f);
  if (o.kind == Occluder::Kind::rail) o.place = draw(rng, 0.6f, 0.85f);
  if (o.kind == Occluder::Kind::low_box) o.size = draw(rng, 0.1f, 0.32f);
  if (o.kind == Occluder::Kind::side_wall) o.size = draw(rng, 0.1f, 0.3f);
  const float level = draw(rng, 0.02f, 0.45f), warm = draw(rng, -0.25f, 0.25f);
  o.color = {level * (1 + warm), level, level * (1 - warm)};
  if (o.kind == Occluder::Kind::leaves) o.color = {0.05f, 0.09f, 0.02f};
  o.salt = salt(rng);
  return o;
}

// Somebody else, beside the person and nearer or farther, never right in front.
Pose companion(const Pose& main, Rng& rng) {
  Pose pose = main;
  const float side = rng.chance(0.5) ? 1.0f : -1.0f;
  const float depth = draw(rng, -2.2f, 0.7f);
  const float nearer = (main.place.z + depth) / main.place.z;  // keeps the angle between the two
  pose.place = {(main.place.x + side * draw(rng, 0.34f, 0.8f)) * nearer, 0, main.place.z + depth};
  pose.yaw = rng.chance(0.6) ? main.yaw + 0.2f * static_cast<float>(rng.normal()) : draw(rng, -kPi, kPi);
  pose.phase = draw(rng, 0, 1);
  pose.arms = Arms::swing;
  pose.speed = 1;
  return pose;
}

}  // namespace

Image draw_crop(const Plan& plan, const Job& job, Workspace& workspace, int& quality) {
  const Place& place = plan.places[static_cast<size_t>(job.place)];
  const Camera& camera = place.cameras[static_cast<size_t>(job.camera)];
  const bool stranger = job.kind != JobKind::track, video = place.cameras.size() == 1;
  const Rng walk_rng = place.rng.at(stranger ? "stranger" : "walk")
                           .at(static_cast<uint64_t>(job.person))
                           .at(static_cast<uint64_t>(job.camera))
                           .at(static_cast<uint64_t>(job.track));
  Rng rng = walk_rng.at("frame").at(static_cast<uint64_t>(job.frame));

  std::string outfit;
  Person passer_by, other;
  Shot shot;
  Subject main;
  if (stranger) passer_by = draw_person(place.wardrobe, walk_rng.at("person"), outfit);
  main.person = stranger ? &passer_by : &place.people[static_cast<size_t>(job.person)];
  main.pose = walk(camera, walk_rng.at("pose"), job.frame, video);
  shot.people.push_back(main);
  misplace(shot, camera, rng.at("box"), job.kind == JobKind::junk);
  if (rng.chance(static_cast<double>(camera.occlusion))) shot.occluder = draw_occluder(rng);
  if (rng.chance(static_cast<double>(camera.company))) {
    other = draw_person(place.wardrobe, rng.at("other"), outfit);
    Subject second;
    second.person = &other;
    second.pose = companion(main.pose, rng);
    shot.people.push_back(second);
  }
  Rng sky = walk_rng.at("sky");  // clouds and the camera's automatics, the same along a walk
  shot.exposure = power(2, 0.18f * static_cast<float>(sky.normal()) + 0.05f * static_cast<float>(rng.normal()));
  quality = camera.quality;
  return develop(render(camera, shot, plan.height, plan.width, workspace), camera, rng.at("sensor"));
}

}  // namespace reid::synth
