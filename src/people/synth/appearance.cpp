#include "people/synth/appearance.h"

namespace reid::synth {
namespace {

struct NamedColor {
  const char* name;
  int r, g, b;
};

// Cloth colors, in the order the weights of a Wardrobe use.
constexpr std::array<NamedColor, 28> kCloth = {{
    {"black", 26, 26, 30},    {"charcoal", 56, 58, 62},  {"gray", 118, 120, 122},    {"silver", 172, 174, 176},
    {"white", 232, 232, 228}, {"cream", 222, 210, 182},  {"navy", 30, 38, 72},       {"blue", 42, 78, 158},
    {"sky", 128, 172, 212},   {"teal", 28, 110, 116},    {"green", 44, 116, 62},     {"olive", 92, 94, 52},
    {"khaki", 158, 144, 104}, {"beige", 196, 174, 140},  {"camel", 170, 124, 72},    {"brown", 92, 62, 42},
    {"red", 178, 34, 40},     {"burgundy", 102, 26, 42}, {"pink", 222, 140, 162},    {"magenta", 170, 42, 112},
    {"purple", 92, 58, 130},  {"orange", 222, 112, 34},  {"mustard", 200, 156, 42},  {"yellow", 232, 212, 74},
    {"mint", 150, 206, 176},  {"denim", 74, 100, 140},   {"dark denim", 40, 52, 82}, {"washed denim", 140, 162, 190},
}};

constexpr std::array<NamedColor, 8> kHair = {{
    {"black", 22, 18, 18},
    {"dark brown", 48, 34, 26},
    {"brown", 82, 56, 36},
    {"auburn", 110, 54, 30},
    {"blond", 176, 140, 86},
    {"light blond", 212, 184, 132},
    {"gray", 142, 140, 138},
    {"white", 206, 204, 200},
}};

constexpr std::array<NamedColor, 8> kSkin = {{
    {"1", 240, 208, 184},
    {"2", 232, 192, 162},
    {"3", 220, 174, 140},
    {"4", 202, 152, 116},
    {"5", 176, 124, 88},
    {"6", 142, 96, 66},
    {"7", 108, 70, 48},
    {"8", 78, 50, 36},
}};

// A named color as one garment has it: dye lots and wear differ a little.
Color dyed(const NamedColor& named, Rng& rng, float spread) {
  const float brightness = draw(rng, 1 - spread, 1 + spread);
  const float warm = draw(rng, -0.25f, 0.25f) * spread, green = draw(rng, -0.12f, 0.12f) * spread;
  const Color c = from_srgb(named.r, named.g, named.b);
  return {c.x * brightness * (1 + warm), c.y * brightness * (1 + green), c.z * brightness * (1 - warm)};
}

Color drawn(Rng& rng, const std::array<float, 28>& weights, std::string& outfit) {
  const NamedColor& named = kCloth[static_cast<size_t>(draw_index(rng, weights))];
  outfit += named.name;
  outfit += ' ';
  return dyed(named, rng, 0.22f);
}

Color any_cloth(Rng& rng, const std::array<float, 28>& weights) {
  return dyed(kCloth[static_cast<size_t>(draw_index(rng, weights))], rng, 0.2f);
}

// A second color that can be told from the first one.
Color contrasting(Rng& rng, Color base, const std::array<float, 28>& weights) {
  for (int attempt = 0; attempt < 12; ++attempt) {
    const Color c = any_cloth(rng, weights);
    if (length(c - base) > 0.25f) return c;
  }
  return luminance(base) > 0.2f ? Color{0.02f, 0.02f, 0.025f} : Color{0.75f, 0.75f, 0.72f};
}

void draw_body(Person& p, Rng rng) {
  const float build = draw(rng, 0, 1);
  p.height = 1.58f + 0.2f * build + 0.06f * static_cast<float>(rng.normal());
  p.height = std::min(1.98f, std::max(1.45f, p.height));
  p.girth = std::min(1.5f, std::max(0.8f, 1.02f + 0.13f * static_cast<float>(rng.normal())));
  p.shoulders = 0.93f + 0.14f * build + draw(rng, -0.05f, 0.05f);
  p.hips = 1.1f - 0.14f * build + draw(rng, -0.06f, 0.06f);
  p.legs = draw(rng, 0.95f, 1.05f);
  p.head = draw(rng, 0.94f, 1.07f);
  p.skin = dyed(kSkin[static_cast<size_t>(rng.below(8))], rng, 0.08f);
  p.stride = draw(rng, 0.75f, 1.2f);
  p.arm_swing = draw(rng, 0.5f, 1.3f);
  p.lean = draw(rng, -0.03f, 0.08f);

  const std::array<float, 8> short_styles = {0.12f, 0.2f, 0.5f, 0.08f, 0.03f, 0.02f, 0.01f, 0.04f};
  const std::array<float, 8> long_styles = {0.0f, 0.02f, 0.12f, 0.2f, 0.33f, 0.2f, 0.1f, 0.03f};
  p.hair = static_cast<HairStyle>(draw_index(rng, build > 0.5f ? short_styles : long_styles));
  const std::array<float, 8> hair_weights = {0.34f, 0.22f, 0.14f, 0.06f, 0.09f, 0.04f, 0.07f, 0.04f};
  p.hair_color = dyed(kHair[static_cast<size_t>(draw_index(rng, hair_weights))], rng, 0.15f);
  p.beard = build > 0.55f && rng.chance(0.25);
  p.glasses = rng.chance(0.15);
}

void draw_cut(Person& p, Rng rng) {
  p.looseness = draw(rng, 1.02f, 1.14f);
  p.top_hem = draw(rng, 0.05f, 0.26f);
  switch (p.top) {
    case Top::tshirt: p.sleeve = draw(rng, 0.45f, 0.95f); break;
    case Top::vest: p.sleeve = -1; break;
    default: p.sleeve = draw(rng, 1.85f, 2.02f); break;
  }
  if (p.top == Top::jacket || p.top == Top::open_jacket) p.looseness += draw(rng, 0.04f, 0.2f);
  if (p.top == Top::coat || p.top == Top::open_coat) {
    p.looseness += draw(rng, 0.06f, 0.16f);
    p.coat_length = draw(rng, 0.15f, 0.72f);
    p.belt = rng.chance(0.3);
  }
  p.zip = (p.top == Top::jacket || p.top == Top::coat) && rng.chance(0.7);
  switch (p.bottom) {
    case Bottom::trousers:
      p.bottom_hem = draw(rng, 1.8f, 2.0f);
      p.bottom_loose = draw(rng, 1.05f, 1.45f);
      break;
    case Bottom::leggings:
      p.bottom_hem = draw(rng, 1.75f, 1.95f);
      p.bottom_loose = 1.02f;
      break;
    case Bottom::shorts:
      p.bottom_hem = draw(rng, 0.55f, 1.1f);
      p.bottom_loose = draw(rng, 1.12f, 1.4f);
      break;
    case Bottom::skirt:
      p.bottom_hem = draw(rng, 0.55f, 1.1f);
      p.bottom_loose = draw(rng, 1.05f, 1.35f);
      break;
    case Bottom::long_skirt:
      p.bottom_hem = draw(rng, 1.35f, 1.9f);
      p.bottom_loose = draw(rng, 1.1f, 1.5f);
      break;
  }
}

void draw_clothes(Person& p, const Wardrobe& w, Rng rng, std::string& outfit) {
  p.top = static_cast<Top>(draw_index(rng, w.tops));
  p.bottom = static_cast<Bottom>(draw_index(rng, w.bottoms));
  outfit += str("top", static_cast<int>(p.top), " ");
  p.top_cloth.base = drawn(rng, w.top_colors, outfit);
  p.top_cloth.pattern = static_cast<Pattern>(draw_index(rng, w.patterns));
  p.top_cloth.second = contrasting(rng, p.top_cloth.base, w.thing_colors);
  p.top_cloth.period = draw(rng, 0.06f, 0.2f);
  p.top_cloth.folds = salt(rng);
  p.inner = any_cloth(rng, w.thing_colors);
  outfit += str("pattern", static_cast<int>(p.top_cloth.pattern), " bottom", static_cast<int>(p.bottom), " ");
  p.bottom_cloth.base = drawn(rng, w.bottom_colors, outfit);
  if (p.wears_skirt() || rng.chance(0.08)) p.bottom_cloth.pattern = static_cast<Pattern>(draw_index(rng, w.patterns));
  p.bottom_cloth.second = contrasting(rng, p.bottom_cloth.base, w.thing_colors);
  p.bottom_cloth.period = draw(rng, 0.05f, 0.16f);
  p.bottom_cloth.folds = salt(rng);
  p.side_stripe = !p.wears_skirt() && rng.chance(0.1);
  p.sleeves_second = p.top_cloth.pattern == Pattern::plain && rng.chance(0.12);
  p.scarf = rng.chance(static_cast<double>(w.scarf));
  p.scarf_color = any_cloth(rng, w.thing_colors);
  if (rng.chance(static_cast<double>(w.emblem))) p.front = static_cast<Emblem>(1 + rng.below(6));
  if (rng.chance(0.5 * static_cast<double>(w.emblem))) p.back = static_cast<Emblem>(1 + rng.below(6));
  p.emblem_color = contrasting(rng, p.top_cloth.base, w.thing_colors);
  p.emblem_size = draw(rng, 0.07f, 0.16f);
  std::array<float, 28> shoes = w.thing_colors;
  shoes[0] += 0.3f;   // black
  shoes[4] += 0.15f;  // white
  p.shoe = drawn(rng, shoes, outfit);
  p.sole = rng.chance(0.5) ? Color{0.7f, 0.7f, 0.68f} : p.shoe * 0.5f;
  p.socks = rng.chance(0.5) ? Color{0.7f, 0.7f, 0.68f} : any_cloth(rng, w.thing_colors);
  p.boots = (p.bottom != Bottom::shorts) && rng.chance(0.15);
}

void draw_things(Person& p, const Wardrobe& w, Rng rng, std::string& outfit) {
  p.bag = static_cast<Bag>(draw_index(rng, w.bags));
  p.bag_color = any_cloth(rng, w.thing_colors);
  p.bag_second = contrasting(rng, p.bag_color, w.thing_colors);
  p.bag_size = draw(rng, 0.75f, 1.25f);
  p.bag_side = rng.chance(0.5) ? 1 : -1;
  if (p.bag == Bag::shopping_bag && rng.chance(0.6)) p.bag_color = {0.72f, 0.72f, 0.7f};
  p.hat = static_cast<Hat>(draw_index(rng, w.hats));
  p.hat_color = p.hat == Hat::hood ? p.top_cloth.base : any_cloth(rng, w.thing_colors);
  if (p.hat == Hat::headscarf) p.hair = HairStyle::short_cut;
  outfit += str("bag", static_cast<int>(p.bag), " hat", static_cast<int>(p.hat));
}

// Weights over the cloth colors, written as pairs of name and weight; unknown names are a programming error.
struct Weighted {
  const char* name;
  float weight;
};
template <size_t Count>
std::array<float, 28> palette(const Weighted (&entries)[Count], float rest) {
  std::array<float, 28> weights{};
  weights.fill(rest);
  for (const Weighted& e : entries)
    for (size_t i = 0; i < kCloth.size(); ++i)
      if (std::string_view(kCloth[i].name) == e.name) weights[i] = e.weight;
  return weights;
}

// Bags, hats, scarves and shoes: mostly dark or gray, with a share of everything else.
std::array<float, 28> things(float vivid) {
  return palette(
      {{"black", 4}, {"charcoal", 2}, {"gray", 1.5f}, {"navy", 1.5f}, {"brown", 1.5f}, {"white", 1}, {"camel", 0.7f}, {"beige", 0.7f}},
      vivid);
}

}  // namespace

Wardrobe summer_wardrobe() {
  Wardrobe w;
  w.tops = {0.56f, 0.16f, 0.08f, 0.04f, 0.0f, 0.0f, 0.16f};
  w.bottoms = {0.36f, 0.32f, 0.18f, 0.05f, 0.09f};
  w.patterns = {0.52f, 0.15f, 0.05f, 0.09f, 0.06f, 0.09f, 0.04f};
  w.bags = {0.44f, 0.26f, 0.16f, 0.08f, 0.06f, 0.0f};
  w.hats = {0.84f, 0.11f, 0.0f, 0.05f, 0.0f, 0.0f};
  w.top_colors = palette({{"white", 7},
                          {"black", 6},
                          {"gray", 4},
                          {"blue", 3},
                          {"red", 2},
                          {"navy", 2},
                          {"pink", 1.5f},
                          {"green", 1},
                          {"yellow", 1},
                          {"sky", 2.5f},
                          {"orange", 0.5f}},
                         0.06f);
  w.bottom_colors =
      palette({{"denim", 5}, {"black", 5}, {"khaki", 2.5f}, {"navy", 2}, {"gray", 2}, {"white", 1}, {"washed denim", 2}}, 0.04f);
  w.thing_colors = things(0.6f);
  w.emblem = 0.4f;
  return w;
}

Wardrobe autumn_wardrobe() {
  Wardrobe w;
  w.tops = {0.15f, 0.3f, 0.2f, 0.22f, 0.07f, 0.04f, 0.02f};
  w.bottoms = {0.6f, 0.06f, 0.12f, 0.1f, 0.12f};
  w.patterns = {0.52f, 0.1f, 0.05f, 0.16f, 0.04f, 0.08f, 0.05f};
  w.bags = {0.42f, 0.22f, 0.18f, 0.1f, 0.05f, 0.03f};
  w.hats = {0.74f, 0.09f, 0.07f, 0.03f, 0.05f, 0.02f};
  w.top_colors = palette({{"olive", 4},
                          {"gray", 5},
                          {"navy", 5},
                          {"black", 5},
                          {"brown", 3},
                          {"cream", 2},
                          {"mustard", 2},
                          {"teal", 1.5f},
                          {"purple", 1},
                          {"green", 1.5f},
                          {"burgundy", 2}},
                         0.05f);
  w.bottom_colors =
      palette({{"dark denim", 5}, {"denim", 3}, {"black", 6}, {"brown", 1.5f}, {"olive", 1}, {"gray", 2}, {"beige", 1.5f}}, 0.03f);
  w.thing_colors = things(0.4f);
  w.emblem = 0.22f;
  w.scarf = 0.12f;
  return w;
}

Wardrobe winter_wardrobe() {
  Wardrobe w;
  w.tops = {0.01f, 0.08f, 0.13f, 0.34f, 0.27f, 0.17f, 0.0f};
  w.bottoms = {0.72f, 0.0f, 0.06f, 0.1f, 0.12f};
  w.patterns = {0.74f, 0.04f, 0.03f, 0.07f, 0.01f, 0.06f, 0.05f};
  w.bags = {0.44f, 0.17f, 0.18f, 0.11f, 0.06f, 0.04f};
  w.hats = {0.6f, 0.04f, 0.18f, 0.03f, 0.11f, 0.04f};
  w.top_colors = palette({{"black", 10},
                          {"charcoal", 6},
                          {"navy", 5},
                          {"gray", 2},
                          {"brown", 1.5f},
                          {"olive", 1.5f},
                          {"camel", 1},
                          {"burgundy", 1},
                          {"beige", 0.7f},
                          {"red", 0.4f}},
                         0.03f);
  w.bottom_colors =
      palette({{"black", 8}, {"dark denim", 5}, {"charcoal", 4}, {"navy", 1.5f}, {"gray", 1}, {"brown", 0.5f}, {"denim", 1}}, 0.02f);
  w.thing_colors = things(0.15f);
  w.emblem = 0.16f;
  w.scarf = 0.3f;
  return w;
}

Wardrobe mixed_wardrobe(Rng rng) {
  const std::array<Wardrobe, 3> seasons = {summer_wardrobe(), autumn_wardrobe(), winter_wardrobe()};
  std::array<float, 3> share{};
  float total = 0;
  for (float& s : share) {
    const float u = draw(rng, 0, 1);
    s = u * u * u + 0.01f;
    total += s;
  }
  Wardrobe w;
  const auto blend = [&](auto member) {
    auto& out = w.*member;
    for (size_t k = 0; k < 3; ++k)
      for (size_t i = 0; i < out.size(); ++i) out[i] += share[k] / total * (seasons[k].*member)[i];
  };
  blend(&Wardrobe::tops);
  blend(&Wardrobe::bottoms);
  blend(&Wardrobe::patterns);
  blend(&Wardrobe::bags);
  blend(&Wardrobe::hats);
  blend(&Wardrobe::top_colors);
  blend(&Wardrobe::bottom_colors);
  blend(&Wardrobe::thing_colors);
  // Each place has its own taste: colors rare elsewhere may be common here.
  for (float& c : w.top_colors) c = (c + 0.15f) * draw(rng, 0.2f, 1.8f);
  for (float& c : w.bottom_colors) c = (c + 0.06f) * draw(rng, 0.2f, 1.8f);
  for (size_t k = 0; k < 3; ++k) w.scarf += share[k] / total * seasons[k].scarf;
  w.emblem = draw(rng, 0.1f, 0.5f);
  return w;
}

Person draw_person(const Wardrobe& wardrobe, Rng rng, std::string& outfit) {
  Person p;
  outfit.clear();
  draw_body(p, rng.at("body"));
  draw_clothes(p, wardrobe, rng.at("clothes"), outfit);
  draw_cut(p, rng.at("cut"));
  draw_things(p, wardrobe, rng.at("things"), outfit);
  return p;
}

}  // namespace reid::synth
