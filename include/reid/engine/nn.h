#pragma once
// Modules: structs with parameters, a call operator and a list of their fields. Names are torchvision's and IBN-Net's.
//
// Design: a module is any struct with `void fields(Fields&)`. Naming its parameters, buffers and children once serves weight
// files, checkpoints, the parameter store, counting and comparing. A pass says what it does instead of "train or eval".

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reid/engine/autograd.h"

namespace reid {

// Visits a module's fields. Paths join with dots: "layer1.0.bn1.IN.weight".
class Fields {
 public:
  virtual ~Fields() = default;
  void parameter(const char* name, Parameter& p) { on_parameter(path(name), p); }
  void buffer(const char* name, Tensor& t) { on_buffer(path(name), t); }
  template <class M>
  void child(const std::string& name, M& module) {
    const std::string outer = std::exchange(prefix_, path(name) + ".");
    module.fields(*this);
    prefix_ = outer;
  }

 protected:
  virtual void on_parameter(const std::string& path, Parameter& p) = 0;
  virtual void on_buffer(const std::string& path, Tensor& t) = 0;

 private:
  std::string path(const std::string& name) const { return prefix_ + name; }
  std::string prefix_;
};

struct NamedParameter {
  std::string name;
  Parameter* parameter;
};
struct NamedBuffer {
  std::string name;
  Tensor* tensor;
};
// Everything a module owns, in declaration order. The pointers live as long as the module stays where it is.
struct Inventory {
  std::vector<NamedParameter> parameters;
  std::vector<NamedBuffer> buffers;
};
class InventoryFields final : public Fields {
 public:
  Inventory inventory;

 private:
  void on_parameter(const std::string& path, Parameter& p) override { inventory.parameters.push_back({path, &p}); }
  void on_buffer(const std::string& path, Tensor& t) override { inventory.buffers.push_back({path, &t}); }
};
template <class M>
Inventory inventory(M& module) {
  InventoryFields fields;
  module.fields(fields);
  return std::move(fields.inventory);
}

// What one pass through a network does.
struct Pass {
  Tape* tape = nullptr;             // where parameters are watched; null: they are constants
  bool batch_statistics = false;    // batch norm uses the batch's own statistics, else the running ones
  bool update_running = false;      // ... and moves the running ones towards them
  int norm_groups = 1;              // the batch is cut into this many equal runs of images, each with statistics of its own
  bool running_from_first = false;  // of several groups only the first moves the running statistics, as on one of several GPUs
  bool other_sums = false;          // convolutions and linear layers may take other sums than their definition's, see ConvShape
  WeightCache* cache = nullptr;     // for convolutions whose weights stay as they are, see weight_cache.h
  // Where norms leave what moves their running statistics, for whoever runs them to do at once; null: they do it.
  std::vector<ops::RunningStep>* running_steps = nullptr;
};
inline Pass training_pass(Tape& tape, int norm_groups = 1) { return {&tape, true, true, norm_groups}; }
inline Pass own_statistics_pass(int norm_groups = 1) { return {nullptr, true, true, norm_groups}; }  // a momentum encoder in training
inline Pass inference_pass() { return {}; }

struct Conv2d {
  Parameter weight;  // [K, R, S, C]
  ops::ConvGeometry geometry;
  Conv2d() = default;
  // He-normal over the outputs (fan out), as in torchvision and IBN-Net.
  Conv2d(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad, DType dtype, Rng rng);
  void fields(Fields& f) { f.parameter("weight", weight); }
};

struct Linear {
  Parameter weight, bias;  // [K, D], [K]
  Linear() = default;
  Linear(int64_t in, int64_t out, DType dtype, Rng rng);
  Var operator()(const Var& x, const Pass& pass);  // [B, D] -> [B, K]
  void fields(Fields& f);
};

// Batch norm, instance norm, or IBN (Pan et al., ECCV 2018): instance norm on the first half of the channels, batch norm on
// the rest. eps 1e-5; running statistics move with momentum 0.1 and hold the unbiased variance, as in PyTorch.
struct Norm {
  enum class Kind { batch, instance, ibn };
  struct Affine {
    Parameter weight, bias;  // [count]
  };
  struct Running {
    Tensor mean, variance;  // [count]
  };

  Norm() = default;
  Norm(Kind kind, int64_t channels, DType dtype);
  // act(norm(x) + residual); x is [N, H, W, C] or [N, C]; residual may be a Var() without value.
  Var operator()(const Var& x, const Var& residual, bool relu, const Pass& pass);
  // The same in two steps: what is normalized of an x of that shape, and doing it, perhaps with statistics that are taken already.
  std::vector<NormPart> parts(const Shape& x, const Pass& pass);
  Var apply(const Var& x, const std::vector<NormPart>& parts, const Var& residual, bool relu, const Pass& pass);
  // act(norm(conv(x)) + residual) of a batch norm with its running statistics, without gradients; residual may be undefined.
  Tensor behind(const Tensor& x, const Tensor& weight, ops::ConvGeometry geometry, const Tensor& residual, bool relu) const;
  void fields(Fields& f);

  Kind kind = Kind::batch;
  int64_t channels = 0;
  Affine instance, batch;
  Running running;
  double eps = 1e-5, momentum = 0.1;

 private:
  int64_t instance_count() const;
  NormPart instance_part(const Shape& x, const Pass& pass);
  NormPart batch_part(const Shape& x, const Pass& pass);
};

// The composite every network is written in: one convolution, its norm, an optional residual, an optional ReLU.
Var conv_norm_act(const Var& x, Conv2d& conv, Norm& norm, const Var& residual, bool relu, const Pass& pass);

struct ResNetConfig {
  int depth = 50;                // 18, 34, 50, 101, 152
  std::string ibn = "a";         // none, a, b
  int64_t last_stride = 1;       // of the fourth stage: 1 keeps a 16 x 8 map for a 256 x 128 image, 2 is torchvision's
  int64_t width = 64;            // channels of the first stage; 64 is the published network
  std::string max_pool = "pad";  // pad: torchvision (pad 1, floor); ceil: Caffe and fast-reid (pad 0, ceil)
  bool non_local = false;        // non-local blocks behind the last blocks of stages 2 and 3 (AGW); depth 50 and 101
  int64_t non_local_width = 1;   // their inner channels: 1 in AGW's and fast-reid's code
};
void check(const ResNetConfig&);  // throws, naming the key

// What the network is made of, in order: one description for building it and for writing it down in other formats.
struct ConvPlan {  // a convolution, padded by kernel / 2, and its norm
  int64_t in, out, kernel, stride;
  Norm::Kind norm;
};
struct BlockPlan {
  int stage, index;                  // both from 0
  std::vector<ConvPlan> convs;       // a ReLU follows each; that of the last one comes after the addition
  std::optional<ConvPlan> shortcut;  // without it the input itself is added
  bool norm_after;                   // IBN-b: an instance norm between the addition and its ReLU
  bool non_local;                    // a non-local block follows
  std::string name() const;          // "layer1.0"
};
struct ResNetPlan {
  ConvPlan stem;  // then ReLU and max pool
  std::vector<BlockPlan> blocks;
  int64_t features;  // channels of the last map
};
ResNetPlan plan_of(const ResNetConfig&);  // throws, naming the key

// Basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) residual block.
struct ResidualBlock {
  std::vector<Conv2d> convs;
  std::vector<Norm> norms;
  std::optional<Conv2d> shortcut_conv;
  std::optional<Norm> shortcut_norm;
  std::optional<Norm> after;  // IBN-b: an instance norm after the addition
  Var operator()(const Var& x, const Pass& pass);
  void fields(Fields& f);
};

// x + norm(W non_local(theta x, phi x, g x)), all 1x1 convolutions with biases (Wang et al., CVPR 2018, as in AGW's and fast-reid's code).
// The norm's weight begins at 0, so that the block begins as nothing.
class NonLocalBlock {
 public:
  NonLocalBlock(int64_t channels, int64_t width, DType dtype, Rng rng);
  Var operator()(const Var& x, const Pass& pass);
  void fields(Fields& f);

 private:
  struct Pointwise {
    Conv2d conv;
    Parameter bias;
    Pointwise(int64_t in, int64_t out, DType dtype, Rng rng);
    Var operator()(const Var& x, const Pass& pass);
    void fields(Fields& f);
  };
  Pointwise g_, theta_, phi_, out_;
  Norm norm_;
};

// ResNet (He et al., CVPR 2016) up to the last feature map.
class ResNet {
 public:
  ResNet() = default;
  ResNet(const ResNetConfig& config, DType dtype, Rng rng);
  Var operator()(const Var& images, const Pass& pass);  // [N, H, W, 3] -> [N, H/16 or H/32, W/.., features()]
  int64_t features() const { return features_; }
  void fields(Fields& f);

 private:
  ResNetConfig config_;
  int64_t features_ = 0;
  Conv2d conv1_;
  Norm bn1_;
  std::vector<std::vector<ResidualBlock>> stages_;
  std::vector<std::vector<NonLocalBlock>> non_local_;  // of each stage, behind its last blocks
};

struct EncoderConfig {
  ResNetConfig backbone;
  bool map_norm = false;          // a batch norm on the last feature map, as LUPerson's and CION's fine-tuning adds
  std::string pooling = "gap";    // gap, gem
  double gem_p = 3;               // start value; learned
  std::string neck = "bn";        // bn, none
  std::string feature = "after";  // the embedding is taken after the neck or before it
  // What the backbone's activations and filters are rounded to: f32 leaves the network in its own dtype; bf16 takes sums, norms, all
  // parameters and what comes behind the pooling in f32.
  std::string precision = "f32";  // f32, bf16
};

// Images to embeddings: backbone, global pooling, BN neck (Luo et al., CVPRW 2019: weight 1, bias 0 frozen).
class Encoder {
 public:
  Encoder() = default;
  Encoder(const EncoderConfig& config, DType dtype, Rng rng);
  Var operator()(const Var& images, const Pass& pass);  // [N, H, W, 3] -> [N, D], not normalized
  // The features on both sides of the neck; without one they are the same. `backbone` is the pass of what comes before the pooling: one
  // without a tape freezes it.
  struct Sides {
    Var before, after;  // [N, D]
  };
  Sides sides(const Var& images, const Pass& pass, const Pass& backbone) { return head(map(images, backbone), pass); }
  // The two halves of it: the last feature map, [N, h, w, D], and what becomes of one.
  Var map(const Var& images, const Pass& pass);
  Sides head(const Var& map, const Pass& pass);
  Var stripes(const Var& map, int64_t count) const;  // see ops::stripe_pool: [count N, D]
  int64_t features() const { return backbone_.features(); }
  static std::vector<std::string> backbone_prefixes(const std::string& outer);  // of its parameters' names, behind `outer`
  void fields(Fields& f);

 private:
  Var pooled(const Var& map, const Pass& pass);
  Var widened(const Var& x) const;  // what leaves the backbone

  EncoderConfig config_;
  ResNet backbone_;
  Norm map_norm_;
  Parameter p_;  // [1]
  Norm neck_;
};

// An encoder that also looks at horizontal stripes of its last map: each is averaged and has a batch-norm neck of its own (Cho et al.,
// CVPR 2022, PPLR). Only the encoder itself is exported.
class PartEncoder {
 public:
  PartEncoder() = default;
  PartEncoder(const EncoderConfig& config, int64_t parts, DType dtype, Rng rng);  // the encoder must have a neck
  std::vector<Var> operator()(const Var& images, const Pass& pass);  // the whole and each part, top to bottom: [N, D] behind their necks
  Encoder& encoder() { return encoder_; }
  int64_t parts() const { return static_cast<int64_t>(necks_.size()); }
  void fields(Fields& f);

 private:
  Encoder encoder_;
  std::vector<Norm> necks_;  // of the parts
};

// Copies parameters and buffers of one module into another of the same structure, on any device.
void copy_state(const Inventory& from, const Inventory& to);
// Moves parameters and buffers to a device. Before a ParameterStore takes the module: its windows stay where they are.
void move_to(Device device, const Inventory& module);

}  // namespace reid
