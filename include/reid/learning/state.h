#pragma once
// Everything a resume needs, named once: the same list of fields writes a checkpoint and reads it back.
//
//   void ReMix::state(State& s) { s.module("encoder", encoder_); s.integer("epoch", epoch_); }

#include <cstdint>
#include <string>
#include <vector>

#include "reid/engine/nn.h"
#include "reid/formats/safetensors.h"
#include "reid/people/data.h"

namespace reid {

class State {
 public:
  State() = default;                                                                      // writes
  explicit State(NamedTensors content) : content_(std::move(content)), reading_(true) {}  // reads

  // Parameters are copied into their place (they may be windows of a store), buffers too when they have the shape.
  template <class M>
  void module(const std::string& name, M& m) {
    for (const auto& [path, p] : inventory(m).parameters) {
      place(name + "." + path, p->value);
      if (reading_) p->refresh();
    }
    for (const auto& [path, b] : inventory(m).buffers) place(name + "." + path, *b);
  }
  void tensor(const std::string& name, Tensor& t, Device device = {});  // replaced when read, and then on `device`; may be undefined
  void integers(const std::string& name, std::vector<int64_t>& values);
  void integer(const std::string& name, int64_t& value);
  void plan(const std::string& name, BatchPlan& plan);

  bool reading() const { return reading_; }
  NamedTensors take() { return std::move(content_); }

 private:
  void place(const std::string& name, Tensor& t);
  NamedTensors content_;
  bool reading_ = false;
};

}  // namespace reid
