#include "ptx/traffic.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace reid::test::ptx {

namespace {

constexpr uint64_t kSector = 32, kWord = 4, kBanks = 32;

uint64_t rounded_up(uint64_t n, uint64_t to) { return (n + to - 1) / to; }

// The units of `each` bytes that some lanes touch, each once.
std::vector<uint64_t> units(const uint64_t* addresses, uint32_t mask, size_t bytes, uint64_t each) {
  std::vector<uint64_t> all;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    for (uint64_t unit = addresses[lane] / each; unit <= (addresses[lane] + bytes - 1) / each; ++unit) all.push_back(unit);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string plain = status == 0 ? text : name;
  std::free(text);
  for (const char* noise : {"(anonymous namespace)::", "reid::cuda::", "reid::", "void "}) {
    for (size_t at = plain.find(noise); at != std::string::npos; at = plain.find(noise)) plain.erase(at, std::string(noise).size());
  }
  int depth = 0;
  for (size_t i = 0; i < plain.size(); ++i) {  // up to the list of parameters
    depth += plain[i] == '<' ? 1 : plain[i] == '>' ? -1 : 0;
    if (plain[i] == '(' && depth == 0) return plain.substr(0, i);
  }
  return plain;
}

std::string text_of(const Accesses& a) {
  if (a.instructions == 0) return "";
  char text[64];
  std::snprintf(text, sizeof(text), "%llu x%.2f", static_cast<unsigned long long>(a.parts),
                static_cast<double>(a.parts) / static_cast<double>(std::max<uint64_t>(a.least, 1)));
  return text;
}

}  // namespace

std::map<std::string, Traffic>& traffic() {
  static auto* all = new std::map<std::string, Traffic>;
  return *all;
}

void count_global(Accesses& to, const uint64_t* addresses, uint32_t mask, size_t bytes) {
  ++to.instructions;
  to.parts += units(addresses, mask, bytes, kSector).size();
  to.least += rounded_up(units(addresses, mask, bytes, 1).size(), kSector);
}

// Accesses of 8 bytes pass by half warps, those of 16 by quarters.
void count_shared(Accesses& to, const uint64_t* addresses, uint32_t mask, size_t bytes) {
  ++to.instructions;
  const unsigned lanes = bytes == 16 ? 8 : bytes == 8 ? 16 : 32;
  for (unsigned first = 0; first < 32; first += lanes) {
    const uint32_t part = mask & static_cast<uint32_t>(((uint64_t{1} << lanes) - 1) << first);
    const std::vector<uint64_t> words = units(addresses, part, bytes, kWord);
    uint64_t of_bank[kBanks] = {};
    for (const uint64_t word : words) ++of_bank[word % kBanks];
    to.parts += *std::max_element(std::begin(of_bank), std::end(of_bank));
    to.least += rounded_up(words.size(), kBanks);
  }
}

std::string traffic_table() {
  std::vector<std::pair<std::string, Traffic>> rows(traffic().begin(), traffic().end());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.instructions > b.second.instructions; });
  std::string table = "launches\twarps' instructions\tlanes\tsectors read\tsectors written\tturns of shared reads\tof writes\tkernel\n";
  for (const auto& [name, t] : rows) {
    char begin[96];
    std::snprintf(begin, sizeof(begin), "%llu\t%llu\t%.1f\t", static_cast<unsigned long long>(t.launches),
                  static_cast<unsigned long long>(t.instructions),
                  static_cast<double>(t.lanes) / static_cast<double>(std::max<uint64_t>(t.instructions, 1)));
    table += begin;
    for (const Accesses* a : {&t.global_loads, &t.global_stores, &t.shared_loads, &t.shared_stores}) table += text_of(*a) + '\t';
    table += demangled(name) + '\n';
  }
  return table;
}

}  // namespace reid::test::ptx
