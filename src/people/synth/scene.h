#pragma once
// A camera and the place it looks at: ground, wall, sky, boxes and bushes, light, and the sensor's habits.
// World: y up, ground at y = 0, the camera at (0, height, 0) looking toward -z; metres.

#include <array>
#include <vector>

#include "people/synth/math.h"

namespace reid::synth {

enum class Ground : uint8_t { asphalt, slabs, grass, planks, carpet, cobbles };
enum class Wall : uint8_t { plain, bricks, panels, windows, shutters, hedge, two_tone };

struct Clutter {
  enum class Kind : uint8_t { box, bush, pole } kind = Kind::box;
  Vec3 low, high;  // corners
  Color color, second;
  uint32_t salt = 0;
};

struct Range {
  float low = 0, high = 1;
  float pick(Rng& rng) const { return draw(rng, low, high); }
};

// What the cameras of one domain have in common.
struct SceneStyle {
  float indoor = 0;                // probability
  Range sun = {0.2f, 1.2f};        // strength of the directional light, outdoors
  Range warmth = {-0.1f, 0.1f};    // log-like shift between red and blue of the light
  Range cast = {-0.1f, 0.1f};      // the camera's own white-balance error, same unit; green gets half of it, drawn alone
  Range exposure = {-0.4f, 0.4f};  // stops
  Range gamma = {0.85f, 1.15f};
  Range saturation = {0.8f, 1.15f};
  Range haze = {0, 0.04f};                                       // black level
  Range noise = {0.005f, 0.02f};                                 // standard deviation at mid gray
  Range blur = {0.2f, 0.6f};                                     // pixels of the native picture
  Range native_height = {110, 200};                              // pixels a 1.7 m person has at 8 m
  Range height = {2.5f, 4};                                      // camera, metres
  Range distance = {6, 12};                                      // of people, metres
  Range quality = {80, 92};                                      // JPEG
  float occlusion = 0.1f, company = 0.2f, misplaced = 0.2f;      // probabilities of a picture
  Range ground_level = {0.1f, 0.4f}, wall_level = {0.1f, 0.4f};  // how much light they throw back
  Color site_ground, site_wall;                                  // shared by the cameras of one site
  std::array<float, 6> grounds{};                                // weights by Ground
  std::array<float, 7> walls{};                                  // weights by Wall
};

SceneStyle campus_style();      // source: daylight, sun, vivid
SceneStyle arcade_style();      // validation: overcast, some indoors
SceneStyle station_style();     // target: mostly artificial light, darker, noisier, from higher up
SceneStyle any_style(Rng rng);  // one video's own, from a wide range

struct Camera {
  // Geometry. The picture plane is one unit in front of the camera.
  float height = 3, pitch = 0.2f, roll = 0;
  float near_z = 6, far_z = 12;  // where people walk
  float flow = 0;                // main walking direction, radians of yaw
  // Place.
  Ground ground = Ground::asphalt;
  Wall wall = Wall::plain;
  Color ground_color, ground_second, wall_color, wall_second, sky_color;
  float wall_distance = 18, wall_height = 4, wall_turn = 0, tile = 0.6f;
  uint32_t salt = 0;
  std::vector<Clutter> clutter;
  // Light.
  Vec3 to_sun;
  Color sun, sky_light, bounce;
  // Sensor.
  Color gains = {1, 1, 1};
  float gamma = 1, saturation = 1, haze = 0, noise = 0.01f, blur = 0.4f, native_height = 150;
  int quality = 85;
  // Habits of its detector and place.
  float occlusion = 0, company = 0, misplaced = 0;

  Vec3 forward() const { return {0, -sine(pitch), -cosine(pitch)}; }
  Vec3 up() const { return {0, cosine(pitch), -sine(pitch)}; }
  Vec3 eye() const { return {0, height, 0}; }
};

void draw_site(SceneStyle& style, Rng rng);  // sets the colors shared by its cameras
Camera draw_camera(const SceneStyle& style, Rng rng);

// Somebody who keeps light from the ground.
struct Shadow {
  Vec3 place;
  float height = 1.7f;
};

// What is behind the people of one crop.
class Backdrop {
 public:
  // Only clutter within the angles (x / depth, from `left` to `right`) is looked at.
  Backdrop(const Camera& camera, std::vector<Shadow> shadows, float left, float right);
  // Light arriving along the ray eye + t * direction.
  Color operator()(Vec3 direction) const;

 private:
  float shadowed(float x, float z) const;

  const Camera& camera_;
  std::vector<Shadow> shadows_;
  std::vector<const Clutter*> near_;
  Vec3 eye_, wall_normal_;
  Color ground_light_, wall_light_;
  float sun_share_ = 0;
};

}  // namespace reid::synth
