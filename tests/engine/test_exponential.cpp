// e^x with the same bits everywhere, against the host's in extended precision.

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness.h"
#include "reid/engine/exponential.h"

namespace reid::test {
namespace {

// In ulps of the right number.
double error_of(double x) {
  const long double right = std::exp(static_cast<long double>(x));
  const int exponent = std::max(std::ilogb(right) - 52, -1074);
  return static_cast<double>(std::ldexp(std::fabs(static_cast<long double>(exponential(x)) - right), -exponent));
}

TEST_CASE("exponential: below one ulp from 0 to where nothing is left") {
  static_assert(std::numeric_limits<long double>::digits >= 64, "the right numbers need more digits");
  Rng rng(3);
  double worst = 0, at = 0;
  const auto look = [&](double x) {
    const double error = error_of(x);
    if (error > worst) worst = error, at = x;
  };
  for (int t = 0; t < 400000; ++t) {
    const double u = rng.uniform();
    for (const double x : {-4 * u, -750 * u, -std::ldexp(u, -(t % 60)), -708 - 38 * u}) look(x);
  }
  for (int k = 0; k < 1080; ++k) {  // halfway between multiples of ln 2, where another one is subtracted
    const double edge = -(k + 0.5) * 0.6931471805599453;
    for (const double x : {edge, std::nextafter(edge, 0.0), std::nextafter(edge, -1e9), -k * 0.6931471805599453}) look(x);
  }
  INFO("at ", at);
  // Two roundings of at most 0.5 and 0.25 ulp, and those of r^2 q. What r lacks would be 0.08 more.
  CHECK(worst < 0.9);
  CHECK(worst > 0.5);  // this is no rounding of the right number: the measure measures
}

TEST_CASE("exponential: the ends") {
  CHECK(exponential(0) == 1);
  CHECK(exponential(-0.0) == 1);
  CHECK(exponential(-745) == std::numeric_limits<double>::denorm_min());
  CHECK(exponential(-745.2) == 0);
  CHECK(exponential(-746) == 0);
  CHECK(exponential(-1e300) == 0);
  CHECK(exponential(-std::numeric_limits<double>::infinity()) == 0);
}

// The bits on this machine and every other. x is a number of few digits, so that no compiler reads it otherwise.
TEST_CASE("exponential: the same bits") {
  CHECK(exponential(-0.5) == 0x1.368b2fc6f960ap-1);
  CHECK(exponential(-1.375) == 0x1.02e8620c7602cp-2);
  CHECK(exponential(-3.8125) == 0x1.69f83ec2f134cp-6);
}

}  // namespace
}  // namespace reid::test
