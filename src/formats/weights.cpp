#include "reid/formats/weights.h"

#include <cstring>

namespace reid {

namespace {

// dst[k, j, i] = src[k, i, j] on elements of any size.
Tensor swap_inner(const Tensor& src, int64_t outer, int64_t rows, int64_t columns, const Shape& shape) {
  Tensor dst = Tensor::empty(shape, src.dtype());
  const size_t size = static_cast<size_t>(size_of(src.dtype()));
  const char* from = static_cast<const char*>(src.raw());
  char* to = static_cast<char*>(dst.raw());
  for (int64_t k = 0; k < outer; ++k) {
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t i = 0; i < rows; ++i, to += size) {
        std::memcpy(to, from + static_cast<size_t>((k * rows + i) * columns + j) * size, size);
      }
    }
  }
  return dst;
}

}  // namespace

Tensor filters_to_file(const Tensor& w) {
  if (w.shape().rank() != 4) return w;
  return swap_inner(w, w.dim(0), w.dim(1) * w.dim(2), w.dim(3), {w.dim(0), w.dim(3), w.dim(1), w.dim(2)});
}

Tensor filters_from_file(const Tensor& w) {
  if (w.shape().rank() != 4) return w;
  return swap_inner(w, w.dim(0), w.dim(1), w.dim(2) * w.dim(3), {w.dim(0), w.dim(2), w.dim(3), w.dim(1)});
}

NamedTensors module_weights(const Inventory& module) {
  NamedTensors weights;
  for (const auto& [name, p] : module.parameters) weights.add(name, filters_to_file(p->value.to(Device{})));
  for (const auto& [name, buffer] : module.buffers) weights.add(name, buffer->to(Device{}));
  return weights;
}

void load_weights(const Inventory& module, const NamedTensors& weights) {
  std::string missing, shapes;
  const auto matched = [&](const std::string& name, const Tensor& target) -> Tensor {
    const Tensor* found = weights.find(name);
    if (!found) {
      missing += (missing.empty() ? "" : ", ") + name;
      return {};
    }
    const Tensor logical = filters_from_file(*found);
    if (logical.shape() == target.shape()) return logical.to(target.dtype());
    const Shape expected = target.shape().rank() == 4 ? Shape{target.dim(0), target.dim(3), target.dim(1), target.dim(2)} : target.shape();
    shapes += str(shapes.empty() ? "" : ", ", name, " is ", found->shape(), ", the network has ", expected);
    return {};
  };
  std::vector<std::pair<Tensor, Tensor>> copies;  // nothing is written before everything fits
  for (const auto& [name, p] : module.parameters) copies.emplace_back(p->value, matched(name, p->value));
  for (const auto& [name, buffer] : module.buffers) copies.emplace_back(*buffer, matched(name, *buffer));
  REID_CHECK(missing.empty(), weights.source, ": tensors of the network are missing: ", missing);
  REID_CHECK(shapes.empty(), weights.source, ": tensors have other shapes (other depth, width or pooling?): ", shapes);
  for (const auto& [target, source] : copies) target.copy_from(source);
  for (const NamedParameter& p : module.parameters) p.parameter->refresh();
}

}  // namespace reid
