// reid embed as a user meets it: folders and lists in, three formats out, bad images named.

#include <doctest/doctest.h>

#include "learning/small_encoder.h"
#include "program/run_program.h"

#include "reid/embedder.h"
#include "reid/formats/json.h"
#include "reid/formats/safetensors.h"
#include "reid/formats/tensor_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <sstream>

using namespace reid;
using namespace reid::test;

namespace fs = std::filesystem;

namespace {

// A random encoder, and pictures of noise: b/0.png .. b/2.png, b/deep/3.PNG, a.png.
struct Photos {
  TemporaryFolder folder;
  std::string encoder = folder / "encoder.safetensors", a = folder / "a.png", b = folder / "b", list = folder / "list.txt";
  std::vector<std::string> inside;  // of b, as it is listed
  Photos() {
    write_small_encoder(encoder);
    fs::create_directories(b + "/deep");
    inside = {b + "/0.png", b + "/1.png", b + "/2.png", b + "/deep/3.PNG"};
    for (size_t i = 0; i <= inside.size(); ++i) {
      Image image(30 + 7 * static_cast<int>(i), 20);
      Rng rng(i);
      for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
      write_png(i < inside.size() ? inside[i] : a, image);
    }
    write_file(b + "/notes.txt", std::string("no image"));
  }
};
const Photos& photos() {
  static const Photos p;
  return p;
}

Outcome embed_with(const std::string& out, std::vector<std::string> words) {
  const std::vector<std::string> head{"embed", "--weights", photos().encoder, "--out", out};
  words.insert(words.begin(), head.begin(), head.end());
  return run_reid(words);
}

struct Result {
  Outcome outcome;
  NamedTensors content;
  Json json;
  std::vector<std::string> paths() const { return strings(parse_json(*content.note("paths"), "paths")); }
  const Tensor& features() const { return content.at("features"); }
  static std::vector<std::string> strings(const Json& list) {
    std::vector<std::string> out;
    for (const Json& item : list.items()) out.push_back(item.string());
    return out;
  }
};

Result embedded(std::vector<std::string> words) {
  const TemporaryFolder folder;
  words.insert(words.end(), {"--json", folder / "r.json"});
  Result r{embed_with(folder / "e.safetensors", words), {}, {}};
  INFO(r.outcome.err);
  REQUIRE(r.outcome.status == 0);
  r.content = read_safetensors(folder / "e.safetensors");
  r.json = parse_json(read_text(folder / "r.json"), "r.json");
  CHECK(Result::strings(r.json.at("paths")) == r.paths());
  CHECK(r.features().dim(0) == static_cast<int64_t>(r.paths().size()));
  return r;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool same_bits(const float* a, const float* b, int64_t count) { return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0; }

}  // namespace

TEST_CASE("reid embed: arguments, then the list, each in its order, folders by name; repeated images repeat") {
  const Photos& p = photos();
  std::vector<std::string> all{p.inside[2]};
  all.insert(all.end(), p.inside.begin(), p.inside.end());
  CHECK(embedded({p.inside[2], p.b}).paths() == all);

  write_file(p.list, p.a + "\r\n\n" + p.b + "\n" + p.inside[0]);
  all = {p.inside[1], p.a};
  all.insert(all.end(), p.inside.begin(), p.inside.end());
  all.push_back(p.inside[0]);
  const Result listed = embedded({p.inside[1], "--list", p.list});
  CHECK(listed.paths() == all);
  CHECK(same_bits(listed.features().rows(2, 3).data<float>(), listed.features().rows(6, 7).data<float>(), 32));
  CHECK(embedded({"--list", p.list}).paths() == std::vector<std::string>(all.begin() + 1, all.end()));
}

TEST_CASE("reid embed: a list on standard input") {
  const Photos& p = photos();
  const TemporaryFolder folder;
  write_file(folder / "in", p.inside[1] + "\n" + p.a + "\n");
  const std::string command = std::string("cat ") + (folder / "in") + " | " + REID_PROGRAM + " embed --quiet --weights " + p.encoder +
                              " --out " + (folder / "e.csv") + " --list -";
  REQUIRE(std::system(command.c_str()) == 0);
  const std::vector<std::string> lines = lines_of(read_text(folder / "e.csv"));
  REQUIRE(lines.size() == 3);
  CHECK(lines[1].starts_with(p.inside[1] + ","));
  CHECK(lines[2].starts_with(p.a + ","));
}

TEST_CASE("reid embed: rows depend on their image alone, and are those of the C interface") {
  const Photos& p = photos();
  for (const char* option : {"", "--flip", "--normalize"}) {
    std::vector<std::string> words{p.b, p.a};
    if (*option != '\0') words.emplace_back(option);
    const Result whole = embedded(words);
    words.insert(words.end(), {"--batch", "2", "--threads", "3"});
    CHECK(bitwise_equal(embedded(words).features(), whole.features()));

    Embedder embedder(p.encoder, {.flip = option == std::string("--flip"), .normalize = option == std::string("--normalize")});
    std::vector<float> rows;
    for (const std::string& path : whole.paths()) {
      const Image image = read_image(path);
      const std::vector<float> row = embedder.embed(image.rgb.data(), image.height, image.width);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    REQUIRE(whole.features().numel() == static_cast<int64_t>(rows.size()));
    CHECK(same_bits(rows.data(), whole.features().data<float>(), whole.features().numel()));
    CHECK(*whole.content.note("flip") == (option == std::string("--flip") ? "true" : "false"));
  }
}

TEST_CASE("reid embed: safetensors, npy and CSV hold the same numbers") {
  const Photos& p = photos();
  const TemporaryFolder folder;
  const std::string odd = folder / "with \"quotes\", commas.png";
  fs::copy_file(p.a, odd);
  const Result reference = embedded({p.b, odd});

  REQUIRE(embed_with(folder / "e.npy", {p.b, odd}).status == 0);
  const std::string npy = read_text(folder / "e.npy");
  const auto bytes = static_cast<size_t>(reference.features().bytes());
  CHECK(npy.starts_with("\x93NUMPY"));
  CHECK(npy.find("'shape': (5, 32)") != std::string::npos);
  REQUIRE(npy.size() > bytes);
  CHECK(std::memcmp(npy.data() + npy.size() - bytes, reference.features().raw(), bytes) == 0);
  CHECK(lines_of(read_text(folder / "e.paths.txt")) == reference.paths());

  REQUIRE(embed_with(folder / "table", {p.b, odd, "--format", "csv"}).status == 0);
  const std::vector<std::string> lines = lines_of(read_text(folder / "table"));
  REQUIRE(lines.size() == 6);
  CHECK(lines[0].starts_with("path,f0,f1,"));
  CHECK(lines[0].ends_with(",f31"));
  CHECK(lines[5].starts_with("\"" + (folder / "with \"\"quotes\"\", commas.png") + "\","));
  const float* wanted = reference.features().data<float>();
  for (size_t row = 1; row < lines.size(); ++row) {
    const char* at = lines[row].data() + lines[row].size();
    for (int skipped = 0; skipped < 32; --at) skipped += at[-1] == ',' ? 1 : 0;  // the path may hold commas
    for (int d = 0; d < 32; ++d, ++wanted) {
      float value = 0;
      REQUIRE(*at == ',');
      at = std::from_chars(at + 1, lines[row].data() + lines[row].size(), value).ptr;
      CHECK(same_bits(&value, wanted, 1));
    }
  }

  const Outcome unknown = embed_with(folder / "e.txt", {p.a});
  CHECK(unknown.status == 2);
  CHECK(unknown.says("--format"));
  const std::string broken = folder / "line\nbreak.png";
  fs::copy_file(p.a, broken);
  CHECK(embed_with(folder / "b.npy", {broken}).status == 1);
  CHECK_FALSE(fs::exists(folder / "b.npy"));
  CHECK(embed_with(folder / "b.csv", {broken}).status == 0);
}

TEST_CASE("reid embed: every bad image is named with its reason, and stops the run or is left out") {
  const Photos& p = photos();
  const TemporaryFolder folder;
  const std::vector<uint8_t> png = read_file(p.a);
  write_file(folder / "cut.png", std::span(png).first(png.size() / 2));
  write_file(folder / "text.png", std::string("not an image"));
  write_file(folder / "list", std::string(300, 'x') + "\n" + (folder / "gone.png") + "\n" + p.a + "\n" + (folder / "text.png") + "\n");
  const std::vector<std::string> words{folder / "cut.png", p.inside[0], "--list", folder / "list", "--batch", "1"};

  const Outcome strict = embed_with(folder / "e.npy", words);
  CHECK(strict.status == 1);
  const std::vector<std::string> said = lines_of(strict.err);
  REQUIRE(said.size() == 5);
  CHECK(said[0].starts_with("reid embed: " + (folder / "cut.png") + ": "));
  CHECK(said[2].find("gone.png: No such file") != std::string::npos);
  CHECK(said[1].ends_with("File name too long"));
  CHECK(said[3] == "reid embed: " + (folder / "text.png") + ": not a JPEG, PNG or BMP image");
  CHECK(said[4] == "reid: 4 of 6 images cannot be read: nothing is written (--skip-bad leaves them out)");
  for (const char* name : {"e.npy", "e.paths.txt"}) CHECK_FALSE(fs::exists(folder / name));

  std::vector<std::string> lenient = words;
  lenient.emplace_back("--skip-bad");
  const Result r = embedded(lenient);
  CHECK(lines_of(r.outcome.err) == std::vector<std::string>(said.begin(), said.begin() + 4));
  CHECK(r.paths() == std::vector<std::string>{p.inside[0], p.a});
  CHECK(bitwise_equal(r.features(), embedded({p.inside[0], p.a}).features()));
  const Json& skipped = r.json.at("skipped");
  REQUIRE(skipped.items().size() == 4);
  CHECK(skipped.items()[2].at("path").string() == folder / "gone.png");
  CHECK(skipped.items()[3].at("error").string().ends_with("not a JPEG, PNG or BMP image"));
  CHECK(parse_json(*r.content.note("skipped"), "skipped") == skipped);

  const Outcome none = embed_with(folder / "e.csv", {folder / "cut.png", "--skip-bad"});
  CHECK(none.status == 1);
  CHECK(none.says("none of the 1 images"));
  CHECK_FALSE(fs::exists(folder / "e.csv"));
}

TEST_CASE("reid embed: wrong inputs are refused before anything is computed") {
  const Photos& p = photos();
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& words, int status, const std::string& part) {
    const Outcome r = embed_with(folder / "e.csv", words);
    INFO(r.err);
    CHECK(r.status == status);
    CHECK(r.says(part));
    CHECK_FALSE(fs::exists(folder / "e.csv"));
  };
  refused({}, 2, "--list");
  refused({folder / "absent.png"}, 1, "absent.png: there is no such file or folder");
  refused({"--list", folder / "absent.txt"}, 1, "absent.txt");
  write_file(folder / "blank", std::string("\n\r\n"));
  refused({"--list", folder / "blank"}, 1, "blank names no images");
  fs::create_directories(folder / "empty");
  refused({folder / "empty"}, 1, "empty: holds no images");
  refused({p.a, "--batch", "0"}, 2, "--batch");
  refused({p.a, "--format", "xml"}, 2, "safetensors|npy|csv");
  const Outcome quiet = embed_with(folder / "q.csv", {p.a, "--quiet"});
  CHECK(quiet.status == 0);
  CHECK(quiet.out.empty());
}
