// Bytes without VNNI: pmaddubsw, pmaddwd by ones, paddd, the sequence of libraries for cores that lack vpdpbusd.
//
// pmaddubsw multiplies unsigned by signed bytes and adds neighbours into 16 bits, pmaddwd adds those into 32 bits,
// paddd adds the sums to one of 8. A sequence does for one lane of 32 bits what vpdpbusd does, 4 products of 2 OP; it
// is counted so, though it is three instructions. (Full-range bytes can saturate the 16 bits, which is the price of the
// sequence; these operands are small.) Nominal: lanes x 8 OP x sequences a cycle, which the two multiplying
// instructions bound: one a cycle on two ports, one in two cycles on one.
#if defined(__x86_64__)
#include <algorithm>
#include <utility>

#include "../../target.hpp"
#include "../multiply_add.hpp"
#include "../rated.hpp"

namespace mb::madd {

// Two sequences side by side, each instruction of both before the next: Zen 3 starts 0.99 a cycle so, 0.97 one by one.
struct bytes : instruction<as_i8, as_i32, 4, 8, 5> {};
inline constexpr std::size_t side_by_side = 2;

namespace base {
#include "../madd.inc"
}

MB_TARGET_BEGIN("avx2")
namespace vex {
#include "../madd.inc"
}
MB_TARGET_END

namespace {

template <class Width, template <class, class, bool, int> class Loop, bool legacy>
struct loops {
  static constexpr int apart = 1;
  using rate = Loop<bytes, Width, legacy, 0>;
  using clock = Loop<bytes, Width, legacy, apart>;
  static constexpr int links = bytes::math / apart;

  static void fill(context& own) {
    mb::fill<bytes, Width>(own);
    for (std::size_t lane = 0; lane < Width::bytes; ++lane)
      operands_of(own).ones[lane] = static_cast<std::byte>(lane % 2 == 0);
  }
  static bool check(const context& own, std::uint64_t iterations) { return mb::check<bytes, Width>(own, iterations); }
};

template <class Width, template <class, class, bool, int> class Loop, bool legacy>
std::vector<kernel> rows(const char* variant, std::vector<std::string> needs, std::vector<std::string> unless) {
  constexpr int op = 2 * bytes::depth;
  const auto lane_count = lanes<bytes, Width>();
  return rated<loops<Width, Loop, legacy>>({.name = std::string("dot.i8.i32.") + variant,
                                            .roles = {"ceiling", "roof"},
                                            .says = "dot products of 4 bytes, unsigned by signed, by pmaddubsw, "
                                                    "pmaddwd and paddd",
                                            .unit = "vector",
                                            .dtype = "i8",
                                            .accumulator = "i32",
                                            .variant = variant,
                                            .unless = std::move(unless),
                                            .frequency_license = Width::frequency_license,
                                            .ports = std::string("madd_i8.") + Width::name,
                                            .lanes = static_cast<int>(lane_count),
                                            .flop_per_lane = op,
                                            .chains = bytes::chains,
                                            .math = bytes::math,
                                            .beside = {{"widen", 2 * bytes::math}},
                                            .per_iteration = {.flop = lane_count * op * bytes::math},
                                            .needs = std::move(needs),
                                            .operands = "exact"});
}

MB_KERNEL(rows<v128, base::loop, true>("madd128", {"ssse3"}, {"dot.i8.i32.madd256", "dot.i8.i32.v128"}))
MB_KERNEL(rows<v256, vex::loop, false>("madd256", {"avx2"}, {"dot.i8.i32.v256", "dot.i8.i32.vex256"}))

}  // namespace
}  // namespace mb::madd
#endif
