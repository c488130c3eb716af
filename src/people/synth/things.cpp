// Hair beyond the scalp, hats, scarves and bags.

#include <array>

#include "people/synth/body.h"

namespace reid::synth {
namespace {

constexpr Vec3 kUp = {0, 1, 0};

void add_hair(Mesh& mesh, const Person& p, const Skeleton& s, uint8_t owner) {
  const float h = s.head_height;
  const Vec3 back = s.head_front * -1.0f;
  switch (p.hair) {
    case HairStyle::bob:
    case HairStyle::long_loose: {
      const float drop = p.hair == HairStyle::bob ? 0.55f : 1.35f;
      std::vector<Ring> rings;
      for (int i = 0; i <= 7; ++i) {
        const float t = as_float(i) / 7;
        const float y = mix(0.42f, -drop, t), wide = mix(0.3f, 0.44f, smoothstep(0, 0.3f, t)) * mix(1.0f, 0.8f, smoothstep(0.6f, 1, t));
        const float behind = 0.08f + 0.14f * smoothstep(0.4f, 1.0f, t) * (p.hair == HairStyle::long_loose ? 1.0f : 0.2f);
        const float deep = mix(0.4f, 0.33f, t) * mix(1.0f, 0.6f, smoothstep(0.5f, 1, t));
        rings.push_back({s.head + kUp * (y * h) + back * (behind * h), s.head_left, s.head_front, wide * h, deep * h, 1 - t});
      }
      add_tube(mesh, rings, {16, 0, p.hair == HairStyle::bob ? 0.2f : 0.22f, true}, Part::hair, owner);
      break;
    }
    case HairStyle::ponytail: {
      std::vector<Ring> rings;
      for (int i = 0; i <= 6; ++i) {
        const float t = as_float(i) / 6;
        const float r = h * 0.13f * std::sqrt(std::max(0.02f, t * (1.08f - t) * 4)) * 0.9f;
        const Vec3 center =
            s.head + kUp * (h * (0.2f - 0.95f * t)) + back * (h * (0.42f + 0.22f * sine(kPi * std::min(1.0f, t * 1.1f + 0.1f))));
        rings.push_back({center, s.head_left, s.head_front, r, r, 1 - t});
      }
      add_tube(mesh, rings, {10, 0, 0, true}, Part::hair, owner);
      break;
    }
    case HairStyle::bun:
      add_ellipsoid(mesh, s.head + kUp * (0.42f * h) + back * (0.3f * h), s.head_left, kUp, s.head_front, {0.17f * h, 0.16f * h, 0.17f * h},
                    Part::hair, owner);
      break;
    case HairStyle::afro:
      add_ellipsoid(mesh, s.head + kUp * (0.2f * h) + back * (0.1f * h), s.head_left, kUp, s.head_front, {0.56f * h, 0.5f * h, 0.52f * h},
                    Part::hair, owner);
      break;
    default: break;
  }
}

void add_hat(Mesh& mesh, const Person& p, const Skeleton& s, uint8_t owner) {
  const float h = s.head_height;
  const auto disc = [&](float y, Vec3 shift, float a, float b) {
    const Vec3 center = s.head + kUp * (y * h) + shift;
    std::vector<Ring> rings = {{center + kUp * (0.03f * h), s.head_left, s.head_front, 0.1f * a, 0.1f * b, 0},
                               {center + kUp * (0.025f * h), s.head_left, s.head_front, a, b, 0.5f},
                               {center, s.head_left, s.head_front, a, b, 0.6f},
                               {center, s.head_left, s.head_front, 0.1f * a, 0.1f * b, 1}};
    add_tube(mesh, rings, {16, 0, 0, true}, Part::brim, owner);
  };
  const auto dome = [&](float bottom, float top, float fat) {
    std::vector<Ring> rings;
    for (int i = 0; i <= 6; ++i) {
      const float t = as_float(i) / 6, r = std::sqrt(std::max(0.0f, 1 - 0.92f * t * t * t));
      rings.push_back({s.head + kUp * (mix(bottom, top, t) * h), s.head_left, s.head_front, 0.4f * h * fat * r, 0.47f * h * fat * r, t});
    }
    add_tube(mesh, rings, {16, 0, 0, true}, Part::brim, owner);
  };
  switch (p.hat) {
    case Hat::cap:
      dome(0.18f, 0.53f, 1.0f);
      disc(0.2f, s.head_front * (0.5f * h), 0.3f * h, 0.3f * h);
      break;
    case Hat::beanie: dome(0.1f, 0.62f, 1.06f); break;
    case Hat::brimmed:
      dome(0.2f, 0.56f, 1.0f);
      disc(0.2f, {}, 0.72f * h, 0.76f * h);
      break;
    case Hat::hood:
    case Hat::headscarf: {
      std::vector<Ring> rings;
      const float fat = p.hat == Hat::hood ? 1.1f : 1.0f;
      for (int i = 0; i <= 9; ++i) {
        const float t = as_float(i) / 9, y = mix(0.58f, -0.72f, t);
        const float round =
            std::sqrt(clamp01(1 - (1 - t * 3) * (1 - t * 3) * (t < 0.3333f ? 1.0f : 0.0f))) * mix(1.0f, 1.15f, smoothstep(0.6f, 1, t));
        rings.push_back({s.head + kUp * (y * h) - s.head_front * (0.05f * h), s.head_left, s.head_front, 0.43f * fat * h * round,
                         0.48f * fat * h * round, 1 - t});
      }
      add_tube(mesh, rings, {18, 0, 0.13f, true}, Part::brim, owner);
      break;
    }
    case Hat::none: break;
  }
}

// A box hanging at `top`: `up` is its height axis.
void add_box(Mesh& mesh, Vec3 top, Vec3 side, Vec3 front, Vec3 size, float taper, uint8_t owner) {
  const Vec3 up = kUp;
  std::vector<Ring> rings;
  const std::array<std::array<float, 2>, 6> shape = {
      {{0, 0.15f}, {0.03f, 0.86f}, {0.12f, 1.0f}, {0.88f, 1.0f}, {0.97f, 0.9f}, {1.0f, 0.15f}}};
  for (const auto& k : shape) {
    const float wide = k[1] * mix(taper, 1.0f, k[0]);
    rings.push_back({top - up * (size.y * k[0]), side, front, 0.5f * size.x * wide, 0.5f * size.z * wide, k[0]});
  }
  add_tube(mesh, rings, {16, 0.7f, 0, true}, Part::bag, owner);
}

void add_rod(Mesh& mesh, Vec3 a, Vec3 b, float radius, uint8_t owner) {
  const Vec3 axis = normalized(b - a), side = normalized(cross(axis, std::fabs(axis.y) > 0.8f ? Vec3{0, 0, 1} : kUp));
  const Vec3 front = cross(side, axis);
  add_tube(mesh, {{a, side, front, radius, radius, 0}, {b, side, front, radius, radius, 1}}, {6, 0, 0, true}, Part::strap, owner);
}

void add_bag(Mesh& mesh, const Person& p, const Skeleton& s, uint8_t owner) {
  const float h = p.height, size = p.bag_size;
  const int k = p.bag_side > 0 ? 0 : 1;
  const Vec3 outward = s.chest_left * as_float(p.bag_side);
  switch (p.bag) {
    case Bag::backpack: {
      const float depth = 0.085f * h * size;
      const Vec3 top = torso_center(s, 0.93f) - s.chest_front * (torso_section(p, 0.75f).half_depth + 0.42f * depth);
      add_box(mesh, top, s.chest_left, s.chest_front, {0.17f * h * std::sqrt(size), 0.24f * h * size, depth}, 0.8f, owner);
      break;
    }
    case Bag::shoulder_bag: {
      const TorsoSection hip = torso_section(p, 0.2f);
      const Vec3 top = torso_center(s, 0.3f) + outward * (hip.half_width + 0.035f * h) - s.chest_front * (0.01f * h);
      add_box(mesh, top, s.chest_front, s.chest_left, {0.17f * h * size, 0.13f * h * size, 0.05f * h}, 0.95f, owner);
      break;
    }
    case Bag::handbag:
    case Bag::shopping_bag: {
      const bool shopping = p.bag == Bag::shopping_bag;
      const Vec3 hand = s.wrist[k] - kUp * (0.045f * h);
      const Vec3 top = hand - kUp * ((shopping ? 0.05f : 0.045f) * h);
      const Vec3 extent =
          shopping ? Vec3{0.15f * h * size, 0.19f * h * size, 0.06f * h} : Vec3{0.16f * h * size, 0.11f * h * size, 0.06f * h};
      add_rod(mesh, hand, top + s.chest_front * (0.05f * h), 0.006f * h, owner);
      add_rod(mesh, hand, top - s.chest_front * (0.05f * h), 0.006f * h, owner);
      add_box(mesh, top, s.chest_front, s.chest_left, extent, shopping ? 0.9f : 0.75f, owner);
      break;
    }
    case Bag::suitcase: {
      const Vec3 foot = Vec3{outward.x * 0.16f * h, 0, -0.2f * h};
      const Vec3 top = foot + kUp * (0.32f * h * size);
      add_rod(mesh, s.wrist[k] - kUp * (0.03f * h), top, 0.008f * h, owner);
      add_box(mesh, top, s.chest_left, s.chest_front, {0.2f * h * size, 0.29f * h * size, 0.13f * h}, 1.0f, owner);
      break;
    }
    case Bag::none: break;
  }
}

}  // namespace

void add_things(Mesh& mesh, const Person& p, const Skeleton& s, uint8_t owner) {
  if (p.hat != Hat::headscarf && p.hat != Hat::hood) add_hair(mesh, p, s, owner);
  add_hat(mesh, p, s, owner);
  add_bag(mesh, p, s, owner);
  if (!p.scarf) return;
  const float r = 0.05f * p.height;
  const Vec3 base = s.neck + s.chest_front * (0.01f * p.height);
  std::vector<Ring> rings;
  constexpr std::array<std::array<float, 2>, 5> shape = {
      {{-0.022f, 1.1f}, {-0.006f, 1.3f}, {0.014f, 1.25f}, {0.032f, 1.1f}, {0.04f, 0.8f}}};
  for (const auto& k : shape) rings.push_back({base + kUp * (k[0] * p.height), s.chest_left, s.chest_front, r * k[1], r * k[1], k[0]});
  add_tube(mesh, rings, {14, 0, 0, true}, Part::scarf, owner);
}

}  // namespace reid::synth
