#include "reid/engine/device.h"

#include <fstream>
#include <ostream>
#include <thread>

namespace reid {

std::ostream& operator<<(std::ostream& out, Device device) {
  if (device.type == DeviceType::cpu) return out << "cpu";
  return out << (device.type == DeviceType::cuda ? "cuda:" : "emulated:") << device.index;
}

std::string describe_cpu() {
  std::string model = "unknown CPU";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
#if defined(__x86_64__)
  const char* isa = __builtin_cpu_supports("avx512f") ? "avx512" : __builtin_cpu_supports("avx2") ? "avx2" : "sse2";
#else
  const char* isa = "portable";
#endif
  return str(model, ", ", std::thread::hardware_concurrency(), " cores, ", isa);
}

}  // namespace reid
