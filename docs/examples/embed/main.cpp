// The same in C++17: embed_cpp ENCODER HEIGHT WIDTH <pixels: two images of raw RGB bytes, HEIGHT x WIDTH each, on standard input.
// Prints the cosine of the two.

#include <reid/embedder.h>

#include <cstdlib>
#include <iostream>
#include <iterator>

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::runtime_error("usage: embed_cpp ENCODER HEIGHT WIDTH <two_images.rgb");
    const int height = std::atoi(argv[2]), width = std::atoi(argv[3]);
    reid::Embedder::Options options;
    options.normalize = true;  // the cosine of unit vectors is their product
    reid::Embedder embedder(argv[1], options);

    const std::vector<char> bytes{std::istreambuf_iterator<char>(std::cin), {}};
    const std::size_t size = static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3;
    if (height < 1 || width < 1 || bytes.size() != 2 * size) throw std::runtime_error("expected two images on standard input");
    const auto* rgb = reinterpret_cast<const std::uint8_t*>(bytes.data());
    const std::vector<float> rows = embedder.embed({{rgb, height, width, 0}, {rgb + size, height, width, 0}});

    const auto d = static_cast<std::size_t>(embedder.width());
    double cosine = 0;
    for (std::size_t i = 0; i < d; ++i) cosine += static_cast<double>(rows[i]) * static_cast<double>(rows[d + i]);
    std::cout << cosine << '\n';
    return 0;
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
