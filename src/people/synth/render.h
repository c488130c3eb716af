#pragma once
// From people in front of a camera to a crop: triangles into a depth buffer at twice the resolution, shading, background,
// occluders; then the sensor (resolution, blur, color, noise).

#include <vector>

#include "people/synth/body.h"
#include "people/synth/scene.h"
#include "reid/formats/image.h"

namespace reid::synth {

struct Subject {
  const Person* person = nullptr;
  Pose pose;
};

// Something near the camera in front of everybody, in fractions of the crop.
struct Occluder {
  enum class Kind : uint8_t { none, pole, rail, low_box, side_wall, leaves } kind = Kind::none;
  float place = 0.5f, size = 0.1f;
  Color color;
  uint32_t salt = 0;
};

struct Shot {
  std::vector<Subject> people;                            // the first one is whom the box is about
  float scale = 1, shift_x = 0, shift_y = 0, aspect = 1;  // the detector's error: factors, and shifts in box heights
  Occluder occluder;
  float exposure = 1;  // of this picture, over the camera's own
};

// Linear light, rows top to bottom.
struct Picture {
  int height = 0, width = 0;
  std::vector<Color> pixels;
  float native = 1;  // native pixels per output pixel (below 1: the crop was enlarged)
};

// Working memory, reused from crop to crop by one thread.
struct Workspace {
  Mesh mesh;
  std::vector<Vec3> projected;    // per vertex: picture-plane x, y, then sample column and row; and depth
  std::vector<uint8_t> away;      // per vertex: 1 when its normal points away from the camera
  std::vector<float> depth;       // [2 height, 2 width]
  std::vector<int32_t> triangle;  // [2 height, 2 width], -1 background
};

Picture render(const Camera& camera, const Shot& shot, int height, int width, Workspace& workspace);
Image develop(const Picture& picture, const Camera& camera, Rng rng);

}  // namespace reid::synth
