#pragma once
// The ReMix losses (Mamedov et al., WACV 2025) as functions of a mixed batch's embeddings. The paper's equations were not
// available to us: these are reconstructions from its published description and its parent methods (ICE, ICCV 2021; CAP,
// AAAI 2021), and every choice that is not published is a switch. docs/remix.md tells published and inferred apart.
//
// Shapes: f [B, D] unit rows from the encoder (gradients flow here), m [B, D] unit rows from the momentum encoder (constants).
// Each loss is a scalar; an empty set of anchors gives 0.

#include <cstdint>
#include <string>
#include <vector>

#include "reid/engine/autograd.h"
#include "reid/people/cluster.h"

namespace reid {

// Who the rows of a batch are. Labels of multi-camera people come first (0..C_m-1), pseudo labels of single-camera people
// follow (C_m..C_m+C_s-1), so that one label space serves both.
struct BatchPeople {
  std::vector<int64_t> labels;
  std::vector<int64_t> cameras;  // read by the camera centroids loss for multi-camera rows only
  std::vector<uint8_t> single;   // 1: single-camera data
};

// How the parts of the two data types join: `sum` adds the two means, `pooled` is one mean over all anchors.
// use_single = false leaves single-camera images out of a loss entirely: neither anchors nor negatives.
struct LossScope {
  bool joint = true;  // negatives (or centroids) of both types, else those of the anchor's own
  bool pooled = false;
  bool use_single = true;
};

struct InstanceLossOptions {
  double tau_multi = 0.1, tau_single = 0.2;
  LossScope scope = {};
  bool self_positive = true;  // the momentum embedding of the anchor's own image is a positive
  bool supcon = false;        // all positives in the denominator (Khosla et al., NeurIPS 2020), else one positive at a time
};
// Anchor f_i against all positives and all negatives of the batch among m.
Var instance_loss(const Var& f, const Tensor& m, const BatchPeople& people, const InstanceLossOptions& options);

struct AugmentationLossOptions {
  double tau = 0.1;
  LossScope scope = {};
};
// The augmented view f_i is pulled to its own original m_i and pushed from other people; other images of the same person are
// neither.
Var augmentation_loss(const Var& f, const Tensor& m, const BatchPeople& people, const AugmentationLossOptions& options);

struct CentroidLossOptions {
  double tau_multi = 0.5, tau_single = 0.6;
  LossScope scope = {};
  double smoothing = 0;  // label smoothing
};
// Cross-entropy over centroids [C, D]: row k belongs to label k; rows from `multi_count` on are single-camera people's.
Var centroid_loss(const Var& f, const Tensor& centroids, int64_t multi_count, const BatchPeople& people,
                  const CentroidLossOptions& options);

struct CameraCentroidLossOptions {
  double tau = 0.07;
  int64_t hard_negatives = 50;      // most similar centroids of other people; all of them when there are fewer
  bool include_own_camera = false;  // the parents keep the anchor's own camera among the positives
  bool over_batch = false;          // mean over all rows of the batch (PPLR), else over the anchors that have a positive
};
// Centroids of one identity under one camera each, as camera_centroids() makes them.
// Multi-camera anchors only: pulled to their person's centroids under other cameras.
Var camera_centroid_loss(const Var& f, const Centroids& centroids, const BatchPeople& people, const CameraCentroidLossOptions& options);

// Softmax cross-entropy with label smoothing over classes, mean over rows: logits [B, K].
Var cross_entropy(const Var& logits, const std::vector<int64_t>& labels, double smoothing = 0);

}  // namespace reid
