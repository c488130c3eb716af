#pragma once
// Tensor: numbers with a shape, on a device. Always contiguous; activations are NHWC, filters [K, R, S, C].
//
// Design: no strides, no broadcasting, no views but reshape and row ranges. Copying a Tensor shares its storage; clone()
// copies the numbers. That is all a convolutional network and a contrastive loss need.

#include <memory>
#include <span>

#include "reid/engine/base.h"
#include "reid/engine/device.h"

namespace reid {

class Tensor {
 public:
  Tensor() = default;                                                 // undefined: no storage
  static Tensor empty(Shape shape, DType dtype, Device device = {});  // contents undefined (NaN in debug builds)
  static Tensor zeros(Shape shape, DType dtype, Device device = {});
  static Tensor full(Shape shape, double value, DType dtype, Device device = {});
  template <class T>
  static Tensor from(std::span<const T> values, Shape shape, Device device = {});
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape, Device device = {}) {
    return from(std::span<const T>(values), shape, device);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values) {  // one-dimensional
    return from(std::span<const T>(values), Shape{static_cast<int64_t>(values.size())});
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const;

  void* raw() const;  // null for an undefined tensor
  // For the host: throws when T is not dtype(), the tensor is undefined or lies on an accelerator (to(Device{}) brings it).
  template <class T>
  T* data() const;
  // For arguments of ops: as data(), on any device.
  template <class T>
  T* address() const;
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<size_t>(numel())};
  }
  double item() const;  // the only element, of any dtype; throws when there are more. Waits for an accelerator.

  Tensor reshape(Shape shape) const;              // shares storage
  Tensor rows(int64_t begin, int64_t end) const;  // shares storage; a range of the first axis
  Tensor to(DType dtype) const;                   // itself when nothing changes; floating and integer types
  Tensor to(Device device) const;                 // itself when it is there; waits for an accelerator when it comes from one
  Tensor clone() const;
  void copy_from(const Tensor& src) const;  // same numel, dtype; any shape, any device
  void fill(double value) const;

 private:
  static Tensor empty_for(Storage::Use use, Shape shape, DType dtype, Device device);
  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::f32;
};

bool bitwise_equal(const Tensor& a, const Tensor& b);

}  // namespace reid
