// libcudnn played by the CPU: the functions that src/backends/cuda/cudnn_graph.h finds, with the manual's rules for descriptors, and
// engines of which some compute right: a convolution, alone, with sums of its result behind it, or with an addend to a data's gradient.
// What is used wrongly is refused with the rule as the last message.
//
// Engines, as offered: 0 nondeterministic, 1 rounds f32 by tensor cores, 2 does not run here; from the fallbacks 3, 4 and 5, which compute
// the same and cost what played_prices.h says. As cuDNN 9.19 it has none that writes f32 filters from bf16 maps. Engines 0 and 1 would
// write what no test accepts.

#include <cudnn.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "played_prices.h"
#include "reid/engine/base.h"

namespace {

struct Value {
  cudnnBackendAttributeType_t type;
  std::vector<uint8_t> bytes;
  int64_t count;
};
// What a descriptor names. It lives on while others refer to it, whatever happens to the descriptor.
struct Node {
  cudnnBackendDescriptorType_t type;
  bool final = false;
  std::map<int, Value> values;
  std::map<int, std::vector<std::shared_ptr<Node>>> children;
  int64_t engine = -1;
};
using Shared = std::shared_ptr<Node>;

std::string last_message;
int64_t living = 0;
bool fails_next = false;

cudnnStatus_t wrong(cudnnStatus_t status, const std::string& why) {
  last_message = why;
  return status;
}

Shared& shared(cudnnBackendDescriptor_t raw) { return *static_cast<Shared*>(raw); }
Node& node(cudnnBackendDescriptor_t raw) { return *shared(raw); }

size_t size_of_type(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_BOOLEAN: return 1;
    default: return 4;
  }
}

template <class T>
std::vector<T> all(const Node& n, int name) {
  const Value& value = n.values.at(name);
  std::vector<T> values(static_cast<size_t>(value.count));
  std::memcpy(values.data(), value.bytes.data(), value.bytes.size());
  return values;
}
template <class T>
T one(const Node& n, int name) {
  return all<T>(n, name)[0];
}
const Node& child(const Node& n, int name) { return *n.children.at(name)[0]; }

// The attributes without which a descriptor cannot be final.
std::vector<int> needed(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: return {900, 901, 902, 903, 906};
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: return {100, 101, 102, 103, 104, 105, 106};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: return {700, 701, 702, 703, 704, 705};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR: return {706, 707, 708, 709, 710, 711};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: return {712, 713, 714, 715, 716, 717};
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR: return {0, 1};
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: return {750, 751, 752, 753};
    case CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR: return {770, 771, 772, 773, 774};
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: return {800, 801};
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: return {200, 201};
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: return {400, 401};
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: return {1000, 1001, 1003};
    default: return {};
  }
}

// An operation's tensors, whatever it is.
struct Parts {
  const Node *image, *filter, *map, *convolution;
};
Parts parts_of(const Node& operation) {
  switch (operation.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return {&child(operation, 704), &child(operation, 703), &child(operation, 705), &child(operation, 702)};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return {&child(operation, 710), &child(operation, 709), &child(operation, 711), &child(operation, 708)};
    default: return {&child(operation, 716), &child(operation, 715), &child(operation, 717), &child(operation, 714)};
  }
}

using Extents = std::vector<int64_t>;
Extents extents_of(const Node& tensor) { return all<int64_t>(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS); }
cudnnDataType_t type_of(const Node& tensor) { return one<cudnnDataType_t>(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE); }

int64_t identifier_of(const Node& tensor) { return one<int64_t>(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID); }
bool is_virtual(const Node& tensor) { return tensor.values.contains(CUDNN_ATTR_TENSOR_IS_VIRTUAL); }

// Why the operations do not make one graph, or an empty text: only what a second one takes may be nowhere in memory.
std::string unconnected(const Node& graph) {
  const auto& operations = graph.children.at(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  const Parts first = parts_of(*operations[0]);
  const bool within = is_virtual(*first.image);
  if (is_virtual(*first.filter) || is_virtual(*first.map) || (within && operations.size() < 2)) return "a virtual tensor that nobody takes";
  if (operations.size() == 1) return "";
  const Node& second = *operations[1];
  const bool sums = second.type == CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR;
  if (operations.size() > 2 || (!sums && second.type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR))
    return "operations that are not played";
  const Node &made = sums ? *first.map : *first.image, &taken = child(second, sums ? 772 : 751);
  if (&made != &taken || sums == within) return "operations that are not connected";
  if (sums) return one<int>(second, CUDNN_ATTR_OPERATION_GENSTATS_MODE) == CUDNN_GENSTATS_SUM_SQSUM ? "" : "sums that are not played";
  const Node& addition = child(second, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  return one<int>(addition, CUDNN_ATTR_POINTWISE_MODE) == CUDNN_POINTWISE_ADD ? "" : "elementwise work that is not played";
}

// Whether the extents of the three tensors are those of one convolution.
bool fits(const Node& operation) {
  const Parts p = parts_of(operation);
  const Extents x = extents_of(*p.image), w = extents_of(*p.filter), y = extents_of(*p.map);
  if (x[0] != y[0] || w[0] != y[1] || x[1] % w[1] != 0 || w[0] % (x[1] / w[1]) != 0) return false;
  for (size_t d = 0; d < 2; ++d) {
    const auto value = [&](int name) { return all<int64_t>(*p.convolution, name)[d]; };
    const int64_t padded = x[2 + d] + value(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS) + value(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    const int64_t span = value(CUDNN_ATTR_CONVOLUTION_DILATIONS) * (w[2 + d] - 1) + 1;
    if (y[2 + d] != (padded - span) / value(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES) + 1) return false;
  }
  return true;
}

// A tensor's memory by indices: sums are collected in double and stored once.
struct Memory {
  Extents extents, strides;
  cudnnDataType_t type;
  void* data;
  std::vector<double> sums;
  Memory(const Node& tensor, void* at)
      : extents(extents_of(tensor)), strides(all<int64_t>(tensor, CUDNN_ATTR_TENSOR_STRIDES)), type(type_of(tensor)), data(at) {
    sums.resize(static_cast<size_t>(extents[0] * extents[1] * extents[2] * extents[3]));
  }
  int64_t place(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3];
  }
  double at(int64_t place) const {
    if (type == CUDNN_DATA_FLOAT) return double{static_cast<float*>(data)[place]};
    return double{float{static_cast<reid::bf16*>(data)[place]}};
  }
  void store() const {
    for (size_t i = 0; i < sums.size(); ++i) {
      const auto sum = static_cast<float>(sums[i]);
      if (type == CUDNN_DATA_FLOAT)
        static_cast<float*>(data)[i] = sum;
      else
        static_cast<reid::bf16*>(data)[i] = reid::bf16(sum);
    }
  }
};

// Every product of the convolution once, added to where the operation says, which is returned.
Memory& compute(const Node& operation, Memory& x, Memory& w, Memory& y) {
  const Parts p = parts_of(operation);
  const Extents pad = all<int64_t>(*p.convolution, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
  const Extents stride = all<int64_t>(*p.convolution, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
  const Extents dilation = all<int64_t>(*p.convolution, CUDNN_ATTR_CONVOLUTION_DILATIONS);
  const int64_t group_filters = w.extents[0] / (x.extents[1] / w.extents[1]);
  const auto add = [&](int64_t ix, int64_t iw, int64_t iy) {
    if (operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
      y.sums[static_cast<size_t>(iy)] += x.at(ix) * w.at(iw);
    else if (operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
      x.sums[static_cast<size_t>(ix)] += y.at(iy) * w.at(iw);
    else
      w.sums[static_cast<size_t>(iw)] += x.at(ix) * y.at(iy);
  };
  const int64_t columns = y.extents[3], rows = y.extents[2], taps = w.extents[2] * w.extents[3];
  for (int64_t i = 0; i < y.extents[0] * y.extents[1] * rows * columns; ++i) {
    const int64_t n = i / columns / rows / y.extents[1], k = i / columns / rows % y.extents[1], r = i / columns % rows, c = i % columns;
    for (int64_t t = 0; t < w.extents[1] * taps; ++t) {
      const int64_t channel = t / taps, down = t % taps / w.extents[3], right = t % w.extents[3];
      const int64_t h = r * stride[0] - pad[0] + down * dilation[0], v = c * stride[1] - pad[1] + right * dilation[1];
      if (h < 0 || v < 0 || h >= x.extents[2] || v >= x.extents[3]) continue;
      add(x.place(n, k / group_filters * w.extents[1] + channel, h, v), w.place(k, channel, down, right), y.place(n, k, r, c));
    }
  }
  if (operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) return y;
  return operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? x : w;
}

// Sums of the columns of y, as it is stored, and of their squares.
void add_up(const Memory& y, Memory& sums, Memory& squares) {
  const int64_t pixels = y.extents[2] * y.extents[3];
  for (int64_t i = 0; i < y.extents[0] * y.extents[1] * pixels; ++i) {
    const int64_t channel = i / pixels % y.extents[1];
    const double value = y.at(y.place(i / pixels / y.extents[1], channel, i % pixels / y.extents[3], i % y.extents[3]));
    sums.sums[static_cast<size_t>(channel)] += value, squares.sums[static_cast<size_t>(channel)] += value * value;
  }
  sums.store(), squares.store();
}

constexpr int64_t scratch_of(int64_t engine) { return 192 * std::max<int64_t>(1, engine - 2); }  // bytes

std::vector<int64_t> offered(cudnnBackendHeurMode_t mode, const Node& graph) {
  const Node& operation = child(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
  const Parts p = parts_of(operation);
  if (!is_virtual(*p.image) && type_of(*p.image) != type_of(*p.filter)) return {};
  std::vector<int64_t> all = mode == CUDNN_HEUR_MODE_A ? std::vector<int64_t>{0, 1, 2} : std::vector<int64_t>{3, 4, 5};
  std::erase_if(all, [](int64_t engine) { return engine >= most_offers; });
  return all;
}

}  // namespace

extern "C" {

int64_t played_descriptors() { return living; }
void played_fail_next_execution() { fails_next = true; }

size_t cudnnGetVersion() { return CUDNN_VERSION; }
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED" : "PLAYED_STATUS";
}
void cudnnGetLastErrorString(char* message, size_t size) {
  std::strncpy(message, last_message.c_str(), size - 1);
  message[size - 1] = 0;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  static int one = 0;
  *handle = reinterpret_cast<cudnnHandle_t>(&one);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  *descriptor = new Shared(std::make_shared<Node>(Node{type, false, {}, {}, -1}));
  ++living;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete &shared(descriptor);
  --living;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  Node& n = node(descriptor);
  if (n.final) return wrong(CUDNN_STATUS_BAD_PARAM, "the descriptor is final");
  const auto* bytes = static_cast<const uint8_t*>(values);
  const Value value{type, {bytes, bytes + static_cast<size_t>(count) * size_of_type(type)}, count};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    n.children[name].clear();
    for (int64_t i = 0; i < count; ++i) {
      const Shared& other = shared(static_cast<const cudnnBackendDescriptor_t*>(values)[i]);
      if (!other->final) return wrong(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor is used before it is final");
      n.children[name].push_back(other);
    }
  }
  n.values[name] = value;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  Node& n = node(descriptor);
  last_message.clear();
  if (n.final) return wrong(CUDNN_STATUS_BAD_PARAM, "the descriptor is final already");
  for (const int name : needed(n.type)) {
    if (!n.values.contains(name)) return wrong(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " is missing");
  }
  const bool operation = n.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
                         n.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
                         n.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
  if (operation && !fits(n)) return wrong(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "these extents are not those of one convolution");
  if (n.type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
    if (const std::string why = unconnected(n); !why.empty()) return wrong(CUDNN_STATUS_BAD_PARAM, why);
  }
  if (n.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    n.engine = child(n, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine;
    if (n.engine == 2) return wrong(CUDNN_STATUS_NOT_SUPPORTED, "this engine does not run here");
  }
  n.final = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t,
                                       int64_t room, int64_t* count, void* values) {
  Node& n = node(descriptor);
  const bool filled = n.final || n.type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || n.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR;
  if (!filled) return wrong(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "the descriptor is read before it is final");
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
    const Node& graph = child(n, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const auto found = offered(one<cudnnBackendHeurMode_t>(n, CUDNN_ATTR_ENGINEHEUR_MODE), graph);
    *count = static_cast<int64_t>(found.size());
    for (size_t i = 0; i < found.size() && static_cast<int64_t>(i) < room; ++i) {
      Node& configuration = node(static_cast<cudnnBackendDescriptor_t*>(values)[i]);
      configuration.engine = found[i], configuration.final = true;
      configuration.children[CUDNN_ATTR_ENGINE_OPERATION_GRAPH] = n.children.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    }
  } else if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
    node(*static_cast<cudnnBackendDescriptor_t*>(values)).engine = n.engine;
    *count = 1;
  } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
    const cudnnBackendNumericalNote_t notes[] = {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS};
    *count = n.engine < 2 ? 1 : 0;
    if (n.engine < 2) static_cast<cudnnBackendNumericalNote_t*>(values)[0] = notes[n.engine];
  } else if (name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE) {
    *count = 0;
  } else if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX || name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
    *static_cast<int64_t*>(values) = name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX ? n.engine : scratch_of(n.engine);
    *count = 1;
  } else {
    return wrong(CUDNN_STATUS_NOT_SUPPORTED, "this attribute is not played");
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  if (std::exchange(fails_next, false)) return wrong(CUDNN_STATUS_EXECUTION_FAILED, "as was asked for");
  Node &p = node(plan), &operands = node(pack);
  if (!p.final || !operands.final) return wrong(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "executed before it is final");
  auto* scratch = one<void*>(operands, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!scratch) return wrong(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the plan wants scratch memory");
  std::memset(scratch, 0xFF, static_cast<size_t>(scratch_of(p.engine)));
  const Node& configuration = child(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  if (p.engine < 3) return wrong(CUDNN_STATUS_EXECUTION_FAILED, "this engine should not have been chosen");
  if (!pay(p.engine)) return wrong(CUDNN_STATUS_EXECUTION_FAILED, "engine " + std::to_string(p.engine) + " fails");
  const auto& operations = child(configuration, CUDNN_ATTR_ENGINE_OPERATION_GRAPH).children.at(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  const auto identifiers = all<int64_t>(operands, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = all<void*>(operands, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  const auto memory = [&](const Node& tensor) {
    void* data = nullptr;
    for (size_t i = 0; i < identifiers.size(); ++i) {
      if (identifiers[i] == identifier_of(tensor)) data = pointers[i];
    }
    return Memory(tensor, data);
  };
  const Parts parts = parts_of(*operations[0]);
  Memory x = memory(*parts.image), w = memory(*parts.filter), y = memory(*parts.map);
  const Memory& made = compute(*operations[0], x, w, y);
  if (operations.size() == 1) {
    made.store();
  } else if (operations[1]->type == CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR) {
    made.store();
    Memory sums = memory(child(*operations[1], 773)), squares = memory(child(*operations[1], 774));
    add_up(y, sums, squares);
  } else {
    const Memory addend = memory(child(*operations[1], 752));
    Memory sum = memory(child(*operations[1], 753));
    const bool rounds = made.type != CUDNN_DATA_FLOAT;
    for (size_t i = 0; i < sum.sums.size(); ++i) {
      const auto product = static_cast<float>(made.sums[i]);
      sum.sums[i] = double{rounds ? float{reid::bf16(product)} : product} + addend.at(static_cast<int64_t>(i));
    }
    sum.store();
  }
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
