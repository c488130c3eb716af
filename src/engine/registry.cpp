#include "reid/engine/registry.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>

namespace reid {

namespace {

std::vector<std::string> listed(const char* variable) {
  const char* text = std::getenv(variable);
  std::istringstream items(text ? text : "");
  std::vector<std::string> all;
  for (std::string item; std::getline(items, item, ',');) all.push_back(item);
  return all;
}

struct Names {
  std::mutex mutex;
  std::vector<OpInfo> ops;
  std::set<std::string, std::less<>> implementations;  // of every device
  std::map<std::string, std::string, std::less<>> forced;
  std::vector<std::string> preferred;
  std::vector<std::string> unwanted = listed("REID_WITHOUT");
  std::set<std::string, std::less<>> left_out;  // of the unwanted: those that this build has
};
Names& names() {
  static Names n;
  return n;
}

void read_wishes_from_environment() {
  for (const std::string& name : names().unwanted) {
    REID_CHECK(names().left_out.contains(name), "REID_WITHOUT: '", name, "' is no implementation of this build");
  }
  std::vector<std::string> preferred;
  for (const std::string& item : listed("REID_IMPL")) {
    const size_t equals = item.find('=');
    if (equals != std::string::npos) {
      Registry::force(item.substr(0, equals), item.substr(equals + 1));
      continue;
    }
    REID_CHECK(names().implementations.contains(item), "REID_IMPL: '", item,
               "' is neither op=implementation nor an implementation of this build");
    preferred.push_back(item);
  }
  Registry::prefer(std::move(preferred));
}

thread_local std::vector<std::string>* collected = nullptr;

}  // namespace

bool Registry::left_out(const char* implementation) {
  const std::vector<std::string>& unwanted = names().unwanted;
  if (std::find(unwanted.begin(), unwanted.end(), implementation) == unwanted.end()) return false;
  names().left_out.emplace(implementation);
  return true;
}

void Registry::note(const char* op, DeviceType device, const char* implementation) {
  names().implementations.emplace(implementation);
  if (device != DeviceType::cpu) return;
  for (OpInfo& info : names().ops) {
    if (std::string_view(info.name) == op) {
      info.implementations.emplace_back(implementation);
      return;
    }
  }
  names().ops.push_back({op, {implementation}});
}

void Registry::force(std::string op, std::string implementation) {
  const std::scoped_lock lock(names().mutex);
  if (implementation.empty()) {
    names().forced.erase(op);
  } else {
    names().forced[std::move(op)] = std::move(implementation);
  }
}

void Registry::prefer(std::vector<std::string> implementations) {
  const std::scoped_lock lock(names().mutex);
  names().preferred = std::move(implementations);
}

Registry::Wishes Registry::wishes(const char* op) {
  const std::scoped_lock lock(names().mutex);
  const auto found = names().forced.find(op);
  return {found == names().forced.end() ? std::string() : found->second, names().preferred};
}

std::vector<OpInfo> Registry::ops() {
  initialize();
  return names().ops;
}

void initialize() {
  static std::once_flag once;
  std::call_once(once, [] {
    register_cpu();
    register_cuda();
    read_wishes_from_environment();
  });
}

bool trace_enabled() {
  static const bool from_environment = [] {
    const char* text = std::getenv("REID_LOG");
    return text && std::string_view(text) == "dispatch";
  }();
  return from_environment || collected;
}

void trace_line(const char* op, const char* implementation, const std::string& problem) {
  std::string line = str(op, " ", implementation, " ", problem);
  if (collected) {
    collected->push_back(std::move(line));
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

void trace_to(std::vector<std::string>* lines) { collected = lines; }

void LineVisitor::input(const char* name, const void* data, const Shape& shape, DType dtype) {
  if (!data) return;
  line += str(line.empty() ? "" : " ", name, "[");
  for (int i = 0; i < shape.rank(); ++i) line += str(i ? "," : "", shape[i]);
  line += str("]", name_of(dtype));
}

void PlaceVisitor::check(const char* name, const void* data, const Shape& shape) const {
  if (!data || shape.numel() == 0) return;
  const Device place = device_of(data);
  REID_CHECK(place == device_, "[", op_, "] ", name, " ", shape, " lies on ", place, ", the op runs on ", device_,
             ": bring all operands to one device with to()");
}

void KeyVisitor::add(const void* data, const Shape& shape, DType dtype) {
  words.push_back(key_word(data));
  words.push_back(static_cast<int64_t>(dtype));
  words.insert(words.end(), shape.extents().begin(), shape.extents().end());
}

void LineVisitor::attribute(const char* name, double value) { line += str(" ", name, "=", value); }

}  // namespace reid
