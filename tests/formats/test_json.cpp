#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "formats/scratch.h"
#include "reid/formats/json.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;

TEST_CASE("json: what is written reads back equal") {
  Json doc;
  doc["z first"] = 1;
  doc["a"] = Json::array({true, Json(), "text \"quoted\"\n\x01", 0.1, 1.0, 1e300, -5e-324, int64_t{9007199254740993}});
  doc["nested"]["deep"]["list"].push_back(3);
  doc["empty"] = Json::object({{"o", Json::object()}, {"a", Json::array()}});
  doc["min"] = std::numeric_limits<int64_t>::min();
  for (const int indent : {-1, 0, 2}) CHECK(parse_json(doc.dump(indent), "doc") == doc);
  CHECK(doc.members().front().first == "z first");
  CHECK(Json(1.0).dump() == "1.0");
  CHECK(Json(0.1).dump() == "0.1");
  CHECK(Json(std::nan("")).dump() == "null");
  CHECK(Json::array({1, 2}).dump() == "[1, 2]");
  CHECK(Json::object({{"k", Json::array({1})}}).dump(2) == "{\n  \"k\": [\n    1\n  ]\n}");
}

TEST_CASE("json: bytes that are no UTF-8 still print as valid JSON") {
  CHECK(parse_json(Json("a\xFF.jpg").dump(), "x").string() == "a\xEF\xBF\xBD.jpg");
}

TEST_CASE("json: errors name the document, the place and the type") {
  CHECK(contains(failure_of([] { parse_json("{\"a\": 1,\n oops}", "m.json"); }), "m.json: parse error at line 2"));
  CHECK(contains(failure_of([] { parse_json("", "m.json"); }), "m.json"));
  CHECK(contains(failure_of([] { parse_json("{\"a\": 1, \"a\": 2}", "m.json"); }), "\"a\" stands twice"));
  CHECK(contains(failure_of([] { parse_json("18446744073709551615", "m.json"); }), "above 2^63"));
  CHECK(contains(failure_of([] { parse_json(std::string(100000, '['), "m.json"); }), "nested deeper"));
  const Json doc = parse_json("{\"a\": \"x\"}", "m.json");
  CHECK(contains(failure_of([&] { doc.at("b"); }), "\"b\" is missing"));
  CHECK(failure_of([&] { doc.at("a").integer(); }) == "expected an integer, found string");
  CHECK(failure_of([&] { Json(1.5).integer(); }) == "expected an integer, found number");
  CHECK(Json(3).number() == 3.0);
  CHECK(doc.find("b") == nullptr);
  CHECK(Json(1).find("b") == nullptr);
}

TEST_CASE("toml: tables in the order of the file") {
  const Json doc =
      parse_toml("zeta = 1\nalpha = 0.5\nname = 'x'\non = true\nlist = [1, 2]\n[optim]\nlr = 3.5e-4\n[data.aug]\nflip = 0.5\n", "c.toml");
  CHECK(doc.dump() ==
        "{\"zeta\": 1, \"alpha\": 0.5, \"name\": \"x\", \"on\": true, \"list\": [1, 2], \"optim\": {\"lr\": 0.00035}, \"data\": {\"aug\": "
        "{\"flip\": 0.5}}}");
}

TEST_CASE("toml: errors name the file, line and column") {
  CHECK(contains(failure_of([] { parse_toml("a = 1\nb = = 2\n", "c.toml"); }), "c.toml:2:"));
  CHECK(contains(failure_of([] { parse_toml("a = 1\na = 2\n", "c.toml"); }), "c.toml:2:"));
  CHECK(contains(failure_of([] { parse_toml("a = 1\nd = 2020-01-01\n", "c.toml"); }), "c.toml:2:5: dates"));
  CHECK(contains(failure_of([] { parse_toml("a = 1\n[=c]\n", "c.toml"); }), "c.toml: not valid TOML"));
  CHECK(contains(failure_of([] { parse_toml("a = 1\nc\u00e0 = 2\n", "c.toml"); }), "c.toml:2:"));
}

TEST_CASE("toml: any character may stand in strings and comments") {
  const char* text =
      "# \u00e0 \"\n"
      "a = \"\u00e0 \\\" # \u00e0\" # it's \u00e0\n"
      "b = '\u00e0\\'\n"
      "c = \"\"\"\u00e0\n\"\u00e0\"\"\"\"\n"
      "\"\u00e0\" = '''\u00e0'''\n";
  const Json doc = parse_toml(text, "c.toml");
  CHECK(doc.at("a").string() == "\u00e0 \" # \u00e0");
  CHECK(doc.at("b").string() == "\u00e0\\");
  CHECK(doc.at("c").string() == "\u00e0\n\"\u00e0\"");
  CHECK(doc.at("\u00e0").string() == "\u00e0");
}
