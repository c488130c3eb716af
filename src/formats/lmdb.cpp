#include "formats/lmdb.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <system_error>

#include "formats/source.h"
#include "reid/engine/base.h"

#ifdef REID_WITH_LMDB
#include <lmdb.h>
#endif

namespace reid {

namespace fs = std::filesystem;

namespace {

fs::path data_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? path / "data.mdb" : path;
}

}  // namespace

bool is_lmdb(const fs::path& path) {
  constexpr uint32_t kMagic = 0xBEEFC0DE;  // behind the header of the first page
  constexpr uint64_t kPlace = 16;
  const fs::path file = data_file(path);
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return false;
  const ByteSource in(file);
  return in.size() >= kPlace + 4 && in.number<uint32_t>(kPlace, "the magic number") == kMagic;
}

#ifndef REID_WITH_LMDB

struct LmdbFile::State {};

bool has_lmdb() { return false; }
LmdbFile::LmdbFile(const fs::path& path) {
  fail(
      path.string() +
      ": this program was built without liblmdb, which reads LMDB databases. Install it (Debian: liblmdb-dev) and build the program again");
}
LmdbFile::~LmdbFile() = default;
int64_t LmdbFile::entries() const { return 0; }
bool LmdbFile::contains(std::string_view) const { return false; }
std::vector<uint8_t> LmdbFile::get(std::string_view) const { return {}; }
void LmdbFile::each_key(const std::function<void(std::string_view)>&) const {}

#else

struct LmdbFile::State {
  std::string name;
  MDB_env* environment = nullptr;
  MDB_dbi table = 0;
  uint64_t size = 0;  // of the file
  int64_t entries = 0;
  ~State() {
    if (environment != nullptr) mdb_env_close(environment);
  }

  void check(int code) const { REID_CHECK(code == MDB_SUCCESS, name, ": cannot be read as an LMDB database: ", mdb_strerror(code)); }
};

namespace {

// A view of the database at one moment. Every reader has its own, so threads do not meet.
class Snapshot {
 public:
  explicit Snapshot(MDB_env* environment) { code_ = mdb_txn_begin(environment, nullptr, MDB_RDONLY, &transaction_); }
  ~Snapshot() {
    if (transaction_ != nullptr) mdb_txn_abort(transaction_);
  }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  int code() const { return code_; }
  MDB_txn* get() const { return transaction_; }

 private:
  MDB_txn* transaction_ = nullptr;
  int code_ = 0;
};

struct CloseCursor {
  void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
};

MDB_val value_of(std::string_view key) { return {key.size(), const_cast<char*>(key.data())}; }

}  // namespace

bool has_lmdb() { return true; }

LmdbFile::LmdbFile(const fs::path& path) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.name = path.string();
  const fs::path file = data_file(path);
  std::error_code error;
  s.size = fs::file_size(file, error);
  REID_CHECK(!error, s.name, ": no LMDB database is there (", file.string(), ": ", error.message(), ")");
  REID_CHECK(is_lmdb(path), s.name, ": not an LMDB database");
  s.check(mdb_env_create(&s.environment));
  s.check(mdb_env_set_mapsize(s.environment, s.size));  // what its writer reserved, often a terabyte, is not needed for reading
  s.check(mdb_env_open(s.environment, file.c_str(), MDB_RDONLY | MDB_NOLOCK | MDB_NOSUBDIR | MDB_NORDAHEAD, 0));
  MDB_envinfo info{};
  MDB_stat stat{};
  s.check(mdb_env_info(s.environment, &info));
  s.check(mdb_env_stat(s.environment, &stat));
  // Pages are read through a memory map: one that is not in the file would end the program.
  const uint64_t pages = s.size / std::max(stat.ms_psize, 1U);
  REID_CHECK(info.me_last_pgno < pages, s.name, ": truncated LMDB database (", pages, " of ", info.me_last_pgno + 1, " pages)");
  const Snapshot snapshot(s.environment);
  s.check(snapshot.code());
  s.check(mdb_dbi_open(snapshot.get(), nullptr, 0, &s.table));
  s.check(mdb_stat(snapshot.get(), s.table, &stat));
  s.entries = static_cast<int64_t>(stat.ms_entries);
}
LmdbFile::~LmdbFile() = default;

int64_t LmdbFile::entries() const { return state_->entries; }

bool LmdbFile::contains(std::string_view key) const {
  const Snapshot snapshot(state_->environment);
  state_->check(snapshot.code());
  MDB_val k = value_of(key), found{};
  const int code = key.empty() ? MDB_NOTFOUND : mdb_get(snapshot.get(), state_->table, &k, &found);
  if (code != MDB_NOTFOUND) state_->check(code);
  return code == MDB_SUCCESS;
}

std::vector<uint8_t> LmdbFile::get(std::string_view key) const {
  const Snapshot snapshot(state_->environment);
  state_->check(snapshot.code());
  MDB_val k = value_of(key), found{};
  const int code = key.empty() ? MDB_NOTFOUND : mdb_get(snapshot.get(), state_->table, &k, &found);
  REID_CHECK(code != MDB_NOTFOUND, state_->name, ": the LMDB database has no entry \"", key, "\"");
  state_->check(code);
  REID_CHECK(found.mv_size <= state_->size, state_->name, ": damaged LMDB database (the entry \"", key, "\" claims ", found.mv_size,
             " bytes, more than the file has)");
  const auto* bytes = static_cast<const uint8_t*>(found.mv_data);
  return {bytes, bytes + found.mv_size};
}

void LmdbFile::each_key(const std::function<void(std::string_view)>& visit) const {
  const Snapshot snapshot(state_->environment);
  state_->check(snapshot.code());
  MDB_cursor* raw = nullptr;
  state_->check(mdb_cursor_open(snapshot.get(), state_->table, &raw));
  const std::unique_ptr<MDB_cursor, CloseCursor> cursor(raw);
  MDB_val key{}, value{};
  int code = MDB_SUCCESS;
  while ((code = mdb_cursor_get(raw, &key, &value, MDB_NEXT)) == MDB_SUCCESS) visit({static_cast<const char*>(key.mv_data), key.mv_size});
  if (code != MDB_NOTFOUND) state_->check(code);
}

#endif

const LmdbFile* shared_lmdb(const fs::path& path) {
  // The one table of open files of this process: an environment is meant to be opened once, and images are asked for by name.
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const LmdbFile>> open;  // by canonical path, and by the names it was asked for
  const std::lock_guard lock(mutex);
  const auto known = open.find(path.string());
  if (known != open.end()) return known->second.get();
  if (!is_lmdb(path)) return nullptr;
  std::shared_ptr<const LmdbFile>& file = open[fs::canonical(path).string()];
  if (file == nullptr) file = std::make_shared<const LmdbFile>(path);
  return (open[path.string()] = file).get();
}

}  // namespace reid
