#include "people/synth/scene.h"

#include <array>

namespace reid::synth {

SceneStyle campus_style() {
  SceneStyle s;
  s.indoor = 0;
  s.sun = {0.4f, 1.3f};
  s.warmth = {0.0f, 0.12f};
  s.cast = {-0.1f, 0.1f};
  s.exposure = {-0.35f, 0.3f};
  s.gamma = {0.9f, 1.12f};
  s.saturation = {0.85f, 1.15f};
  s.haze = {0, 0.03f};
  s.noise = {0.003f, 0.012f};
  s.blur = {0.2f, 0.5f};
  s.native_height = {95, 200};
  s.height = {2.2f, 3.4f};
  s.distance = {5, 11};
  s.quality = {78, 92};
  s.occlusion = 0.08f;
  s.company = 0.15f;
  s.misplaced = 0.2f;
  s.ground_level = {0.14f, 0.34f};
  s.wall_level = {0.12f, 0.35f};
  s.grounds = {2, 3, 2, 0.3f, 0, 1};
  s.walls = {1, 2, 0.5f, 1.5f, 0.2f, 2, 0.2f};
  return s;
}

SceneStyle arcade_style() {
  SceneStyle s = campus_style();
  s.indoor = 0.4f;
  s.sun = {0.1f, 0.6f};
  s.warmth = {-0.1f, 0.2f};
  s.cast = {-0.16f, 0.16f};
  s.exposure = {-0.7f, 0.3f};
  s.saturation = {0.7f, 1.05f};
  s.haze = {0, 0.05f};
  s.noise = {0.006f, 0.022f};
  s.blur = {0.3f, 0.85f};
  s.native_height = {65, 135};
  s.height = {2.6f, 4.2f};
  s.quality = {65, 88};
  s.occlusion = 0.16f;
  s.company = 0.24f;
  s.misplaced = 0.32f;
  s.ground_level = {0.1f, 0.28f};
  s.wall_level = {0.1f, 0.4f};
  s.grounds = {1.5f, 3, 0.5f, 1, 1, 1.5f};
  s.walls = {2, 1, 2, 2, 1, 0.5f, 1};
  return s;
}

SceneStyle station_style() {
  SceneStyle s;
  s.indoor = 0.7f;
  s.sun = {0.05f, 0.4f};
  s.warmth = {-0.12f, 0.26f};
  s.cast = {-0.17f, 0.17f};
  s.exposure = {-0.8f, 0.3f};
  s.gamma = {0.85f, 1.2f};
  s.saturation = {0.6f, 0.95f};
  s.haze = {0.01f, 0.07f};
  s.noise = {0.008f, 0.028f};
  s.blur = {0.4f, 0.95f};
  s.native_height = {58, 120};
  s.height = {3, 5};
  s.distance = {6, 12};
  s.quality = {55, 82};
  s.occlusion = 0.2f;
  s.company = 0.3f;
  s.misplaced = 0.4f;
  s.ground_level = {0.2f, 0.42f};
  s.wall_level = {0.2f, 0.5f};
  s.grounds = {0.5f, 3, 0, 1, 1.5f, 0.3f};
  s.walls = {2, 0.3f, 3, 1.5f, 2, 0, 2};
  return s;
}

SceneStyle any_style(Rng rng) {
  SceneStyle s;
  s.indoor = 0.45f;
  s.sun = {0.05f, 1.4f};
  s.warmth = {-0.2f, 0.32f};
  s.cast = {-0.2f, 0.2f};
  s.exposure = {-0.9f, 0.4f};
  s.gamma = {0.8f, 1.25f};
  s.saturation = {0.5f, 1.25f};
  s.haze = {0, 0.08f};
  s.noise = {0.002f, 0.03f};
  s.blur = {0.2f, 1.0f};
  s.native_height = {56, 200};
  s.height = {1.5f, 5.2f};
  s.distance = {4.5f, 12};
  s.quality = {50, 93};
  s.occlusion = draw(rng, 0, 0.18f);
  s.company = draw(rng, 0.05f, 0.3f);
  s.misplaced = draw(rng, 0.1f, 0.35f);
  s.ground_level = {0.08f, 0.5f};
  s.wall_level = {0.08f, 0.55f};
  s.grounds = {1, 1, 1, 1, 1, 1};
  s.walls = {1, 1, 1, 1, 1, 1, 1};
  return s;
}

namespace {

Color earth(Rng& rng, Range range) {
  const float level = range.pick(rng), warm = draw(rng, -0.1f, 0.16f);
  return {level * (1 + warm), level, level * (1 - warm)};
}

// Mostly grayish: a wall in a strong color is the exception.
Color paint(Rng& rng, Range range) {
  const Color hue = {draw(rng, 0.2f, 1.8f), draw(rng, 0.2f, 1.6f), draw(rng, 0.2f, 1.7f)};
  const float level = range.pick(rng), share = draw(rng, 0.05f, 1.0f);
  return mix(Color{1, 1, 1}, hue, 0.6f * share * share) * level;
}

Color leaf(Rng& rng) {
  const float level = draw(rng, 0.04f, 0.16f), yellow = draw(rng, 0.35f, 0.95f);
  return {level * yellow, level, level * 0.3f};
}

void draw_place(Camera& c, const SceneStyle& style, bool indoor, Rng rng) {
  c.salt = salt(rng);
  c.ground = static_cast<Ground>(draw_index(rng, style.grounds));
  c.wall = static_cast<Wall>(draw_index(rng, style.walls));
  if (indoor && c.ground == Ground::grass) c.ground = Ground::slabs;
  if (indoor && c.wall == Wall::hedge) c.wall = Wall::panels;
  c.ground_color = c.ground == Ground::grass ? leaf(rng) * 1.3f : earth(rng, style.ground_level);
  c.ground_second = c.ground == Ground::grass ? leaf(rng) : c.ground_color * draw(rng, 0.6f, 1.35f);
  c.tile = draw(rng, 0.25f, 1.0f);
  c.wall_color = c.wall == Wall::hedge ? leaf(rng) : paint(rng, style.wall_level);
  c.wall_second = c.wall == Wall::windows ? Color{0.03f, 0.035f, 0.045f} : paint(rng, style.wall_level);
  c.wall_distance = c.far_z + draw(rng, 1.0f, 12.0f);
  c.wall_height = indoor ? 12.0f : draw(rng, 2.2f, 9.0f);
  c.wall_turn = draw(rng, -0.35f, 0.35f);
  c.sky_color = indoor ? Color{0.6f, 0.6f, 0.58f} : mix(Color{0.35f, 0.55f, 0.95f}, Color{0.85f, 0.87f, 0.9f}, draw(rng, 0, 1));
  // Cameras of one site look at much the same paving and paint.
  if (c.ground != Ground::grass) c.ground_color = mix(c.ground_color, style.site_ground, 0.6f);
  if (c.wall != Wall::hedge) c.wall_color = mix(c.wall_color, style.site_wall, 0.5f);
  const int64_t count = 3 + rng.below(9);
  for (int64_t i = 0; i < count; ++i) {
    Clutter k;
    const float x = draw(rng, -10, 10), z = -draw(rng, c.near_z + 1, c.wall_distance - 0.3f);
    const std::array<float, 3> kinds = {0.55f, indoor ? 0.05f : 0.3f, 0.15f};
    k.kind = static_cast<Clutter::Kind>(draw_index(rng, kinds));
    float w = draw(rng, 0.3f, 2.4f), h = draw(rng, 0.4f, 2.2f);
    if (k.kind == Clutter::Kind::pole) w = draw(rng, 0.06f, 0.25f), h = draw(rng, 2.2f, 6.0f);
    const float depth = k.kind == Clutter::Kind::pole ? w : draw(rng, 0.3f, 2.0f);
    k.low = {x - 0.5f * w, 0, z - depth};
    k.high = {x + 0.5f * w, h, z};
    k.color = k.kind == Clutter::Kind::bush ? leaf(rng) * 1.2f : paint(rng, style.wall_level);
    k.second = paint(rng, style.wall_level);
    k.salt = salt(rng);
    c.clutter.push_back(k);
  }
}

void draw_light(Camera& c, const SceneStyle& style, bool indoor, Rng rng) {
  const float azimuth = draw(rng, -kPi, kPi), elevation = indoor ? draw(rng, 0.9f, 1.5f) : draw(rng, 0.45f, 1.2f);
  c.to_sun = {cosine(elevation) * sine(azimuth), sine(elevation), cosine(elevation) * cosine(azimuth)};
  const float warm = style.warmth.pick(rng);
  const Color tint = {1 + warm, 1, 1 - warm};
  const float strength = indoor ? draw(rng, 0.1f, 0.6f) : style.sun.pick(rng);
  c.sun = tint * strength;
  const float ambient = draw(rng, 0.55f, 0.8f);
  c.sky_light = (indoor ? tint : mix(tint, Color{0.92f, 1.0f, 1.1f}, 0.6f)) * ambient;
  c.bounce = c.ground_color * (0.35f * (ambient + strength)) + c.sky_light * 0.3f;
}

void draw_sensor(Camera& c, const SceneStyle& style, Rng rng) {
  const float red_blue = style.cast.pick(rng), green = 0.5f * style.cast.pick(rng);
  const float exposure = power(2, style.exposure.pick(rng)) / (0.65f + 0.5f * luminance(c.sun));
  c.gains = {exposure * (1 + red_blue), exposure * (1 + green), exposure * (1 - red_blue)};
  c.gamma = style.gamma.pick(rng);
  c.saturation = style.saturation.pick(rng);
  c.haze = style.haze.pick(rng);
  c.noise = style.noise.pick(rng);
  c.blur = style.blur.pick(rng);
  c.native_height = style.native_height.pick(rng);
  c.quality = static_cast<int>(style.quality.pick(rng));
}

}  // namespace

void draw_site(SceneStyle& style, Rng rng) {
  style.site_ground = earth(rng, style.ground_level);
  style.site_wall = paint(rng, style.wall_level);
}

Camera draw_camera(const SceneStyle& style, Rng rng) {
  Camera c;
  Rng geometry = rng.at("geometry");
  c.height = style.height.pick(geometry);
  const float middle = style.distance.pick(geometry);
  c.near_z = std::max(3.5f, middle - 2.5f);
  c.far_z = middle + 2.5f;
  c.pitch = 0.9f * (c.height - 0.9f) / middle;
  c.roll = draw(geometry, -0.05f, 0.05f);
  c.flow = draw(geometry, -kPi, kPi);
  const bool indoor = geometry.chance(static_cast<double>(style.indoor));
  draw_place(c, style, indoor, rng.at("place"));
  draw_light(c, style, indoor, rng.at("light"));
  draw_sensor(c, style, rng.at("sensor"));
  c.occlusion = style.occlusion;
  c.company = style.company;
  c.misplaced = style.misplaced;
  return c;
}

namespace {

// Contrast of detail of the given size (metres) seen from t metres: fades before it would alias.
float detail(float size, float t) { return clamp01(size * 60.0f / std::max(0.5f, t)); }

Color ground_at(const Camera& c, float x, float z, float t) {
  const float grain = value_noise(x * 9, z * 9, c.salt) - 0.5f, broad = cloud_noise(x * 0.7f, z * 0.7f, c.salt + 7);
  Color color = mix(c.ground_color, c.ground_second, 0.5f * smoothstep(0.35f, 0.75f, broad));
  switch (c.ground) {
    case Ground::asphalt: {
      const bool line = std::fabs(x * 0.8f + z * 0.25f - std::floor((x * 0.8f + z * 0.25f) / 5 + 0.5f) * 5) < 0.06f;
      return line ? Color{0.5f, 0.5f, 0.47f} : color * (1 + 0.5f * grain * detail(0.1f, t));
    }
    case Ground::slabs:
    case Ground::cobbles: {
      const float size = c.ground == Ground::slabs ? c.tile : 0.4f * c.tile;
      const float gx = x / size, gz = z / size;
      const float tone = lattice(floor_to_int(gx), floor_to_int(gz), c.salt) - 0.5f;
      const float edge = std::min(std::min(fraction(gx), 1 - fraction(gx)), std::min(fraction(gz), 1 - fraction(gz))) * size;
      const float seam = smoothstep(0.03f, 0.01f, edge) * detail(0.15f, t);
      return color * (1 + 0.35f * tone * detail(size, t)) * (1 - 0.5f * seam);
    }
    case Ground::grass:
      return mix(color, c.ground_second, clamp01(0.5f + 1.4f * grain)) *
             (0.8f + 0.5f * value_noise(x * 25, z * 12, c.salt + 3) * detail(0.1f, t));
    case Ground::planks: {
      const float gx = x / (0.3f * c.tile + 0.05f);
      return color * (0.85f + 0.4f * lattice(floor_to_int(gx), 0, c.salt) * detail(0.2f, t)) * (fraction(gx) < 0.08f ? 0.6f : 1.0f);
    }
    case Ground::carpet: return color * (1 + 0.25f * grain);
  }
  return color;
}

Color wall_at(const Camera& c, float x, float y) {
  const float stain = 0.85f + 0.3f * cloud_noise(x * 0.6f, y * 0.6f, c.salt + 11);
  const Color base = c.wall_color * stain;
  switch (c.wall) {
    case Wall::plain: return base;
    case Wall::bricks: {
      const float row = std::floor(y / 0.16f), bx = x / 0.45f + 0.5f * fraction(0.5f * row) * 2;
      const float tone = lattice(floor_to_int(bx), floor_to_int(row), c.salt) - 0.5f;
      const bool mortar = fraction(y / 0.16f) < 0.14f || fraction(bx) < 0.06f;
      return mortar ? base * 0.6f + Color{0.12f, 0.12f, 0.12f} : base * (1 + 0.5f * tone);
    }
    case Wall::panels: {
      const float px = x / (1.4f * c.tile + 0.4f);
      const bool seam = fraction(px) < 0.03f || fraction(y / 1.3f) < 0.02f;
      const bool poster = lattice(floor_to_int(px), floor_to_int(y / 1.3f), c.salt + 5) > 0.8f;
      return seam ? base * 0.5f : (poster ? c.wall_second * (0.6f + 0.8f * cloud_noise(x * 3, y * 3, c.salt)) : base);
    }
    case Wall::windows: {
      const float px = fraction(x / (2 * c.tile + 0.8f)), py = fraction((y - 0.6f) / 2.2f);
      const bool glass = px > 0.22f && py > 0.2f && py < 0.85f && y > 0.6f;
      const bool frame = glass && (px < 0.26f || std::fabs(px - 0.61f) < 0.015f);
      if (frame) return {0.5f, 0.5f, 0.48f};
      return glass ? c.wall_second + c.sky_color * (0.2f * cloud_noise(x, y, c.salt + 2)) : base;
    }
    case Wall::shutters: return base * (0.75f + 0.35f * fraction(y / 0.14f));
    case Wall::hedge: return base * (0.3f + 1.3f * cloud_noise(x * 5, y * 5, c.salt));
    case Wall::two_tone: return (y < 1.1f ? c.wall_second : c.wall_color) * stain;
  }
  return base;
}

// Entry distance of the ray into a box, or a negative number; `face` is 0 x, 1 y, 2 z.
float enter_box(Vec3 origin, Vec3 d, Vec3 low, Vec3 high, int& face) {
  float enter = 0, leave = 1e9f;
  face = -1;
  const std::array<float, 3> o = {origin.x, origin.y, origin.z}, dir = {d.x, d.y, d.z}, a = {low.x, low.y, low.z},
                             b = {high.x, high.y, high.z};
  for (int k = 0; k < 3; ++k) {
    const size_t i = static_cast<size_t>(k);
    if (std::fabs(dir[i]) < 1e-9f) {
      if (o[i] < a[i] || o[i] > b[i]) return -1;
      continue;
    }
    const float t0 = (a[i] - o[i]) / dir[i], t1 = (b[i] - o[i]) / dir[i];
    const float first = std::min(t0, t1);
    if (first > enter) enter = first, face = k;
    leave = std::min(leave, std::max(t0, t1));
  }
  return enter < leave && face >= 0 ? enter : -1;
}

Color clutter_at(const Clutter& k, Vec3 hit, int face) {
  const float shade = face == 0 ? 0.7f : (face == 1 ? 1.15f : 0.9f);
  const float x = face == 0 ? hit.z - k.low.z : hit.x - k.low.x, y = hit.y;
  if (k.kind == Clutter::Kind::bush) return k.color * (0.35f + 1.2f * cloud_noise(x * 6, y * 6, k.salt));
  const bool band = lattice(0, 0, k.salt) > 0.5f && fraction(y / std::max(0.2f, 0.55f * k.high.y)) < 0.35f;
  return (band ? k.second : k.color) * (shade * (0.85f + 0.3f * cloud_noise(x * 1.5f, y * 1.5f, k.salt)));
}

}  // namespace

Backdrop::Backdrop(const Camera& camera, std::vector<Shadow> shadows, float left, float right)
    : camera_(camera),
      shadows_(std::move(shadows)),
      eye_(camera.eye()),
      wall_normal_({sine(camera.wall_turn), 0, cosine(camera.wall_turn)}) {
  ground_light_ = camera.sun * std::max(0.1f, camera.to_sun.y) + camera.sky_light;
  wall_light_ = camera.sun * std::max(0.0f, 0.7f * camera.to_sun.z) + camera.sky_light * 0.85f;
  sun_share_ = luminance(camera.sun) / (luminance(camera.sun) + luminance(camera.sky_light));
  // Bounds over all heights: the depth of a point lies between its distance on the ground and a little more or less.
  for (const Clutter& k : camera.clutter) {
    const float near_depth = std::max(0.5f, -k.high.z * 0.8f), far_depth = -k.low.z * 1.2f + camera.height;
    const float low = k.low.x / (k.low.x < 0 ? near_depth : far_depth), high = k.high.x / (k.high.x > 0 ? near_depth : far_depth);
    if (low - 0.1f < right && high + 0.1f > left) near_.push_back(&k);
  }
}

// The share of light left on the ground around people: a soft contact shadow and one cast away from the sun.
float Backdrop::shadowed(float x, float z) const {
  float left = 1;
  const Vec3 sun = camera_.to_sun;
  for (const Shadow& s : shadows_) {
    const float dx = x - s.place.x, dz = z - s.place.z;
    const float reach = s.height / std::max(0.35f, sun.y);
    const float d2 = dx * dx + dz * dz;
    if (d2 > (reach + 0.5f) * (reach + 0.5f)) continue;
    left *= 1 - 0.45f * smoothstep(0.55f, 0.05f, std::sqrt(d2));
    const float ex = -sun.x * reach, ez = -sun.z * reach;
    const float t = clamp01((dx * ex + dz * ez) / std::max(1e-4f, ex * ex + ez * ez));
    const float rx = dx - ex * t, rz = dz - ez * t;
    left *= 1 - 0.9f * sun_share_ * smoothstep(0.3f, 0.14f, std::sqrt(rx * rx + rz * rz));
  }
  return left;
}

Color Backdrop::operator()(Vec3 d) const {
  const Camera& c = camera_;
  float t = 1e9f;
  const float facing = dot(d, wall_normal_);
  const float wall = facing < -1e-4f ? -c.wall_distance / facing : -1, wall_y = eye_.y + wall * d.y;
  const float ground = d.y < -1e-3f ? std::min(150.0f, -eye_.y / d.y) : 1e9f;
  const Clutter* nearest = nullptr;
  int nearest_face = 0;
  for (const Clutter* k : near_) {
    int face = 0;
    const float hit = enter_box(eye_, d, k->low, k->high, face);
    if (hit < 0 || hit >= t) continue;
    if (k->kind == Clutter::Kind::bush) {
      const Vec3 p = eye_ + d * hit;
      const float ex = (2 * p.x - k->low.x - k->high.x) / (k->high.x - k->low.x), ey = p.y / k->high.y;
      if (ex * ex + ey * ey > 0.7f + 0.6f * value_noise(p.x * 7, p.y * 7, k->salt)) continue;
    }
    t = hit;
    nearest = k;
    nearest_face = face;
  }
  if (nearest != nullptr && t < ground && (wall < 0 || t < wall)) {
    return clutter_at(*nearest, eye_ + d * t, nearest_face) * (nearest_face == 1 ? ground_light_ : wall_light_);
  }
  if (wall > 0 && wall < ground && wall_y < c.wall_height) {
    const float along = (d.x * wall_normal_.z - d.z * wall_normal_.x) * wall;
    return wall_at(c, along, wall_y) * wall_light_ * (0.7f + 0.3f * smoothstep(0, 0.8f, wall_y));
  }
  if (ground < 1e8f) {
    const float x = d.x * ground, z = d.z * ground;
    return ground_at(c, x, z, ground) * ground_light_ * shadowed(x, z);
  }
  return mix(c.sky_color, Color{0.9f, 0.9f, 0.9f}, clamp01(1 - 3 * d.y)) * (0.8f * luminance(ground_light_));
}

}  // namespace reid::synth
