#pragma once
// From a person and a pose to triangles: a skeleton of 19 bones, and around the bones tapered tubes of elliptic section
// for limbs, garments, hair and bags. Lengths in metres; y up, the person faces +z, +x is the person's left; yaw turns
// about y. Texture coordinates are anchored in the body: u is the angle around a tube as a fraction of a turn (0 front,
// 0.25 left, 0.5 back, 1 front again), v runs along it, so patterns turn with the person.

#include <cstdint>
#include <vector>

#include "people/synth/appearance.h"

namespace reid::synth {

enum class Part : uint8_t {
  torso,
  arm_left,
  arm_right,
  leg_left,
  leg_right,
  neck,
  head,
  hand,
  shoe,
  skirt,
  coat,
  hair,
  brim,
  scarf,
  bag,
  strap,
};

enum class Arms : uint8_t { swing, phone, pockets };

struct Pose {
  float phase = 0;     // of the walk cycle, in cycles
  float yaw = 0;       // radians
  float head_yaw = 0;  // relative to the body
  float speed = 1;     // 0 standing, 1 walking
  Arms arms = Arms::swing;
  Vec3 place;  // metres, where the person stands
};

struct Vertex {
  Vec3 position, normal;
  float u = 0, v = 0;
};

struct Mesh {
  std::vector<Vertex> vertices;
  std::vector<uint32_t> triangles;  // three indices each
  std::vector<Part> parts;          // [triangles / 3]
  std::vector<uint8_t> closed;      // [triangles / 3] 1: part of a closed surface, its inside is never seen
  std::vector<uint8_t> owners;      // [triangles / 3] index of the person in the picture
  void clear();
};

// One cross-section of a tube: half width a along `side`, half depth b along `front`.
struct Ring {
  Vec3 center, side, front;
  float a = 0, b = 0, v = 0;
};

struct TubeShape {
  int segments = 14;   // faces around, at most 31
  float square = 0;    // 0 ellipse .. 1 rectangle
  float gap = 0;       // a slit left open in front, half its width as a fraction of a turn
  bool closed = true;  // with capped ends: its inside cannot be seen
};
// Joins rings into a surface.
void add_tube(Mesh& mesh, const std::vector<Ring>& rings, const TubeShape& shape, Part part, uint8_t owner);
void add_ellipsoid(Mesh& mesh, Vec3 center, Vec3 side, Vec3 up, Vec3 front, Vec3 radii, Part part, uint8_t owner);

// Joints in the person's own frame, before yaw and place.
struct Skeleton {
  Vec3 pelvis, chest, neck, head;                                  // head: its center
  Vec3 hips_left, chest_left, chest_front, head_left, head_front;  // unit axes
  Vec3 shoulder[2], elbow[2], wrist[2];                            // [0] left, [1] right
  Vec3 hip[2], knee[2], ankle[2], toe[2];
  float head_height = 0.23f;
};
Skeleton make_skeleton(const Person& person, const Pose& pose);

// Appends the person to the mesh, in world coordinates.
void add_person(Mesh& mesh, const Person& person, const Pose& pose, uint8_t owner);
void add_things(Mesh& mesh, const Person& person, const Skeleton& s, uint8_t owner);  // bag, hat, loose hair; things.cpp

// The clothed torso at v (0 crotch .. 1 neck base), in metres.
struct TorsoSection {
  float half_width, half_depth;
};
TorsoSection torso_section(const Person& person, float v);
Vec3 torso_center(const Skeleton& s, float v);

}  // namespace reid::synth
