// The container of PyTorch's first year: a tar of three members. `storages` has pickles and raw data by turns, then a list of
// storages inside others; `tensors` says which part of which storage each tensor is; `pickle` refers to tensors by number.

#include <charconv>
#include <deque>
#include <map>
#include <optional>

#include "formats/pickled_tensors.h"
#include "formats/torch_file.h"

namespace reid {
namespace {

using Kind = PickleNode::Kind;
constexpr uint64_t kBlock = 512;

uint64_t octal(const std::string& field, const std::string& name) {
  uint64_t value = 0;
  const size_t begin = field.find_first_not_of(' ');
  if (begin == std::string::npos) return 0;
  const auto [end, error] = std::from_chars(field.data() + begin, field.data() + field.size(), value, 8);
  REID_CHECK(error == std::errc() && (end == field.data() + field.size() || *end == ' ' || *end == '\0'), name, ": damaged tar header");
  return value;
}

Source member(const Source& tar, const std::string& wanted) {
  for (uint64_t at = 0; at + kBlock <= tar.size();) {
    Cursor header(tar, at);
    std::string name = header.text(100);
    name = name.substr(0, name.find('\0'));
    if (name.empty()) break;
    header.text(24);  // mode, owner, group
    const uint64_t size = octal(header.text(12), tar.name());
    if (name == wanted || name == "./" + wanted) return tar.part(at + kBlock, size, "member '" + wanted + "'");
    REID_CHECK(size <= tar.size(), tar.name(), ": member '", name, "' is larger than the file (truncated file?)");
    at += kBlock + (size + kBlock - 1) / kBlock * kBlock;
  }
  fail(tar.name() + ": a tar archive without a member '" + wanted + "'; only PyTorch's old .tar files can be read, unpack others first");
}

class TarReader {
 public:
  explicit TarReader(const Source& tar) : tar_(tar) {}

  TensorFile read() {
    TensorFile file;
    file.container = "PyTorch tar";
    file.content.source = tar_.name();
    read_storages();
    read_tensors();
    Cursor in(member(tar_, "pickle"));
    const Resolve resolve = [this](const PickleNode& id, const std::string& what) -> Stored {
      // Modules refer to (class, source file, source); everything else to a number.
      const bool source = id.is(Kind::tuple) || !stored_.contains(key_of(id));
      REID_CHECK(!source, what, ": refers to stored data in an unknown way (damaged file?)");
      return stored_[key_of(id)];
    };
    TensorCollector(file, resolve, tar_.size()).collect(read_pickle(in));
    REID_CHECK(!file.content.tensors.empty(), tar_.name(), ": holds no tensors");
    return file;
  }

 private:
  const PickleNode& read_pickle(Cursor& in) { return pickles_.emplace_back(in).root(); }
  int64_t count(Cursor& in) {
    const PickleNode& node = read_pickle(in);
    REID_CHECK(node.is(Kind::integer) && node.text.empty() && node.integer >= 0, tar_.name(),
               ": a count that is no number (damaged file?)");
    return node.integer;
  }
  const std::vector<PickleNode*>& triple(Cursor& in, const char* what) {
    const PickleNode& node = read_pickle(in);
    REID_CHECK(node.is(Kind::tuple) && node.items.size() == 3, tar_.name(), ": a ", what,
               " is not described by three values (damaged file?)");
    return node.items;
  }

  void read_storages() {
    const Source storages = member(tar_, "storages");
    Cursor in(storages);
    for (int64_t left = count(in); left > 0; --left) {
      const std::vector<PickleNode*>& about = triple(in, "storage");  // key, location, type
      const std::string key = key_of(*about[0]);
      const ElementType* type = storage_type(*about[2]);
      REID_CHECK(type, tar_.name(), ": storage ", key, " has elements of type ", about[2]->text, ", which are not supported");
      const auto elements = in.number<int64_t>();
      const uint64_t offset = in.position();
      stored_[key] = {.tensor = read_elements(storages, offset, elements, *type, "storage " + key), .type = type};
      in.seek(offset + static_cast<uint64_t>(elements * type->size));
    }
    const PickleNode& views = read_pickle(in);  // (view, of, offset, count)
    for (const PickleNode* view : views.items) {
      REID_CHECK(view->items.size() == 4 && stored_.contains(key_of(*view->items[1])) && view->items[2]->is(Kind::integer), tar_.name(),
                 ": a damaged list of storage views");
      Stored part = stored_[key_of(*view->items[1])];
      part.offset = view->items[2]->integer;
      REID_CHECK(part.offset >= 0 && part.offset <= part.tensor.numel(), tar_.name(), ": a storage view outside of its storage");
      stored_[key_of(*view->items[0])] = part;
    }
  }

  void read_tensors() {
    const Source tensors = member(tar_, "tensors");
    Cursor in(tensors);
    int64_t budget = static_cast<int64_t>(tar_.size()) * 2 + (64 << 20);
    for (int64_t left = count(in); left > 0; --left) {
      const std::vector<PickleNode*>& about = triple(in, "tensor");  // key, storage, type
      const std::string key = key_of(*about[0]), what = str(tar_.name(), ": tensor ", key);
      const auto storage = stored_.find(key_of(*about[1]));
      REID_CHECK(storage != stored_.end(), what, ": its storage is not in the file");
      const auto rank = in.number<int32_t>();
      in.number<int32_t>();  // the rank was once written as 8 bytes
      REID_CHECK(rank >= 0 && rank <= Shape::kMaxRank, what, ": has ", rank, " dimensions");
      std::vector<int64_t> shape, strides;
      for (int i = 0; i < rank; ++i) shape.push_back(in.number<int64_t>());
      for (int i = 0; i < rank; ++i) strides.push_back(in.number<int64_t>());
      const auto offset = in.number<int64_t>();
      const Stored& whole = storage->second;
      REID_CHECK(offset >= 0 && offset <= whole.tensor.numel(), what, ": begins outside of its storage");
      Tensor tensor = strided_view(whole.tensor, whole.offset + offset, shape, strides, what, budget);
      stored_[key] = {.tensor = std::move(tensor), .type = whole.type, .finished = true};
    }
  }

  const Source& tar_;
  std::deque<Pickle> pickles_;
  std::map<std::string, Stored> stored_;
};

}  // namespace

bool is_tar(const Source& source) {
  if (source.size() < kBlock) return false;
  Cursor in(source, 257);
  return in.text(5) == "ustar";
}

TensorFile read_torch_tar(const Source& source) { return TarReader(source).read(); }

}  // namespace reid
