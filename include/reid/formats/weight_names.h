#pragma once
// Other programs' checkpoints under our names: which network a file holds, and what becomes of each of its tensors.
//
// Design: a table of origins (src/formats/weight_names.cpp) says how the file of a program is recognized and which of its names
// mean what; one routine reads it. A network is found by its first convolution, [width, 3, 7, 7], so any wrapping (state_dict,
// module, model, ...) is passed through. Nothing of a file is dropped silently: every tensor has a fate. Only ResNets with or without
// IBN can be run here; another backbone, or one with blocks of another kind, is refused by name.

#include <cstdint>
#include <string>
#include <vector>

#include "reid/engine/nn.h"
#include "reid/formats/safetensors.h"

namespace reid {

enum class Fate : uint8_t {
  imported,    // under our name
  counter,     // num_batches_tracked: nothing depends on it
  classifier,  // classifiers and projection heads of the training
  setting,     // pixel_mean, pixel_std: see MappedWeights
  outside,     // of another network in the file, of the optimizer, a queue
  unused,      // of the network, but of a part that is not run here: other branches, reductions
};
const char* name_of(Fate);

struct SourceTensor {
  std::string name;  // in the file
  Fate fate;
  std::string note;  // our name when imported, else why not
};

struct MappedWeights {
  std::string origin;              // a name of origin_names()
  std::string convention;          // the preset of learning/conventions.h that fits it
  std::string root;                // where the network stands in the file: "state_dict.module."
  std::string remark;              // what is worth knowing about files of this origin
  bool exact = true;               // false: the origin's network computes something that ours does not, see remark
  NamedTensors weights;            // our names, filters [K, C, R, S]; the source is the file's
  std::vector<double> mean, std;   // of pixel / 255, when the file has them; else empty
  std::vector<SourceTensor> fate;  // every tensor of the file, in its order
};

// Where a file holds several networks, the first of these names on their paths wins: state_dict, state_dict_1, model, params_ema,
// model_ema, ema, teacher, mean_net, net, encoder_q, student. Throws, naming the file, what it holds and the tensor that shows it.
MappedWeights map_weights(const NamedTensors& file);

std::vector<std::string> origin_names();

// What the tensors alone show: depth, width, IBN, the norm on the map, GeM, the neck. Strides, the kind of max pooling and where the
// embedding is taken leave no trace and keep EncoderConfig's defaults. Throws when the stages have the blocks of no known depth.
EncoderConfig encoder_shown_by(const NamedTensors& weights);

// Tensors of a network and a file, by our names.
struct WeightMatch {
  std::vector<std::string> matched;
  std::vector<std::string> fresh;   // whole parts after the backbone that the file lacks: they keep their initial values
  std::vector<std::string> unused;  // parts after the backbone that the network lacks
};

// Copies into `network`. Throws, naming the tensors, when one of the backbone or of a part that the file has is missing or has another
// shape, and when the file's backbone has tensors that the network does not; then nothing is written.
WeightMatch load_mapped(const Inventory& network, const NamedTensors& weights);

}  // namespace reid
