#pragma once
// Runs an ONNX model in double: the operators that our graphs have, each as its definition reads.

#include "formats/onnx_reader.h"

namespace reid::test {

inline int64_t count_of(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

// f(a, b) with b's shape aligned to the right of a's, extents of 1 repeated.
template <class F>
Value broadcast(const Value& a, const Value& b, F&& f) {
  Value y = a;
  const size_t rank = a.shape.size(), skipped = rank - b.shape.size();
  for (size_t i = 0; i < y.numbers.size(); ++i) {
    size_t rest = i, at = 0, stride = 1;
    for (size_t axis = rank; axis-- > skipped;) {
      const size_t extent = static_cast<size_t>(a.shape[axis]), own = static_cast<size_t>(b.shape[axis - skipped]);
      REID_CHECK(own == 1 || own == extent, "onnx: shapes that do not broadcast");
      if (own > 1) at += rest % extent * stride;
      stride *= own;
      rest /= extent;
    }
    y.numbers[i] = f(a.numbers[i], b.numbers.at(at));
  }
  return y;
}

struct Window {
  int64_t kernel, stride, pad, out;
};
inline Window window_of(const OnnxNode& node, int64_t extent) {
  const auto first = [&](const char* name) { return static_cast<int64_t>(node.attributes.at(name).at(0)); };
  Window w{first("kernel_shape"), first("strides"), first("pads"), 0};
  const bool ceil = node.attributes.count("ceil_mode") && first("ceil_mode") == 1;
  w.out = (extent + 2 * w.pad - w.kernel + (ceil ? w.stride - 1 : 0)) / w.stride + 1;
  return w;
}

// Calls visit(y, x) with offsets into the planes of the result and of the input, for every pixel inside each window; k is its
// place in the window.
template <class Visit>
void slide(const Window& rows, const Window& columns, int64_t height, int64_t width, Visit&& visit) {
  for (int64_t p = 0; p < rows.out; ++p)
    for (int64_t q = 0; q < columns.out; ++q)
      for (int64_t r = 0; r < rows.kernel; ++r)
        for (int64_t s = 0; s < columns.kernel; ++s) {
          const int64_t i = p * rows.stride + r - rows.pad, j = q * columns.stride + s - columns.pad;
          if (i >= 0 && i < height && j >= 0 && j < width)
            visit(static_cast<size_t>(p * columns.out + q), static_cast<size_t>(i * width + j),
                  static_cast<size_t>(r * columns.kernel + s));
        }
}

inline Value convolve(const OnnxNode& node, const Value& x, const Value& w, const Value* bias) {
  const int64_t n = x.shape[0], c = x.shape[1], h = x.shape[2], width = x.shape[3], k = w.shape[0];
  REID_CHECK(w.shape[1] == c, "onnx: ", node.name, " has filters of ", w.shape[1], " channels for ", c);
  const Window rows = window_of(node, h), columns = window_of(node, width);
  Value y{{n, k, rows.out, columns.out}, {}};
  const size_t plane = static_cast<size_t>(rows.out * columns.out), source = static_cast<size_t>(h * width);
  const size_t taps = static_cast<size_t>(rows.kernel * columns.kernel);
  for (size_t image = 0; image < static_cast<size_t>(n); ++image)
    for (size_t out = 0; out < static_cast<size_t>(k); ++out) {
      std::vector<double> sums(plane, bias ? bias->numbers.at(out) : 0);
      for (size_t in = 0; in < static_cast<size_t>(c); ++in) {
        const double* from = x.numbers.data() + (image * static_cast<size_t>(c) + in) * source;
        const double* filter = w.numbers.data() + (out * static_cast<size_t>(c) + in) * taps;
        slide(rows, columns, h, width, [&](size_t to, size_t at, size_t tap) { sums[to] += from[at] * filter[tap]; });
      }
      y.numbers.insert(y.numbers.end(), sums.begin(), sums.end());
    }
  return y;
}

inline Value pooled_maximum(const OnnxNode& node, const Value& x) {
  const Window rows = window_of(node, x.shape[2]), columns = window_of(node, x.shape[3]);
  Value y{{x.shape[0], x.shape[1], rows.out, columns.out}, {}};
  const size_t source = static_cast<size_t>(x.shape[2] * x.shape[3]);
  for (size_t begin = 0; begin < x.numbers.size(); begin += source) {
    std::vector<double> best(static_cast<size_t>(rows.out * columns.out), -INFINITY);
    slide(rows, columns, x.shape[2], x.shape[3],
          [&](size_t to, size_t at, size_t) { best[to] = std::max(best[to], x.numbers[begin + at]); });
    y.numbers.insert(y.numbers.end(), best.begin(), best.end());
  }
  return y;
}

inline Value instance_normalized(const Value& x, const Value& scale, const Value& shift, double eps) {
  Value y = x;
  const size_t plane = static_cast<size_t>(x.shape[2] * x.shape[3]), channels = static_cast<size_t>(x.shape[1]);
  for (size_t begin = 0; begin < x.numbers.size(); begin += plane) {
    const std::span<double> v(y.numbers.data() + begin, plane);
    double mean = 0, variance = 0;
    for (const double a : v) mean += a / static_cast<double>(plane);
    for (const double a : v) variance += (a - mean) * (a - mean) / static_cast<double>(plane);
    const size_t c = begin / plane % channels;
    for (double& a : v) a = (a - mean) / std::sqrt(variance + eps) * scale.numbers.at(c) + shift.numbers.at(c);
  }
  return y;
}

inline Value plane_means(const Value& x) {
  Value y{{x.shape[0], x.shape[1], 1, 1}, {}};
  const size_t plane = static_cast<size_t>(x.shape[2] * x.shape[3]);
  for (size_t begin = 0; begin < x.numbers.size(); begin += plane) {
    double sum = 0;
    for (size_t i = 0; i < plane; ++i) sum += x.numbers[begin + i];
    y.numbers.push_back(sum / static_cast<double>(plane));
  }
  return y;
}

// Channels [begin, end).
inline Value channel_range(const Value& x, int64_t begin, int64_t end) {
  Value y{{x.shape[0], end - begin, x.shape[2], x.shape[3]}, {}};
  const int64_t plane = x.shape[2] * x.shape[3];
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    const auto image = x.numbers.begin() + n * x.shape[1] * plane;
    y.numbers.insert(y.numbers.end(), image + begin * plane, image + end * plane);
  }
  return y;
}

inline Value joined_channels(const Value& a, const Value& b) {
  Value y{{a.shape[0], a.shape[1] + b.shape[1], a.shape[2], a.shape[3]}, {}};
  const int64_t left = count_of(a.shape) / a.shape[0], right = count_of(b.shape) / b.shape[0];
  for (int64_t n = 0; n < a.shape[0]; ++n) {
    y.numbers.insert(y.numbers.end(), a.numbers.begin() + n * left, a.numbers.begin() + (n + 1) * left);
    y.numbers.insert(y.numbers.end(), b.numbers.begin() + n * right, b.numbers.begin() + (n + 1) * right);
  }
  return y;
}

inline Value planes_of(const Value& x) {  // [N, H, W, C] -> [N, C, H, W]
  Value y{{x.shape[0], x.shape[3], x.shape[1], x.shape[2]}, {}};
  const int64_t pixels = x.shape[1] * x.shape[2], channels = x.shape[3];
  for (int64_t n = 0; n < x.shape[0]; ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < pixels; ++i) y.numbers.push_back(x.numbers[static_cast<size_t>((n * pixels + i) * channels + c)]);
  return y;
}

// The results of one node that is not a Split.
inline Value run_node(const OnnxNode& node, const std::vector<const Value*>& in) {
  const Value& x = *in.at(0);
  const auto with_second = [&](auto f) { return broadcast(x, *in.at(1), f); };
  if (node.op == "Cast") return x;
  if (node.op == "Transpose") return planes_of(x);
  if (node.op == "Add") return with_second([](double a, double b) { return a + b; });
  if (node.op == "Sub") return with_second([](double a, double b) { return a - b; });
  if (node.op == "Mul") return with_second([](double a, double b) { return a * b; });
  if (node.op == "Div") return with_second([](double a, double b) { return a / b; });
  if (node.op == "Pow") return with_second([](double a, double b) { return std::pow(a, b); });
  if (node.op == "Clip") return with_second([](double a, double b) { return std::max(a, b); });
  if (node.op == "Relu") return broadcast(x, Value{{}, {0}}, [](double a, double b) { return std::max(a, b); });
  if (node.op == "Conv") return convolve(node, x, *in.at(1), in.size() > 2 ? in[2] : nullptr);
  if (node.op == "MaxPool") return pooled_maximum(node, x);
  if (node.op == "InstanceNormalization") return instance_normalized(x, *in.at(1), *in.at(2), node.attributes.at("epsilon").at(0));
  if (node.op == "Concat") return joined_channels(x, *in.at(1));
  if (node.op == "GlobalAveragePool") return plane_means(x);
  if (node.op == "Flatten") return Value{{x.shape[0], count_of(x.shape) / x.shape[0]}, x.numbers};
  fail("onnx: no operator " + node.op);
}

// The model's output. Throws when a node reads what does not exist yet, when a name is given twice and when a constant is not used.
inline Value run_onnx(const OnnxModel& model, const Value& images) {
  std::map<std::string, Value> values = model.constants;
  values[model.inputs.at(0).name] = images;
  std::map<std::string, bool> used;
  for (const OnnxNode& node : model.nodes) {
    std::vector<const Value*> in;
    for (const std::string& name : node.inputs) {
      REID_CHECK(values.count(name), "onnx: ", node.name, " reads ", name, " before it exists");
      used[name] = true;
      in.push_back(&values[name]);
    }
    std::vector<Value> results;
    if (node.op == "Split") {
      const int64_t half = static_cast<int64_t>(in.at(1)->numbers.at(0));
      results = {channel_range(*in[0], 0, half), channel_range(*in[0], half, in[0]->shape[1])};
    } else {
      results = {run_node(node, in)};
    }
    for (size_t i = 0; i < results.size(); ++i)
      REID_CHECK(values.insert({node.outputs.at(i), std::move(results[i])}).second, "onnx: ", node.outputs[i], " is made twice");
  }
  for (const auto& [name, constant] : model.constants) REID_CHECK(used.count(name), "onnx: nothing reads ", name);
  return values.at(model.outputs.at(0).name);
}

}  // namespace reid::test
