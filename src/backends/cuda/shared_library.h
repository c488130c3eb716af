#pragma once
// A library that is opened when something of it is first wanted, so that the program starts, and does everything else, where it is not
// installed.

#include <string>
#include <vector>

namespace reid::cuda {

class SharedLibrary {
 public:
  // Opens the first of `files` (names that the system's loader looks up, or paths) that is there. Throws where none is, with the loader's
  // words for each and `remedy`. Never closed: other libraries may hold on to what it made.
  SharedLibrary(std::string name, const std::vector<std::string>& files, const std::string& remedy);

  // Sets a pointer to the function called `symbol`; throws where the library lacks it.
  template <class Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }
  const std::string& file() const { return file_; }  // which of the files it is

 private:
  void* address(const char* symbol) const;
  std::string name_, file_;
  void* handle_ = nullptr;
};

}  // namespace reid::cuda
