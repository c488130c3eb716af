#pragma once
// LMDB databases, read only: bytes by key. Through liblmdb, so only in builds that have it.
//
// Design: no lock file is made or needed, so read-only disks will do; nobody may write meanwhile. Values are copied out of the memory map.
// Format and length are checked before the map is touched, so a truncated database is an error; but liblmdb trusts what stands inside a
// page and is not hardened against bytes changed on purpose: read databases that come from where data sets come from.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace reid {

bool has_lmdb();                                  // whether this build reads them; without, opening one says what to install
bool is_lmdb(const std::filesystem::path& path);  // a folder with data.mdb, or a file that begins like one

class LmdbFile {
 public:
  explicit LmdbFile(
      const std::filesystem::path& path);  // a folder with data.mdb, or the file; throws when it is missing, truncated or foreign
  ~LmdbFile();
  LmdbFile(const LmdbFile&) = delete;
  LmdbFile& operator=(const LmdbFile&) = delete;

  // Each may be called on several threads at once.
  int64_t entries() const;
  bool contains(std::string_view key) const;
  std::vector<uint8_t> get(std::string_view key) const;                     // throws when there is no such key
  void each_key(const std::function<void(std::string_view)>& visit) const;  // in the order of their bytes

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The database at `path`, opened at the first call in a process and then shared by all threads to its end; null when none is there.
const LmdbFile* shared_lmdb(const std::filesystem::path& path);

}  // namespace reid
