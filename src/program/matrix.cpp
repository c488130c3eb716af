// reid matrix: the results of several runs as one table, rows trained on, columns tested on.

#include <memory>

#include "program/verb.h"
#include "reid/formats/files.h"
#include "reid/learning/matrix.h"

namespace reid::program {
namespace {

struct Options {
  std::vector<std::string> runs;
  std::string out;
};

void run(const Context& context, const Options& o) {
  std::vector<MatrixRow> rows;
  for (const std::string& folder : o.runs) {
    for (MatrixRow& row : read_matrix(folder)) rows.push_back(std::move(row));
  }
  if (!o.out.empty()) {
    make_folder(o.out);
    write_matrix_files(rows, o.out);
  }
  context.say("mAP / Rank-1, %\n\n", matrix_markdown(rows));
  context.write_json(matrix_json(rows));
}

}  // namespace

Verb matrix_verb() {
  auto o = std::make_shared<Options>();
  return {"matrix", "the results of several runs as one table: trained on, tested on", "reid matrix runs/market runs/msmt17 --out runs",
          [o](Flags& f) {
            f.arguments("RUN", o->runs, "folders of finished runs", Presence::required);
            f.option("--out", o->out, "DIR", "folder to write matrix.json and matrix.md into");
          },
          [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
