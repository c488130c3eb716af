#include "formats/torch_file.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "formats/pickled_tensors.h"

namespace reid {
namespace {

using Kind = PickleNode::Kind;

// The parts of ('storage', type, key, location, count[, view]); throws when the id is something else.
struct StorageId {
  const PickleNode* type;
  std::string key;
  int64_t count;
  const PickleNode* view;  // (key, offset, count) of the part that is meant, or null
};
StorageId storage_id(const PickleNode& id, const std::string& what) {
  const std::vector<PickleNode*>& items = id.items;
  const bool fits = id.is(Kind::tuple) && items.size() >= 5 && items[0]->text == "storage" && items[4]->is(Kind::integer);
  REID_CHECK(fits, what, ": refers to stored data in an unknown way (damaged file?)");
  const bool view = items.size() > 5 && items[5]->is(Kind::tuple);
  return {items[1], key_of(*items[2]), items[4]->integer, view ? items[5] : nullptr};
}

std::string short_name(const PickleNode& type) {
  return "elements of type " + (type.text.empty() ? std::string("unknown") : type.text) + " are not supported";
}

TensorFile started(const char* container, const std::string& name) {
  TensorFile file;
  file.container = container;
  file.content.source = name;
  return file;
}

// A state dict is expected; what else a file may be is worth a word.
void check_found(const TensorFile& file) {
  REID_CHECK(!file.content.tensors.empty() || file.skipped.empty(), file.content.source,
             ": holds no tensor that can be read; passed over: ", file.skipped.front());
  REID_CHECK(!file.content.tensors.empty(), file.content.source, ": holds no tensors");
}

// The storages of a stream lie one after another behind the pickles; where, follows from their types and counts.
struct Place {
  const ElementType* type = nullptr;
  uint64_t offset = 0;
  int64_t count = -1;
  Tensor tensor = {};
};

int64_t width_of(const PickleNode& type) {  // also of types that are only stepped over
  if (const ElementType* known = storage_type(type)) return known->size;
  const auto ends = [&](const char* name) { return type.text.ends_with(name); };
  if (ends("ComplexFloatStorage")) return 8;
  if (ends("ComplexDoubleStorage")) return 16;
  if (ends("QInt8Storage") || ends("QUInt8Storage") || ends("UntypedStorage")) return 1;
  return ends("QInt32Storage") ? 4 : 0;
}

const PickleNode& root_of(Cursor& in, std::deque<Pickle>& pickles) { return pickles.emplace_back(in).root(); }

constexpr uint8_t kStreamMagic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

}  // namespace

bool is_torch_stream(const Source& source) {
  if (source.size() < 2 + sizeof kStreamMagic) return false;
  const std::vector<uint8_t> head = source.bytes(0, 2 + sizeof kStreamMagic, "the head");  // behind the protocol instruction
  return head[0] == 0x80 && std::memcmp(head.data() + 2, kStreamMagic, sizeof kStreamMagic) == 0;
}

TensorFile read_torch_zip(const ZipReader& zip, const std::string& pickle, const std::string& name, uint64_t file_size) {
  TensorFile file = started("PyTorch zip", name);
  const std::string top = pickle.substr(0, pickle.size() - std::string("data.pkl").size());
  REID_CHECK(!zip.find(top + "constants.pkl"), name, ": a TorchScript archive, which is a program; save the module's state_dict() instead");
  if (const ZipReader::Member* order = zip.find(top + "byteorder")) {
    Cursor in(zip.open(*order));
    REID_CHECK(in.text(std::min<uint64_t>(order->size, 6)) == "little", name,
               ": written on a big-endian machine; save it again on a usual one");
  }
  Cursor in(zip.open(*zip.find(pickle)));
  const Pickle values(in);
  std::map<std::string, Place> loaded;
  const Resolve resolve = [&](const PickleNode& node, const std::string& what) -> Stored {
    const StorageId id = storage_id(node, what);
    const ElementType* type = storage_type(*id.type);
    if (!type) return {.trouble = short_name(*id.type)};
    Place& place = loaded[id.key];
    if (!place.tensor.defined()) {
      const ZipReader::Member* member = zip.find(top + "data/" + id.key);
      REID_CHECK(member, what, ": its data (", top, "data/", id.key, ") is not in the archive");
      uint32_t crc = 0;
      place.tensor = read_elements(zip.open(*member), 0, id.count, *type, what, &crc);
      place.type = type;
      // PyTorch leaves the checksum 0 when told not to compute it.
      const bool whole = static_cast<uint64_t>(id.count) * static_cast<uint64_t>(type->size) == member->size;
      REID_CHECK(!whole || member->deflated || member->crc == 0 || member->crc == crc, what, ": its data is damaged (checksum)");
    }
    REID_CHECK(place.type == type, what, ": its storage has two element types");
    return {.tensor = place.tensor, .type = type};
  };
  TensorCollector(file, resolve, file_size).collect(values.root());
  check_found(file);
  return file;
}

TensorFile read_torch_stream(const Source& source) {
  TensorFile file = started("PyTorch stream", source.name());
  Cursor in(source);
  std::deque<Pickle> pickles;
  root_of(in, pickles);  // the magic number
  root_of(in, pickles);  // 1001
  const PickleNode* little = root_of(in, pickles).find("little_endian");
  REID_CHECK(!little || little->integer != 0, source.name(), ": written on a big-endian machine; save it again on a usual one");
  const PickleNode& root = root_of(in, pickles);
  const Pickle& values = pickles.back();
  const PickleNode& keys = root_of(in, pickles);

  std::map<std::string, Place> places;
  std::map<std::string, const PickleNode*> types;
  values.each([&](const PickleNode& node) {
    if (!node.is(Kind::persistent) || !node.items[0]->is(Kind::tuple) || node.items[0]->items.empty()) return;
    if (node.items[0]->items[0]->text == "storage") {
      const StorageId id = storage_id(*node.items[0], source.name());
      types.emplace(id.key, id.type);
    }
  });
  REID_CHECK(keys.is(Kind::list), source.name(), ": damaged file (no list of storages behind the values)");
  uint64_t at = in.position();
  for (const PickleNode* node : keys.items) {
    const std::string key = key_of(*node);
    const auto count = source.number<int64_t>(at, "the size of storage " + key);
    const int64_t width = types.contains(key) ? width_of(*types[key]) : 0;
    REID_CHECK(width > 0, source.name(), ": storage ", key, " has elements of an unknown size; what lies behind it cannot be found");
    REID_CHECK(count >= 0 && static_cast<uint64_t>(count) <= source.size() / static_cast<uint64_t>(width), source.name(), ": storage ", key,
               " would be ", count, " elements, more than the file holds (truncated file?)");
    places[key] = {storage_type(*types[key]), at + 8, count};
    at += 8 + static_cast<uint64_t>(count * width);
  }
  const Resolve resolve = [&](const PickleNode& node, const std::string& what) -> Stored {
    const StorageId id = storage_id(node, what);
    const auto found = places.find(id.key);
    REID_CHECK(found != places.end(), what, ": its storage ", id.key, " is not in the file (truncated file?)");
    Place& place = found->second;
    if (!place.type) return {.trouble = short_name(*id.type)};
    if (!place.tensor.defined()) place.tensor = read_elements(source, place.offset, place.count, *place.type, what);
    const bool view = id.view && id.view->items.size() == 3 && id.view->items[1]->is(Kind::integer);
    const int64_t offset = view ? id.view->items[1]->integer : 0;
    REID_CHECK(offset >= 0 && offset <= place.count, what, ": begins outside of its storage");
    return {.tensor = place.tensor, .type = place.type, .offset = offset};
  };
  TensorCollector(file, resolve, source.size()).collect(root);
  check_found(file);
  return file;
}

}  // namespace reid
