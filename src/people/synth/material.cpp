#include "people/synth/material.h"

namespace reid::synth {
namespace {

constexpr float kTorsoMetres = 0.55f;  // length of the torso's v, and of its girth's u, for patterns in metres
constexpr float kGirthMetres = 0.95f;
constexpr float kArmMetres = 0.27f;  // a unit of an arm's v
constexpr float kLegMetres = 0.42f;  // a unit of a leg's v

// `across` runs around the body, `down` along it, both in metres.
Color woven(const Cloth& cloth, float across, float down) {
  const float period = cloth.period;
  switch (cloth.pattern) {
    case Pattern::plain: return cloth.base;
    case Pattern::stripes_across: return fraction(down / period) < 0.45f ? cloth.second : cloth.base;
    case Pattern::stripes_down: return fraction(across / (0.8f * period)) < 0.4f ? cloth.second : cloth.base;
    case Pattern::checks: {
      const int lines = (fraction(across / period) < 0.42f ? 1 : 0) + (fraction(down / period) < 0.42f ? 1 : 0);
      return mix(cloth.base, cloth.second, 0.5f * as_float(lines));
    }
    case Pattern::dots: {
      const float row = std::floor(down / (0.7f * period));
      const float x = fraction(across / (0.7f * period) + 0.5f * fraction(0.5f * row)) - 0.5f, y = fraction(down / (0.7f * period)) - 0.5f;
      return x * x + y * y < 0.085f ? cloth.second : cloth.base;
    }
    case Pattern::block: return cloth.base;  // placed by the garment
    case Pattern::melange: return mix(cloth.base, cloth.second, 0.6f * cloud_noise(across * 22, down * 22, cloth.folds));
  }
  return cloth.base;
}

// x, y in units of half the emblem's size, y up.
bool inside_emblem(Emblem kind, float x, float y) {
  if (std::fabs(x) > 1 || std::fabs(y) > 1) return false;
  const float r2 = x * x + y * y;
  switch (kind) {
    case Emblem::none: return false;
    case Emblem::disc: return r2 < 1;
    case Emblem::ring: return r2 < 1 && r2 > 0.36f;
    case Emblem::square: return std::fabs(x) < 0.85f && std::fabs(y) < 0.85f;
    case Emblem::bar: return std::fabs(y) < 0.4f;
    case Emblem::triangle: return y > -0.8f && std::fabs(x) < 0.5f * (0.9f - y);
    case Emblem::text: return fraction(y * 1.5f + 0.25f) < 0.55f && fraction(x * 3.1f + 0.5f * std::floor(y * 1.5f + 0.25f)) < 0.75f;
  }
  return false;
}

// Straps of bags lie on the torso's surface.
bool under_strap(const Person& p, float u, float v) {
  const float side = sine(u * 2 * kPi);
  if (p.bag == Bag::backpack) return v > 0.5f && v < 0.97f && std::fabs(std::fabs(side) - 0.52f) < 0.09f && std::fabs(u) < 0.25f;
  if (p.bag == Bag::shoulder_bag) return std::fabs(v - (0.64f - 0.36f * side * as_float(p.bag_side))) < 0.035f;
  return false;
}

Surface skin(const Person& p) { return {p.skin, 0.1f, 0.12f}; }

Surface top_cloth(const Person& p, float across, float down, bool sleeve) {
  Color c = woven(p.top_cloth, across, down);
  if (sleeve && p.sleeves_second) c = p.top_cloth.second;
  return {c, p.top >= Top::open_jacket && p.top <= Top::open_coat ? 0.75f : 0.55f, 0.03f};
}

// The garment's upper and lower halves, opening, zip, belt: shared by the torso and the lower part of a coat.
Surface torso_top(const Person& p, float u, float v) {
  const float front = std::fabs(u);
  const bool open = p.top == Top::open_jacket || p.top == Top::open_coat;
  if (open && front < 0.045f + 0.035f * smoothstep(0.9f, 0.4f, v)) return {p.inner, 0.45f, 0.02f};
  if (p.zip && front < 0.008f) return {p.top_cloth.base * 0.35f, 0.2f, 0.1f};
  if (p.belt && v > 0.36f && v < 0.42f) return {p.top_cloth.second * 0.7f, 0.2f, 0.08f};
  if (p.top_cloth.pattern == Pattern::block && v > 0.58f) return {p.top_cloth.second, 0.55f, 0.03f};
  return top_cloth(p, u * kGirthMetres, v * kTorsoMetres, false);
}

Surface bottom_cloth(const Person& p, float across, float down) { return {woven(p.bottom_cloth, across, down), 0.5f, 0.02f}; }

Surface torso(const Person& p, float u, float v) {
  const float front = std::fabs(u);
  if (under_strap(p, u, v)) return {p.bag_color * 0.8f, 0.1f, 0.06f};
  if (v < p.top_hem) return bottom_cloth(p, u * kGirthMetres, v * kTorsoMetres);
  const float neckline = p.top == Top::tshirt || p.top == Top::vest ? 0.94f : 0.965f;
  if (v > neckline - 0.045f * smoothstep(0.16f, 0.0f, front) && (v > neckline || front < 0.16f)) return skin(p);
  if (p.top == Top::vest && v > 0.8f && std::fabs(std::fabs(sine(u * 2 * kPi)) - 0.5f) > 0.26f) return skin(p);
  const float metres = u * kGirthMetres, half = 0.5f * p.emblem_size;
  const float y = (v - 0.7f) * kTorsoMetres / half;
  if (p.front != Emblem::none && inside_emblem(p.front, metres / half, y)) return {p.emblem_color, 0.4f, 0.03f};
  const float behind = (u > 0 ? u - 0.5f : u + 0.5f) * kGirthMetres;
  if (p.back != Emblem::none && inside_emblem(p.back, behind / half, y)) return {p.emblem_color, 0.4f, 0.03f};
  return torso_top(p, u, v);
}

Surface leg(const Person& p, float u, float v) {
  if (!p.wears_skirt() && v < p.bottom_hem) {
    if (p.side_stripe && std::fabs(std::fabs(u) - 0.25f) < 0.07f) return {p.bottom_cloth.second, 0.4f, 0.03f};
    return bottom_cloth(p, u * 0.42f, v * kLegMetres);
  }
  if (p.boots && v > 1.7f) return {p.shoe, 0.2f, 0.15f};
  if (v > 1.82f) return {p.socks, 0.3f, 0};
  return skin(p);
}

Surface head(const Person& p, float u, float v) {
  const float front = std::fabs(u);
  // The hairline: high over the face, down to the neck behind.
  const float line = front < 0.13f ? 0.84f - 1.5f * front * front : mix(0.8f, 0.2f, smoothstep(0.13f, 0.26f, front));
  if (p.hair != HairStyle::bald && v > line) {
    const float strands = 0.75f + 0.5f * value_noise(u * 40, v * 4, p.top_cloth.folds);
    return {p.hair == HairStyle::buzz ? mix(p.skin, p.hair_color, 0.7f) : p.hair_color * strands, 0.2f, 0.15f};
  }
  Surface s = skin(p);
  const float eye_x = (front - 0.075f) / 0.033f, eye_y = (v - 0.56f) / 0.03f;
  if (p.glasses && front < 0.2f && std::fabs(v - 0.555f) < 0.05f && eye_x * eye_x > 0.35f) s.albedo = {0.03f, 0.03f, 0.03f};
  if (eye_x * eye_x + eye_y * eye_y < 1) s.albedo = s.albedo * 0.18f;
  if (std::fabs(front - 0.075f) < 0.045f && std::fabs(v - 0.645f) < 0.022f) s.albedo = mix(s.albedo, p.hair_color, 0.7f);
  if (front < 0.055f && std::fabs(v - 0.24f) < 0.025f) s.albedo = s.albedo * Color{0.72f, 0.5f, 0.5f};
  if (front < 0.03f && v > 0.33f && v < 0.4f) s.albedo = s.albedo * 0.75f;
  if (p.beard && v < 0.36f && front < 0.24f && !(front < 0.04f && v > 0.2f && v < 0.27f)) s.albedo = mix(s.albedo, p.hair_color, 0.8f);
  return s;
}

Surface brim(const Person& p, float v) {
  if (p.hat == Hat::beanie && v < 0.3f) return {p.hat_color * 0.8f, 0.5f, 0};
  if (p.hat == Hat::beanie) return {p.hat_color * (fraction(v * 9) < 0.5f ? 1.0f : 0.88f), 0.5f, 0};
  return {p.hat_color, 0.4f, 0.03f};
}

Surface bag(const Person& p, float u, float v) {
  if (p.bag == Bag::backpack) {
    const bool pocket = std::fabs(std::fabs(u) - 0.5f) < 0.16f && v > 0.52f && v < 0.9f;
    if (pocket) return {p.bag_size > 1 ? p.bag_second : p.bag_color * 0.7f, 0.2f, 0.05f};
  }
  if (p.bag == Bag::shopping_bag && v > 0.35f && v < 0.7f && std::fabs(fraction(u * 2 + 0.25f) - 0.5f) < 0.17f)
    return {p.bag_second, 0.3f, 0.05f};
  if (v < 0.1f || (v > 0.3f && v < 0.34f)) return {p.bag_color * 0.6f, 0.1f, 0.05f};
  return {p.bag_color, 0.25f, 0.1f};
}

}  // namespace

Surface surface_at(const Person& p, Part part, float u, float v) {
  switch (part) {
    case Part::torso: return torso(p, u, v);
    case Part::arm_left:
    case Part::arm_right:
      if (v > p.sleeve) return skin(p);
      return top_cloth(p, u * 0.32f, v * kArmMetres, true);
    case Part::leg_left:
    case Part::leg_right: return leg(p, u, v);
    case Part::neck:
    case Part::hand: return skin(p);
    case Part::head: return head(p, u, v);
    case Part::shoe: return {std::fabs(u) > 0.36f ? p.sole : p.shoe, 0.1f, 0.12f};
    case Part::skirt: return bottom_cloth(p, u * kGirthMetres, v * 0.8f);
    case Part::coat:
      if (under_strap(p, u, v)) return {p.bag_color * 0.8f, 0.1f, 0.06f};
      return torso_top(p, u, v);
    case Part::hair: return {p.hair_color * (0.75f + 0.5f * value_noise(u * 40, v * 3, p.top_cloth.folds)), 0.3f, 0.15f};
    case Part::brim: return brim(p, v);
    case Part::scarf: return {p.scarf_color * (fraction(u * 9 + v * 30) < 0.5f ? 1.0f : 0.85f), 0.6f, 0};
    case Part::bag: return bag(p, u, v);
    case Part::strap: return {p.bag_color * 0.6f, 0, 0.05f};
  }
  return skin(p);
}

}  // namespace reid::synth
