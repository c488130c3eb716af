// MATLAB files and LMDB databases that SciPy, h5py and py-lmdb wrote (tools/golden_containers.py); truncated and foreign ones.

#include <doctest/doctest.h>

#include <atomic>
#include <fstream>
#include <map>
#include <thread>

#include "formats/containers.h"
#include "formats/pickle.h"

namespace fs = std::filesystem;

namespace reid::test {
namespace {

constexpr const char* kMatFiles[] = {"values.mat", "values_compressed.mat", "values_v73.mat"};

std::string matlab_failure(const fs::path& file, const std::string& variable) {
  return failure_of([&] { MatFile(file).read(variable); });
}

// All that `whole` holds, asked of `file`.
void read_everything(const fs::path& whole, const fs::path& file) {
  static std::map<fs::path, std::vector<std::string>> variables;
  if (!variables.contains(whole)) variables[whole] = MatFile(whole).variables();
  const MatFile mat(file);
  for (const std::string& variable : variables[whole]) {
    mat.read(variable);
    mat.each_image(variable, [](const std::vector<MatPlace>&, const Image&) {});
  }
}

// Truncates the file at every `step`-th length; reading each must be an error that names it.
template <class Read>
void truncate(const fs::path& file, size_t step, const Read& read) {
  const Scratch scratch("truncated");
  const std::vector<uint8_t> whole = read_file(file);
  for (size_t size = 0; size < whole.size(); size += step) {
    const fs::path cut = scratch / str(size, file.extension().string());
    std::ofstream(cut, std::ios::binary).write(reinterpret_cast<const char*>(whole.data()), static_cast<std::streamsize>(size));
    const std::string failure = failure_of([&] { read(cut); });
    CHECK_MESSAGE(contains(failure, cut.string() + ": "), file.filename().string(), " at ", size, " bytes: ", failure);
    fs::remove(cut);
  }
}

}  // namespace

TEST_CASE("matlab: numbers of every type, as their writer says") {
  if (no_matlab()) return;
  for (const char* name : kMatFiles) {
    const MatFile mat(kContainers / name);
    size_t compared = 0;
    for (const auto& [golden, want] : container_values().tensors) {
      if (!golden.starts_with(str(name, '/'))) continue;
      const std::string key = golden;  // clang 14 captures no structured bindings
      const MatValue value = mat.read(key.substr(std::string(name).size() + 1));
      CAPTURE(key);
      REQUIRE(value.kind == MatValue::Kind::numbers);
      const auto extents = want.shape().extents();
      REQUIRE(value.shape == std::vector<int64_t>(extents.begin(), extents.end()));
      const Tensor doubles = want.to(DType::f64);
      for (int64_t i = 0; i < doubles.numel(); ++i) {  // row-major there, column-major here
        int64_t rest = i, place = 0;
        std::vector<int64_t> at(value.shape.size());
        for (size_t axis = at.size(); axis-- > 0; rest /= value.shape[axis]) at[axis] = rest % value.shape[axis];
        for (size_t axis = at.size(); axis-- > 0;) place = place * value.shape[axis] + at[axis];
        CHECK(value.numbers[static_cast<size_t>(place)] == doubles.data<double>()[i]);
      }
      ++compared;
    }
    CHECK(compared == 6);
  }
}

TEST_CASE("matlab: text, cells, structs, images") {
  if (no_matlab()) return;
  for (const char* name : kMatFiles) {
    CAPTURE(std::string(name));
    const MatFile mat(kContainers / name);
    CHECK(mat.read("word").text == "1_001_1_01.png");
    CHECK(mat.texts("words") == std::vector<std::string>{"a", "1_002_2_06.png", "zz"});
    CHECK(mat.integers("whole") == std::vector<int64_t>{1, -2, 3});
    CHECK(mat.integer_rows("whole", 3) == std::vector<std::vector<int64_t>>{{1, -2, 3}});
    const MatValue empty = mat.read("empty");
    CHECK(empty.kind == MatValue::Kind::numbers);
    CHECK(empty.shape == std::vector<int64_t>{0, 0});
    const MatValue nested = mat.read("nested");
    REQUIRE(nested.items.size() == 1);
    const MatValue& record = nested.items[0];
    CHECK(record.fields == std::vector<std::string>{"first", "second", "third"});
    REQUIRE(record.find("third") != nullptr);
    CHECK(integers_of(*record.find("third"), "third") == std::vector<int64_t>{7, 9});
    CHECK(record.find("second")->text == "x");
    CHECK(record.find("fourth") == nullptr);
    std::vector<std::vector<int64_t>> places;
    mat.each_image("images", [&](const std::vector<MatPlace>& cell, const Image& image) {
      REQUIRE(cell.size() == 2);
      places.push_back({cell[0].row, cell[0].column, cell[1].row, cell[1].column});
      if (image.height == 3) CHECK(same_pixels(image, "values/image"));
      CHECK((image.width == 2 && (image.height == 3 || image.height == 2)));
    });
    CHECK(places == std::vector<std::vector<int64_t>>{{0, 0, 0, 0}, {0, 0, 1, 1}});
  }
  CHECK(MatFile(kContainers / "values.mat").read("complex").kind == MatValue::Kind::other);
  CHECK(MatFile(kContainers / "values.mat").integers("logical") == std::vector<int64_t>{1, 0});
  CHECK(MatFile(kContainers / "values.mat").read("wide").text == "\xC3\xA4\xE4\xBA\xBA");
}

TEST_CASE("matlab: what is asked for and not there, or of another kind, is named") {
  if (no_matlab()) return;
  for (const char* name : kMatFiles) {
    const MatFile mat(kContainers / name);
    CHECK(contains(failure_of([&] { mat.read("ids"); }), "has no variable \"ids\"; it has "));
    CHECK(contains(failure_of([&] { mat.read("ids"); }), "matrix"));
    CHECK(contains(failure_of([&] { mat.integers("matrix"); }), "the variable matrix: element 1 is 1.5, not an integer"));
    CHECK(contains(failure_of([&] { mat.integers("word"); }), "the variable word holds text of 1 x 14 where numbers are expected"));
    CHECK(contains(failure_of([&] { mat.integer_rows("whole", 4); }), "holds numbers of 1 x 3 where a matrix of 4 columns is expected"));
    CHECK(contains(failure_of([&] { mat.texts("nested"); }), "the variable nested: cell 1 holds a struct of 1 x 1 where text is expected"));
    CHECK(contains(failure_of([&] { mat.texts("whole"); }), "holds numbers of 1 x 3 where cells of text are expected"));
  }
}

TEST_CASE("matlab: a truncated file is an error at every length") {
  if (no_matlab()) return;
  for (const auto& [name, step] : std::map<std::string, size_t>{
           {"values.mat", 1}, {"values_compressed.mat", 1}, {"values_v73.mat", 7}, {"cuhk03/cuhk03_release/cuhk-03.mat", 89}}) {
    const fs::path whole = kContainers / name;
    read_everything(whole, whole);
    truncate(whole, step, [&](const fs::path& cut) { read_everything(whole, cut); });
  }
}

TEST_CASE("matlab: foreign files are refused") {
  if (no_matlab()) return;
  const Scratch scratch("matlab");
  write_file(scratch / "text.mat", std::string(400, 'x'));
  CHECK(contains(matlab_failure(scratch / "text.mat", "x"), "text.mat: not a MATLAB file of version 5 to 7.3"));
  write_file(scratch / "empty.mat", std::string_view(""));
  CHECK(contains(matlab_failure(scratch / "empty.mat", "x"), "it has 0 bytes"));
  CHECK(contains(matlab_failure(scratch / "nowhere.mat", "x"), "nowhere.mat"));
  CHECK(contains(matlab_failure(scratch.folder, "x"), scratch.folder.string()));
  std::vector<uint8_t> bytes = read_file(kContainers / "values.mat");
  bytes[125] = 9;
  write_file(scratch / "version.mat", bytes);
  CHECK(contains(matlab_failure(scratch / "version.mat", "x"), "unknown version"));
  bytes = read_file(kContainers / "values_v73.mat");
  bytes[513] = 'X';
  write_file(scratch / "hdf5.mat", bytes);
  CHECK(contains(matlab_failure(scratch / "hdf5.mat", "x"), "no HDF5 begins at byte 512"));
}

TEST_CASE("containers: a build without the library says what to install") {
  if (!has_matlab())
    CHECK(contains(matlab_failure(kContainers / "values.mat", "x"), "values.mat: this program was built without libmatio"));
  if (!has_lmdb()) CHECK(contains(failure_of([] { const LmdbFile file(kContainers / "pictures.lmdb"); }), "built without liblmdb"));
}

TEST_CASE("lmdb: entries, keys, what is missing") {
  if (no_lmdb()) return;
  const LmdbFile file(kContainers / "pictures.lmdb"), folder(kContainers / "luperson/lmdb");
  CHECK(file.entries() == 3);
  CHECK(folder.entries() == 6);
  std::vector<std::string> keys;
  file.each_key([&](std::string_view key) { keys.emplace_back(key); });
  CHECK(keys == std::vector<std::string>{"a!b.png", "jpeg", "large"});
  CHECK(file.contains("jpeg"));
  CHECK_FALSE(file.contains("jpe"));
  CHECK_FALSE(file.contains(""));
  const Tensor& jpeg = container_values().at("pictures.lmdb/jpeg");
  const auto want = jpeg.span<uint8_t>();
  CHECK(file.get("jpeg") == std::vector<uint8_t>(want.begin(), want.end()));
  CHECK(same_pixels(decode_image(file.get("large"), "large"), "pictures.lmdb/large"));
  CHECK(contains(failure_of([&] { file.get("png"); }), "pictures.lmdb: the LMDB database has no entry \"png\""));
  CHECK(contains(failure_of([&] { file.get(std::string(600, 'k')); }), "pictures.lmdb"));
}

TEST_CASE("lmdb: a truncated database is an error at every length, a foreign file too") {
  if (no_lmdb()) return;
  const auto read = [](const fs::path& path) {
    const LmdbFile file(path);
    file.each_key([&](std::string_view key) { file.get(key); });
  };
  truncate(kContainers / "pictures.lmdb", 61, read);
  const Scratch scratch("lmdb");
  write_file(scratch / "text.mdb", std::string(9000, 'x'));
  CHECK(contains(failure_of([&] { read(scratch / "text.mdb"); }), "text.mdb: not an LMDB database"));
  CHECK(contains(failure_of([&] { read(scratch.folder); }), "no LMDB database is there"));
  CHECK_FALSE(is_lmdb(scratch / "text.mdb"));
  CHECK_FALSE(is_lmdb(scratch.folder));
  std::vector<uint8_t> bytes = read_file(kContainers / "pictures.lmdb");
  for (const size_t page : {size_t{0}, size_t{4096}}) bytes[page + 20] = 99;  // the format's version
  write_file(scratch / "version.mdb", bytes);
  CHECK(contains(failure_of([&] { read(scratch / "version.mdb"); }), "version.mdb: cannot be read as an LMDB database"));
}

TEST_CASE("lmdb: a read-only folder is enough, and nothing is written beside the database") {
  if (no_lmdb()) return;
  const Scratch scratch("lmdb");
  fs::create_directory(scratch / "db");
  fs::copy_file(kContainers / "luperson/lmdb/data.mdb", scratch / "db" / "data.mdb");
  fs::permissions(scratch / "db" / "data.mdb", fs::perms::owner_read);
  fs::permissions(scratch / "db", fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(LmdbFile(scratch / "db").entries() == 6);
  CHECK(std::distance(fs::directory_iterator(scratch / "db"), fs::directory_iterator()) == 1);
  fs::permissions(scratch / "db", fs::perms::owner_all);
}

TEST_CASE("lmdb: one environment for a process, read by many threads") {
  if (no_lmdb()) return;
  const LmdbFile* file = shared_lmdb(kContainers / "luperson/lmdb");
  REQUIRE(file != nullptr);
  CHECK(shared_lmdb(kContainers / "luperson/lmdb") == file);
  CHECK(shared_lmdb(kContainers / "mars" / ".." / "luperson/lmdb") == file);
  CHECK(shared_lmdb(kContainers / "mars") == nullptr);
  std::vector<std::string> keys;
  file->each_key([&](std::string_view key) { keys.emplace_back(key); });
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 400; ++i) {
        const std::string& key = keys[(i * 7 + static_cast<size_t>(t)) % (keys.size() - 1)];  // the last is no image
        wrong += !same_pixels(decode_image(file->get(key), key), "luperson/" + key);
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("image: CONTAINER!KEY names an entry; a file of that name comes first") {
  const Scratch scratch("entry");
  CHECK(contains(failure_of([&] { read_image(scratch / "no!file.png"); }), "no!file.png"));
  fs::create_directory(scratch / "no");
  CHECK(contains(failure_of([&] { read_image(scratch / "no!file.png"); }), "no!file.png: No such file"));
  if (no_lmdb()) return;
  fs::copy_file(kContainers / "pictures.lmdb", scratch / "p!.lmdb");
  const std::string base = (scratch / "p!.lmdb").string();
  CHECK(same_pixels(read_image(base + "!large"), "pictures.lmdb/large"));
  CHECK(same_pixels(read_image(base + "!a!b.png"), "pictures.lmdb/a!b.png"));
  CHECK(contains(failure_of([&] { read_image(base + "!absent"); }), "has no entry \"absent\""));
  Image other(5, 6);
  CHECK(has_image(base + "!large"));
  CHECK_FALSE(has_image(base + "!absent"));
  CHECK_FALSE(has_image(scratch / "no!file.png"));
  write_png(base + "!large", other);
  CHECK(read_image(base + "!large").height == 5);
}

TEST_CASE("pickle: a caller may allow more values") {
  const std::string text = "(lI1\naI2\naI3\na.";
  const auto read = [&](size_t limit) {
    return failure_of([&] {
      const ByteSource source(std::vector<uint8_t>(text.begin(), text.end()), "keys.pkl");
      Cursor cursor(source);
      const Pickle pickle(cursor, limit);
      CHECK(pickle.root().items.size() == 3);
    });
  };
  CHECK(read(4) == "");
  CHECK(contains(read(3), ": more than 3 values"));
}

}  // namespace reid::test
