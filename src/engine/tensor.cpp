#include "reid/engine/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace reid {

namespace {

// Calls f with a value of the C++ type behind a dtype.
template <class F>
decltype(auto) with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::i64: return f(int64_t{});
    case DType::i32: return f(int32_t{});
    case DType::i16: return f(int16_t{});
    case DType::u8: return f(uint8_t{});
    case DType::bf16: return f(bf16{});
  }
  fail("[tensor] unknown dtype");
}

}  // namespace

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.storage_ = std::make_shared<Storage>(shape.numel() * size_of(dtype), device);
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  std::memset(t.raw(), 0, static_cast<size_t>(t.bytes()));
  return t;
}

Tensor Tensor::full(Shape shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill(value);
  return t;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, Shape shape, Device device) {
  REID_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "[tensor] ", values.size(), " values do not fill shape ", shape);
  Tensor t = empty(shape, dtype_of<T>(), device);
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}
template Tensor Tensor::from(std::span<const float>, Shape, Device);
template Tensor Tensor::from(std::span<const double>, Shape, Device);
template Tensor Tensor::from(std::span<const bf16>, Shape, Device);
template Tensor Tensor::from(std::span<const int64_t>, Shape, Device);
template Tensor Tensor::from(std::span<const int32_t>, Shape, Device);
template Tensor Tensor::from(std::span<const int16_t>, Shape, Device);
template Tensor Tensor::from(std::span<const uint8_t>, Shape, Device);

Device Tensor::device() const { return storage_ ? storage_->device() : Device{}; }

void* Tensor::raw() const { return storage_ ? static_cast<char*>(storage_->data()) + offset_ : nullptr; }

template <class T>
T* Tensor::data() const {
  REID_CHECK(defined(), "[tensor] an undefined tensor has no data");
  REID_CHECK(dtype_ == dtype_of<T>(), "[tensor] holds ", dtype_, ", asked for ", dtype_of<T>());
  return static_cast<T*>(raw());
}
template float* Tensor::data() const;
template double* Tensor::data() const;
template bf16* Tensor::data() const;
template int64_t* Tensor::data() const;
template int32_t* Tensor::data() const;
template int16_t* Tensor::data() const;
template uint8_t* Tensor::data() const;

double Tensor::item() const {
  REID_CHECK(defined() && numel() == 1, "[tensor] item() of shape ", shape_, " needs exactly one element");
  return with_type(dtype_, [&](auto tag) { return static_cast<double>(*data<decltype(tag)>()); });
}

Tensor Tensor::reshape(Shape shape) const {
  REID_CHECK(shape.numel() == numel(), "[reshape] ", shape_, " to ", shape, " changes the number of elements");
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  REID_CHECK(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "[rows] ", begin, "..", end, " of shape ", shape_);
  std::vector<int64_t> extents(shape_.extents().begin(), shape_.extents().end());
  extents[0] = end - begin;
  Tensor t = *this;
  const int64_t row = shape_[0] == 0 ? 0 : numel() / shape_[0];
  t.shape_ = Shape(extents);
  t.offset_ += begin * row * size_of(dtype_);
  return t;
}

Tensor Tensor::to(DType target) const {
  if (target == dtype_) return *this;
  Tensor t = empty(shape_, target, device());
  with_type(dtype_, [&](auto from) {
    with_type(target, [&](auto into) {
      const auto source = span<decltype(from)>();
      std::transform(source.begin(), source.end(), t.data<decltype(into)>(), [](auto v) { return static_cast<decltype(into)>(v); });
    });
  });
  return t;
}

Tensor Tensor::to(Device target) const {
  if (target == device()) return *this;
  fail(str("[tensor] cannot move from ", device(), " to ", target, ": this build has no CUDA backend"));
}

Tensor Tensor::clone() const {
  if (!defined()) return {};
  Tensor t = empty(shape_, dtype_, device());
  std::memcpy(t.raw(), raw(), static_cast<size_t>(bytes()));
  return t;
}

void Tensor::copy_from(const Tensor& src) const {
  REID_CHECK(src.dtype_ == dtype_ && src.numel() == numel(), "[copy] ", src.shape_, " ", src.dtype_, " into ", shape_, " ", dtype_);
  std::memmove(raw(), src.raw(), static_cast<size_t>(bytes()));
}

void Tensor::fill(double value) const {
  with_type(dtype_, [&](auto tag) { std::ranges::fill(span<decltype(tag)>(), static_cast<decltype(tag)>(value)); });
}

bool bitwise_equal(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0;
}

}  // namespace reid
