#include "cudnn_graph.h"

#include <algorithm>
#include <map>

#include "reid/engine/base.h"

static_assert(CUDNN_MAJOR == 9, "the graph interface of cuDNN 9 is what this is written for");

namespace reid::cuda {

Cudnn::Cudnn(const std::vector<std::string>& files)
    : library_("cuDNN", files, "install cuDNN 9 (libcudnn9-cuda-13), name its folder in LD_LIBRARY_PATH, or do without it") {
  library_.find(version, "cudnnGetVersion");
  library_.find(error_string, "cudnnGetErrorString");
  library_.find(last_error, "cudnnGetLastErrorString");
  library_.find(create, "cudnnCreate");
  library_.find(set_stream, "cudnnSetStream");
  library_.find(create_descriptor, "cudnnBackendCreateDescriptor");
  library_.find(destroy_descriptor, "cudnnBackendDestroyDescriptor");
  library_.find(set, "cudnnBackendSetAttribute");
  library_.find(get, "cudnnBackendGetAttribute");
  library_.find(finalize, "cudnnBackendFinalize");
  library_.find(execute, "cudnnBackendExecute");
  const size_t found = version();
  REID_CHECK(found / 10000 == CUDNN_MAJOR, "cuDNN in ", library_.file(), " is of version ", found, "; this program knows cuDNN 9");
}

std::string Cudnn::words(cudnnStatus_t status) const {
  char message[512] = "";
  last_error(message, sizeof message);
  return str(error_string(status), message[0] ? str(" (", message, ")") : "");
}

void Cudnn::check(cudnnStatus_t status, const std::string& what) const {
  if (status != CUDNN_STATUS_SUCCESS) fail(str("cuDNN: ", what, ": ", words(status)));
}

Descriptor::Descriptor(const Cudnn& library, cudnnBackendDescriptorType_t type, const char* what) : library_(&library), what_(what) {
  library.check(library.create_descriptor(type, &raw_), str("creating ", what));
}
Descriptor::Descriptor(Descriptor&& other) noexcept
    : library_(other.library_), what_(other.what_), raw_(std::exchange(other.raw_, nullptr)) {}
Descriptor::~Descriptor() {
  if (raw_) library_->destroy_descriptor(raw_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  library_->check(library_->set(raw_, name, type, count, values), str("setting attribute ", static_cast<int>(name), " of ", what_));
}

int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room, void* values) const {
  int64_t count = 0;
  library_->check(library_->get(raw_, name, type, room, &count, values), str("reading attribute ", static_cast<int>(name), " of ", what_));
  return count;
}

void Descriptor::finalize() { library_->check(try_finalize(), str("finalizing ", what_)); }
cudnnStatus_t Descriptor::try_finalize() const { return library_->finalize(raw_); }

bool EngineNotes::has(cudnnBackendNumericalNote_t note) const { return std::ranges::find(numerical, note) != numerical.end(); }
bool EngineNotes::has(cudnnBackendBehaviorNote_t note) const { return std::ranges::find(behavior, note) != behavior.end(); }

// Minimal filtering with tiles up to 4 x 4 is what the CPU's does too; with larger ones, or by Fourier transforms, and with transformed
// factors rounded to bf16, sums are further from the definition than `other_sums` says.
const char* refuse_engine(const EngineNotes& notes, const EngineRules& rules) {
  if (notes.has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) && !rules.allows.nondeterministic) return "nondeterministic";
  if (rules.f32 && notes.has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE) && !rules.allows.tf32) return "rounds f32 to TF32";
  if (notes.has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) && !(rules.f32 && rules.allows.tf32)) return "rounds its inputs";
  if (notes.has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return "sums in less than f32";
  if (notes.has(CUDNN_NUMERICAL_NOTE_FFT)) return "Fourier transforms";
  if (notes.has(CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6) || notes.has(CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13))
    return "minimal filtering with large tiles";
  if (notes.has(CUDNN_NUMERICAL_NOTE_WINOGRAD) || notes.has(CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4)) {
    if (!rules.f32) return "minimal filtering of bf16";
    if (!rules.other_sums) return "other sums than the definition's";
  }
  if (notes.has(CUDNN_BEHAVIOR_NOTE_REQUIRES_FILTER_INT8x32_REORDER) || notes.has(CUDNN_BEHAVIOR_NOTE_REQUIRES_BIAS_INT8x32_REORDER))
    return "wants another layout";
  return nullptr;
}

namespace {

// What the library may answer for a problem that it does not compute; anything else is an error of ours or of the machine.
bool declined(cudnnStatus_t status) { return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED; }

EngineNotes notes_of(const Descriptor& engine) {
  EngineNotes notes;
  // Newer libraries may know more notes than this header.
  constexpr int64_t kRoom = 64;
  notes.numerical.resize(kRoom), notes.behavior.resize(kRoom);
  notes.numerical.resize(static_cast<size_t>(
      std::min(kRoom, engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, kRoom, notes.numerical.data()))));
  notes.behavior.resize(static_cast<size_t>(
      std::min(kRoom, engine.get(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, kRoom, notes.behavior.data()))));
  return notes;
}

// Engines with their settings, best first.
std::vector<Descriptor> offers(const Cudnn& library, [[maybe_unused]] const CudnnTarget& target, const Descriptor& graph,
                               cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(library, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the heuristics");
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
#if CUDNN_VERSION >= 90800
  if (target.properties) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target.properties);
#endif
  std::vector<Descriptor> configurations;
  if (const cudnnStatus_t status = heuristics.try_finalize(); declined(status))
    return configurations;
  else
    library.check(status, "finalizing the heuristics");
  const int64_t count = heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) {
    configurations.emplace_back(library, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "an engine's settings");
    raw.push_back(configurations.back().raw());
  }
  const int64_t filled = count == 0 ? 0 : heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, raw.data());
  while (static_cast<int64_t>(configurations.size()) > filled) configurations.pop_back();
  return configurations;
}

// The plan of one offer, or the reason against it.
CudnnPlan consider(const Cudnn& library, const CudnnTarget& target, const Descriptor& configuration, const EngineRules& rules) {
  CudnnPlan result;
  const Descriptor engine(library, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "an engine");
  cudnnBackendDescriptor_t raw = engine.raw();
  configuration.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
  if (const char* reason = refuse_engine(notes_of(engine), rules)) return {.plan = nullptr, .refusal = reason};
  auto plan = std::make_unique<Descriptor>(library, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
  if (target.handle) plan->set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
#if CUDNN_VERSION >= 90800
  if (target.properties) plan->set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target.properties);
#endif
  plan->set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
  // An engine may turn out not to run here (no compiler at run time, say); the next may.
  if (const cudnnStatus_t status = plan->try_finalize(); status != CUDNN_STATUS_SUCCESS)
    return {.plan = nullptr, .refusal = library.words(status)};
  plan->get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &result.workspace);
  if (result.workspace > kCudnnWorkspace) return {.plan = nullptr, .refusal = "wants too much scratch memory"};
  engine.get(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &result.engine);
  result.plan = std::move(plan);
  return result;
}

std::vector<CudnnPlan> none(std::string refusal) {
  std::vector<CudnnPlan> only(1);
  only[0].refusal = std::move(refusal);
  return only;
}

}  // namespace

std::vector<CudnnPlan> plan_operations(const Cudnn& library, const CudnnTarget& target, const std::vector<Descriptor>& operations,
                                       const EngineRules& rules, int most) {
  Descriptor graph(library, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the operation graph");
  if (target.handle) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& operation : operations) raw.push_back(operation.raw());
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
  if (const cudnnStatus_t status = graph.try_finalize(); declined(status))
    return none(str("cuDNN does not take it: ", library.words(status)));
  else
    library.check(status, "finalizing the operation graph");
  std::map<std::string, int> reasons;
  std::vector<CudnnPlan> plans;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const Descriptor& configuration : offers(library, target, graph, mode)) {
      CudnnPlan plan = consider(library, target, configuration, rules);
      if (plan.plan)
        plans.push_back(std::move(plan));
      else
        ++reasons[plan.refusal];
      if (static_cast<int>(plans.size()) == most) return plans;
    }
  }
  if (!plans.empty()) return plans;
  std::string list;
  for (const auto& [reason, count] : reasons) list += str(list.empty() ? "" : "; ", count, " x ", reason);
  return none(reasons.empty() ? "cuDNN offers no engine" : "none of cuDNN's engines is acceptable: " + list);
}

}  // namespace reid::cuda
