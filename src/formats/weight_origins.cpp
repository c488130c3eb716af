#include "formats/weight_origins.h"

namespace reid {

namespace {

const Layout kNamed = {{"conv1.", "conv1."},   {"bn1.", "bn1."},       {"layer1.", "layer1."}, {"layer2.", "layer2."},
                       {"layer3.", "layer3."}, {"layer4.", "layer4."}, {"NL_", "NL_"}};

// torch.nn.Sequential over a ResNet's children: the names are positions, so each way to build it has its own numbers.
const Layout kChildren = {{"0.", "conv1."},  {"1.", "bn1."},    {"4.", "layer1."},  // 2 ReLU, 3 max pooling
                          {"5.", "layer2."}, {"6.", "layer3."}, {"7.", "layer4."}};
const Layout kWithoutReLU = {{"0.", "conv1."},  {"1.", "bn1."},    {"3.", "layer1."},  // 2 max pooling
                             {"4.", "layer2."}, {"5.", "layer3."}, {"6.", "layer4."}};
const Layout kInstanceNorms = {{"0.", "conv1."},  {"1.", "bn1."},    {"4.", "layer1."},  // 5, 7, 9 instance norms, 11 GeM
                               {"6.", "layer2."}, {"8.", "layer3."}, {"10.", "layer4."}};
// fast-reid's MGN: the backbone ends after the first block of the third stage, b1 is the global branch.
const Layout kGlobalBranch = {{"backbone.0.", "conv1."},    {"backbone.1.", "bn1."}, {"backbone.4.", "layer1."}, {"backbone.5.", "layer2."},
                              {"backbone.6.", "layer3.0."}, {"b1.0.", "layer3.", 1}, {"b1.1.", "layer4."}};

constexpr std::string_view kNoReLU =
    "its stem has no ReLU, the network here has one: embeddings differ; a start for training, not a replacement";
constexpr std::string_view kInstanceNormRemark =
    "it has instance norms after its first three stages, the network here has none: embeddings differ; a start for training, not a "
    "replacement";

}  // namespace

const std::vector<WeightOrigin>& weight_origins() {
  static const std::vector<WeightOrigin> all = {
      {"mgn", "mgn", "", &kGlobalBranch, {"b1.0.", "b1.1."}, "", "the global branch, one of the eight parts of MGN's embedding"},
      {"bau", "bau", "base.", &kInstanceNorms, {"base.6.", "base.8.", "base.10."}, "", kInstanceNormRemark, false},
      {"cluster-contrast", "cluster-contrast", "base.", &kChildren, {"base.7."}, "", "cluster-contrast, SpCL, ICE and their kin"},
      {"mmt", "cluster-contrast", "base.", &kWithoutReLU, {"base.3."}, "", kNoReLU, false},
      {"cap", "cap", "resnet_conv.", &kWithoutReLU, {"resnet_conv.3."}, "", kNoReLU, false},
      {"bot", "bot", "base.", &kNamed, {}, "", ""},
      {"openunreid", "openunreid", "backbone.", &kNamed, {"head."}, "mean_net", "the mean network, which its own tests use"},
      {"openunreid", "openunreid", "backbone.", &kNamed, {"head.feat_bn."}, "", ""},
      {"cion", "cion", "backbone.", &kNamed, {}, "teacher", "the teacher of a self-distillation"},
      {"fastreid", "fastreid", "backbone.", &kNamed, {"heads"}, "", "max pooling without padding; normalizes pixels itself"},
      {"luperson-nl", "luperson-nl", "", &kNamed, {"fc1."}, "encoder_q", "a pre-training: no neck"},
      {"luperson", "luperson", "", &kNamed, {}, "encoder_q", "a momentum-contrast pre-training: no neck"},
      {"reid", "reid", "", &kNamed, {"bottleneck."}, "", "our own names"},
      {"torchreid", "torchreid", "", &kNamed, {"classifier."}, "", "its embedding is the pooled map"},
      {"ibn-net", "ibn-net", "", &kNamed, {"fc.", "layer1.0.bn1.IN."}, "", "an ImageNet classifier: no neck"},
      {"ibn-net", "ibn-net", "", &kNamed, {"fc.", "layer2.3.IN."}, "", "an ImageNet classifier: no neck"},
      {"torchvision", "torchvision", "", &kNamed, {"fc."}, "", "an ImageNet classifier: no neck"},
      {"resnet", "torchvision", "backbone.", &kNamed, {}, "", "ResNet names; which program wrote it does not show"},
      {"resnet", "torchvision", "", &kNamed, {}, "", "ResNet names; which program wrote it does not show"},
      {"sequential", "torchvision", "", &kChildren, {"7."}, "", "a ResNet's layers by number; which program wrote it does not show"},
  };
  return all;
}

const Layout& head_names() {
  static const Layout all = {
      {"heads.bottleneck.0.", "bottleneck."},
      {"heads.bnneck.", "bottleneck."},
      {"heads.bottleneck.", "bottleneck."},
      {"b1_head.bottleneck.0.", "bottleneck."},
      {"b1_head.bnneck.", "bottleneck."},
      {"head.feat_bn.", "bottleneck."},
      {"head.bottleneck.0.", "bottleneck."},
      {"head.bottleneck.", "bottleneck."},
      {"head.bnneck.", "bottleneck."},
      {"feat_bn.", "bottleneck."},
      {"bn_neck.", "bottleneck."},
      {"bnneck.", "bottleneck."},
      {"neck.", "bottleneck."},
      {"bottleneck.0.", "bottleneck."},
      {"bottleneck.", "bottleneck."},
      {"map_norm.", "map_norm."},
      {"heads_extra_bn_b1.", "map_norm."},
      {"heads_extra_bn.", "map_norm."},
      {"extra_bn.", "map_norm."},
      {"base.11.p", "pool.p"},
      {"heads.pool_layer.p", "pool.p"},
      {"b1_head.pool_layer.p", "pool.p"},
      {"head.pool_layer.p", "pool.p"},
      {"pool_layer.p", "pool.p"},
      {"global_pooling.p", "pool.p"},
      {"global_pool.p", "pool.p"},
      {"gap.p", "pool.p"},
      {"gem.p", "pool.p"},
      {"pool.p", "pool.p"},
      {"heads.weight", ""},
      {"heads.classifier.", ""},
      {"b1_head.weight", ""},
      {"b1_head.classifier.", ""},
      {"head.classifier.", ""},
      {"classifier.", ""},
      {"fc.", ""},
      {"fc1.", ""},
      {"fc2.", ""},
      {"head.mlp.", ""},
      {"head.last_layer.", ""},
  };
  return all;
}

const std::vector<ForeignPart>& foreign_parts() {
  static const std::vector<ForeignPart> all = {
      {".se.", "squeeze-and-excitation blocks"},
      {".bat_n.", "MetaBIN's mixed norms"},
      {".dsbn.", "domain-specific batch norms"},
      {"patch_embed.", "a vision transformer"},
      {"cls_token", "a vision transformer"},
      {"relative_position_bias_table", "a Swin transformer"},
      {"conv2.0.conv2a.", "an OSNet"},
      {"conv2.0.conv2b.", "an OSNet"},
      {"denseblock1.", "a DenseNet"},
      {"features.0.0.", "a MobileNet"},
      {"rbr_dense.", "a RepVGG"},
      {"attnpool.", "a CLIP ResNet"},
      {"conv1.3.weight", "a ResNet with a stem of three convolutions (ResNeSt)"},
  };
  return all;
}

}  // namespace reid
