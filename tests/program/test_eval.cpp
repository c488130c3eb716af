// reid eval and reid rerank as a user runs them: presets, several data sets, splits of work, lists, and what is refused.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "learning/small_encoder.h"
#include "people/golden_evaluation.h"
#include "program/run_program.h"

#include "reid/formats/json.h"
#include "reid/formats/safetensors.h"
#include "reid/people/dataset.h"
#include "reid/people/rerank.h"
#include "reid/people/synth.h"
#include "reid/people/verification.h"

using namespace reid;
using namespace reid::test;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The golden problem as two files; a small synthetic world; an encoder of random weights.
struct Files {
  TemporaryFolder folder;
  std::string query = folder / "q.safetensors", gallery = folder / "g.safetensors", encoder = folder / "e.safetensors";
  EvaluationInput input = input_of(Golden("evaluation", "plain"));

  Files() {
    write(query, input.query, input.query_ids, input.query_cameras);
    write(gallery, input.gallery, input.gallery_ids, input.gallery_cameras);
    write_small_encoder(encoder);
    write_world(world_preset("tiny"), 3, folder / "world", 2);
  }
  static void write(const std::string& file, const Tensor& features, const std::vector<int64_t>& ids, const std::vector<int64_t>& cameras,
                    const std::string& paths = "") {
    NamedTensors content;
    content.add("features", features);
    if (!ids.empty()) content.add("ids", Tensor::from(ids));
    if (!cameras.empty()) content.add("cameras", Tensor::from(cameras));
    if (!paths.empty()) content.metadata = {{"paths", paths}};
    write_safetensors(file, content);
  }
  std::string world(const char* domain) const { return "market1501:" + (folder / "world/") + domain; }
};
const Files& files() {
  static const Files all;
  return all;
}

Outcome eval(std::vector<std::string> more) {
  more.insert(more.begin(), {"eval", "--query", files().query, "--gallery", files().gallery});
  return run_reid(more);
}

Json json_of(const Outcome& outcome) {
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  return parse_json(outcome.out, "standard output");
}

void refused(const Outcome& r, int status, const std::string& message) {
  INFO(r.err);
  CHECK(r.status == status);
  CHECK(r.out.empty());
  CHECK(r.says(message));
}

}  // namespace

TEST_CASE("reid eval: every preset says what it is and gives the library's figures") {
  for (const std::string& preset : evaluation_presets()) {
    CAPTURE(preset);
    const Json json = json_of(eval({"--preset", preset, "--json", "-"}));
    const EvaluationReport report = evaluate(files().input, evaluation_preset(preset));
    CHECK(json.at("mAP").number() == report.mAP);
    CHECK(json.at("rank5").number() == report.rank(5));
    CHECK(json.at("removed_pairs").integer() == report.removed);
    CHECK(json.at("preset").string() == preset);
    CHECK(eval({"--preset", preset}).out.starts_with(preset + ": "));
  }
  const Outcome plain = eval({});
  CHECK(plain.out.starts_with("fastreid: cosine distance; non-interpolated AP;"));
  CHECK(contains(plain.out, "queries   gallery"));
  CHECK(contains(plain.out, "queries without a match; "));
  CHECK(json_of(eval({"--metric", "euclidean", "--json", "-"})).at("metric").string() == "euclidean");
  CHECK(json_of(eval({"--preset", "cuhk03-single-shot", "--seed", "2", "--json", "-"})).at("rank1").number() !=
        json_of(eval({"--preset", "cuhk03-single-shot", "--json", "-"})).at("rank1").number());
}

TEST_CASE("reid eval: re-ranking and expansion are the library's, in their order, and memory is told before") {
  const Json json = json_of(eval({"--rerank", "12,4,0.25", "--aqe", "5,3", "--dba", "4,2", "--json", "-"}));
  const Tensor gallery = expand_rows(files().input.gallery, {4, 2});
  const Tensor query = expand_queries(files().input.query, gallery, {5, 3});
  RerankOptions options{12, 4, 0.25, RerankVariant::fastreid};  // the preset's
  CHECK(json.at("mAP").number() == evaluate(files().input, rerank(query, gallery, options), {}).mAP);
  options.variant = RerankVariant::zhong;
  const Json zhong = json_of(eval({"--rerank", "12,4,0.25", "--rerank-variant", "zhong", "--json", "-"}));
  CHECK(zhong.at("mAP").number() == evaluate(files().input, rerank(files().input.query, files().input.gallery, options), {}).mAP);
  const Json both = json_of(eval({"--aqe", "5,3,union", "--json", "-"}));
  EvaluationInput expanded = files().input;
  const ExpandedSides sides = expand_union(expanded.query, expanded.gallery, {5, 3});
  expanded.query = sides.query;
  expanded.gallery = sides.gallery;
  CHECK(both.at("mAP").number() == evaluate(expanded).mAP);

  const Outcome shown = eval({"--rerank", "20,6,0.3"});
  CHECK(contains(shown.out, "re-ranking 50 queries and 260 gallery images: about "));
  CHECK(contains(shown.out, "re-ranked as fastreid (k1 20, k2 6, lambda 0.3)"));
  CHECK(contains(eval({"--preset", "openreid", "--rerank", "20,6,0.3"}).out, "re-ranked as zhong"));
  CHECK(!contains(shown.out, "neighbors; there are"));
  CHECK(contains(eval({"--rerank", "20000,6,0.3"}).out, "note: --rerank looks for 20000 neighbors; there are "));
  CHECK(contains(eval({"--aqe", "30000,3"}).out, "note: --aqe looks for 30000 neighbors; there are "));
}

TEST_CASE("reid eval: verification on a screen and as JSON") {
  const Outcome shown = eval({"--verification", "--false-accept-rate", "0.02"});
  for (const char* part :
       {"same person or not: ", "equal error rate", "chosen on half of the identities", "fast-reid's TPR@FPR", "distance  "})
    CHECK_MESSAGE(contains(shown.out, part), part);
  const Json json = json_of(eval({"--verification", "--false-accept-rate", "0.02", "--json", "-"})).at("verification");
  VerificationOptions options;
  options.wanted = 0.02;
  const VerificationReport report = verify(files().input, options);
  CHECK(json.at("equal_error_rate").number() == report.equal_error_rate);
  CHECK(json.at("recommended").at("chosen").at("threshold").number() == report.chosen.threshold);
  CHECK(json.at("rates").items().at(2).at("true_accept_rate").number() == report.points[2].true_accept_rate);
  CHECK(json.at("curve").items().size() == 61);
  CHECK(json.at("same_histogram").items().size() <= 64);
}

TEST_CASE("reid eval: without cameras the query's own file goes, by path or because both files are one") {
  const TemporaryFolder folder;
  const Tensor rows = Tensor::from(std::vector<float>{1, 0, 1, 0.1f, 0, 1, 0.1f, 1}, {4, 2});
  Files::write(folder / "all.safetensors", rows, {1, 1, 2, 2}, {});
  const auto run = [&](const std::string& query, const std::string& gallery) {
    return run_reid({"eval", "--query", folder / query, "--gallery", folder / gallery, "--json", "-"});
  };
  CHECK(json_of(run("all.safetensors", "all.safetensors")).at("removed_pairs").integer() == 4);
  Files::write(folder / "q.safetensors", rows.rows(0, 1), {1}, {}, R"(["a.jpg"])");
  Files::write(folder / "g.safetensors", rows.rows(0, 3), {1, 1, 2}, {}, R"(["a.jpg", "b.jpg", "c.jpg"])");
  CHECK(json_of(run("q.safetensors", "g.safetensors")).at("removed_pairs").integer() == 1);
  CHECK(contains(run_reid({"eval", "--query", folder / "q.safetensors", "--gallery", folder / "g.safetensors"}).out,
                 "cameras unknown: only the query's own file removed"));
  Files::write(folder / "c.safetensors", rows.rows(0, 3), {1, 1, 2}, {0, 1, 1});
  refused(run("q.safetensors", "c.safetensors"), 1, "q.safetensors: holds no 'cameras', and the other file does");
  Files::write(folder / "p.safetensors", rows.rows(0, 3), {1, 1, 2}, {}, R"(["a.jpg"])");
  refused(run("q.safetensors", "p.safetensors"), 1, "p.safetensors: the metadata names 1 paths for 3 rows");
}

TEST_CASE("reid eval: several data sets are one table, and each equals its own run") {
  const std::string source = files().world("source"), target = files().world("target");
  const std::vector<std::string> words{"eval", "--weights", files().encoder, "--json", "-"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    return json_of(run_reid(all));
  };
  const Json both = with({"--data", target, source, "--flip"});
  const Json alone = with({"--data", source, "--flip"});
  REQUIRE(both.at("targets").items().size() == 2);
  CHECK(both.at("targets").items()[1].at("name").string() == source);
  CHECK(both.at("targets").items()[1].at("mean").at("mAP").number() == alone.at("mAP").number());
  CHECK(both.at("targets").items()[1].at("deviation").at("rank1").number() == 0);
  CHECK(with({"--data", source}).at("mAP").number() != alone.at("mAP").number());  // --flip does something

  // The queries of this set share identity and camera with nobody, so pooling them changes nothing.
  CHECK(with({"--data", source, "--multi-query", "mean", "--flip"}).at("rank1").number() == alone.at("rank1").number());

  const Outcome table = run_reid({"eval", "--weights", files().encoder, "--data", target, source});
  CHECK(contains(table.out, "\n" + target + " "));
  CHECK(contains(table.out, "\n" + source + " "));
}

TEST_CASE("reid eval: a wrong command line is refused") {
  refused(eval({"--preset", "fast-reid"}), 2, "--preset");
  refused(eval({"--rerank", "20,6"}), 2, "--rerank takes K1,K2,LAMBDA, such as 20,6,0.3, not '20,6'");
  refused(eval({"--rerank", "20,6,0.3,"}), 2, "--rerank takes");
  refused(eval({"--rerank", "20,x,0.3"}), 2, "--rerank takes");
  refused(eval({"--rerank", "20.5,6,0.3"}), 2, "K1 is 20.5");
  refused(eval({"--rerank", "20,0,0.3"}), 2, "K2 is 0");
  refused(eval({"--rerank", "20,6,1.3"}), 2, "LAMBDA is 1.3");
  refused(eval({"--rerank-variant", "bot"}), 2, "--rerank-variant needs --rerank");
  refused(eval({"--aqe", "5"}), 2, "--aqe takes K,ALPHA");
  refused(eval({"--dba", "5,-1"}), 2, "ALPHA is -1");
  refused(eval({"--flip"}), 2, "--flip is about images");
  refused(eval({"--false-accept-rate", "1"}), 2, "--false-accept-rate takes");
  refused(run_reid({"eval", "--weights", files().encoder, "--data", files().world("videos")}), 1, "videos");
}

TEST_CASE("reid rerank: lists and distances equal the library's") {
  const TemporaryFolder folder;
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"rerank", "--query", files().query, "--gallery", files().gallery};
    words.insert(words.end(), more.begin(), more.end());
    return run_reid(words);
  };
  REQUIRE(run({"--rerank", "20,6,0.3", "--distances", "--out", folder / "d.safetensors"}).status == 0);
  const Tensor all = read_safetensors(folder / "d.safetensors").at("distances");
  CHECK(largest_difference(all, rerank(files().input.query, files().input.gallery).rows(0, 50)) == 0);

  const EvaluationInput& input = files().input;
  const Tensor query = input.query.to(DType::f64), gallery = input.gallery.to(DType::f64);
  Files::write(folder / "query64.safetensors", query, {}, {});
  Files::write(folder / "gallery64.safetensors", gallery, {}, {});
  REQUIRE(run_reid({"rerank", "--query", folder / "query64.safetensors", "--gallery", folder / "gallery64.safetensors", "--distances",
                    "--out", folder / "d64.safetensors"})
              .status == 0);
  const Tensor rounded = pairwise_distance(query, gallery, Metric::cosine).to(DType::f32);
  CHECK(largest_difference(read_safetensors(folder / "d64.safetensors").at("distances"), rounded) == 0);

  // Whether lists are the first of each row by (distance, column), with those distances to the rounding given.
  const auto check_lists = [&](std::vector<std::string> words, int64_t top, const Tensor& distances, double rounding) {
    words.insert(words.end(), {"--top", std::to_string(top), "--out", folder / "l.safetensors"});
    REQUIRE(run(words).status == 0);
    const NamedTensors lists = read_safetensors(folder / "l.safetensors");
    CHECK(lists.at("index").shape() == Shape{50, top});
    const Tensor wide = distances.to(DType::f64);
    for (int64_t q = 0; q < 50; ++q) {
      std::vector<std::pair<double, int64_t>> order;
      for (int64_t j = 0; j < 260; ++j) order.emplace_back(wide.data<double>()[q * 260 + j], j);
      std::sort(order.begin(), order.end());
      for (int64_t k = 0; k < top; ++k) {
        const auto& [distance, column] = order[static_cast<size_t>(k)];
        CHECK(lists.at("index").data<int64_t>()[q * top + k] == column);
        CHECK(std::abs(lists.at("distance").data<float>()[q * top + k] - distance) <= rounding * distance);
      }
    }
  };
  check_lists({"--rerank", "20,6,0.3"}, 7, rerank(query, gallery).rows(0, 50), 0x1p-23);  // both rounded to f32
  check_lists({}, 7, pairwise_distance(query, gallery, Metric::cosine), 0x1.001p-24);     // searched: in double, rounded
  check_lists({}, 40, rounded, 0);                                                        // longer ones are sorted

  const Tensor rows = Tensor::from(std::vector<float>{1, 0, 0, 1, 1, 1, 0, 1}, {4, 2});
  Files::write(folder / "q.safetensors", rows.rows(0, 1), {}, {}, R"(["q,1.jpg"])");
  Files::write(folder / "g.safetensors", rows, {}, {}, R"(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])");
  const std::vector<std::string> words{"rerank",    "--query", folder / "q.safetensors", "--gallery", folder / "g.safetensors", "--metric",
                                       "euclidean", "--out",   folder / "l.csv"};
  const Outcome r = run_reid(words);
  CHECK(r.status == 0);
  CHECK(contains(r.out, "lists made in "));
  CHECK(contains(r.out, "note: --top 10 is more than the gallery: lists have all 4"));
  CHECK(read_text(folder / "l.csv") ==
        "query,rank,gallery,distance,query_path,gallery_path\n0,1,0,0,\"q,1.jpg\",a.jpg\n0,2,2,1,\"q,1.jpg\",c.jpg\n"
        "0,3,1,1.4142135,\"q,1.jpg\",b.jpg\n"
        "0,4,3,1.4142135,\"q,1.jpg\",d.jpg\n");

  refused(run({"--out", folder / "l.txt"}), 2, "ends in neither .csv nor .safetensors");
  refused(run({"--distances", "--out", folder / "l.csv"}), 2, "--distances writes .safetensors");
  refused(run({"--out", folder / "none/l.csv"}), 1, "none/l.csv");
  Files::write(folder / "wide.safetensors", Tensor::zeros({2, 3}, DType::f32), {}, {});
  refused(run_reid({"rerank", "--query", folder / "q.safetensors", "--gallery", folder / "wide.safetensors", "--out", folder / "l.csv",
                    "--metric", "euclidean"}),
          1, "2 columns in");
}
