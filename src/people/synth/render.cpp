#include "people/synth/render.h"

#include <array>

#include "people/synth/material.h"

namespace reid::synth {
namespace {

constexpr int kSamples = 2;  // per pixel and axis

// The part of the picture plane a crop shows.
struct Window {
  float left = 0, top = 0, width = 1, height = 1;
};

void project(const Camera& camera, Workspace& w) {
  const Vec3 forward = camera.forward(), up = camera.up(), eye = camera.eye();
  const float s = sine(camera.roll), c = cosine(camera.roll);
  w.projected.resize(w.mesh.vertices.size());
  w.away.resize(w.mesh.vertices.size());
  for (size_t i = 0; i < w.projected.size(); ++i) {
    const Vec3 p = w.mesh.vertices[i].position - eye;
    const float depth = std::max(0.3f, dot(p, forward));
    const float x = p.x / depth, y = -dot(p, up) / depth;
    w.projected[i] = {x * c - y * s, x * s + y * c, depth};
    w.away[i] = dot(w.mesh.vertices[i].normal, p) > 0.1f * depth ? 1 : 0;
  }
}

Window frame(const Workspace& w, size_t count, const Shot& shot) {
  float x0 = 1e9f, x1 = -1e9f, y0 = 1e9f, y1 = -1e9f;
  for (size_t i = 0; i < count; ++i) {
    x0 = std::min(x0, w.projected[i].x);
    x1 = std::max(x1, w.projected[i].x);
    y0 = std::min(y0, w.projected[i].y);
    y1 = std::max(y1, w.projected[i].y);
  }
  Window out;
  out.height = (y1 - y0) * 1.04f * shot.scale;
  const float wanted = std::max(0.41f * out.height, (x1 - x0) * 1.02f * shot.scale);
  out.width = std::min(0.62f * out.height, wanted) * shot.aspect;
  out.left = 0.5f * (x0 + x1 - out.width) + shot.shift_x * out.height;
  out.top = 0.5f * (y0 + y1 - out.height) + shot.shift_y * out.height;
  return out;
}

void to_samples(Workspace& w, const Window& f, int rows, int columns) {
  const float sx = as_float(columns) / f.width, sy = as_float(rows) / f.height;
  for (Vec3& p : w.projected) p = {(p.x - f.left) * sx, (p.y - f.top) * sy, p.z};
}

void rasterize(Workspace& w, int rows, int columns, size_t index, Vec3 a, Vec3 b, Vec3 c) {
  const float area = (b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y);
  if (std::fabs(area) < 1e-6f) return;
  const float low_x = std::min(a.x, std::min(b.x, c.x)), high_x = std::max(a.x, std::max(b.x, c.x));
  const float low_y = std::min(a.y, std::min(b.y, c.y)), high_y = std::max(a.y, std::max(b.y, c.y));
  if (high_x < 0 || high_y < 0 || low_x > as_float(columns) || low_y > as_float(rows)) return;
  const int x0 = std::max(0, floor_to_int(low_x)), x1 = std::min(columns - 1, floor_to_int(high_x));
  const int y0 = std::max(0, floor_to_int(low_y)), y1 = std::min(rows - 1, floor_to_int(high_y));
  const float inverse = 1 / area;
  const float bx = (c.y - a.y) * inverse, by = -(c.x - a.x) * inverse, cx = -(b.y - a.y) * inverse, cy = (b.x - a.x) * inverse;
  const float dz = bx * (b.z - a.z) + cx * (c.z - a.z);
  for (int y = y0; y <= y1; ++y) {
    const float px = as_float(x0) + 0.5f - a.x, py = as_float(y) + 0.5f - a.y;
    float wb = px * bx + py * by, wc = px * cx + py * cy;
    float z = a.z + wb * (b.z - a.z) + wc * (c.z - a.z);
    size_t at = static_cast<size_t>(y) * static_cast<size_t>(columns) + static_cast<size_t>(x0);
    for (int x = x0; x <= x1; ++x, ++at, wb += bx, wc += cx, z += dz) {
      if (wb < -1e-5f || wc < -1e-5f || wb + wc > 1.00001f || z >= w.depth[at]) continue;
      w.depth[at] = z;
      w.triangle[at] = static_cast<int32_t>(index);
    }
  }
}

void fill_depth(Workspace& w, int rows, int columns) {
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(columns);
  w.depth.assign(count, 1e9f);
  w.triangle.assign(count, -1);
  for (size_t t = 0; t < w.mesh.parts.size(); ++t) {
    const uint32_t* v = &w.mesh.triangles[3 * t];
    if (w.mesh.closed[t] != 0 && w.away[v[0]] + w.away[v[1]] + w.away[v[2]] == 3) continue;
    rasterize(w, rows, columns, t, w.projected[v[0]], w.projected[v[1]], w.projected[v[2]]);
  }
}

// How much nearer neighbors hide the sky from a sample: arms darken the torso behind them, legs each other.
float openness(const Workspace& w, int rows, int columns, int y, int x) {
  const float own = w.depth[static_cast<size_t>(y) * static_cast<size_t>(columns) + static_cast<size_t>(x)];
  constexpr int kReach[6][2] = {{-5, 0}, {5, 0}, {0, -5}, {-9, -6}, {9, -6}, {0, -12}};
  float open = 1;
  for (const auto& r : kReach) {
    const int nx = x + r[0], ny = y + r[1];
    if (nx < 0 || ny < 0 || nx >= columns || ny >= rows) continue;
    const float nearer = own - w.depth[static_cast<size_t>(ny) * static_cast<size_t>(columns) + static_cast<size_t>(nx)];
    if (nearer > 0.03f && nearer < 0.4f) open -= 0.09f;
  }
  return open;
}

struct Light {
  const Camera& camera;
  Vec3 to_eye;
};

Color shade(const Workspace& w, const Shot& shot, const Light& light, int rows, int columns, int y, int x) {
  const size_t t = static_cast<size_t>(w.triangle[static_cast<size_t>(y) * static_cast<size_t>(columns) + static_cast<size_t>(x)]);
  const uint32_t* index = &w.mesh.triangles[3 * t];
  const Vec3 a = w.projected[index[0]], b = w.projected[index[1]], c = w.projected[index[2]];
  const float inverse = 1 / ((b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y));
  const float px = as_float(x) + 0.5f, py = as_float(y) + 0.5f;
  const float wb = ((px - a.x) * (c.y - a.y) - (c.x - a.x) * (py - a.y)) * inverse;
  const float wc = ((b.x - a.x) * (py - a.y) - (px - a.x) * (b.y - a.y)) * inverse;
  const Vertex &va = w.mesh.vertices[index[0]], &vb = w.mesh.vertices[index[1]], &vc = w.mesh.vertices[index[2]];
  const float turn = va.u + wb * (vb.u - va.u) + wc * (vc.u - va.u), u = turn > 0.5f ? turn - 1 : turn;
  const float v = va.v + wb * (vb.v - va.v) + wc * (vc.v - va.v);
  Vec3 n = va.normal + (vb.normal - va.normal) * wb + (vc.normal - va.normal) * wc;

  const Person& person = *shot.people[w.mesh.owners[t]].person;
  const Part part = w.mesh.parts[t];
  const Surface surface = surface_at(person, part, u, v);
  const uint32_t folds = person.top_cloth.folds + static_cast<uint32_t>(part) * 31u;
  if (surface.relief > 0) {
    const float along = part == Part::torso || part == Part::skirt || part == Part::coat ? 7.0f : 5.0f;
    const float p = value_noise(u * 9 + v * 2, v * along, folds) - 0.5f, q = value_noise(u * 5, v * along * 1.7f - u * 3, folds + 9) - 0.5f;
    n = normalized(n) + Vec3{p, q, p - q} * surface.relief;
  }
  n = normalized(n);
  if (dot(n, light.to_eye) < -0.2f) n = n * -1.0f;
  const Camera& cam = light.camera;
  const float open = openness(w, rows, columns, y, x);
  const float sky = 0.5f + 0.5f * n.y, lambert = std::max(0.0f, dot(n, cam.to_sun));
  const Color arriving = cam.sun * (lambert * (2 * open - 1)) + mix(cam.bounce, cam.sky_light, sky) * open;
  const Vec3 half = normalized(cam.to_sun + light.to_eye);
  const float gloss = std::max(0.0f, dot(n, half)), g2 = gloss * gloss, g8 = g2 * g2 * g2 * g2;
  return surface.albedo * arriving + cam.sun * (surface.shine * g8 * g2);
}

// Mean color of the people in a pixel and how many of its samples they cover. Two samples are shaded at most: the first
// and the last covered one, opposite corners of a fully covered pixel.
Color cover(const Workspace& w, const Shot& shot, const Light& light, int rows, int columns, int y, int x, int& covered) {
  std::array<std::array<int, 2>, kSamples * kSamples> hit{};
  for (int k = 0; k < kSamples * kSamples; ++k) {
    const int sy = kSamples * y + k / kSamples, sx = kSamples * x + k % kSamples;
    if (w.triangle[static_cast<size_t>(sy) * static_cast<size_t>(columns) + static_cast<size_t>(sx)] >= 0)
      hit[static_cast<size_t>(covered++)] = {sy, sx};
  }
  if (covered == 0) return {};
  const Color first = shade(w, shot, light, rows, columns, hit[0][0], hit[0][1]);
  if (covered == 1) return first;
  const auto& last = hit[static_cast<size_t>(covered - 1)];
  return mix(first, shade(w, shot, light, rows, columns, last[0], last[1]), 0.5f);
}

// Paints the occluder over one pixel; fx, fy in fractions of the crop.
void occlude(const Occluder& o, float fx, float fy, Color light, Color& pixel) {
  const float grain = 0.8f + 0.4f * cloud_noise(fx * 6, fy * 12, o.salt);
  bool hit = false;
  switch (o.kind) {
    case Occluder::Kind::none: return;
    case Occluder::Kind::pole: hit = std::fabs(fx - o.place) < 0.5f * o.size; break;
    case Occluder::Kind::rail: hit = fy > o.place && (fraction((fy - o.place) * 6) < 0.16f || fraction(fx * 4 + o.size) < 0.09f); break;
    case Occluder::Kind::low_box: hit = fy > 1 - o.size - 0.03f * (fx - 0.5f); break;
    case Occluder::Kind::side_wall: hit = o.place < 0.5f ? fx < o.size : fx > 1 - o.size; break;
    case Occluder::Kind::leaves:
      hit = cloud_noise(fx * 5, fy * 10, o.salt + 4) > 0.62f - 0.3f * smoothstep(0.55f, 1.0f, fy * o.place + (1 - fy) * (1 - o.place));
      break;
  }
  if (hit) pixel = o.color * light * grain;
}

void add_subjects(const Shot& shot, Workspace& w, size_t& main_vertices) {
  w.mesh.clear();
  for (size_t i = 0; i < shot.people.size(); ++i) {
    add_person(w.mesh, *shot.people[i].person, shot.people[i].pose, static_cast<uint8_t>(i));
    if (i == 0) main_vertices = w.mesh.vertices.size();
  }
}

}  // namespace

Picture render(const Camera& camera, const Shot& shot, int height, int width, Workspace& w) {
  size_t main_vertices = 0;
  add_subjects(shot, w, main_vertices);
  project(camera, w);
  const Window f = frame(w, main_vertices, shot);
  const int rows = kSamples * height, columns = kSamples * width;
  to_samples(w, f, rows, columns);
  fill_depth(w, rows, columns);

  std::vector<Shadow> shadows;
  for (const Subject& s : shot.people) shadows.push_back({s.pose.place, s.person->height});
  const Vec3 place = shot.people[0].pose.place;
  const Light light = {camera, normalized(camera.eye() - place - Vec3{0, 1, 0})};
  const Color near_light = camera.sky_light * 0.8f + camera.sun * 0.3f;
  const float s = sine(-camera.roll), c = cosine(-camera.roll);
  const Vec3 forward = camera.forward(), up = camera.up();
  const Backdrop backdrop(camera, std::move(shadows), f.left, f.left + f.width);

  Picture out;
  out.height = height;
  out.width = width;
  out.pixels.resize(static_cast<size_t>(height) * static_cast<size_t>(width));
  const float distance = length(camera.eye() - place);
  out.native = camera.native_height * (8 / distance) * (shot.people[0].person->height / 1.7f) * shot.scale / as_float(height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      int covered = 0;
      Color pixel = cover(w, shot, light, rows, columns, y, x, covered);
      const float fx = (as_float(x) + 0.5f) / as_float(width), fy = (as_float(y) + 0.5f) / as_float(height);
      if (covered < kSamples * kSamples) {
        const float rx = f.left + f.width * fx, ry = f.top + f.height * fy;
        const Color behind = backdrop(forward + Vec3{1, 0, 0} * (rx * c - ry * s) - up * (rx * s + ry * c));
        pixel = mix(behind, pixel, as_float(covered) / (kSamples * kSamples));
      }
      occlude(shot.occluder, fx, fy, near_light, pixel);
      out.pixels[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)] = pixel * shot.exposure;
    }
  return out;
}

}  // namespace reid::synth
