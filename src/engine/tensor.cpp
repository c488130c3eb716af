#include "reid/engine/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "memory_pool.h"
#include "pinned_ring.h"

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

bool on_cpu(Device device) { return device.type == DeviceType::cpu; }

// Copies between any two places. Copies to the host wait; others are queued. fresh: `to` is new and was allocated for uploads.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, int64_t bytes, bool fresh = false) {
  const size_t count = static_cast<size_t>(bytes);
  if (count == 0) return;
  if (on_cpu(to_device) && on_cpu(from_device)) {
    std::memmove(to, from, count);
    return;
  }
  REID_CHECK(on_cpu(to_device) || on_cpu(from_device) || to_device == from_device, "[copy] from ", from_device, " to ", to_device,
             ": between accelerators go by way of the CPU, to(Device{})");
  const Device device = on_cpu(to_device) ? from_device : to_device;
  const CopyKind kind = on_cpu(to_device) ? CopyKind::to_host : on_cpu(from_device) ? CopyKind::to_device : CopyKind::on_device;
  const auto run = [=](Stream& stream) {
    if (kind == CopyKind::to_device) {  // from memory that is not pinned drivers copy on one thread, which waits
      staging(device).copy_in_pieces(to, from, count, stream.native());
    } else {
      accelerator(device).copy(to, from, count, kind, stream.native());
    }
    if (kind == CopyKind::to_host) stream.synchronize();
  };
  Recorder* r = recorder(device);
  if (!r) return run(current_stream(device));
  switch (kind) {
    case CopyKind::on_device: return r->repeats({key_word("copy"), key_word(to), key_word(from), bytes}, run);
    case CopyKind::to_host: return r->varies({key_word("read"), key_word(from), bytes}, run);
    case CopyKind::to_device:
      fresh ? r->upload({key_word("upload"), key_word(to), bytes}, run) : r->varies({key_word("write"), key_word(to), bytes}, run);
  }
}

}  // namespace

Tensor Tensor::empty(Shape shape, DType dtype, Device device) { return empty_for(Storage::Use::any, shape, dtype, device); }

Tensor Tensor::empty_for(Storage::Use use, Shape shape, DType dtype, Device device) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  try {
    t.storage_ = std::make_shared<Storage>(shape.numel() * size_of(dtype), device, use);
  } catch (const OutOfMemory& e) {
    throw OutOfMemory(str(e.what(), "; wanted for a tensor ", shape, " ", dtype), e.shortage);
  }
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  if (on_cpu(device)) {
    std::memset(t.raw(), 0, static_cast<size_t>(t.bytes()));
  } else {
    fill_bytes(device, t.raw(), 0, static_cast<size_t>(t.bytes()));
  }
  return t;
}

Tensor Tensor::full(Shape shape, double value, DType dtype, Device device) {
  if (!on_cpu(device)) return value == 0 ? zeros(shape, dtype, device) : full(shape, value, dtype).to(device);
  Tensor t = empty(shape, dtype, device);
  t.fill(value);
  return t;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, Shape shape, Device device) {
  REID_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "[tensor] ", values.size(), " values do not fill shape ", shape);
  Tensor t = empty_for(Storage::Use::upload, shape, dtype_of<T>(), device);
  copy_bytes(t.raw(), device, values.data(), {}, t.bytes(), true);
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
T* Tensor::address() const {
  REID_CHECK(defined(), "[tensor] an undefined tensor has no data");
  REID_CHECK(dtype_ == dtype_of<T>(), "[tensor] holds ", dtype_, ", asked for ", dtype_of<T>());
  return static_cast<T*>(raw());
}
template float* Tensor::address() const;
template double* Tensor::address() const;
template int64_t* Tensor::address() const;
template int32_t* Tensor::address() const;
template int16_t* Tensor::address() const;
template uint8_t* Tensor::address() const;

template <class T>
T* Tensor::data() const {
  REID_CHECK(on_cpu(device()), "[tensor] ", shape_, " ", dtype_, " lies on ", device(),
             ", where the host cannot read it: copy it with to(Device{}) first");
  return address<T>();
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
  const Tensor here = to(Device{});
  return with_type(dtype_, [&](auto tag) { return static_cast<double>(*here.data<decltype(tag)>()); });
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
  if (!on_cpu(device())) return to(Device{}).to(target).to(device());
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
  if (!defined() || target == device()) return *this;
  Tensor t = empty_for(Storage::Use::upload, shape_, dtype_, target);
  copy_bytes(t.raw(), target, raw(), device(), bytes(), true);
  return t;
}

Tensor Tensor::clone() const {
  if (!defined()) return {};
  Tensor t = empty(shape_, dtype_, device());
  t.copy_from(*this);
  return t;
}

void Tensor::copy_from(const Tensor& src) const {
  REID_CHECK(src.dtype_ == dtype_ && src.numel() == numel(), "[copy] ", src.shape_, " ", src.dtype_, " into ", shape_, " ", dtype_);
  copy_bytes(raw(), device(), src.raw(), src.device(), bytes());
}

void Tensor::fill(double value) const {
  if (!on_cpu(device())) {
    if (value == 0) return fill_bytes(device(), raw(), 0, static_cast<size_t>(bytes()));
    return copy_from(full(shape_, value, dtype_));
  }
  with_type(dtype_, [&](auto tag) { std::ranges::fill(span<decltype(tag)>(), static_cast<decltype(tag)>(value)); });
}

bool bitwise_equal(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (!on_cpu(a.device()) || !on_cpu(b.device())) return bitwise_equal(a.to(Device{}), b.to(Device{}));
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0;
}

}  // namespace reid
