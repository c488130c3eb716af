#pragma once
// The settings that every recipe shares: run, network, data, augmentation, optimizer. Each struct names its keys once.

#include <string>
#include <vector>

#include "reid/engine/optim.h"
#include "reid/learning/config.h"
#include "reid/people/protocol.h"
#include "reid/people/transform.h"

namespace reid {

struct RunSettings {
  std::string method = "remix";  // the one recipe that the rest of the configuration belongs to
  int64_t seed = 1;
  int64_t epochs = 100, iterations = 400;
  int64_t workers = 2;
  int64_t checkpoint_every = 200;
  int64_t evaluate_every = 10;
  std::string best_on = {};
  void visit(ConfigKeys& keys);
};

struct ModelSettings {
  int64_t depth = 50, last_stride = 1, width = 64;
  std::string ibn = "a", max_pool = "pad", pooling = "gap", neck = "bn", feature = "after", weights;
  bool map_norm = false, non_local = false;
  int64_t non_local_width = 1;
  double gem_p = 3;
  int64_t bn_groups = 1;
  std::string bn_running = "all";
  std::string numerics = "deterministic", precision = "f32";
  EncoderConfig encoder() const;
  bool other_sums() const { return numerics == "deterministic"; }
  bool rounds() const { return precision == "bf16"; }  // filters, of which a store then keeps a copy
  void load(Encoder& encoder) const;                   // what `weights` holds, if it names a file
  // Whether bn_groups cuts a batch into equal parts that have a variance each; the other throws, naming the key.
  bool can_cut(int64_t images) const { return images % bn_groups == 0 && images / bn_groups >= 2; }
  void check_batch(int64_t images) const;
  // A pass of training; without a tape that of a momentum encoder. The batch consists of `parts` that never share statistics.
  Pass training(Tape* tape, int64_t parts = 1) const;
  Pass inference(WeightCache* made = nullptr) const;
  void visit(ConfigKeys& keys);
};

// Data sets are written LAYOUT:PATH; those to evaluate on NAME=LAYOUT:PATH.
struct DataSettings {
  std::vector<std::string> multi, single, evaluate;
  int64_t height = 256, width = 128;
  std::string resize = "bicubic";
  bool skip_damaged = false;
  int64_t cache_mib = 2048;
  int64_t embed_batch = 64;
  void visit(ConfigKeys& keys);
};

// A protocol writes the lists of DataSettings.
struct ProtocolSettings {
  ProtocolChoice choice;
  std::vector<std::string> trained_on;  // what apply() found: names of the sets, and the line that says what is done
  std::string text;
  // Without a protocol nothing happens. With one, data.multi and data.evaluate are set; throws when they hold anything else already.
  void apply(DataSettings& data);
  void visit(ConfigKeys& keys);
};

struct AugmentSettings {
  TransformConfig values;  // its height, width and filter are set from DataSettings
  int64_t pad = 10;
  std::string erase_fill = "mean_color";
  void set_customary();  // flip, pad and crop, erasing: what most recipes of the field use
  TransformConfig transform(const DataSettings& data) const;
  void visit(ConfigKeys& keys);
};

struct OptimizerSettings {
  OptimizerConfig optimizer;
  Schedule schedule;  // its epochs are set from RunSettings
  bool per_step = false;
  void visit(ConfigKeys& keys);
};

// Calls published, among these keys, what every recipe of the field states: network, size, erasing, optimizer, schedule. For recipes that
// set their defaults to those of a publication.
void customary_origins(ConfigKeys& keys);

}  // namespace reid
