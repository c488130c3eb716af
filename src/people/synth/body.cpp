#include "people/synth/body.h"

#include <array>

namespace reid::synth {

void Mesh::clear() {
  vertices.clear();
  triangles.clear();
  parts.clear();
  closed.clear();
  owners.clear();
}

namespace {

constexpr Vec3 kUp = {0, 1, 0};

// A direction around a ring: sine and cosine of its angle, and how far a square section reaches there.
struct Spoke {
  float s, c, reach;
};

Vec3 on_ring(const Ring& ring, const Spoke& k) {
  return ring.center + ring.side * (ring.a * k.s * k.reach) + ring.front * (ring.b * k.c * k.reach);
}

void add_triangle(Mesh& mesh, size_t a, size_t b, size_t c, Part part, uint8_t owner, bool closed) {
  for (const size_t i : {a, b, c}) mesh.triangles.push_back(static_cast<uint32_t>(i));
  mesh.parts.push_back(part);
  mesh.owners.push_back(owner);
  mesh.closed.push_back(closed ? 1 : 0);
}

// A rotation about y.
Vec3 turned(Vec3 p, float s, float c) { return {p.x * c + p.z * s, p.y, p.z * c - p.x * s}; }

float profile(const std::array<std::array<float, 2>, 7>& knots, float v) {
  if (v <= knots[0][0]) return knots[0][1];
  for (size_t i = 1; i < knots.size(); ++i)
    if (v <= knots[i][0]) return mix(knots[i - 1][1], knots[i][1], (v - knots[i - 1][0]) / (knots[i][0] - knots[i - 1][0]));
  return knots.back()[1];
}

// Where a limb bent at a joint is at v (0 root, 1 joint, 2 end), rounded a little at the joint.
Vec3 along_limb(Vec3 root, Vec3 joint, Vec3 end, float v) {
  const float bend = 0.18f;
  if (v < 1 - bend) return mix(root, joint, v);
  if (v > 1 + bend) return mix(joint, end, v - 1);
  const float t = (v - 1 + bend) / (2 * bend);
  const Vec3 a = mix(root, joint, 1 - bend), b = mix(joint, end, bend);
  return mix(mix(a, joint, t), mix(joint, b, t), t);
}

struct LimbCloth {
  float hem = 0;    // covered where v < hem
  float loose = 1;  // at the hem; tighter at the root
};

void add_limb(Mesh& mesh, Vec3 root, Vec3 joint, Vec3 end, Vec3 front, const std::array<std::array<float, 2>, 7>& radii, float scale,
              const LimbCloth& cloth, Part part, uint8_t owner) {
  std::array<float, 20> stops = {-0.08f,
                                 -0.04f,
                                 0.0f,
                                 0.15f,
                                 0.35f,
                                 0.55f,
                                 0.75f,
                                 0.88f,
                                 0.96f,
                                 1.04f,
                                 1.12f,
                                 1.25f,
                                 1.4f,
                                 1.6f,
                                 1.8f,
                                 1.92f,
                                 2.0f,
                                 2.03f,
                                 cloth.hem - 0.01f,
                                 cloth.hem + 0.01f};
  std::sort(stops.begin(), stops.end());
  std::vector<Ring> rings;
  rings.reserve(stops.size());
  for (const float v : stops) {
    const Vec3 ahead = along_limb(root, joint, end, v + 0.06f), behind = along_limb(root, joint, end, v - 0.06f);
    Ring ring;
    const Vec3 axis = normalized(behind - ahead);
    ring.center = along_limb(root, joint, end, v);
    ring.side = normalized(cross(axis, front));
    ring.front = normalized(cross(ring.side, axis));
    float r = profile(radii, v) * scale;
    if (v < cloth.hem) r = r * mix(1.02f, cloth.loose, clamp01(v * 0.7f)) + 0.004f;
    if (v < 0) r *= std::sqrt(std::max(0.0f, 1 - v * v / 0.0064f));
    if (v > 2) r *= 0.6f;
    ring.a = r;
    ring.b = r;
    ring.v = v;
    rings.push_back(ring);
  }
  add_tube(mesh, rings, {12, 0, 0, true}, part, owner);
}

void add_torso(Mesh& mesh, const Person& p, const Skeleton& s, uint8_t owner) {
  constexpr std::array<float, 16> stops = {0.0f,  0.04f, 0.1f,  0.18f, 0.26f, 0.34f, 0.42f, 0.5f,
                                           0.58f, 0.66f, 0.74f, 0.82f, 0.88f, 0.93f, 0.97f, 1.0f};
  std::vector<Ring> rings;
  rings.reserve(stops.size() + 2);
  for (const float v : stops) {
    const TorsoSection section = torso_section(p, v);
    const Vec3 side = normalized(mix(s.hips_left, s.chest_left, smoothstep(0.1f, 0.8f, v)));
    rings.push_back({torso_center(s, v), side, normalized(cross(side, kUp)), section.half_width, section.half_depth, v});
  }
  add_tube(mesh, rings, {24, 0.12f, 0, true}, Part::torso, owner);
}

// The depth range the legs take at height y, for skirts and coats to go around.
void leg_range(const Skeleton& s, float y, float& low, float& high) {
  low = 1e9f;
  high = -1e9f;
  for (int k = 0; k < 2; ++k) {
    const Vec3 top = y > s.knee[k].y ? s.hip[k] : s.knee[k], bottom = y > s.knee[k].y ? s.knee[k] : s.ankle[k];
    const float t = clamp01((top.y - y) / std::max(0.02f, top.y - bottom.y));
    const float z = mix(top.z, bottom.z, t);
    low = std::min(low, z);
    high = std::max(high, z);
  }
}

// A skirt or the lower part of a coat: from torso height v down to `drop` metres below the hips.
void add_skirt(Mesh& mesh, const Person& p, const Skeleton& s, float v_top, float drop, float loose, float gap, Part part, uint8_t owner) {
  std::vector<Ring> rings;
  const Vec3 front = normalized(cross(s.hips_left, kUp));
  const TorsoSection widest = torso_section(p, 0.16f);
  for (int i = 0; i <= 4; ++i) {
    const float v = mix(v_top, 0.14f, as_float(i) / 4);
    const TorsoSection section = torso_section(p, v);
    rings.push_back({torso_center(s, v), s.hips_left, front, section.half_width * 1.04f, section.half_depth * 1.05f, v});
  }
  const float y0 = rings.back().center.y, leg = s.hip[0].y;
  for (int i = 1; i <= 7; ++i) {
    const float t = as_float(i) / 7, y = y0 - (y0 - s.pelvis.y + drop) * t;
    float low = 0, high = 0;
    leg_range(s, y, low, high);
    const float r = 0.06f * p.height * p.girth;
    const float half_depth = std::max(widest.half_depth * mix(1.05f, 0.95f * loose, t), 0.5f * (high - low) + r);
    const float half_width = widest.half_width * mix(1.04f, loose, t);
    const Vec3 center = {0, y, mix(rings[4].center.z, 0.5f * (low + high), t)};
    rings.push_back({center, s.hips_left, front, half_width, half_depth, 0.14f - (y0 - y) / leg});
  }
  add_tube(mesh, rings, {24, 0.1f, gap, false}, part, owner);
}

void add_shoe(Mesh& mesh, const Person& p, Vec3 ankle, Vec3 toe, uint8_t owner) {
  const Vec3 forward = normalized(toe - ankle + Vec3{0, 0.035f * p.height, 0});
  const Vec3 side = normalized(cross(kUp, forward)), up = normalized(cross(forward, side));
  const float w = 0.026f * p.height;
  const Vec3 heel = ankle - forward * (0.034f * p.height) - up * (0.012f * p.height);
  const float l = 0.148f * p.height;
  const std::array<std::array<float, 3>, 7> shape = {{{0, 0.45f, 0.5f},
                                                      {0.06f, 0.85f, 1.0f},
                                                      {0.25f, 1.0f, 1.15f},
                                                      {0.45f, 1.05f, 0.95f},
                                                      {0.7f, 1.22f, 0.72f},
                                                      {0.93f, 1.08f, 0.55f},
                                                      {1.0f, 0.5f, 0.25f}}};
  std::vector<Ring> rings;
  for (const auto& k : shape)
    rings.push_back({heel + forward * (l * k[0]) + up * (w * (k[2] - 1.0f) * 0.9f), side, up, w * k[1], w * k[2], k[0]});
  add_tube(mesh, rings, {10, 0.3f, 0, true}, Part::shoe, owner);
  if (!p.boots) return;
  const float r = 0.034f * p.height;
  std::vector<Ring> shaft = {{ankle - kUp * 0.02f, side, forward, r, r * 1.15f, 0.3f},
                             {ankle + kUp * (0.07f * p.height), side, forward, r * 1.12f, r * 1.2f, 0.3f}};
  add_tube(mesh, shaft, {12, 0, 0, true}, Part::shoe, owner);
}

void add_head(Mesh& mesh, const Person& p, const Skeleton& s, uint8_t owner) {
  const float h = s.head_height;
  const Vec3 up = normalized(cross(s.head_front, s.head_left));
  std::vector<Ring> rings;
  constexpr std::array<float, 14> stops = {0, 0.03f, 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f, 0.88f, 0.94f, 0.98f, 1.0f};
  const float hair_volume = p.hair == HairStyle::bald || p.hair == HairStyle::buzz ? 0 : 0.012f;
  for (const float v : stops) {
    const float t = 2 * v - 1;
    const float round = std::sqrt(std::max(0.0f, 1 - t * t));
    const float jaw = mix(0.78f, 1.0f, smoothstep(0.0f, 0.55f, v));
    const float hair = hair_volume * smoothstep(0.4f, 0.75f, v) * round;
    const Vec3 center = s.head + up * ((v - 0.5f) * h) + s.head_front * (h * 0.05f * (1 - v));
    rings.push_back({center, s.head_left, s.head_front, h * 0.345f * round * jaw + hair,
                     h * 0.42f * round * mix(0.85f, 1.0f, smoothstep(0, 0.5f, v)) + hair, v});
  }
  add_tube(mesh, rings, {18, 0, 0, true}, Part::head, owner);
  const float r = 0.03f * p.height * std::sqrt(p.girth);
  const Vec3 base = s.neck - kUp * 0.03f, top = s.head - up * (0.3f * h);
  std::vector<Ring> neck = {{base, s.chest_left, s.chest_front, r * 1.25f, r * 1.2f, 0},
                            {mix(base, top, 0.4f), s.chest_left, s.chest_front, r, r, 0.5f},
                            {top, s.head_left, s.head_front, r, r, 1}};
  add_tube(mesh, neck, {12, 0, 0, true}, Part::neck, owner);
}

}  // namespace

void add_tube(Mesh& mesh, const std::vector<Ring>& rings, const TubeShape& shape, Part part, uint8_t owner) {
  const size_t columns = static_cast<size_t>(shape.segments) + 1, first = mesh.vertices.size();
  std::array<Spoke, 32> spokes{};
  std::array<float, 32> turns{};
  for (size_t j = 0; j < columns; ++j) {
    const float u = shape.gap + (1 - 2 * shape.gap) * static_cast<float>(j) / as_float(shape.segments);
    const float s = sine(u * 2 * kPi), c = cosine(u * 2 * kPi);
    turns[j] = u;
    spokes[j] = {s, c, mix(1.0f, 1.0f / std::max(0.5f, std::max(std::fabs(s), std::fabs(c))), shape.square)};
  }
  for (size_t i = 0; i < rings.size(); ++i) {
    const Ring& ring = rings[i];
    const Ring& above = rings[i > 0 ? i - 1 : 0];
    const Ring& below = rings[i + 1 < rings.size() ? i + 1 : i];
    for (size_t j = 0; j < columns; ++j) {
      const Spoke& k = spokes[j];
      Vertex vertex;
      vertex.position = on_ring(ring, k);
      const Vec3 around = ring.side * (ring.a * k.c) - ring.front * (ring.b * k.s), along = on_ring(below, k) - on_ring(above, k);
      const Vec3 outward = vertex.position - ring.center;
      Vec3 normal = cross(around, along);
      if (dot(normal, normal) < 1e-14f) normal = outward;
      if (dot(normal, outward) < 0) normal = normal * -1.0f;
      vertex.normal = normalized(normal);
      vertex.u = turns[j];
      vertex.v = ring.v;
      mesh.vertices.push_back(vertex);
    }
  }
  for (size_t i = 0; i + 1 < rings.size(); ++i)
    for (size_t j = 0; j + 1 < columns; ++j) {
      const size_t a = first + i * columns + j;
      add_triangle(mesh, a, a + 1, a + columns, part, owner, shape.closed && shape.gap == 0);
      add_triangle(mesh, a + 1, a + columns + 1, a + columns, part, owner, shape.closed && shape.gap == 0);
    }
}

void add_ellipsoid(Mesh& mesh, Vec3 center, Vec3 side, Vec3 up, Vec3 front, Vec3 radii, Part part, uint8_t owner) {
  std::vector<Ring> rings;
  for (int i = 0; i <= 8; ++i) {
    const float t = -cosine(kPi * as_float(i) / 8), r = std::sqrt(std::max(0.0f, 1 - t * t));
    rings.push_back({center + up * (radii.y * t), side, front, radii.x * r, radii.z * r, 0.5f * (t + 1)});
  }
  add_tube(mesh, rings, {12, 0, 0, true}, part, owner);
}

TorsoSection torso_section(const Person& p, float v) {
  constexpr std::array<std::array<float, 3>, 11> kSections = {{{0.0f, 0.062f, 0.050f},
                                                               {0.06f, 0.090f, 0.063f},
                                                               {0.16f, 0.097f, 0.067f},
                                                               {0.30f, 0.089f, 0.059f},
                                                               {0.42f, 0.080f, 0.054f},
                                                               {0.58f, 0.088f, 0.061f},
                                                               {0.72f, 0.095f, 0.066f},
                                                               {0.83f, 0.098f, 0.061f},
                                                               {0.90f, 0.086f, 0.051f},
                                                               {0.95f, 0.056f, 0.040f},
                                                               {1.0f, 0.032f, 0.032f}}};
  size_t i = 1;
  while (i + 1 < kSections.size() && v > kSections[i][0]) ++i;
  const float t = clamp01((v - kSections[i - 1][0]) / (kSections[i][0] - kSections[i - 1][0]));
  float w = mix(kSections[i - 1][1], kSections[i][1], t), d = mix(kSections[i - 1][2], kSections[i][2], t);
  w *= mix(p.hips, p.shoulders, smoothstep(0.3f, 0.65f, v));
  const float belly = smoothstep(0.1f, 0.3f, v) * smoothstep(0.75f, 0.5f, v);
  const float girth = mix(std::sqrt(p.girth), p.girth, belly);
  w *= girth;
  d *= girth * mix(1.0f, p.girth, 0.5f * belly);
  if (v > p.top_hem) {
    const float cloth = mix(p.looseness, 1.0f, smoothstep(0.85f, 1.0f, v));
    w *= cloth;
    d *= cloth;
    // Loose cloth hangs straight from the chest instead of following the waist.
    const float straight = clamp01((p.looseness - 1.02f) * 5) * smoothstep(0.75f, 0.55f, v);
    w = std::max(w, 0.094f * p.shoulders * straight * p.looseness);
    d = std::max(d, 0.062f * straight * p.looseness);
  }
  return {w * p.height, d * p.height};
}

Vec3 torso_center(const Skeleton& s, float v) {
  // v runs from the crotch, a little below the pelvis, to the neck.
  const float t = (v - 0.12f) / 0.88f;
  return s.pelvis + (s.neck - s.pelvis) * t + s.chest_front * (0.012f * sine(kPi * clamp01(t)));
}

void add_person(Mesh& mesh, const Person& p, const Pose& pose, uint8_t owner) {
  const size_t first = mesh.vertices.size();
  const Skeleton s = make_skeleton(p, pose);
  const float h = p.height, thick = std::sqrt(p.girth);
  constexpr std::array<std::array<float, 2>, 7> kArm = {
      {{0, 0.031f}, {0.3f, 0.028f}, {0.8f, 0.024f}, {1.0f, 0.0225f}, {1.3f, 0.0225f}, {1.8f, 0.017f}, {2.0f, 0.015f}}};
  constexpr std::array<std::array<float, 2>, 7> kLeg = {
      {{0, 0.054f}, {0.3f, 0.049f}, {0.8f, 0.037f}, {1.0f, 0.034f}, {1.35f, 0.035f}, {1.8f, 0.023f}, {2.0f, 0.021f}}};
  add_torso(mesh, p, s, owner);
  for (int k = 0; k < 2; ++k) {
    const float sleeve_loose = 1.02f + (p.looseness - 1.0f) * 1.2f;
    add_limb(mesh, s.shoulder[k], s.elbow[k], s.wrist[k], s.chest_front, kArm, h * thick, {p.sleeve, sleeve_loose},
             k == 0 ? Part::arm_left : Part::arm_right, owner);
    const Vec3 forearm = normalized(s.wrist[k] - s.elbow[k]);
    const Vec3 side = normalized(cross(forearm, s.chest_front));
    add_ellipsoid(mesh, s.wrist[k] + forearm * (0.03f * h), side, forearm, cross(side, forearm), {0.018f * h, 0.045f * h, 0.022f * h},
                  Part::hand, owner);
    const LimbCloth cloth = {p.wears_skirt() ? 0.0f : p.bottom_hem, p.bottom_loose};
    add_limb(mesh, s.hip[k], s.knee[k], s.ankle[k], {0, 0, 1}, kLeg, h * thick, cloth, k == 0 ? Part::leg_left : Part::leg_right, owner);
    add_shoe(mesh, p, s.ankle[k], s.toe[k], owner);
  }
  const float leg = s.hip[0].y;
  if (p.wears_skirt()) add_skirt(mesh, p, s, 0.36f, leg * 0.5f * p.bottom_hem, p.bottom_loose, 0, Part::skirt, owner);
  if (p.covers_legs_with_coat()) {
    const float gap = p.top == Top::open_coat ? 0.07f : 0.006f;
    add_skirt(mesh, p, s, 0.4f, leg * p.coat_length, 1.12f * p.looseness, gap, Part::coat, owner);
  }
  add_head(mesh, p, s, owner);
  add_things(mesh, p, s, owner);

  const float sn = sine(pose.yaw), cs = cosine(pose.yaw);
  for (size_t i = first; i < mesh.vertices.size(); ++i) {
    mesh.vertices[i].position = turned(mesh.vertices[i].position, sn, cs) + pose.place;
    mesh.vertices[i].normal = turned(mesh.vertices[i].normal, sn, cs);
  }
}

Skeleton make_skeleton(const Person& p, const Pose& pose) {
  Skeleton s;
  const float h = p.height, walk = pose.speed;
  const float turn = 2 * kPi * pose.phase;
  const float bone = 0.243f * h * p.legs, ankle_height = 0.048f * h;
  const float twist = 0.1f * walk * p.stride * sine(turn);
  const float lean = p.lean * (0.4f + 0.6f * walk);
  s.hips_left = {cosine(twist), 0, sine(twist)};
  s.chest_left = {cosine(twist), 0, -sine(twist)};
  s.chest_front = normalized(cross(s.chest_left, kUp));

  // Legs from hips at height zero; then everything is lifted until the lower foot stands on the ground.
  float lowest = 1e9f;
  for (int k = 0; k < 2; ++k) {
    const float sign = k == 0 ? 1.0f : -1.0f, own = turn + (k == 0 ? 0 : kPi);
    const float swing = 0.37f * walk * p.stride * sine(own);
    const float flex = (0.08f + 0.7f * walk * std::max(0.0f, cosine(own + 0.3f)) * std::min(1.0f, p.stride)) * (walk > 0 ? 1.0f : 0.3f);
    s.hip[k] = s.hips_left * (sign * 0.052f * h * p.hips);
    s.knee[k] = s.hip[k] + Vec3{sign * 0.02f, -cosine(swing), sine(swing)} * bone;
    s.ankle[k] = s.knee[k] + Vec3{0, -cosine(swing - flex), sine(swing - flex)} * bone;
    const float pitch = std::min(0.2f, std::max(-0.6f, (swing - 0.7f * flex) * 0.8f));
    s.toe[k] = s.ankle[k] + Vec3{sign * 0.02f * h, 0.11f * h * sine(pitch) - 0.035f * h, 0.11f * h * cosine(pitch)};
    lowest = std::min(lowest, std::min(s.ankle[k].y - ankle_height, s.toe[k].y - 0.012f * h));
  }
  const Vec3 lift = {0, -lowest, 0};
  for (int k = 0; k < 2; ++k)
    for (Vec3* joint : {&s.hip[k], &s.knee[k], &s.ankle[k], &s.toe[k]}) *joint = *joint + lift;
  s.pelvis = lift;

  const float torso = 0.83f * h - 0.534f * h * (0.5f + 0.5f * p.legs) + 0.012f * h;
  const Vec3 spine = {0, cosine(lean), sine(lean)};
  s.chest = s.pelvis + spine * (0.75f * torso);
  s.neck = s.pelvis + spine * torso;
  s.head_height = 0.14f * h * p.head;
  s.head_left = {cosine(pose.head_yaw), 0, -sine(pose.head_yaw)};
  s.head_front = normalized(cross(s.head_left, kUp));
  s.head = s.neck + Vec3{0, 0.03f * h + 0.5f * s.head_height, 0.012f * h};

  for (int k = 0; k < 2; ++k) {
    const float sign = k == 0 ? 1.0f : -1.0f, own = turn + (k == 0 ? kPi : 0);
    float swing = 0.5f * walk * p.arm_swing * sine(own) - 0.03f;
    float bend = 0.18f + 0.35f * walk * p.arm_swing * (0.5f + 0.5f * sine(own));
    float out = 0.09f + 0.1f * (p.looseness - 1.0f) + 0.06f * (p.girth - 1);
    if (pose.arms == Arms::pockets) swing = -0.15f, bend = 0.75f, out = 0.2f;
    if (pose.arms == Arms::phone && k == 1) swing = 0.25f, bend = 1.9f, out = 0.05f;
    const float upper = 0.172f * h, lower = 0.148f * h, inward = pose.arms == Arms::swing ? 0.02f : 0.16f;
    s.shoulder[k] = torso_center(s, 0.85f) + s.chest_left * (sign * 0.096f * h * p.shoulders * mix(1.0f, std::sqrt(p.girth), 0.5f));
    const auto in_body = [&](float x, float y, float z) { return s.chest_left * x + kUp * y + s.chest_front * z; };
    s.elbow[k] = s.shoulder[k] + normalized(in_body(sign * out, -cosine(swing), sine(swing))) * upper;
    s.wrist[k] = s.elbow[k] + normalized(in_body(sign * (out - inward * 2), -cosine(swing + bend), sine(swing + bend))) * lower;
  }
  return s;
}

}  // namespace reid::synth
