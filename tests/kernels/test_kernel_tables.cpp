// bench/kernels.json, from which docs/kernels.md shows progressions: its versions are those of the registry, its bytes and flop are right.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "program/bench.h"
#include "reid/formats/files.h"
#include "sm90/device.cuh"

namespace reid::program {
namespace {

Json record() { return parse_json(read_text(REID_SOURCE_DIR "/bench/kernels.json"), "bench/kernels.json"); }

// The versions that take a problem, from the least preferred to the most: how a progression is read.
template <class Op>
std::vector<std::string> versions(const typename Op::Args& args) {
  std::vector<std::string> names;
  initialize();
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::emulated)) {
    if (!(impl.refuses && impl.refuses(args))) names.insert(names.begin(), std::string(impl.name).substr(4));  // without "emu:"
  }
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += str(all.empty() ? "" : ", ", name);
  return all;
}

struct Problem {
  double bytes, flop;
  std::vector<std::string> versions;
};
template <class Op>
Problem problem(const typename Op::Args& args, double flop = 0) {
  return {traffic(args), flop, versions<Op>(args)};
}

// An address that nothing reads or writes: arguments are only looked at.
void* somewhere() {
  alignas(64) static char place[64];
  return place;
}

Problem problem_of(const std::string& row, const std::string& op, DType dtype) {
  void* const at = somewhere();
  BenchOptions o;
  o.batch = 64;
  if (op == "matmul") {
    constexpr int64_t kExtent = 4096;
    const GemmArgs args{.a = at, .b = at, .c = at, .m = kExtent, .n = kExtent, .k = kExtent, .dtype = dtype};
    return problem<Gemm>(args, 2.0 * kExtent * kExtent * kExtent);
  }
  for (const ConvLayer& layer : conv_layers(o)) {
    const ConvShape& s = layer.shape;
    if (row.starts_with(str("convolution ", layer.name, " "))) {
      if (op == "conv_forward") return problem<ConvForward>({at, at, at, s, dtype}, layer.flop());
      if (op == "conv_backward_data") return problem<ConvBackwardData>({at, at, at, s, dtype}, layer.flop());
      if (op == "conv_backward_weight") return problem<ConvBackwardWeight>({at, at, at, s, dtype}, layer.flop());
    }
    if (!row.starts_with(str("batch norm ", s.k, " x ", s.p(), " x ", s.q(), ":"))) continue;
    const NormWindow window{1, s.n * s.p() * s.q(), s.k, 0, s.k};
    if (op == "norm_statistics") return problem<NormStatistics>({at, at, at, window, dtype});
    const NormSlice slice{window, at, at, at, at}, untold{window, at, at, at, nullptr};
    if (op == "norm_apply") return problem<NormApply>({at, {slice}, nullptr, at, 1e-5, true, dtype});
    if (op == "norm_backward") return problem<NormBackward>({at, at, at, {untold}, at, nullptr, at, at, 1e-5, true, {}, dtype});
  }
  FAIL("no problem is known for ", row);
  return {};
}

TEST_CASE("kernels' tables: every version that takes a problem, in the order of their ideas, with the problem's bytes and flop") {
  const emu::Pretending device(emu::kPretendedH200);
  const Json kernels = record();
  CHECK(kernels.at("batch").integer() == 64);
  for (const Json& family : kernels.at("families").items()) {
    const auto& passes = family.at("passes").items();
    for (size_t i = 0; i < passes.size(); ++i) {
      const std::string row = passes[i].at("row").string();
      INFO(row, " in ", family.at("dtype").string());
      const Problem expected = problem_of(row, passes[i].at("op").string(), dtype_named(family.at("dtype").string()));
      CHECK(passes[i].at("bytes").number() == expected.bytes);
      CHECK(passes[i].at("flop").number() == expected.flop);
      std::vector<std::string> listed;
      for (const Json& version : family.at("versions").items()) {
        CHECK(version.at("names").items().size() == passes.size());
        if (const std::string name = version.at("names").items().at(i).string(); !name.empty()) listed.push_back(name);
        CHECK(!version.at("compiled").members().empty());
      }
      CHECK(joined(listed) == joined(expected.versions));
    }
  }
}

}  // namespace
}  // namespace reid::program
