// The table of cross-dataset studies.

#include <doctest/doctest.h>

#include "formats/scratch.h"

#include "reid/learning/matrix.h"

using namespace reid;
using namespace reid::test;

namespace {

Json report(double map, double rank1) { return Json::object({{"mAP", map}, {"rank1", rank1}}); }

std::vector<MatrixRow> two_rows() {
  return {{.trained_on = {"a"},
           .seen = {"a"},
           .checkpoint = "last epoch (6)",
           .results = Json::object({{"a", report(0.9, 0.95)}, {"b", report(0.25, 0.5)}, {"c", report(0.125, 0.25)}})},
          {.trained_on = {"a", "b"},
           .single = {"videos:v"},
           .checkpoint = "last epoch (6)",
           .results = Json::object({{"c", report(0.5, 0.75)}})}};
}

}  // namespace

TEST_CASE("matrix: rows trained on, columns tested on, the mean over sets that were not trained on") {
  CHECK(matrix_markdown(two_rows()) ==
        "| trained on | checkpoint | a | b | c | mean of unseen |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| a | last epoch (6) | 90.0 / 95.0 | 25.0 / 50.0 | 12.5 / 25.0 | 18.8 / 37.5 |\n"
        "| a + b; videos videos:v | last epoch (6) |  |  | 50.0 / 75.0 | 50.0 / 75.0 |\n");
}

TEST_CASE("matrix: a set was seen where its folder was trained on, whatever it is called and by whatever options it is read") {
  const Scratch scratch("seen");
  for (const char* name : {"a", "b"}) std::filesystem::create_directory(scratch / name);
  const std::string a = (scratch / "a").string(), b = (scratch / "b").string();
  const std::vector<std::string> evaluated = {"one=market1501:" + a + "/", "two=market1501:" + b};
  CHECK(sets_seen(evaluated, {"market1501,use=all:" + b + "/../a"}) == std::vector<std::string>{"one"});
  CHECK(sets_seen(evaluated, {"market1501:" + a, "videos:" + b}) == std::vector<std::string>{"one", "two"});
  CHECK(sets_seen(evaluated, {"market1501:" + a + "b"}).empty());
}

TEST_CASE("matrix: one column needs no mean") {
  const std::vector<MatrixRow> rows = {two_rows()[1]};
  CHECK(!contains(matrix_markdown(rows), "mean"));
}

TEST_CASE("matrix: files read back as written; a folder without one is named") {
  const Scratch scratch("matrix");
  write_matrix_files(two_rows(), scratch.folder);
  const std::vector<MatrixRow> rows = read_matrix(scratch.folder);
  CHECK(matrix_json(rows) == matrix_json(two_rows()));
  CHECK(contains(failure_of([&] { read_matrix(scratch / "nowhere"); }), "nowhere holds no matrix.json"));
}
