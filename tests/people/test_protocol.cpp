// Protocols resolved against data sets at hand.

#include <doctest/doctest.h>

#include "formats/scratch.h"

#include "reid/people/protocol.h"

using namespace reid;
using namespace reid::test;

namespace {

using Names = std::vector<std::string>;

const Names kFour = {"cuhk03-np=cuhk03-np:/d/np", "market1501=market1501:/d/market", "msmt17=msmt17,val=include:/d/msmt",
                     "cuhk-sysu=cuhk-sysu:/d/sysu"};

std::string failure_of_resolve(const ProtocolChoice& choice) {
  return failure_of([&] { resolve(choice); });
}

}  // namespace

TEST_CASE("protocol: p2 trains on the other three sets, p3 on all of their images") {
  const ResolvedProtocol p2 = resolve({.protocol = "p2", .sets = kFour, .target = "msmt17"});
  CHECK(p2.trained_on == Names{"market1501", "cuhk-sysu", "cuhk03-np"});  // the order of the protocol, whatever the order given
  CHECK(p2.train == Names{"market1501:/d/market", "cuhk-sysu:/d/sysu", "cuhk03-np:/d/np"});
  CHECK(p2.evaluate == Names{"msmt17=msmt17,val=include:/d/msmt"});
  CHECK(p2.text == "protocol p2: trained on the training images of market1501, cuhk-sysu, cuhk03-np; tested on msmt17 (META, ACL, BAU)");
  const ResolvedProtocol p3 = resolve({.protocol = "p3", .sets = kFour, .target = "market1501"});
  CHECK(p3.train == Names{"msmt17,val=include,use=all:/d/msmt", "cuhk-sysu,use=all:/d/sysu", "cuhk03-np,use=all:/d/np"});
  CHECK(p3.evaluate == Names{"market1501=market1501:/d/market"});
  CHECK(p3.text.find("trained on all images of msmt17") != std::string::npos);
}

TEST_CASE("protocol: cross-dataset tests on every set, the source's own included; merged MSMT17 on the others only") {
  const ResolvedProtocol cross = resolve({.protocol = "cross-dataset", .sets = {"a=market1501:/a", "b=folder:/b"}, .source = "b"});
  CHECK(cross.train == Names{"folder:/b"});
  CHECK(cross.evaluate == Names{"a=market1501:/a", "b=folder:/b"});
  const ResolvedProtocol merged = resolve({.protocol = "merged-msmt17", .sets = {"msmt17=msmt17:/m", "viper=viper:/v"}});
  CHECK(merged.train == Names{"msmt17,merged=yes:/m"});
  CHECK(merged.evaluate == Names{"viper=viper:/v"});
}

TEST_CASE("protocol: p1 has fixed sources and targets") {
  Names sets;
  for (const char* name : {"market1501", "cuhk02", "cuhk03", "cuhk-sysu", "prid", "grid", "viper", "ilids"}) {
    sets.push_back(std::string(name) + "=" + name + ":/d");
  }
  const ResolvedProtocol p1 = resolve({.protocol = "p1-without-duke", .sets = sets});
  CHECK(p1.train.size() == 4);
  CHECK(p1.train[3] == "cuhk-sysu,use=all:/d");
  CHECK(p1.evaluate == Names{"prid=prid:/d", "grid=grid:/d", "viper=viper:/d", "ilids=ilids:/d"});
  CHECK(every_row({.protocol = "p1-without-duke", .sets = sets}).size() == 1);
}

TEST_CASE("protocol: every row of a table is a source or a target in turn") {
  const auto rows = every_row({.protocol = "p2", .sets = kFour});
  REQUIRE(rows.size() == 3);  // CUHK-SYSU is never a target
  CHECK(rows[0].target == "market1501");
  CHECK(rows[1].target == "msmt17");
  CHECK(rows[2].target == "cuhk03-np");
  const auto cross = every_row({.protocol = "cross-dataset", .sets = {"a=market1501:/a", "b=folder:/b"}});
  REQUIRE(cross.size() == 2);
  CHECK(cross[1].source == "b");
  CHECK(every_row({.protocol = "p2", .sets = kFour, .target = "msmt17"}).size() == 1);
}

TEST_CASE("protocol: what is missing, unknown or does not fit is named") {
  CHECK(contains(failure_of_resolve({.protocol = "p4"}), "unknown protocol \"p4\": there are cross-dataset, leave-one-out, p0"));
  CHECK(contains(failure_of_resolve({.protocol = "p2"}), "protocol.sets is empty"));
  CHECK(contains(failure_of_resolve({.protocol = "p2", .sets = {"market1501=market1501:/a"}, .target = "market1501"}),
                 "protocol p2 needs the sets msmt17, cuhk-sysu, cuhk03-np"));
  CHECK(contains(failure_of_resolve({.protocol = "p2", .sets = kFour}), "set protocol.target to one of market1501, msmt17, cuhk03-np"));
  CHECK(contains(failure_of_resolve({.protocol = "p2", .sets = kFour, .target = "cuhk-sysu"}),
                 "protocol.target is cuhk-sysu, expected one of"));
  CHECK(
      contains(failure_of_resolve({.protocol = "p2", .sets = kFour, .source = "msmt17", .target = "msmt17"}), "takes no protocol.source"));
  CHECK(contains(failure_of_resolve({.protocol = "p2", .sets = {"grid=grid:/a"}, .target = "grid"}),
                 "uses no set named grid; it uses market1501"));
  CHECK(contains(failure_of_resolve({.protocol = "cross-dataset", .sets = {"a=folder:/a", "a=folder:/b"}}), "the set a is given twice"));
  for (const char* set : {"market1501:/a", "=market1501:/a", "a=market1501", "a:b=c"}) {
    CHECK(contains(failure_of_resolve({.protocol = "cross-dataset", .sets = {set}}), "is not NAME=LAYOUT:PATH"));
  }
  CHECK(contains(failure_of_resolve({.protocol = "leave-one-out", .sets = {"a=folder:/a"}, .target = "a"}), "nothing is left to train on"));
  CHECK(contains(failure_of_resolve({.protocol = "merged-msmt17", .sets = {"msmt17=msmt17:/m"}}), "no set is left to test on"));
  Names half = kFour;
  half[2] = "msmt17=msmt17,use=train:/d/msmt";
  CHECK(contains(failure_of_resolve({.protocol = "p3", .sets = half, .target = "market1501"}), "trains on msmt17 with use=all, but"));
  half[2] = "msmt17=msmt17,use=all:/d/msmt";
  CHECK(resolve({.protocol = "p3", .sets = half, .target = "market1501"}).train[0] == "msmt17,use=all:/d/msmt");
}
