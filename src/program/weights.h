#pragma once
// What the actions of reid weights share: options, encoders out of any file, embeddings held against each other.

#include "program/verb.h"

#include "reid/formats/tensor_file.h"
#include "reid/formats/weight_names.h"
#include "reid/learning/conventions.h"
#include "reid/learning/embedding_comparison.h"
#include "reid/learning/encoder_file.h"

#include <optional>
#include <string>
#include <vector>

namespace reid::program {

struct WeightsOptions {
  std::string action, file, out, format, convention;
  std::vector<std::string> words;   // compare: the second file; import: key=value
  std::vector<std::string> images;  // to verify on
  bool all = false, inexact = false, preprocess = false;
};

void import_weights(const Context& context, const WeightsOptions& o);
void export_weights(const Context& context, const WeightsOptions& o);
void compare_weights(const Context& context, const WeightsOptions& o);

// An encoder and how it came out of its file.
struct ImportedEncoder {
  NamedTensors content;                 // an encoder file
  std::optional<MappedWeights> mapped;  // none: the file was an encoder of this program
  std::string convention;
  ResolvedSettings resolved;
  WeightMatch match;
};
// With an empty convention the origin's own. An origin whose network is another one needs `inexact`.
ImportedEncoder import_encoder(const TensorFile& file, const std::string& name, const WeightsOptions& o);

// Embeds the images with both encoders, each with its own preprocessing; says and returns what differs.
Json compare_on(const std::vector<std::string>& images, const Context& context, LoadedEncoder& a, LoadedEncoder& b);
Json to_json(const EmbeddingComparison& compared);

std::string column(std::string text, size_t width);                   // padded with at least two spaces
std::string listed(const std::vector<std::string>& names, bool all);  // joined; long lists end in "and 7 more"
Json name_list(const std::vector<std::string>& names);

}  // namespace reid::program
