// Counts held against the published ones.

#include <algorithm>
#include <cstdlib>

#include "people/check/check.h"

namespace reid {

namespace {

struct Comparison {
  const char* part;
  PartCounts ours;
  PublishedPart theirs;
};

std::vector<Comparison> compared(const Dataset& data, const PublishedCounts& published) {
  return {{"train", count_part(data.train), published.train},
          {"query", count_part(data.query), published.query},
          {"gallery", count_part(data.gallery), published.gallery}};
}

bool given(const PublishedPart& part) { return part.images > 0 || part.identities > 0 || part.tracklets > 0; }

// A number is compared where it is published.
std::vector<std::string> differences(const PartCounts& ours, const PublishedPart& theirs) {
  std::vector<std::string> list;
  const auto compare = [&](const char* what, int64_t mine, int64_t published) {
    if (published > 0 && mine != published) list.push_back(thousands(mine) + " " + what + " instead of " + thousands(published));
  };
  compare("images", ours.images, theirs.images);
  compare("identities", ours.identities, theirs.identities);
  compare("cameras", ours.cameras, theirs.cameras);
  compare("tracklets", ours.tracklets, theirs.tracklets);
  return list;
}

bool equal(const Dataset& data, const PublishedCounts& published) {
  bool all = true;
  for (const Comparison& c : compared(data, published))
    all = all && given(c.theirs) == (c.ours.images > 0) && differences(c.ours, c.theirs).empty();
  return all;
}

// How far the numbers of images are apart, to choose among the editions of a layout.
int64_t distance(const Dataset& data, const PublishedCounts& published) {
  int64_t sum = 0;
  for (const Comparison& c : compared(data, published)) sum += std::abs(c.ours.images - c.theirs.images);
  return sum;
}

// Many sets that are not Market-1501 have its layout: one part's number of images must be near.
bool near(const Dataset& data, const PublishedCounts& published) {
  for (const Comparison& c : compared(data, published))
    if (c.theirs.images > 0 && std::abs(c.ours.images - c.theirs.images) * 10 <= c.theirs.images) return true;
  return false;
}

const PublishedCounts* choose(const Dataset& data, const std::string& layout) {
  const PublishedCounts* best = nullptr;
  for (const PublishedCounts& row : published_counts()) {
    if (row.layout != layout || (!data.edition.empty() && row.edition != data.edition)) continue;
    if (layout == "market1501" && !near(data, row)) continue;
    if (best == nullptr || distance(data, row) < distance(data, *best)) best = &row;
  }
  return best;
}

}  // namespace

void compare_counts(const Dataset& data, const std::string& layout, DatasetCheck& check) {
  check.published = choose(data, layout);
  if (check.published != nullptr && !check.published->remark.empty()) check.findings.push_back({false, check.published->remark});
  if (check.published == nullptr || equal(data, *check.published)) return;
  const PublishedCounts& published = *check.published;
  for (const Comparison& c : compared(data, published)) {
    if (given(c.theirs) && c.ours.images == 0) {
      check.findings.push_back(
          {true,
           str(c.part, " is missing; ", published.title, " has ",
               c.theirs.images > 0 ? thousands(c.theirs.images) + " images" : thousands(c.theirs.tracklets) + " tracklets", " there")});
      continue;
    }
    std::string list;
    for (const std::string& difference : differences(c.ours, c.theirs)) list += (list.empty() ? "" : ", ") + difference;
    if (given(c.theirs) && !list.empty()) check.findings.push_back({true, str(c.part, ": ", list)});
    if (!given(c.theirs) && c.ours.images > 0)
      check.findings.push_back({true, str(c.part, ": ", thousands(c.ours.images), " images, where ", published.title, " has none")});
  }
  for (const PublishedCounts& other : published_counts())
    if (&other != &published && equal(data, other))
      check.findings.push_back({true, str("these are the counts of ", other.title, ": read it as ", other.layout,
                                          other.edition.empty() ? "" : "," + other.edition, ":")});
  Dataset swapped = data;
  std::swap(swapped.query, swapped.gallery);
  if (equal(swapped, published)) check.findings.push_back({true, "query and gallery are swapped"});
}

}  // namespace reid
