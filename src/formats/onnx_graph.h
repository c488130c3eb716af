#pragma once
// The messages of onnx.proto that a model of ours consists of, written as the graph is walked. A value (the result of a node, a
// constant, the input) is known by its name; nodes carry the name of their first result.

#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/protobuf.h"
#include "reid/engine/tensor.h"

namespace reid {

class OnnxGraph {
 public:
  enum Type : uint8_t { float32 = 1, uint8 = 2, int64 = 7 };  // TensorProto.DataType
  struct Attribute {
    const char* name;
    std::variant<int64_t, float, std::vector<int64_t>> value;
  };
  struct Extent {  // of an input or output: a number, or a name for what is known at run time
    int64_t value;
    const char* symbol = nullptr;
  };

  OnnxGraph(ProtobufWriter& out, std::string source) : out_(out), source_(std::move(source)) {}

  void input(const std::string& name, Type type, const std::vector<Extent>& shape) { port(11, name, type, shape); }
  void output(const std::string& name, Type type, const std::vector<Extent>& shape) { port(12, name, type, shape); }

  // Returns the name of the result.
  std::string node(const std::string& name, const char* op, const std::vector<std::string>& inputs,
                   const std::vector<Attribute>& attributes = {}) {
    nodes(name, op, inputs, {name}, attributes);
    return name;
  }
  void nodes(const std::string& name, const char* op, const std::vector<std::string>& inputs, const std::vector<std::string>& results,
             const std::vector<Attribute>& attributes = {}) {
    out_.message(1, [&] {
      for (const std::string& value : inputs) out_.text(1, value);
      for (const std::string& value : results) out_.text(2, value);
      out_.text(3, name);
      out_.text(4, op);
      for (const Attribute& a : attributes) attribute(a);
    });
  }

  // Floats are refused when they are not finite: a damaged file or a negative variance.
  std::string constant(const std::string& name, const Shape& shape, std::span<const float> values) {
    for (const float v : values)
      REID_CHECK(std::isfinite(v), source_, ": ", name, " would have a value that is not finite (", v, ") in the exported model");
    return initializer(name, float32, shape, {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
  }
  std::string constant(const std::string& name, std::span<const int64_t> values) {
    return initializer(name, int64, {static_cast<int64_t>(values.size())},
                       {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
  }

 private:
  void attribute(const Attribute& a) {
    out_.message(5, [&] {
      enum Kind : uint8_t { number = 1, integer = 2, integers = 7 };  // AttributeProto.AttributeType
      out_.text(1, a.name);
      if (const float* f = std::get_if<float>(&a.value)) {
        out_.number(2, *f);
        out_.integer(20, number);
      } else if (const int64_t* i = std::get_if<int64_t>(&a.value)) {
        out_.integer(3, *i);
        out_.integer(20, integer);
      } else {
        for (const int64_t item : std::get<std::vector<int64_t>>(a.value)) out_.integer(8, item);
        out_.integer(20, integers);
      }
    });
  }
  std::string initializer(const std::string& name, Type type, const Shape& shape, std::span<const uint8_t> data) {
    out_.message(5, [&] {
      for (const int64_t extent : shape.extents()) out_.integer(1, extent);
      out_.integer(2, type);
      out_.text(8, name);
      out_.raw(9, data);
    });
    return name;
  }
  void port(uint32_t field, const std::string& name, Type type, const std::vector<Extent>& shape) {
    out_.message(field, [&] {
      out_.text(1, name);
      const auto extents = [&] {
        for (const Extent& e : shape) {
          out_.message(1, [&] {
            if (e.symbol) {
              out_.text(2, e.symbol);
            } else {
              out_.integer(1, e.value);
            }
          });
        }
      };
      const auto tensor_type = [&] {
        out_.integer(1, type);
        out_.message(2, extents);
      };
      out_.message(2, [&] { out_.message(1, tensor_type); });
    });
  }

  ProtobufWriter& out_;
  std::string source_;
};

}  // namespace reid
