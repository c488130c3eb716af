#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/formats/safetensors.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Scratch;

namespace {

std::vector<uint8_t> file_of(const std::string& header, size_t data_bytes) {
  std::vector<uint8_t> bytes(8 + header.size() + data_bytes);
  const uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}

std::string refusal(const std::string& header, size_t data_bytes) {
  return failure_of([&] { parse_safetensors(file_of(header, data_bytes), "w.st"); });
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

}  // namespace

TEST_CASE("safetensors: tensors, order and metadata come back") {
  const Scratch scratch("safetensors");
  NamedTensors content;
  content.add("mask", Tensor::from(std::vector<uint8_t>{1, 2, 3}));
  content.add("features", Tensor::from(std::vector<float>{1, -2, 3, 4, 5, std::nanf("")}, Shape{2, 3}));
  content.add("ids", Tensor::from(std::vector<int64_t>{-1, int64_t{1} << 62}));
  content.add("scalar", Tensor::from(std::vector<double>{0.1}, Shape{}));
  content.add("cameras", Tensor::from(std::vector<int32_t>{7}));
  content.add("none", Tensor::empty(Shape{0, 5}, DType::f32));
  content.metadata = {{"format", "pt"}, {"note", "a \"quoted\"\nline"}};
  write_safetensors(scratch / "a.st", content);

  const NamedTensors back = read_safetensors(scratch / "a.st");
  REQUIRE(back.tensors.size() == content.tensors.size());
  for (size_t i = 0; i < content.tensors.size(); ++i) {
    CHECK(back.tensors[i].first == content.tensors[i].first);
    CHECK(back.tensors[i].second.shape() == content.tensors[i].second.shape());
    CHECK(bitwise_equal(back.tensors[i].second, content.tensors[i].second));
  }
  CHECK(back.metadata == content.metadata);
  CHECK(*back.note("format") == "pt");
  CHECK(back.note("absent") == nullptr);
  CHECK(serialize_safetensors(back) == read_file(scratch / "a.st"));
  CHECK(contains(failure_of([&] { back.at("feature"); }), "a.st: there is no tensor \"feature\"; there is mask, features"));
  CHECK(contains(failure_of([&] { content.add("ids", Tensor()); }), "\"ids\" is there already"));
}

TEST_CASE("safetensors: half precision widens exactly") {
  std::vector<uint8_t> bytes = file_of("{" + entry("h", "F16", "[6]", "[0,12]") + "," + entry("b", "BF16", "[2]", "[12,16]") + "}", 0);
  // 1, -2, smallest subnormal, largest, infinity, -0; then 1 and -3 in bfloat16
  for (const unsigned v : {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x7C00, 0x8000, 0x3F80, 0xC040}) {
    bytes.push_back(static_cast<uint8_t>(v & 255));
    bytes.push_back(static_cast<uint8_t>(v >> 8));
  }
  const NamedTensors content = parse_safetensors(bytes, "w.st");
  const auto h = content.at("h").span<float>();
  CHECK(h[0] == 1.0f);
  CHECK(h[1] == -2.0f);
  CHECK(h[2] == 0x1p-24f);
  CHECK(h[3] == 65504.0f);
  CHECK(h[4] == std::numeric_limits<float>::infinity());
  CHECK((h[5] == 0 && std::signbit(h[5])));
  CHECK(content.at("b").span<float>()[0] == 1.0f);
  CHECK(content.at("b").span<float>()[1] == -3.0f);
}

TEST_CASE("safetensors: every malformed file is one clear message") {
  CHECK(contains(failure_of([] { parse_safetensors({}, "w.st"); }), "w.st: 0 bytes are no safetensors file"));
  CHECK(contains(failure_of([] { parse_safetensors(std::vector<uint8_t>(64, 0xFF), "w.st"); }), "truncated, or no safetensors file"));
  CHECK(contains(refusal("{\"a\":", 0), "w.st: header: parse error"));
  CHECK(contains(refusal("[1]", 0), "the header is array"));
  CHECK(contains(refusal("{\"a\":1}", 0), "tensor \"a\": its header entry is no object"));
  CHECK(
      contains(refusal("{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("a", "F32", "[1]", "[4,8]") + "}", 8), "\"a\" stands twice"));
  CHECK(contains(refusal("{" + entry("a", "F8_E4M3", "[4]", "[0,4]") + "}", 4), "tensor \"a\": dtype \"F8_E4M3\" is not supported"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[2]", "[0,4]") + "}", 4), "does not fill its 4 bytes"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[-1]", "[0,4]") + "}", 4), "an extent is -1"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[1.5]", "[0,4]") + "}", 4), "an extent is 1.5"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[1,1,1,1,1,1,1]", "[0,4]") + "}", 4), "at most 6 extents"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[4611686018427387904,8]", "[0,4]") + "}", 4), "too large"));
  CHECK(contains(refusal("{" + entry("a", "F64", "[2305843009213693952]", "[0,0]") + "}", 0), "does not fill its 0 bytes"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[1]", "[4,0]") + "}", 4), "run backwards"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[1]", "[0,4,5]") + "}", 4), "not [begin, end]"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[2]", "[0,8]") + "}", 4), "truncated file?"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[2]", "[4,12]") + "}", 12),
                 "\"a\" and \"b\" overlap"));
  CHECK(contains(refusal("{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[8,12]") + "}", 12),
                 "4 bytes before tensor \"b\""));
  CHECK(contains(refusal("{" + entry("a", "F32", "[1]", "[0,4]") + "}", 7), "the last 3 bytes belong to no tensor"));
  CHECK(contains(refusal("{\"__metadata__\":{\"k\":1}}", 0), "\"k\" is 1, not a string"));
  CHECK(parse_safetensors(file_of("{}", 0), "w.st").tensors.empty());
}

TEST_CASE("safetensors: a file cut anywhere is an error") {
  const Tensor a = Tensor::from(std::vector<float>{1, 2, 3, 4}), b = Tensor::from(std::vector<int64_t>{5, 6});
  const std::vector<uint8_t> whole = serialize_safetensors({{{"a", a}, {"b", b}}, {{"k", "v"}}});
  for (size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(contains(failure_of([&] { parse_safetensors({whole.data(), size}, "w.st"); }), "w.st"));
  }
}
