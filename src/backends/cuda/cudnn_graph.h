#pragma once
// cuDNN's graph interface (cudnn_graph.h of cuDNN 9) as far as a convolution and what follows it need it: descriptors that clean up behind
// them, the engines that are offered for a graph of operations, with what they say of themselves, and plans.

#include <cudnn.h>

#include <concepts>
#include <memory>
#include <string>
#include <vector>

#include "shared_library.h"
#include "vendor.h"

namespace reid::cuda {

// The functions of the opened library.
class Cudnn {
 public:
  explicit Cudnn(const std::vector<std::string>& files);  // throws where the library is missing, incomplete or not cuDNN 9

  // Throws unless `status` is success: "cuDNN: WHAT: the library's word for it (its last message)".
  void check(cudnnStatus_t status, const std::string& what) const;
  std::string words(cudnnStatus_t status) const;  // the same words, unthrown

  decltype(&::cudnnGetVersion) version = nullptr;  // 91900
  decltype(&::cudnnGetErrorString) error_string = nullptr;
  decltype(&::cudnnGetLastErrorString) last_error = nullptr;
  decltype(&::cudnnCreate) create = nullptr;
  decltype(&::cudnnSetStream) set_stream = nullptr;
  decltype(&::cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&::cudnnBackendSetAttribute) set = nullptr;
  decltype(&::cudnnBackendGetAttribute) get = nullptr;
  decltype(&::cudnnBackendFinalize) finalize = nullptr;
  decltype(&::cudnnBackendExecute) execute = nullptr;

 private:
  SharedLibrary library_;
};

// A descriptor of the library, destroyed with its owner.
class Descriptor {
 public:
  Descriptor(const Cudnn& library, cudnnBackendDescriptorType_t type, const char* what);
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor();

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values);
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  void set(cudnnBackendAttributeName_t name, float value) { set(name, CUDNN_TYPE_FLOAT, 1, &value); }
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) { set(name, CUDNN_TYPE_DATA_TYPE, 1, &value); }
  void set(cudnnBackendAttributeName_t name, std::same_as<bool> auto value) { set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) { set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_); }
  // How many values there are; at most `room` of them are written.
  int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room, void* values) const;

  void finalize();                     // throws
  cudnnStatus_t try_finalize() const;  // for what the library may decline
  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  const Cudnn* library_;
  const char* what_;
  cudnnBackendDescriptor_t raw_ = nullptr;
};

// For whom plans are made: a handle on the device at hand or, from cuDNN 9.8 on, the properties of a device that need not be there.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  cudnnBackendDescriptor_t properties = nullptr;
};

// What an engine says of itself.
struct EngineNotes {
  std::vector<cudnnBackendNumericalNote_t> numerical;
  std::vector<cudnnBackendBehaviorNote_t> behavior;
  bool has(cudnnBackendNumericalNote_t note) const;
  bool has(cudnnBackendBehaviorNote_t note) const;
};

// What a plan may be, beyond what the operation says.
struct EngineRules {
  bool f32 = false;         // factors are f32: tensor cores would round them
  bool other_sums = false;  // ConvShape::other_sums
  VendorAllows allows = {};
};
const char* refuse_engine(const EngineNotes& notes, const EngineRules& rules);  // null: acceptable, else the reason

// No engine may ask for more scratch than this: about four of the largest maps of ResNet-50 at batch 256 in bf16 (268 MB, 256 x 128
// images).
inline constexpr int64_t kCudnnWorkspace = int64_t{1} << 30;

// An acceptable plan, or the reason why there is none.
struct CudnnPlan {
  std::unique_ptr<Descriptor> plan;
  int64_t workspace = 0;  // bytes
  int64_t engine = -1;    // the library's number
  std::string refusal;
};

// The first acceptable plans of those that the library's heuristics offer, at most so many, mode A before the fallbacks. Where there is
// none, the only element says why. The operations are final, as all descriptors in them; what one makes and another takes connects them.
std::vector<CudnnPlan> plan_operations(const Cudnn& library, const CudnnTarget& target, const std::vector<Descriptor>& operations,
                                       const EngineRules& rules, int most);

}  // namespace reid::cuda
