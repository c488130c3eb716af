#pragma once
// ONNX models read and run by the shortest possible means: protobuf by hand, operators as plain loops in double. It shares nothing
// with the writer, so what a model computes is checked on every machine; tools/check_onnx.py adds the real runtimes.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "reid/engine/base.h"

namespace reid::test {

struct Value {
  std::vector<int64_t> shape;
  std::vector<double> numbers;
};
struct OnnxNode {
  std::string name, op;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, std::vector<double>> attributes;
};
struct OnnxPort {
  std::string name;
  int64_t type = 0;
  std::vector<std::string> shape;
};
struct OnnxModel {
  int64_t ir_version = 0, opset = 0;
  std::string producer, version, description;
  std::map<std::string, std::string> metadata;
  std::vector<OnnxPort> inputs, outputs;
  std::vector<OnnxNode> nodes;
  std::map<std::string, Value> constants;

  int64_t count(const std::string& op) const {
    return std::count_if(nodes.begin(), nodes.end(), [&](const OnnxNode& n) { return n.op == op; });
  }
};

// --- protobuf ---

struct ProtobufField {
  uint64_t number = 0, integer = 0;
  std::span<const uint8_t> bytes;
  std::string text() const { return {bytes.begin(), bytes.end()}; }
};

inline std::vector<ProtobufField> protobuf_fields(std::span<const uint8_t> bytes) {
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      REID_CHECK(at < bytes.size() && shift < 64, "protobuf: a number runs past the end");
      value |= uint64_t{bytes[at] & 0x7Fu} << shift;
      if (!(bytes[at++] & 0x80)) return value;
    }
  };
  std::vector<ProtobufField> fields;
  while (at < bytes.size()) {
    const uint64_t key = varint();
    ProtobufField field{key >> 3, 0, {}};
    if ((key & 7) == 0) {
      field.integer = varint();
    } else {
      REID_CHECK((key & 7) == 2 || (key & 7) == 5, "protobuf: wire type ", key & 7);
      const uint64_t length = (key & 7) == 5 ? 4 : varint();
      REID_CHECK(length <= bytes.size() - at, "protobuf: a field runs past the end");
      field.bytes = bytes.subspan(at, length);
      at += length;
    }
    fields.push_back(field);
  }
  return fields;
}

// Calls `take` for the fields of a message with this number.
template <class Take>
void each(std::span<const uint8_t> message, uint64_t number, Take&& take) {
  for (const ProtobufField& f : protobuf_fields(message))
    if (f.number == number) take(f);
}

inline OnnxNode read_node(std::span<const uint8_t> message) {
  OnnxNode node;
  for (const ProtobufField& f : protobuf_fields(message)) {
    if (f.number == 1) node.inputs.push_back(f.text());
    if (f.number == 2) node.outputs.push_back(f.text());
    if (f.number == 3) node.name = f.text();
    if (f.number == 4) node.op = f.text();
    if (f.number != 5) continue;
    std::string name;
    std::vector<double> values;
    for (const ProtobufField& a : protobuf_fields(f.bytes)) {
      if (a.number == 1) name = a.text();
      if (a.number == 3 || a.number == 8) values.push_back(static_cast<double>(static_cast<int64_t>(a.integer)));
      if (a.number != 2) continue;
      float number = 0;
      std::memcpy(&number, a.bytes.data(), 4);
      values.push_back(double{number});
    }
    node.attributes[name] = values;
  }
  return node;
}

inline std::pair<std::string, Value> read_constant(std::span<const uint8_t> message) {
  std::string name;
  Value value;
  int64_t type = 0;
  for (const ProtobufField& f : protobuf_fields(message)) {
    if (f.number == 1) value.shape.push_back(static_cast<int64_t>(f.integer));
    if (f.number == 2) type = static_cast<int64_t>(f.integer);
    if (f.number == 8) name = f.text();
    if (f.number != 9) continue;
    const size_t size = type == 1 ? 4 : 8;
    REID_CHECK(type == 1 || type == 7, "onnx: constants of type ", type);
    for (size_t i = 0; i < f.bytes.size(); i += size) {
      float number = 0;
      int64_t integer = 0;
      std::memcpy(type == 1 ? static_cast<void*>(&number) : static_cast<void*>(&integer), f.bytes.data() + i, size);
      value.numbers.push_back(type == 1 ? double{number} : static_cast<double>(integer));
    }
  }
  return {name, value};
}

inline OnnxPort read_port(std::span<const uint8_t> message) {
  OnnxPort port;
  each(message, 1, [&](const ProtobufField& f) { port.name = f.text(); });
  each(message, 2, [&](const ProtobufField& type) {
    each(type.bytes, 1, [&](const ProtobufField& tensor) {
      each(tensor.bytes, 1, [&](const ProtobufField& f) { port.type = static_cast<int64_t>(f.integer); });
      each(tensor.bytes, 2, [&](const ProtobufField& shape) {
        each(shape.bytes, 1, [&](const ProtobufField& extent) {
          for (const ProtobufField& f : protobuf_fields(extent.bytes))
            port.shape.push_back(f.number == 2 ? f.text() : std::to_string(f.integer));
        });
      });
    });
  });
  return port;
}

inline OnnxModel read_onnx(std::span<const uint8_t> bytes) {
  OnnxModel model;
  for (const ProtobufField& f : protobuf_fields(bytes)) {
    if (f.number == 1) model.ir_version = static_cast<int64_t>(f.integer);
    if (f.number == 2) model.producer = f.text();
    if (f.number == 3) model.version = f.text();
    if (f.number == 6) model.description = f.text();
    if (f.number == 8) each(f.bytes, 2, [&](const ProtobufField& v) { model.opset = static_cast<int64_t>(v.integer); });
    if (f.number == 14) {
      const std::vector<ProtobufField> entry = protobuf_fields(f.bytes);
      model.metadata[entry.at(0).text()] = entry.at(1).text();
    }
    if (f.number != 7) continue;
    for (const ProtobufField& g : protobuf_fields(f.bytes)) {
      if (g.number == 1) model.nodes.push_back(read_node(g.bytes));
      if (g.number == 5) REID_CHECK(model.constants.insert(read_constant(g.bytes)).second, "onnx: a constant twice");
      if (g.number == 11) model.inputs.push_back(read_port(g.bytes));
      if (g.number == 12) model.outputs.push_back(read_port(g.bytes));
    }
  }
  return model;
}

}  // namespace reid::test
