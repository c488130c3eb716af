// reid weights compare: which tensors of two files differ, and how far the embeddings do.

#include "program/weights.h"

#include <algorithm>
#include <cmath>

namespace reid::program {
namespace {

struct Difference {
  std::string name;
  double absolute = 0, relative = 0;  // max |a - b|, and that over max |a|
};

struct Comparison {
  std::vector<std::string> only_a, only_b, shapes;
  std::vector<Difference> differing;  // largest relative difference first
  size_t equal = 0;
};

Difference difference_of(const std::string& name, const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(DType::f64), y = b.to(DType::f64);
  Difference d{name};
  double size = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double u = x.data<double>()[i], v = y.data<double>()[i];
    const double apart = u == v || (std::isnan(u) && std::isnan(v)) ? 0 : std::abs(u - v);
    d.absolute = std::isnan(apart) ? INFINITY : std::max(d.absolute, apart);
    if (std::isfinite(u)) size = std::max(size, std::abs(u));
  }
  d.relative = d.absolute == 0 ? 0 : d.absolute / size;
  return d;
}

Comparison compare(const NamedTensors& a, const NamedTensors& b) {
  Comparison c;
  for (const auto& [name, tensor] : b.tensors) {
    if (!a.find(name)) c.only_b.push_back(name);
  }
  for (const auto& [name, tensor] : a.tensors) {
    const Tensor* other = b.find(name);
    if (!other) {
      c.only_a.push_back(name);
    } else if (other->shape() != tensor.shape()) {
      c.shapes.push_back(str(name, " ", tensor.shape(), " and ", other->shape()));
    } else if (const Difference d = difference_of(name, tensor, *other); d.absolute == 0) {
      ++c.equal;
    } else {
      c.differing.push_back(d);
    }
  }
  std::stable_sort(c.differing.begin(), c.differing.end(),
                   [](const Difference& p, const Difference& q) { return p.relative > q.relative; });
  return c;
}

// The tensors under our names; false when the file holds no network that is known.
bool map(const TensorFile& file, NamedTensors& to) {
  if (is_encoder(file.content)) {
    to = file.content;
    return true;
  }
  try {
    to = map_weights(file.content).weights;
    return true;
  } catch (const Error&) {
    return false;
  }
}

Json to_json(const Comparison& c, bool mapped) {
  Json differing = Json::array();
  double absolute = 0, relative = 0;
  for (const Difference& d : c.differing) {
    differing.push_back(Json::object({{"name", d.name}, {"absolute", d.absolute}, {"relative", d.relative}}));
    absolute = std::max(absolute, d.absolute);
    relative = std::max(relative, d.relative);
  }
  return Json::object({{"names", mapped ? "mapped" : "raw"},
                       {"equal", static_cast<int64_t>(c.equal)},
                       {"only_a", name_list(c.only_a)},
                       {"only_b", name_list(c.only_b)},
                       {"other_shapes", name_list(c.shapes)},
                       {"largest_absolute", absolute},
                       {"largest_relative", relative},
                       {"differing", std::move(differing)}});
}

}  // namespace

void compare_weights(const Context& context, const WeightsOptions& o) {
  if (o.words.size() != 1) throw UsageError("compare takes two files");
  const TensorFile a = read_tensor_file(o.file), b = read_tensor_file(o.words[0]);
  NamedTensors x, y;
  const bool mapped = map(a, x) && map(b, y);
  const Comparison c = mapped ? compare(x, y) : compare(a.content, b.content);
  context.say("A: ", o.file, "\nB: ", o.words[0], "\nby ", mapped ? "the names of this program" : "the names in the files");
  context.say("equal ", c.equal, ", differing ", c.differing.size(), ", only in A ", c.only_a.size(), ", only in B ", c.only_b.size(),
              ", of other shapes ", c.shapes.size());
  if (!c.only_a.empty()) context.say("only in A: ", listed(c.only_a, o.all));
  if (!c.only_b.empty()) context.say("only in B: ", listed(c.only_b, o.all));
  if (!c.shapes.empty()) context.say("other shapes: ", listed(c.shapes, o.all));
  constexpr size_t kWorst = 5;
  for (size_t i = 0; i < c.differing.size() && (o.all || i < kWorst); ++i) {
    const Difference& d = c.differing[i];
    context.say("  ", column(d.name, 48), "max |a - b| ", d.absolute, ", ", d.relative, " of max |a|");
  }
  Json result = to_json(c, mapped);
  if (!o.images.empty()) {
    LoadedEncoder first(import_encoder(a, o.file, o).content), second(import_encoder(b, o.words[0], o).content);
    result["embeddings"] = compare_on(o.images, context, first, second);
  }
  context.write_json(result);
}

}  // namespace reid::program
