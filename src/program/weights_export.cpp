// reid weights export: an encoder of this program for others.

#include "program/inputs.h"
#include "program/weights.h"

#include "reid/formats/image.h"
#include "reid/learning/onnx_verify.h"

#include <filesystem>

namespace reid::program {
namespace {

// The other side is the file that was written: an ONNX model in ONNX Runtime, tensors read back into a network.
Json verify(const Context& context, const WeightsOptions& o, const NamedTensors& content, LoadedEncoder& encoder) {
  if (o.format != "onnx") {
    LoadedEncoder back(NamedTensors{read_tensor_file(o.out).content.tensors, content.metadata, o.out});
    return compare_on(o.images, context, encoder, back);
  }
  const TransformConfig& t = encoder.transform();
  std::vector<Image> images;
  for (const Sample& sample : list_images(o.images)) images.push_back(resize(read_image(sample.path), t.height, t.width, t.filter));
  const EmbeddingComparison compared = verify_onnx(o.out, encoder, images, o.preprocess);
  context.say(compared.images, " images embedded here and by ONNX Runtime: ", compared.summary());
  return to_json(compared);
}

}  // namespace

void export_weights(const Context& context, const WeightsOptions& o) {
  if (o.out.empty() || o.format.empty()) throw UsageError(o.out.empty() ? "--out is missing" : "--format is missing");
  if (!o.words.empty()) throw UsageError("'" + o.words[0] + "' is one argument too many");
  if (o.preprocess && o.format != "onnx") throw UsageError("--preprocess belongs to --format onnx");
  const NamedTensors content = read_safetensors(o.file);
  LoadedEncoder encoder(content);
  if (o.format == "onnx") {
    write_onnx(o.out, encoder.model().encoder(), content, onnx_options(encoder.transform(), content, o.preprocess));
  } else if (o.format == "pth") {
    write_torch(o.out, content);
  } else {
    write_safetensors(o.out, content);
  }
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(o.out));
  context.say(content.tensors.size(), " tensors -> ", o.out, ", ", bytes, " bytes");
  if (o.format == "pth") context.say("it carries no preprocessing; images must be: ", *content.note("preprocessing"));
  if (o.format == "onnx")
    context.say("input 'images' ", o.preprocess ? "u8 [N, " : "f32 [N, 3, ", encoder.transform().height, ", ", encoder.transform().width,
                o.preprocess ? ", 3], RGB" : "], normalized", "; preprocessing: ", *content.note("preprocessing"));
  Json result =
      Json::object({{"out", o.out}, {"format", o.format}, {"bytes", bytes}, {"tensors", static_cast<int64_t>(content.tensors.size())}});
  if (!o.images.empty()) result["verified"] = verify(context, o, content, encoder);
  context.write_json(result);
}

}  // namespace reid::program
