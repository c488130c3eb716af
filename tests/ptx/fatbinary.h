#pragma once

#include <string>
#include <vector>

namespace reid::test::ptx {

// Each text of PTX that lies there, for one architecture each.
std::vector<std::string> texts_of(const void* fatbinary);

}  // namespace reid::test::ptx
