#pragma once
// Protocols: which data sets a model is trained on and which it is tested on, under the names that the literature uses.
//
// Design: a protocol is a row of a table. Resolving one against the data sets at hand gives the lists that a training run takes, and
// a text that says what was done: "trained on Market" means four different things in print.

#include <cstdint>
#include <string>
#include <vector>

namespace reid {

struct Protocol {
  enum class Kind : uint8_t {
    one_source,     // train on one set, test on every set (the source's own test half included)
    leave_one_out,  // train on all sets but the target, test on the target
    fixed           // train on `sources`, test on `targets`
  };
  std::string name, summary;
  Kind kind = Kind::fixed;
  std::vector<std::string> sources;  // names of sets that may be trained on; empty: any that are given
  std::vector<std::string> targets;  // that may be tested on; empty: any
  std::string option;                // of the sources' specifications, such as "use=all"; empty: their training images
  std::string origin;                // who reports it
};
const std::vector<Protocol>& protocols();

struct ProtocolChoice {
  std::string protocol = {};
  std::vector<std::string> sets = {};  // NAME=LAYOUT:PATH
  std::string source = {};             // one_source: the set trained on
  std::string target = {};             // leave_one_out: the set tested on
};

struct ResolvedProtocol {
  std::vector<std::string> trained_on;  // names
  std::vector<std::string> train;       // LAYOUT[,OPTION=VALUE]:PATH, beside trained_on
  std::vector<std::string> evaluate;    // NAME=LAYOUT:PATH
  std::string text;                     // one line: what is trained on, which images of it, what is tested on
};

// Throws on an unknown protocol, a set that is missing, given twice or unknown to the protocol, and a source or target that does not
// fit: naming it and what there is.
ResolvedProtocol resolve(const ProtocolChoice& choice);

// The choices that fill every row of the protocol's table: each source, or each target, in turn; only one for a fixed protocol.
// Those whose source or target is given already are returned alone.
std::vector<ProtocolChoice> every_row(const ProtocolChoice& choice);

}  // namespace reid
