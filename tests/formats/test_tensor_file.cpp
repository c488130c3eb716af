// Foreign tensor files: what PyTorch and NumPy wrote (tools/golden_weights.py), our own writing read back, damaged and hostile ones.

#include "reid/formats/tensor_file.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "formats/scratch.h"
#include "formats/zip.h"
#include "reid/formats/files.h"

namespace reid::test {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(REID_SOURCE_DIR) / "data/golden";

TensorFile golden(const std::string& name) { return read_tensor_file(kGolden / "weights" / name); }

// Every tensor of a file against what the program that wrote it says is inside.
void check_values(const std::string& name, const TensorFile& file) {
  static const NamedTensors values = read_safetensors(kGolden / "weights.safetensors");
  size_t expected = 0;
  for (const auto& [key, value] : values.tensors) {
    if (!key.starts_with(name + "/")) continue;
    ++expected;
    const std::string tensor = key.substr(name.size() + 1);
    const Tensor* found = file.content.find(tensor);
    REQUIRE_MESSAGE(found, name, ": ", tensor);
    CHECK_MESSAGE(found->shape() == value.shape(), name, ": ", tensor, " ", str(found->shape()));
    CHECK_MESSAGE(bitwise_equal(*found, value), name, ": ", tensor);
  }
  CHECK(expected > 0);
  CHECK(file.dtypes.size() == file.content.tensors.size());
}

std::string dtype_of_tensor(const TensorFile& file, const std::string& name) {
  for (size_t i = 0; i < file.content.tensors.size(); ++i)
    if (file.content.tensors[i].first == name) return file.dtypes[i];
  return "absent";
}

bool skips(const TensorFile& file, const std::string& text) {
  for (const std::string& line : file.skipped)
    if (contains(line, text)) return true;
  return false;
}

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

std::string parse_failure(const std::vector<uint8_t>& bytes) {
  return failure_of([&] { parse_tensor_file(bytes, "some.pth"); });
}

// A zip container around a pickle and a storage of `count` zeros.
std::vector<uint8_t> torch_zip(const std::string& pickle, size_t storage_bytes = 16) {
  const std::vector<uint8_t> values = bytes_of(pickle), storage(storage_bytes);
  ZipWriter zip;
  zip.add("a/data.pkl", values);
  zip.add("a/data/0", storage);
  std::vector<uint8_t> out;
  for (const auto part : zip.finish()) out.insert(out.end(), part.begin(), part.end());
  return out;
}

// {"w": _rebuild_tensor_v2(storage of 4 floats, offset, shape, strides)} in text instructions.
std::string tensor_pickle(const std::string& offset, const std::string& shape, const std::string& strides,
                          const std::string& count = "I4\n") {
  return "(dS'w'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n" + count + "tQ" + offset + "(" +
         shape + "t(" + strides + "tI00\n(dtRs.";
}

}  // namespace

TEST_CASE("tensor files: every element type, view and stride that PyTorch writes, in every container") {
  for (const char* name : {"kinds.pth", "kinds_protocol4.pth", "kinds_stream.pth", "views_stream.pth", "oldest.pth.tar", "no_checksums.pth",
                           "deflated.pth", "lone.pth", "module.pth"})
    check_values(name, golden(name));
  CHECK(golden("kinds.pth").container == "PyTorch zip");
  CHECK(golden("kinds_stream.pth").container == "PyTorch stream");
  CHECK(golden("oldest.pth.tar").container == "PyTorch tar");
  for (const char* type : {"float16", "bfloat16", "int8", "bool", "int64"}) CHECK(dtype_of_tensor(golden("kinds.pth"), type) == type);
}

TEST_CASE("tensor files: views of one storage share memory") {
  const TensorFile file = golden("kinds.pth");
  const auto* whole = file.content.at("whole").data<float>();
  CHECK(file.content.at("row_range").data<float>() == whole + 10);
}

TEST_CASE("tensor files: a training checkpoint gives its tensors, its plain values, and a list of the rest") {
  for (const char* name : {"checkpoint.pth", "checkpoint_stream.pth"}) {
    const TensorFile file = golden(name);
    check_values(name, file);
    CHECK(*file.content.note("epoch") == "50");
    CHECK(*file.content.note("best_mAP") == "0.75");
    CHECK(*file.content.note("arch") == "resnet50");
    CHECK(*file.content.note("resumed") == "false");
    CHECK(file.content.find("optimizer.state.0.exp_avg"));
    CHECK(skips(file, "args: argparse.Namespace"));
    CHECK(skips(file, "score: numpy"));
  }
}

TEST_CASE("tensor files: NumPy's arrays and archives, packed or not") {
  for (const char* name : {"arrays.npz", "arrays_compressed.npz", "features.npy", "fortran.npy", "scalar.npy"})
    check_values(name, golden(name));
  CHECK(skips(golden("arrays.npz"), "names.npy: elements of type '<U1' are not supported"));
  CHECK(golden("arrays.npz").container == "NumPy archive");
}

TEST_CASE("tensor files: what is written is read back, and the same content gives the same bytes") {
  const Scratch scratch("tensor_file");
  NamedTensors content;
  content.add("a.weight", Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, Shape{2, 3}));
  content.add("steps", Tensor::from(std::vector<int64_t>{int64_t{1} << 40}, Shape{}));
  content.add("wide", Tensor::from(std::vector<double>{0.1, 0.2}));
  content.add("none", Tensor::zeros({0, 4}, DType::f32));
  write_torch(scratch / "w.pth", content);
  write_torch(scratch / "again.pth", content);
  CHECK(read_file(scratch / "w.pth") == read_file(scratch / "again.pth"));
  const TensorFile back = read_tensor_file(scratch / "w.pth");
  REQUIRE(back.content.tensors.size() == 4);
  for (const auto& [name, tensor] : content.tensors) {
    CHECK(back.content.at(name).shape() == tensor.shape());
    CHECK(bitwise_equal(back.content.at(name), tensor));
  }
  const Tensor array = content.at("a.weight");
  write_npy(scratch / "a.npy", array);
  CHECK(bitwise_equal(read_tensor_file(scratch / "a.npy").content.at("array"), array));
  CHECK(read_file(scratch / "a.npy").size() == 128 + 24);
  write_safetensors(scratch / "w.safetensors", content);
  const TensorFile safe = read_tensor_file(scratch / "w.safetensors");
  CHECK(safe.container == "safetensors");
  CHECK(dtype_of_tensor(safe, "wide") == "float64");
}

TEST_CASE("tensor files: nothing in a pickle is ever run") {
  const TensorFile file = parse_tensor_file(
      torch_zip("(dS'evil'\ncos\nsystem\n(S'touch /tmp/reid_was_here'\ntRs" + tensor_pickle("I0\n", "I4\n", "I1\n").substr(2)), "x");
  CHECK(file.content.tensors.size() == 1);
  CHECK(skips(file, "evil: os.system"));
  CHECK(!std::filesystem::exists("/tmp/reid_was_here"));
  CHECK(contains(parse_failure(torch_zip("cos\nsystem\n(S'x'\ntR.")),
                 "holds no tensor that can be read; passed over: the file's value: os.system"));
}

TEST_CASE("tensor files: sizes and strides that lie are refused, naming the tensor") {
  const auto failure = [](const std::string& offset, const std::string& shape, const std::string& strides,
                          const std::string& count = "I4\n") {
    return parse_failure(torch_zip(tensor_pickle(offset, shape, strides, count)));
  };
  CHECK(failure("I0\n", "I4\n", "I1\n") == "");
  CHECK(contains(failure("I0\n", "I5\n", "I1\n"), "tensor \"w\": reaches outside of its 4 stored elements"));
  CHECK(contains(failure("I1\n", "I4\n", "I1\n"), "reaches outside"));
  CHECK(contains(failure("I-1\n", "I4\n", "I1\n"), "offset"));
  CHECK(contains(failure("I0\n", "I2\n", "I9223372036854775807\n"), "reaches outside"));
  CHECK(contains(failure("I3\n", "I2\n", "I-1\n"), "negative stride"));
  CHECK(contains(failure("I0\n", "I100000000\n", "I0\n"), "unfolds to 100000000 elements"));
  CHECK(contains(failure("I0\n", "I4611686018427387904\nI4\n", "I0\nI0\n"), "some.pth"));
  CHECK(contains(failure("I0\n", "I4\n", "I1\nI1\n"), "1 extents with 2 strides"));
  CHECK(contains(failure("I0\n", "I4\n", "I1\n", "I400\n"), "truncated file?"));
  CHECK(contains(failure("I0\n", "I4\n", "I1\n", "I9223372036854775807\n"), "truncated file?"));
  CHECK(contains(failure("I0\n", "I1\nI1\nI1\nI1\nI1\nI1\nI1\n", "I1\nI1\nI1\nI1\nI1\nI1\nI1\n"), "7 dimensions"));
}

TEST_CASE("tensor files: every truncation of every container is one message that names the file") {
  for (const char* name : {"kinds.pth", "kinds_stream.pth", "oldest.pth.tar", "arrays.npz", "arrays_compressed.npz", "fortran.npy"}) {
    const std::vector<uint8_t> whole = read_file(kGolden / "weights" / name);
    const size_t step = whole.size() > 2000 ? 37 : 1;
    // A tar archive's last blocks are padding.
    const size_t end = std::string(name).ends_with(".tar") ? 2048 : whole.size();
    for (size_t size = 0; size < end; size += step) {
      const std::string message = parse_failure({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
      CHECK_MESSAGE(contains(message, "some.pth"), name, " cut to ", size, ": '", message, "'");
    }
  }
}

TEST_CASE("tensor files: a flipped bit in the data is found by the checksum") {
  std::vector<uint8_t> bytes = read_file(kGolden / "weights/lone.pth");
  const TensorFile lone = parse_tensor_file(bytes, "lone.pth");
  const float first = lone.content.at("tensor").data<float>()[0];
  uint8_t pattern[4];
  std::memcpy(pattern, &first, 4);
  const auto at = std::search(bytes.begin(), bytes.end(), pattern, pattern + 4);
  REQUIRE(at != bytes.end());
  *at ^= 1;
  CHECK(contains(parse_failure(bytes), "is damaged (checksum)"));
}

TEST_CASE("tensor files: foreign files get a message that says what they are") {
  const std::map<std::string, std::string> cases = {{"", "an empty file"},
                                                    {"<!DOCTYPE html><html>", "a web page, not weights"},
                                                    {"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"},
                                                    {"\x1f\x8b\x08", "compressed by gzip"},
                                                    {std::string("\x80\x04K\x01."), "a pickle that torch.save did not write"},
                                                    {"PK\x05\x06" + std::string(18, '\0'), "neither PyTorch's data.pkl nor NumPy's arrays"},
                                                    {"hello there, these are no weights", "of no known kind"}};
  for (const auto& [content, message] : cases) {
    const std::string got = parse_failure(bytes_of(content));
    CHECK_MESSAGE(contains(got, message), got);
    CHECK(contains(got, "some.pth"));
  }
  CHECK(contains(failure_of([] { read_tensor_file("/nonexistent/w.pth"); }), "cannot open /nonexistent/w.pth"));
}

TEST_CASE("tensor files: pickles that are damaged or contain themselves") {
  for (const char* pickle : {"", ".", "(", "0.", "R.", "(dI1\ns.", "h\x05.", "Xaaaa",
                             "]q\x01h\x01"
                             "a",
                             "I12x\n.", "\xff."}) {
    const std::string message = parse_failure(torch_zip(pickle));
    CHECK_MESSAGE(!message.empty(), pickle);
  }
  CHECK(contains(parse_failure(torch_zip("]q\x01h\x01"
                                         "a.")),
                 "nested more than 100 deep"));  // a list of itself
  // Ten lists, each of ten times the one before: 10^10 values when walked.
  std::string bomb = "]q";
  bomb += '\0';
  for (char level = 1; level <= 10; ++level) {
    bomb += "](";
    for (int i = 0; i < 10; ++i) bomb += std::string("h") + static_cast<char>(level - 1);
    bomb += std::string("eq") + level;
  }
  CHECK(contains(parse_failure(torch_zip(bomb + ".")), "more than 4000000 values"));
}

TEST_CASE("tensor files: a zip bomb is refused before it is unpacked") {
  std::vector<uint8_t> bytes = read_file(kGolden / "weights/arrays_compressed.npz");
  // The first directory entry's unpacked size becomes 3 GB.
  const uint8_t signature[] = {'P', 'K', 1, 2};
  auto at = std::search(bytes.begin(), bytes.end(), signature, signature + 4);
  REQUIRE(at != bytes.end());
  for (const int offset : {24, 25, 26}) at[offset] = 0xff;
  at[27] = 0xb0;
  const std::string message = parse_failure(bytes);
  CHECK_MESSAGE((contains(message, "at most 1 GiB") || contains(message, "64 times its size")), message);
  at[27] = 0x01;
  CHECK(contains(parse_failure(bytes), "more than deflate can hold"));
}

}  // namespace reid::test
