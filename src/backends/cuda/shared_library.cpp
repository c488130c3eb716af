#include "shared_library.h"

#include <dlfcn.h>

#include "reid/engine/base.h"

namespace reid::cuda {

SharedLibrary::SharedLibrary(std::string name, const std::vector<std::string>& files, const std::string& remedy) : name_(std::move(name)) {
  std::string reasons;
  for (const std::string& file : files) {
    handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      file_ = file;
      return;
    }
    const char* reason = dlerror();
    reasons += str(reasons.empty() ? "" : "; ", reason ? reason : file.c_str());
  }
  fail(str(name_, " was asked for and cannot be loaded (", reasons, "): ", remedy));
}

void* SharedLibrary::address(const char* symbol) const {
  void* found = dlsym(handle_, symbol);
  REID_CHECK(found, name_, " in ", file_, " has no function ", symbol, ": it is another version than this program was built for");
  return found;
}

}  // namespace reid::cuda
