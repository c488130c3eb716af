#include "reid/learning/onnx_verify.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "reid/formats/files.h"
#include "reid/formats/weights.h"

extern char** environ;

namespace reid {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 32;
constexpr int kMissing = 3;  // the script's exit status when a package is not there

// Arguments: nothing (are the packages there?), or the model, the images and the file for the embeddings.
constexpr const char* kScript = R"(
import json, sys
try:
    import numpy, onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
if len(sys.argv) == 1:
    sys.exit(0)
model, images, embeddings = sys.argv[1:]
raw = open(images, "rb").read()
start = 8 + int.from_bytes(raw[:8], "little")
entry = json.loads(raw[8:start])["images"]
x = numpy.frombuffer(raw, {"F32": "<f4", "U8": "u1"}[entry["dtype"]], offset=start).reshape(entry["shape"])
try:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    y = numpy.concatenate([session.run(None, {name: x[i:i + 32]})[0] for i in range(0, len(x), 32)])
except Exception as error:
    sys.exit(str(error))
header = json.dumps({"embeddings": {"dtype": "F32", "shape": y.shape, "data_offsets": [0, y.nbytes]}}).encode()
open(embeddings, "wb").write(len(header).to_bytes(8, "little") + header + y.astype("<f4").tobytes())
)";

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "reid_onnx_XXXXXX").string();
    REID_CHECK(::mkdtemp(name.data()), "cannot make a temporary folder ", name, ": ", std::generic_category().message(errno));
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  fs::path operator/(const char* name) const { return path_ / name; }

 private:
  fs::path path_;
};

std::string python() {
  const char* chosen = std::getenv("REID_PYTHON");
  return chosen && *chosen ? chosen : "python3";
}

struct Outcome {
  int status = 0;      // of the script; 128 + the signal that ended it
  std::string errors;  // what it wrote to standard error
};

// No shell takes part: paths go to the script as they are.
Outcome run_script(const TemporaryFolder& folder, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {python(), "-c", kScript});
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const fs::path errors = folder / "errors.txt";
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int code = ::posix_spawnp(&child, argv[0], &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  REID_CHECK(code == 0, "cannot start ", argv[0], " to run ONNX Runtime: ", std::generic_category().message(code),
             "; set REID_PYTHON to a Python 3, or leave out the check");
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) REID_CHECK(errno == EINTR, "lost ", argv[0], ": ", std::generic_category().message(errno));
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_text(errors)};
}

void check_packages(const Outcome& outcome) {
  REID_CHECK(outcome.status != kMissing, "ONNX Runtime is not installed for ", python(), " (",
             outcome.errors.substr(0, outcome.errors.find('\n')),
             "): pip install onnxruntime numpy, set REID_PYTHON to a Python that has them, or leave out the check");
}

// What the exported model takes: [N, 3, H, W] of normalized floats, or the pixels themselves [N, H, W, 3].
Tensor model_input(const Tensor& normalized, std::span<const Image> images, bool preprocess) {
  const int64_t n = normalized.dim(0), h = normalized.dim(1), w = normalized.dim(2);
  if (!preprocess) return filters_to_file(normalized);  // the same change of order, [N, H, W, 3] -> [N, 3, H, W]
  Tensor pixels = Tensor::empty({n, h, w, 3}, DType::u8);
  uint8_t* to = pixels.data<uint8_t>();
  for (const Image& image : images) to = std::copy(image.rgb.begin(), image.rgb.end(), to);
  return pixels;
}

}  // namespace

OnnxOptions onnx_options(const TransformConfig& transform, const NamedTensors& encoder_file, bool preprocess) {
  return {.height = transform.height,
          .width = transform.width,
          .preprocess = preprocess,
          .mean = transform.mean,
          .std = transform.std,
          .metadata = encoder_file.metadata};
}

bool has_onnxruntime(std::string& reason) {
  try {
    const TemporaryFolder folder;
    const Outcome outcome = run_script(folder, {});
    check_packages(outcome);
    REID_CHECK(outcome.status == 0, python(), " cannot load ONNX Runtime: ", outcome.errors);
    return true;
  } catch (const Error& e) {
    reason = e.what();
    return false;
  }
}

Tensor run_in_onnxruntime(const fs::path& model, const Tensor& images) {
  const TemporaryFolder folder;
  NamedTensors input;
  input.add("images", images);
  write_safetensors(folder / "images.safetensors", input);
  const fs::path result = folder / "embeddings.safetensors";
  const Outcome outcome = run_script(folder, {model.string(), (folder / "images.safetensors").string(), result.string()});
  check_packages(outcome);
  REID_CHECK(outcome.status == 0, model.string(), ": ONNX Runtime fails (", python(), " ended with status ", outcome.status,
             "): ", outcome.errors);
  return read_safetensors(result).at("embeddings");
}

EmbeddingComparison verify_onnx(const fs::path& model, LoadedEncoder& encoder, std::span<const Image> images, bool preprocess) {
  const TransformConfig& transform = encoder.transform();
  REID_CHECK(!images.empty(), "[verify_onnx] needs at least one image");
  const int64_t n = static_cast<int64_t>(images.size()), pixels = int64_t{3} * transform.height * transform.width;
  const Tensor normalized = Tensor::empty({n, transform.height, transform.width, 3}, DType::f32);
  const Normalizer normalize(transform);
  for (int64_t i = 0; i < n; ++i) {
    const Image& image = images[static_cast<size_t>(i)];
    REID_CHECK(image.height == transform.height && image.width == transform.width, "[verify_onnx] image ", i, " is ", image.height, " x ",
               image.width, ", the network takes ", transform.height, " x ", transform.width);
    weak_view(image, normalize, normalized.data<float>() + i * pixels);
  }
  const Tensor theirs = run_in_onnxruntime(model, model_input(normalized, images, preprocess));
  Tensor ours;
  for (int64_t begin = 0; begin < n; begin += kBatch) {
    const int64_t end = std::min(begin + kBatch, n);
    const Tensor embeddings = encoder.embed(normalized.rows(begin, end));
    if (begin == 0) ours = Tensor::empty({n, embeddings.dim(1)}, DType::f32);
    ours.rows(begin, end).copy_from(embeddings);
  }
  return compare_embeddings(ours, theirs, "the encoder", "ONNX Runtime");
}

}  // namespace reid
