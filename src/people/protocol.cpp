#include "reid/people/protocol.h"

#include <algorithm>
#include <map>

#include "reid/engine/base.h"

namespace reid {

namespace {

using Names = std::vector<std::string>;
using Sets = std::vector<std::pair<std::string, std::string>>;  // name, specification; in the order given

bool contains(const Names& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Protocol& find_protocol(const std::string& name) {
  Names known;
  for (const Protocol& protocol : protocols()) {
    if (protocol.name == name) return protocol;
    known.push_back(protocol.name);
  }
  fail(str("unknown protocol \"", name, "\": there are ", joined(known)));
}

Sets parse_sets(const Protocol& protocol, const Names& given) {
  Sets sets;
  for (const std::string& text : given) {
    const size_t equals = text.find('='), colon = text.find(':');
    REID_CHECK(equals != std::string::npos && equals > 0 && equals < colon && colon != std::string::npos, "the protocol's set \"", text,
               "\" is not NAME=LAYOUT:PATH");
    const std::string name = text.substr(0, equals);
    const bool any = protocol.sources.empty() || protocol.targets.empty();
    const bool known = any || contains(protocol.sources, name) || contains(protocol.targets, name);
    REID_CHECK(known, "protocol ", protocol.name, " uses no set named ", name, "; it uses ", joined(protocol.sources),
               protocol.kind == Protocol::Kind::fixed ? " to train on and " + joined(protocol.targets) + " to test on" : "");
    const bool twice = std::any_of(sets.begin(), sets.end(), [&](const auto& set) { return set.first == name; });
    REID_CHECK(!twice, "protocol ", protocol.name, ": the set ", name, " is given twice");
    sets.emplace_back(name, text.substr(equals + 1));
  }
  return sets;
}

// All of `wanted`, or, when that is empty, everything given.
Names present(const Protocol& protocol, const Sets& sets, const Names& wanted) {
  Names given, missing;
  for (const auto& [name, spec] : sets) given.push_back(name);
  for (const std::string& name : wanted) {
    if (!contains(given, name)) missing.push_back(name);
  }
  REID_CHECK(missing.empty(), "protocol ", protocol.name, " needs the set", missing.size() > 1 ? "s " : " ", joined(missing),
             ": add NAME=LAYOUT:PATH to protocol.sets for each");
  return wanted.empty() ? given : wanted;
}

std::string spec_of(const Sets& sets, const std::string& name) {
  return std::find_if(sets.begin(), sets.end(), [&](const auto& set) { return set.first == name; })->second;
}

// "msmt17:/data" and "use=all" -> "msmt17,use=all:/data"
std::string with_option(const Protocol& protocol, const std::string& name, const std::string& spec) {
  if (protocol.option.empty()) return spec;
  const size_t colon = spec.find(':');
  const std::string layout = spec.substr(0, colon) + ",", key = "," + protocol.option.substr(0, protocol.option.find('=') + 1);
  if (layout.find("," + protocol.option + ",") != std::string::npos) return spec;
  REID_CHECK(layout.find(key) == std::string::npos, "protocol ", protocol.name, " trains on ", name, " with ", protocol.option,
             ", but protocol.sets says \"", spec, "\": leave that option out");
  return spec.substr(0, colon) + "," + protocol.option + spec.substr(colon);
}

// The set that is held out, or the only one trained on.
void check_chosen(const Protocol& protocol, const char* key, const std::string& chosen, const Names& allowed) {
  REID_CHECK(!chosen.empty(), "protocol ", protocol.name, ": set protocol.", key, " to one of ", joined(allowed));
  REID_CHECK(contains(allowed, chosen), "protocol ", protocol.name, ": protocol.", key, " is ", chosen, ", expected one of ",
             joined(allowed));
}

void check_unused(const Protocol& protocol, const char* key, const std::string& value) {
  REID_CHECK(value.empty(), "protocol ", protocol.name, " takes no protocol.", key, " (it is \"", value, "\"): leave it empty");
}

}  // namespace

const std::vector<Protocol>& protocols() {
  using Kind = Protocol::Kind;
  static const Names four = {"market1501", "dukemtmc", "cuhk03", "msmt17"};
  static const Names small = {"prid", "grid", "viper", "ilids"};
  static const Names p2 = {"market1501", "msmt17", "cuhk-sysu", "cuhk03-np"}, p2_targets = {"market1501", "msmt17", "cuhk03-np"};
  static const std::vector<Protocol> table = {
      {"cross-dataset", "train on one set, test on every other (and on its own test half)", Kind::one_source, {}, {}, "", "most papers"},
      {"leave-one-out", "train on all sets given but one, test on that one", Kind::leave_one_out, {}, {}, "", "any sets"},
      {"p0", "leave one out of Market-1501, DukeMTMC-reID, CUHK03 and MSMT17; training images", Kind::leave_one_out, four, four, "",
       "M3L, QAConv, RaMoE, OSNet-AIN"},
      {"p1",
       "train on every image of Market-1501, DukeMTMC-reID, CUHK02, CUHK03 and CUHK-SYSU; test on four small sets",
       Kind::fixed,
       {"market1501", "dukemtmc", "cuhk02", "cuhk03", "cuhk-sysu"},
       small,
       "use=all",
       "DualNorm, MetaBIN"},
      {"p1-without-duke",
       "as p1, without DukeMTMC-reID, which its authors withdrew",
       Kind::fixed,
       {"market1501", "cuhk02", "cuhk03", "cuhk-sysu"},
       small,
       "use=all",
       "ACL, BAU"},
      {"p2", "leave one out of Market-1501, MSMT17, CUHK03-NP (detected) and CUHK-SYSU, which is never a target; training images",
       Kind::leave_one_out, p2, p2_targets, "", "META, ACL, BAU"},
      {"p3", "as p2, training on the test images of every source too", Kind::leave_one_out, p2, p2_targets, "use=all", "META, ACL, BAU"},
      {"merged-msmt17",
       "train on all images of MSMT17, test on every other set",
       Kind::fixed,
       {"msmt17"},
       {},
       "merged=yes",
       "OSNet, torchreid's model zoo"},
  };
  return table;
}

ResolvedProtocol resolve(const ProtocolChoice& choice) {
  const Protocol& protocol = find_protocol(choice.protocol);
  const Sets sets = parse_sets(protocol, choice.sets);
  REID_CHECK(!sets.empty(), "protocol ", protocol.name, ": protocol.sets is empty; name each data set as NAME=LAYOUT:PATH");
  Names sources = present(protocol, sets, protocol.sources), targets = present(protocol, sets, protocol.targets);
  if (protocol.kind == Protocol::Kind::one_source) {
    check_unused(protocol, "target", choice.target);
    check_chosen(protocol, "source", choice.source, sources);
    sources = {choice.source};
  } else if (protocol.kind == Protocol::Kind::leave_one_out) {
    check_unused(protocol, "source", choice.source);
    check_chosen(protocol, "target", choice.target, targets);
    REID_CHECK(sources.size() > 1, "protocol ", protocol.name, ": ", choice.target, " is the only set, so nothing is left to train on");
    targets = {choice.target};
    std::erase(sources, choice.target);
  } else {
    check_unused(protocol, "source", choice.source);
    check_unused(protocol, "target", choice.target);
    if (protocol.targets.empty()) std::erase_if(targets, [&](const std::string& name) { return contains(sources, name); });
    REID_CHECK(!targets.empty(), "protocol ", protocol.name, ": no set is left to test on; add one to protocol.sets");
  }

  ResolvedProtocol resolved;
  resolved.trained_on = sources;
  for (const std::string& name : sources) resolved.train.push_back(with_option(protocol, name, spec_of(sets, name)));
  for (const std::string& name : targets) resolved.evaluate.push_back(name + "=" + spec_of(sets, name));
  const bool all = !protocol.option.empty();
  resolved.text = str("protocol ", protocol.name, ": trained on ", all ? "all images" : "the training images", " of ", joined(sources),
                      "; tested on ", joined(targets), " (", protocol.origin, ")");
  return resolved;
}

std::vector<ProtocolChoice> every_row(const ProtocolChoice& choice) {
  const Protocol& protocol = find_protocol(choice.protocol);
  if (protocol.kind == Protocol::Kind::fixed || !choice.source.empty() || !choice.target.empty()) return {choice};
  const Sets sets = parse_sets(protocol, choice.sets);
  const bool by_source = protocol.kind == Protocol::Kind::one_source;
  std::vector<ProtocolChoice> rows;
  for (const std::string& name : present(protocol, sets, by_source ? protocol.sources : protocol.targets)) {
    rows.push_back(choice);
    (by_source ? rows.back().source : rows.back().target) = name;
  }
  REID_CHECK(!rows.empty(), "protocol ", protocol.name, ": protocol.sets is empty; name each data set as NAME=LAYOUT:PATH");
  return rows;
}

}  // namespace reid
