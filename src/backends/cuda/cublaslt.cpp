#include "cublaslt.h"

#include <algorithm>

#include "reid/engine/registry.h"
#include "shared_library.h"

namespace reid::cuda {

namespace {

// [rows, columns] as it lies row-major.
ColumnMajor turned(const void* data, DType dtype, int64_t rows, int64_t columns, bool transposed) {
  return {.rows = columns, .columns = rows, .stride = columns, .transposed = transposed, .dtype = dtype, .alignment = plan_alignment(data)};
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

}  // namespace

GemmProblem gemm_problem(const GemmArgs& g) {
  const auto stored = [&](const void* data, int64_t rows, int64_t columns, bool transposed) {
    return transposed ? turned(data, g.dtype, columns, rows, true) : turned(data, g.dtype, rows, columns, false);
  };
  return {.left = stored(g.b, g.k, g.n, g.transpose_b),
          .right = stored(g.a, g.m, g.k, g.transpose_a),
          .result = turned(g.c, wide(g.dtype), g.m, g.n, false),
          .accumulate = g.accumulate};
}

std::vector<int64_t> GemmProblem::key(VendorAllows allows, int device) const {
  std::vector<int64_t> words{accumulate, allows.tf32, allows.nondeterministic, device};
  for (const ColumnMajor* m : {&left, &right, &result}) {
    const int64_t all[] = {m->rows, m->columns, m->stride, m->transposed, static_cast<int64_t>(m->dtype), m->alignment};
    words.insert(words.end(), std::begin(all), std::end(all));
  }
  return words;
}

const char* refuse_gemm(const GemmArgs& g) {
  constexpr int64_t kMost = int64_t{1} << 31;
  if (g.dtype != DType::f32 && g.dtype != DType::bf16) return "takes f32 and bf16";
  if (g.m == 0 || g.n == 0 || g.k == 0) return "takes matrices with elements";
  return g.m >= kMost || g.n >= kMost || g.k >= kMost ? "takes extents below 2^31" : nullptr;
}

namespace {

constexpr uint64_t kNarrowInputs = CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8I |
                                   CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8F_E4M3 | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8F_E5M2;
constexpr uint64_t kNarrowSums = CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F | CUBLASLT_NUMERICAL_IMPL_FLAGS_GAUSSIAN;

uint64_t refused_numerics(DType dtype, VendorAllows allows) {
  uint64_t refused = kNarrowInputs | kNarrowSums;
  if (dtype == DType::f32) refused |= CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF;
  if (dtype == DType::f32 && !allows.tf32) refused |= CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32;
  return refused;
}
uint32_t accepted_reductions(VendorAllows allows) {
  return allows.nondeterministic ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

}  // namespace

const char* refuse_algorithm(const AlgorithmNotes& notes, DType dtype, VendorAllows allows) {
  if ((notes.reduction & ~accepted_reductions(allows)) != 0) return "sums in parts, put together where they arrive";
  const uint64_t bad = notes.numerics & refused_numerics(dtype, allows);
  if ((bad & CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32) != 0) return "rounds f32 to TF32";
  if ((bad & kNarrowSums) != 0) return "sums in less than f32";
  return bad != 0 ? "rounds its inputs" : nullptr;
}

class CublasLt {
 public:
  explicit CublasLt(const std::vector<std::string>& files)
      : library_("cuBLASLt", files, "install cuBLAS of the CUDA toolkit, name its folder in LD_LIBRARY_PATH, or do without it") {
    library_.find(status_string, "cublasLtGetStatusString");
    library_.find(create, "cublasLtCreate");
    library_.find(create_operation, "cublasLtMatmulDescCreate");
    library_.find(destroy_operation, "cublasLtMatmulDescDestroy");
    library_.find(set_operation, "cublasLtMatmulDescSetAttribute");
    library_.find(create_layout, "cublasLtMatrixLayoutCreate");
    library_.find(destroy_layout, "cublasLtMatrixLayoutDestroy");
    library_.find(create_preference, "cublasLtMatmulPreferenceCreate");
    library_.find(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    library_.find(set_preference, "cublasLtMatmulPreferenceSetAttribute");
    library_.find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library_.find(configuration, "cublasLtMatmulAlgoConfigGetAttribute");
    library_.find(capability, "cublasLtMatmulAlgoCapGetAttribute");
    library_.find(matmul, "cublasLtMatmul");
  }
  void check(cublasStatus_t status, const char* what) const {
    if (status != CUBLAS_STATUS_SUCCESS) fail(str("cuBLASLt: ", what, ": ", status_string(status)));
  }

  decltype(&::cublasLtGetStatusString) status_string = nullptr;
  decltype(&::cublasLtCreate) create = nullptr;
  decltype(&::cublasLtMatmulDescCreate) create_operation = nullptr;
  decltype(&::cublasLtMatmulDescDestroy) destroy_operation = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) set_operation = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&::cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&::cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) configuration = nullptr;
  decltype(&::cublasLtMatmulAlgoCapGetAttribute) capability = nullptr;
  decltype(&::cublasLtMatmul) matmul = nullptr;

 private:
  SharedLibrary library_;
};

namespace {

// A handle of the library with the function that destroys it.
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;

Owned<cublasLtMatrixLayout_t> make_layout(const CublasLt& library, const ColumnMajor& m) {
  cublasLtMatrixLayout_t raw = nullptr;
  library.check(library.create_layout(&raw, type_of(m.dtype), static_cast<uint64_t>(m.rows), static_cast<uint64_t>(m.columns), m.stride),
                "creating a layout");
  return {raw, library.destroy_layout};
}

Owned<cublasLtMatmulDesc_t> make_operation(const CublasLt& library, const GemmProblem& p, VendorAllows allows) {
  const bool tf32 = p.left.dtype == DType::f32 && allows.tf32;
  cublasLtMatmulDesc_t raw = nullptr;
  library.check(library.create_operation(&raw, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
                "creating the operation");
  Owned<cublasLtMatmulDesc_t> operation{raw, library.destroy_operation};
  for (const auto& [attribute, m] : {std::pair{CUBLASLT_MATMUL_DESC_TRANSA, &p.left}, {CUBLASLT_MATMUL_DESC_TRANSB, &p.right}}) {
    const int32_t turn = m->transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    library.check(library.set_operation(raw, attribute, &turn, sizeof turn), "setting what is transposed");
  }
  return operation;
}

// Within these limits the library searches.
Owned<cublasLtMatmulPreference_t> make_preference(const CublasLt& library, const GemmProblem& p, VendorAllows allows) {
  cublasLtMatmulPreference_t raw = nullptr;
  library.check(library.create_preference(&raw), "creating a preference");
  Owned<cublasLtMatmulPreference_t> preference{raw, library.destroy_preference};
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    library.check(library.set_preference(raw, attribute, &value, sizeof value), "setting a preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kCublasWorkspace));
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, accepted_reductions(allows));
  set(CUBLASLT_MATMUL_PREF_IMPL_MASK, ~refused_numerics(p.left.dtype, allows));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p.left.alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p.right.alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p.result.alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(p.result.alignment));
  return preference;
}

struct GemmOffer {
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace = 0;  // bytes
};

}  // namespace

struct GemmPlan {
  Owned<cublasLtMatmulDesc_t> operation{nullptr, nullptr};
  Owned<cublasLtMatrixLayout_t> left{nullptr, nullptr}, right{nullptr, nullptr}, result{nullptr, nullptr};
  GemmOffer chosen;
  std::string refusal;
};

namespace {

AlgorithmNotes notes_of(const CublasLt& library, const cublasLtMatmulAlgo_t& algorithm) {
  AlgorithmNotes notes;
  size_t written = 0;
  library.check(
      library.configuration(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &notes.reduction, sizeof notes.reduction, &written),
      "reading how an algorithm puts sums together");
  library.check(library.capability(&algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &notes.numerics, sizeof notes.numerics, &written),
                "reading an algorithm's numerics");
  return notes;
}

GemmPlan describe_gemm(const CublasLt& library, const GemmProblem& p, VendorAllows allows) {
  GemmPlan plan;
  plan.operation = make_operation(library, p, allows);
  plan.left = make_layout(library, p.left), plan.right = make_layout(library, p.right), plan.result = make_layout(library, p.result);
  return plan;
}

// The first acceptable algorithms, at most so many; where there is none, the plan says why.
std::vector<GemmOffer> offers_of(const CublasLt& library, cublasLtHandle_t handle, const GemmProblem& p, VendorAllows allows, int most,
                                 GemmPlan& plan) {
  const int room = 16 * most;  // many are not acceptable
  const auto preference = make_preference(library, p, allows);
  std::vector<cublasLtMatmulHeuristicResult_t> offers(static_cast<size_t>(room));
  int count = 0;
  const cublasStatus_t status = library.heuristic(handle, plan.operation.get(), plan.left.get(), plan.right.get(), plan.result.get(),
                                                  plan.result.get(), preference.get(), room, offers.data(), &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) library.check(status, "asking for algorithms");
  offers.resize(static_cast<size_t>(status == CUBLAS_STATUS_SUCCESS ? count : 0));
  plan.refusal = "cuBLASLt offers no algorithm";
  std::vector<GemmOffer> accepted;
  for (const auto& offer : offers) {
    if (static_cast<int>(accepted.size()) == most) break;
    if (offer.state != CUBLAS_STATUS_SUCCESS) continue;
    const char* reason = refuse_algorithm(notes_of(library, offer.algo), p.left.dtype, allows);
    if (!reason && offer.workspaceSize > static_cast<size_t>(kCublasWorkspace)) reason = "wants too much scratch memory";
    if (!reason)
      accepted.push_back({offer.algo, offer.workspaceSize});
    else
      plan.refusal = str("none of cuBLASLt's algorithms is acceptable, the last: ", reason);
  }
  if (!accepted.empty()) plan.refusal.clear();
  return accepted;
}

void multiply(const CublasLt& library, cublasLtHandle_t handle, const GemmPlan& p, const GemmOffer& offer, const GemmArgs& args,
              void* scratch, cudaStream_t stream) {
  const float alpha = 1, beta = args.accumulate ? 1.0F : 0.0F;
  library.check(library.matmul(handle, p.operation.get(), &alpha, args.b, p.left.get(), args.a, p.right.get(), &beta, args.c,
                               p.result.get(), args.c, p.result.get(), &offer.algorithm, scratch, offer.workspace, stream),
                "multiplying");
}

}  // namespace

Products::Products(VendorPlace place) : place_(std::move(place)) {}
Products::~Products() = default;

const CublasLt& Products::library() {
  const std::scoped_lock lock(mutex_);
  if (!library_) library_ = std::make_unique<CublasLt>(place_.files);
  return *library_;
}

// The stream's device must be the thread's when a handle is made.
cublasLtHandle_t Products::handle(Stream& stream) {
  const CublasLt& cublas = library();
  place_.native(stream);
  const std::scoped_lock lock(mutex_);
  const auto found = handles_.find(stream.device().index);
  if (found != handles_.end()) return found->second;
  cublasLtHandle_t made = nullptr;
  cublas.check(cublas.create(&made), "creating a handle");
  return handles_[stream.device().index] = made;
}

const GemmPlan& Products::plan(const GemmArgs& args, Stream& stream) {
  const GemmProblem problem = gemm_problem(args);
  const int tries = place_.tries_on({args.a, args.b, args.c});
  std::vector<int64_t> key = problem.key(place_.allows, stream.device().index);
  key.push_back(tries);
  return plans_.get(key, [&] { return make(args, problem, tries, stream); });
}

GemmPlan Products::make(const GemmArgs& args, const GemmProblem& problem, int tries, Stream& stream) {
  GemmPlan plan = describe_gemm(library(), problem, place_.allows);
  const std::vector<GemmOffer> offers = offers_of(library(), handle(stream), problem, place_.allows, tries, plan);
  std::string what = plan.refusal;
  if (what.empty()) {
    const int64_t bytes = args.m * args.n * size_of(problem.result.dtype);
    const Choice choice = fastest_offer(place_, stream, offers.size(), [&](size_t i) {
      const auto own = static_cast<int64_t>((offers[i].workspace + 63) / 64 * 64);
      const Storage memory(own + bytes, stream.device(), Storage::Use::workspace);
      GemmArgs aside = args;
      aside.c = static_cast<uint8_t*>(memory.data()) + own;
      multiply(library(), handle(stream), plan, offers[i], aside, own == 0 ? nullptr : memory.data(), place_.native(stream));
    });
    plan.chosen = offers[choice.offer];
    what = str("scratch ", plan.chosen.workspace, " bytes", choice.how);
  }
  if (trace_enabled()) trace_line("plan", "cublaslt", str(problem_line(args), ": ", what));
  return plan;
}

const std::string& Products::refusal(const GemmArgs& args, Stream& stream) { return plan(args, stream).refusal; }

void Products::run(const GemmArgs& args, Stream& stream) {
  const GemmPlan& p = plan(args, stream);
  REID_CHECK(p.refusal.empty(), p.refusal);
  void* scratch = p.chosen.workspace == 0 ? nullptr : stream.workspace(p.chosen.workspace);
  multiply(library(), handle(stream), p, p.chosen, args, scratch, place_.native(stream));
}

namespace {

// The registry's functions carry no state: theirs is found by where they compute. Never destroyed, as the handles.
Products* places[kDeviceTypes] = {};

template <DeviceType type>
const char* refuses(const GemmArgs& args) {
  if (const char* reason = refuse_gemm(args)) return reason;
  return naming_op<Gemm>(args, [&]() -> const char* {
    const std::string& refusal = places[static_cast<size_t>(type)]->refusal(args, current_stream({type, device_of(args.b).index}));
    return refusal.empty() ? nullptr : refusal.c_str();
  });
}

template <DeviceType type>
void run(const GemmArgs& args, Stream& stream) {
  naming_op<Gemm>(args, [&] { places[static_cast<size_t>(type)]->run(args, stream); });
}

}  // namespace

void register_cublaslt(const char* name, VendorPlace place) {
  const DeviceType type = place.type;
  REID_CHECK(type == DeviceType::cuda || type == DeviceType::cpu, "[vendor] cuBLASLt computes on cuda, in tests on the CPU");
  places[static_cast<size_t>(type)] = new Products(std::move(place));
  Registry::add<Gemm>(type, type == DeviceType::cuda ? Impl<Gemm>{name, refuses<DeviceType::cuda>, run<DeviceType::cuda>}
                                                     : Impl<Gemm>{name, refuses<DeviceType::cpu>, run<DeviceType::cpu>});
}

PlanStatistics cublaslt_statistics(DeviceType type) {
  const Products* place = places[static_cast<size_t>(type)];
  return place ? place->statistics() : PlanStatistics();
}

}  // namespace reid::cuda
