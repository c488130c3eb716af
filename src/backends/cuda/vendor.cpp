#include "vendor.h"

#include <cstdlib>

#ifdef REID_CUDNN_FILES
#include "cudnn_conv.h"
#endif
#ifdef REID_CUBLASLT_FILES
#include "cublaslt.h"
#endif

namespace reid::cuda {

VendorAllows parse_vendor_allows(std::string_view text) {
  VendorAllows allows;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(word.size() == text.size() ? word.size() : word.size() + 1);
    bool* known = word == "tf32"                ? &allows.tf32
                  : word == "nondeterministic"  ? &allows.nondeterministic
                  : word == "rounded-gradients" ? &allows.rounded_gradients
                                                : nullptr;
    REID_CHECK(known, "REID_VENDOR_ALLOW: '", word, "' is not tf32, nondeterministic or rounded-gradients");
    *known = true;
  }
  return allows;
}

VendorAllows vendor_allows() {
  static const VendorAllows allows = [] {
    const char* text = std::getenv("REID_VENDOR_ALLOW");
    return parse_vendor_allows(text ? text : "");
  }();
  return allows;
}

int64_t plan_alignment(const void* address) {
  const auto bits = reinterpret_cast<uintptr_t>(address) | 16;
  return static_cast<int64_t>(bits & (~bits + 1));
}

void register_vendor([[maybe_unused]] cudaStream_t (*native)(Stream&)) {
#ifdef REID_CUDNN_FILES
  register_cudnn("cudnn", {DeviceType::cuda, native, {REID_CUDNN_FILES}, vendor_allows()});
#endif
#ifdef REID_CUBLASLT_FILES
  register_cublaslt("cublaslt", {DeviceType::cuda, native, {REID_CUBLASLT_FILES}, vendor_allows()});
#endif
}

}  // namespace reid::cuda
