#include "people/synth/render.h"

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
  for (size_t i = 0; i < w.projected.size(); ++i) {
    const Vec3 p = w.mesh.vertices[i].position - eye;
    const float depth = std::max(0.3f, dot(p, forward));
    const float x = p.x / depth, y = -dot(p, up) / depth;
    w.projected[i] = {x * c - y * s, x * s + y * c, depth};
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
  out.height = (y1 - y0) * 1.06f * shot.scale;
  const float wanted = std::max(0.44f * out.height, (x1 - x0) * 1.02f * shot.scale);
  out.width = std::min(0.62f * out.height, wanted) * shot.aspect;
  out.left = 0.5f * (x0 + x1 - out.width) + shot.shift_x * out.height;
  out.top = 0.5f * (y0 + y1 - out.height) + shot.shift_y * out.height;
  return out;
}

struct Corner {
  float x, y, z;
};

void rasterize(Workspace& w, int rows, int columns, size_t index, Corner a, Corner b, Corner c) {
  const float area = (b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y);
  if (std::fabs(area) < 1e-6f) return;
  const float low_x = std::min(a.x, std::min(b.x, c.x)), high_x = std::max(a.x, std::max(b.x, c.x));
  const float low_y = std::min(a.y, std::min(b.y, c.y)), high_y = std::max(a.y, std::max(b.y, c.y));
  const int x0 = std::max(0, floor_to_int(low_x)), x1 = std::min(columns - 1, floor_to_int(high_x));
  const int y0 = std::max(0, floor_to_int(low_y)), y1 = std::min(rows - 1, floor_to_int(high_y));
  const float inverse = 1 / area;
  for (int y = y0; y <= y1; ++y)
    for (int x = x0; x <= x1; ++x) {
      const float px = as_float(x) + 0.5f, py = as_float(y) + 0.5f;
      const float wb = ((px - a.x) * (c.y - a.y) - (c.x - a.x) * (py - a.y)) * inverse;
      const float wc = ((b.x - a.x) * (py - a.y) - (px - a.x) * (b.y - a.y)) * inverse;
      if (wb < 0 || wc < 0 || wb + wc > 1) continue;
      const float z = a.z + wb * (b.z - a.z) + wc * (c.z - a.z);
      const size_t at = static_cast<size_t>(y) * static_cast<size_t>(columns) + static_cast<size_t>(x);
      if (z >= w.depth[at]) continue;
      w.depth[at] = z;
      w.triangle[at] = static_cast<int32_t>(index);
    }
}

Corner corner(const Workspace& w, const Window& f, int rows, int columns, uint32_t vertex) {
  const Vec3 p = w.projected[vertex];
  return {(p.x - f.left) / f.width * as_float(columns), (p.y - f.top) / f.height * as_float(rows), p.z};
}

void fill_depth(Workspace& w, const Window& f, int rows, int columns) {
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(columns);
  w.depth.assign(count, 1e9f);
  w.triangle.assign(count, -1);
  for (size_t t = 0; t < w.mesh.parts.size(); ++t) {
    const uint32_t* v = &w.mesh.triangles[3 * t];
    rasterize(w, rows, columns, t, corner(w, f, rows, columns, v[0]), corner(w, f, rows, columns, v[1]), corner(w, f, rows, columns, v[2]));
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

Color shade(const Workspace& w, const Shot& shot, const Light& light, const Window& f, int rows, int columns, int y, int x) {
  const size_t t = static_cast<size_t>(w.triangle[static_cast<size_t>(y) * static_cast<size_t>(columns) + static_cast<size_t>(x)]);
  const uint32_t* index = &w.mesh.triangles[3 * t];
  const Corner a = corner(w, f, rows, columns, index[0]), b = corner(w, f, rows, columns, index[1]),
               c = corner(w, f, rows, columns, index[2]);
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
  fill_depth(w, f, rows, columns);

  std::vector<Shadow> shadows;
  for (const Subject& s : shot.people) shadows.push_back({s.pose.place, s.person->height});
  const Vec3 place = shot.people[0].pose.place;
  const Light light = {camera, normalized(camera.eye() - place - Vec3{0, 1, 0})};
  const Color near_light = camera.sky_light * 0.8f + camera.sun * 0.3f;
  const float s = sine(-camera.roll), c = cosine(-camera.roll);
  const Vec3 forward = camera.forward(), up = camera.up();

  Picture out;
  out.height = height;
  out.width = width;
  out.pixels.resize(static_cast<size_t>(height) * static_cast<size_t>(width));
  const float distance = length(camera.eye() - place);
  out.native = camera.native_height * (8 / distance) * (shot.people[0].person->height / 1.7f) * shot.scale / as_float(height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      Color sum;
      int empty = 0;
      for (int k = 0; k < kSamples * kSamples; ++k) {
        const int sy = kSamples * y + k / kSamples, sx = kSamples * x + k % kSamples;
        if (w.triangle[static_cast<size_t>(sy) * static_cast<size_t>(columns) + static_cast<size_t>(sx)] < 0)
          ++empty;
        else
          sum = sum + shade(w, shot, light, f, rows, columns, sy, sx);
      }
      const float fx = (as_float(x) + 0.5f) / as_float(width), fy = (as_float(y) + 0.5f) / as_float(height);
      if (empty > 0) {
        const float rx = f.left + f.width * fx, ry = f.top + f.height * fy;
        const Vec3 ray = forward + Vec3{1, 0, 0} * (rx * c - ry * s) - up * (rx * s + ry * c);
        sum = sum + background(camera, ray, shadows) * as_float(empty);
      }
      Color pixel = sum * (1.0f / as_float(kSamples * kSamples));
      occlude(shot.occluder, fx, fy, near_light, pixel);
      out.pixels[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)] = pixel * shot.exposure;
    }
  return out;
}

}  // namespace reid::synth
