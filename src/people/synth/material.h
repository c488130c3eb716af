#pragma once
// The color of a point on a person, from body-anchored coordinates (see body.h).

#include "people/synth/body.h"

namespace reid::synth {

struct Surface {
  Color albedo;      // linear
  float relief = 0;  // how strongly folds bend the normal there
  float shine = 0;   // strength of the highlight
};

// u from -0.5 (back) over -0.25 (right), 0 (front) and 0.25 (left) to 0.5 (back).
Surface surface_at(const Person& person, Part part, float u, float v);

}  // namespace reid::synth
