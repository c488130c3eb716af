#pragma once
// What a world consists of, before anything is drawn: casts of people, cameras, and one job a crop.

#include <memory>
#include <string>
#include <vector>

#include "people/synth/render.h"
#include "reid/people/synth.h"

namespace reid::synth {

// A labeled domain or one video: who is seen there and by which cameras.
struct Place {
  Wardrobe wardrobe;
  std::vector<Person> people;
  std::vector<Camera> cameras;
  Rng rng;  // of everything that happens there
};

enum class JobKind : uint8_t { track, distractor, junk };

// One crop. Its picture depends on the place's rng and the numbers below only.
struct Job {
  std::string path;    // below the world's folder
  std::string folder;  // census entry: "source/query"
  int place = 0, person = 0, camera = 0;
  int track = 0, frame = 0;  // which walk through the camera's view, which picture of it
  JobKind kind = JobKind::track;
  int64_t identity = 0;  // as written: 0 distractor, -1 junk
};

struct Plan {
  int height = 128, width = 64;
  std::vector<Place> places;
  std::vector<Job> jobs;  // sorted by path
};

Plan make_plan(const WorldConfig& config, uint64_t seed);
void check_config(const WorldConfig& config);

// Draws the crop of a job and says at which JPEG quality its camera stores it.
Image draw_crop(const Plan& plan, const Job& job, Workspace& workspace, int& quality);

}  // namespace reid::synth
