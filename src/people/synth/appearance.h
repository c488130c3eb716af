#pragma once
// Who a person is to a camera: body, hair, clothes, things carried. Everything here stays the same on every picture of
// one identity; pose, place and light do not live here.

#include <array>
#include <string>

#include "people/synth/math.h"

namespace reid::synth {

enum class Pattern : uint8_t { plain, stripes_across, stripes_down, checks, dots, block, melange };
enum class Emblem : uint8_t { none, disc, square, bar, triangle, text, ring };
enum class HairStyle : uint8_t { bald, buzz, short_cut, bob, long_loose, ponytail, bun, afro };
enum class Top : uint8_t { tshirt, long_sleeve, open_jacket, jacket, coat, open_coat, vest };
enum class Bottom : uint8_t { trousers, shorts, skirt, long_skirt, leggings };
enum class Bag : uint8_t { none, backpack, shoulder_bag, handbag, shopping_bag, suitcase };
enum class Hat : uint8_t { none, cap, beanie, brimmed, hood, headscarf };

struct Cloth {
  Color base, second;
  Pattern pattern = Pattern::plain;
  float period = 0.1f;  // metres between repeats
  uint32_t folds = 0;   // salt of the wrinkles
};

struct Person {
  float height = 1.7f;                                           // metres
  float girth = 1, shoulders = 1, hips = 1, legs = 1, head = 1;  // factors around 1
  Color skin;

  HairStyle hair = HairStyle::short_cut;
  Color hair_color;
  bool beard = false, glasses = false;

  Top top = Top::tshirt;
  Cloth top_cloth;
  Color inner;              // what an open jacket or coat shows
  float sleeve = 0.8f;      // where sleeves end along the arm: 0 shoulder, 1 elbow, 2 wrist
  float top_hem = 0.2f;     // where the top ends on the torso: 0 crotch, 1 neck
  float coat_length = 0;    // below the crotch, as a fraction of the leg
  float looseness = 1.02f;  // cloth radius over body radius
  bool sleeves_second = false, belt = false, zip = false, scarf = false;
  Color scarf_color;
  Emblem front = Emblem::none, back = Emblem::none;
  Color emblem_color;
  float emblem_size = 0.1f;  // metres

  Bottom bottom = Bottom::trousers;
  Cloth bottom_cloth;
  float bottom_hem = 1.95f;  // along the leg: 0 hip, 1 knee, 2 ankle
  float bottom_loose = 1.1f;
  bool side_stripe = false;
  Color shoe, sole, socks;
  bool boots = false;

  Bag bag = Bag::none;
  Color bag_color, bag_second;
  float bag_size = 1;
  int bag_side = 1;  // +1 left, -1 right

  Hat hat = Hat::none;
  Color hat_color;

  float stride = 1, arm_swing = 1, lean = 0;  // gait

  bool covers_legs_with_coat() const { return coat_length > 0; }
  bool wears_skirt() const { return bottom == Bottom::skirt || bottom == Bottom::long_skirt; }
};

// How a place and a season dress: the distribution people are drawn from.
struct Wardrobe {
  std::array<float, 7> tops{};     // weights by Top
  std::array<float, 5> bottoms{};  // by Bottom
  std::array<float, 7> patterns{};
  std::array<float, 6> bags{};
  std::array<float, 6> hats{};
  std::array<float, 28> top_colors{};  // weights over the named cloth colors of appearance.cpp
  std::array<float, 28> bottom_colors{};
  std::array<float, 28> thing_colors{};  // of bags, hats, scarves, shoes, what shows under a jacket
  float emblem = 0.3f, scarf = 0;        // probabilities
};

Wardrobe summer_wardrobe();        // the source domain
Wardrobe autumn_wardrobe();        // the validation domain
Wardrobe winter_wardrobe();        // the target domain
Wardrobe mixed_wardrobe(Rng rng);  // one video's own: anything between the three, and other color tastes

// Draws a person. `outfit` gets a short text of the drawn categories (clothes, colors by name, bag, hat): two people of one
// domain never share it, so that no two of them are dressed alike in everything.
Person draw_person(const Wardrobe& wardrobe, Rng rng, std::string& outfit);

}  // namespace reid::synth
