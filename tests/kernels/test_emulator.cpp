// The emulator is tested before it tests anything: each bug that it is for is planted here, and must be reported.

#include "planted.h"

namespace reid::emu::test {
namespace {

using Floats = std::vector<float>;

// --- barriers that not all threads reach ---

constexpr int kBarrierLine = __LINE__ + 3;
__global__ void return_before_barrier(int live) {
  if (static_cast<int>(threadIdx.x) >= live) return;
  __syncthreads();
}

__global__ void barrier_in_branch() {
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST_CASE("emulator: an early return before a barrier is reported with its place and counts") {
  under_every_schedule([] {
    const std::string message = error_of([] { launch(return_before_barrier, 1, 256, 0, stream(), 100); });
    check_says(message, {"100 threads wait at __syncthreads", "156 already returned", "launch at"});
    check_says(message, {str("test_emulator.cpp:", kBarrierLine).c_str()});
    CHECK(error_of([] { launch(return_before_barrier, 1, 256, 0, stream(), 256); }) == "");
  });
}

TEST_CASE("emulator: barriers in both arms of a branch are two barriers") {
  under_every_schedule([] {
    check_says(error_of([] { launch(barrier_in_branch, 1, 128, 0, stream()); }), {"different barriers", "stands in a branch"});
  });
}

// --- a barrier that is missing between two uses of one array ---

// Sum of a block's 256 values through `partial`; without `guarded` the next call may overwrite what slow warps still read. The
// reduction of mlx's layer norm has this form, and one of ggml's had it.
float reduce(float value, float* partial, bool guarded) {
  value = warp_reduce(value, Add());
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += partial[w];
  if (guarded) __syncthreads();
  return sum;
}

__global__ void standardize(const float* x, float* y, bool guarded) {
  SHARED_ARRAY(float, partial, 8);
  const float mean = reduce(x[threadIdx.x], partial, guarded) / 256;
  const float centered = x[threadIdx.x] - mean;
  y[threadIdx.x] = centered / sqrtf(reduce(centered * centered, partial, guarded) / 256);
}

double worst_error(bool guarded) {
  Floats x(256), y(256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  launch(standardize, 1, 256, 0, stream(), x.data(), y.data(), guarded);
  double mean = 0, variance = 0, worst = 0;
  for (float v : x) mean += double{v} / 256;
  for (float v : x) variance += (double{v} - mean) * (double{v} - mean) / 256;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(double{y[i]} - (double{x[i]} - mean) / std::sqrt(variance)));
  return worst;
}

TEST_CASE("emulator: a missing barrier between two reductions is right in lockstep and wrong when warps run ahead") {
  for (const Schedule s : kSchedules) {
    const WithSchedule with(s);
    CHECK(worst_error(true) < 1e-5);
    if (s == Schedule::lockstep) {
      CHECK(worst_error(false) < 1e-5);
    } else {
      CHECK(worst_error(false) > 1e-2);
    }
  }
}

// Lanes of one warp are no more in step than warps are.
__global__ void neighbor_without_syncwarp(int* y, bool guarded) {
  SHARED_ARRAY(int, slot, 32);
  slot[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (guarded) __syncwarp();
  y[threadIdx.x] = slot[(threadIdx.x + 31) % 32];
}

TEST_CASE("emulator: a missing __syncwarp reads what nobody has written yet") {
  under_every_schedule([] {
    std::vector<int> y(32);
    launch(neighbor_without_syncwarp, 1, 32, 0, stream(), y.data(), true);
    for (int i = 0; i < 32; ++i) CHECK(y[static_cast<size_t>(i)] == (i + 31) % 32);
    launch(neighbor_without_syncwarp, 1, 32, 0, stream(), y.data(), false);
    CHECK(std::count(y.begin(), y.end(), -1) > 0);
  });
}

// --- warp collectives that not all lanes reach ---

__global__ void half_a_warp_shuffles(int* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
}
__global__ void lanes_in_two_shuffles(int* y) {
  if (threadIdx.x < 16) {
    y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
  } else {
    y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 2, 1);
  }
}
__global__ void half_a_mask(int* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xFFFFu, 1, 1);
}
__global__ void shuffle_beside_barrier(int* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
  __syncthreads();
}

TEST_CASE("emulator: collectives that not all lanes of a warp reach are reported") {
  under_every_schedule([] {
    std::vector<int> y(32);
    const auto message = [&](void (*kernel)(int*)) { return error_of([&] { launch(kernel, 1, 32, 0, stream(), y.data()); }); };
    check_says(message(half_a_warp_shuffles), {"16 threads wait at __shfl_xor_sync", "16 already returned"});
    check_says(message(lanes_in_two_shuffles), {"lanes of warp 0 diverge", "__shfl_xor_sync"});
    check_says(message(half_a_mask), {"names some lanes only (mask 65535)"});
    check_says(message(shuffle_beside_barrier), {"16 threads wait at __shfl_xor_sync", "16 threads wait at __syncthreads"});
  });
}

// --- memory ---

__global__ void read_global(const float* x, float* y, int at) { y[threadIdx.x] = x[at]; }
__global__ void read_shared(float* y, int at) {
  SHARED_ARRAY(float, values, 100);
  for (int i = static_cast<int>(threadIdx.x); i < 100; i += 32) values[i] = 1;
  __syncthreads();
  y[threadIdx.x] = values[at];
}
__global__ void read_dynamic(float* y, int at) {
  const float* values = shared_dynamic<float>();
  y[threadIdx.x] = values[at];
}
__global__ void read_vector(const float* x, float* y) { y[threadIdx.x] = load_vec(x)[0]; }

TEST_CASE("emulator: an access past the end of global or shared memory is AddressSanitizer's to report") {
  const auto xs = std::make_unique<float[]>(7);
  Floats y(32);
  const auto global = [&](int at) { launch(read_global, 1, 32, 0, stream(), xs.get(), y.data(), at); };
  const auto shared = [&](int at) { launch(read_shared, 1, 32, 0, stream(), y.data(), at); };
  const auto dynamic = [&](int at) { launch(read_dynamic, 1, 32, 7 * sizeof(float), stream(), y.data(), at); };
  global(6), shared(99), dynamic(6);  // the last element is within
#ifdef REID_TEST_ASAN
  check_says(last_words([&] { global(7); }), {"heap-buffer-overflow", "read_global", "0 bytes to the right of 28-byte region"});
  check_says(last_words([&] { shared(100); }), {"heap-buffer-overflow", "read_shared", "0 bytes to the right of 400-byte region"});
  check_says(last_words([&] { dynamic(7); }), {"heap-buffer-overflow", "read_dynamic", "0 bytes to the right of 28-byte region"});
#else
  MESSAGE("the accesses out of bounds themselves run in builds with AddressSanitizer only");
#endif
}

TEST_CASE("emulator: a vector load from an address that 16 does not divide is reported") {
  alignas(16) const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  Floats y(32);
  launch(read_vector, 1, 32, 0, stream(), x + 4, y.data());
  CHECK(y[0] == 5);
  check_says(error_of([&] { launch(read_vector, 1, 32, 0, stream(), x + 1, y.data()); }), {"accesses 16 bytes at an address"});
}

__global__ void read_before_write(float* y) {
  SHARED_ARRAY(float, values, 32);
  y[blockIdx.x * 32 + threadIdx.x] = values[threadIdx.x];
  values[threadIdx.x] = 1;
}

TEST_CASE("emulator: shared memory holds NaN at the start of every block") {
  Floats y(96);
  launch(read_before_write, 3, 32, 0, stream(), y.data());
  CHECK(std::all_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
}

// --- asynchronous copies ---

enum class Wait { none, one_group_late, right };

__global__ void copy_two_groups(const float* x, float* y, Wait how) {
  SHARED_ARRAY(float, values, 256);
  const int at = static_cast<int>(threadIdx.x) * 4;
  cp_async_16(values + at, x + at);
  cp_async_commit();
  cp_async_16(values + 128 + at, x + 128 + at);
  cp_async_commit();
  if (how == Wait::one_group_late) cp_async_wait<1>();
  if (how == Wait::right) cp_async_wait<0>();
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 256; i += 32) y[i] = values[i];
}

__global__ void copy_partly(const float* x, float* y, int bytes) {
  SHARED_ARRAY(float, values, 4);
  if (threadIdx.x == 0) {
    cp_async_16(values, x, bytes);
    cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < 4; ++i) y[i] = values[i];
  }
}

__global__ void copy_to_global(const float* x, float* y) { cp_async_16(y, x); }
__global__ void store_to_shared(bool rightly, float* y) {
  SHARED_ARRAY(bf16, values, 8 * 32);
  const Vec<bf16> eight{};
  if (rightly) {
    store_shared(values + threadIdx.x * 8, eight);
  } else {
    store_vec(values + threadIdx.x * 8, eight);
  }
  y[threadIdx.x] = to_float(values[threadIdx.x * 8]);
}
__global__ void matrix_from_global(const bf16* x) {
  uint32_t r[4];
  ldmatrix_x4(r, x);
}

TEST_CASE("emulator: what cp.async copies is NaN until the wait that it needs") {
  struct alignas(16) Quad {
    float v[4];
  };
  std::vector<Quad> storage(64);
  float* x = storage[0].v;
  for (int i = 0; i < 256; ++i) x[i] = static_cast<float>(i);
  const auto wrong = [&](Wait how) {
    Floats y(256);
    launch(copy_two_groups, 1, 32, 0, stream(), x, y.data(), how);
    int first = 0, second = 0;
    for (size_t i = 0; i < 256; ++i) (i < 128 ? first : second) += std::isnan(y[i]);
    for (size_t i = 0; i < 256; ++i) CHECK((std::isnan(y[i]) || y[i] == static_cast<float>(i)));
    return std::make_pair(first, second);
  };
  under_every_schedule([&] {
    CHECK(wrong(Wait::none) == std::make_pair(128, 128));
    CHECK(wrong(Wait::one_group_late) == std::make_pair(0, 128));
    CHECK(wrong(Wait::right) == std::make_pair(0, 0));
  });
  Floats y(4, -1.0f);
  launch(copy_partly, 1, 32, 0, stream(), x + 4, y.data(), 8);
  CHECK(y == Floats{4, 5, 0, 0});
  launch(copy_partly, 1, 32, 0, stream(), x + 4, y.data(), 0);
  CHECK(y == Floats{0, 0, 0, 0});
  check_says(error_of([&] { launch(copy_to_global, 1, 32, 0, stream(), x, y.data()); }),
             {"cp.async", "outside of the block's shared memory"});
  check_says(error_of([&] { launch(store_to_shared, 1, 32, 0, stream(), false, x); }), {"store_vec", "given the block's shared memory"});
  launch(store_to_shared, 1, 32, 0, stream(), true, x);
  CHECK(std::all_of(x, x + 32, [](float v) { return v == 0; }));
  check_says(error_of([&] { launch(matrix_from_global, 1, 32, 0, stream(), reinterpret_cast<const bf16*>(x)); }),
             {"ldmatrix.x4", "outside of the block's shared memory"});
  check_says(error_of([&] { launch(copy_partly, 1, 32, 0, stream(), x + 1, y.data(), 16); }), {"accesses 16 bytes at an address"});
}

// --- launches a GPU would refuse ---

__global__ void nothing() {}
__global__ void much_static(float* y) {
  SHARED_ARRAY(float, values, 12289);
  y[0] = values[0];
}
__global__ void fails() { REID_CHECK(threadIdx.x != 5, "thread 5 is unhappy"); }

TEST_CASE("emulator: launches beyond the limits of a GPU are refused") {
  const auto message = [](dim3 grid, dim3 block, size_t shared) {
    return error_of([&] { launch(nothing, grid, block, shared, stream()); });
  };
  CHECK(message(1, 1024, 227 << 10) == "");
  CHECK(message({1, 65535, 1}, {4, 4, 2}, 0) == "");
  check_says(message(1, 1056, 0), {"a block has 1 to 1024 threads", "test_emulator.cpp"});
  check_says(message(1, dim3(1, 1, 96), 0), {"at most 64 deep"});
  check_says(message(1, 100, 0), {"whole warps of 32"});
  check_says(message(0, 32, 0), {"the grid is empty"});
  check_says(message({1, 65536, 1}, 32, 0), {"a grid has at most"});
  check_says(message(1, 32, (227 << 10) + 1), {"232448 bytes of shared memory"});
  float y = 0;
  check_says(error_of([&] { launch(much_static, 1, 32, 0, stream(), &y); }), {"49156 bytes of shared arrays", "49152"});
  check_says(error_of([&] { launch(read_dynamic, 1, 32, 0, stream(), &y, 0); }), {"was launched without any"});
  check_says(error_of([] { __syncthreads(); }), {"outside of a kernel"});
}

TEST_CASE("emulator: an error in one thread ends the launch, and the next launch is unharmed") {
  under_every_schedule([] {
    CHECK(error_of([] { launch(fails, 2, 64, 0, stream()); }) == "thread 5 is unhappy");
    CHECK(worst_error(true) < 1e-5);
  });
}

}  // namespace
}  // namespace reid::emu::test
