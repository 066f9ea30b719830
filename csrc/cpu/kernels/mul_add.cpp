// Multiplications and additions apart: the compute ceiling of x86-64 cores without fused multiply-adds.
//
// Every x86-64 core has SSE2, and Sandy Bridge and its like have AVX without FMA. A product goes to a register of its
// own and is added to one of 10 sums; products come in pairs, and so do additions, as schedulers take them. SSE writes
// over an operand, so each product begins with a copy, which renaming makes or a spare port. Nominal: lanes x FLOP x
// what the pipes of either kind, and all of them, start in a cycle; one of either on Intel's cores from Core 2 to Ivy
// Bridge. Where there is a fused multiply-add of the same width, it tells more, and these are measured only if asked
// for.
#if defined(__x86_64__)
#include <algorithm>
#include <utility>

#include "../../target.hpp"
#include "../multiply_add.hpp"
#include "../rated.hpp"

namespace mb::mul_add {

// 4 cycles x 2 pipes of additions are 8; 10 leave slack, and with 2 operands and 4 products fill 16 registers.
struct f64 : instruction<as_f64, as_f64, 1, 10, 12> {};
struct f32 : instruction<as_f32, as_f32, 1, 10, 12> {};

namespace base {
#include "../mul_add.inc"
}

MB_TARGET_BEGIN("avx")
namespace vex {
#include "../mul_add.inc"
}
MB_TARGET_END

namespace {

template <class Op, class Width, template <class, class, bool, int> class Loop, bool legacy>
struct loops {
  // Two products and two additions a link of 3 cycles: half of what the oldest of these cores start in that time.
  static constexpr int apart = 2;
  using rate = Loop<Op, Width, legacy, 0>;
  using clock = Loop<Op, Width, legacy, apart>;
  static constexpr int links = Op::math / apart;
  static void fill(context& own) { mb::fill<Op, Width>(own); }
  static bool check(const context& own, std::uint64_t iterations) { return mb::check<Op, Width>(own, iterations); }
};

template <class Op, class Width, template <class, class, bool, int> class Loop, bool legacy>
std::vector<kernel> rows(std::vector<std::string> needs, const char* says) {
  const std::string stem = std::string(Op::out::name) + "." + Width::name;
  const auto lane_count = lanes<Op, Width>();
  return rated<loops<Op, Width, Loop, legacy>>({.name = "mul_add." + stem,
                                                .roles = {"ceiling", "roof"},
                                                .says = says,
                                                .unit = std::is_same_v<Width, scalar> ? "scalar" : "vector",
                                                .dtype = Op::in::name,
                                                .accumulator = Op::out::name,
                                                .variant = Width::name,
                                                .unless = {"fma." + stem},
                                                .frequency_license = Width::frequency_license,
                                                .ports = std::string("mul.") + Width::name,
                                                .lanes = static_cast<int>(lane_count),
                                                .flop_per_lane = 1,
                                                .chains = Op::chains,
                                                .beside = {{"mul", Op::math}, {"add", Op::math}},
                                                .per_iteration = {.flop = lane_count * 2 * Op::math},
                                                .needs = std::move(needs),
                                                .operands = "exact"});
}

template <class Op, class Width>
std::vector<kernel> sse() {
  return rows<Op, Width, base::loop, true>({"sse2"}, "independent multiplications and additions (SSE2)");
}

template <class Op>
std::vector<kernel> avx() {
  return rows<Op, v256, vex::loop, false>({"avx"}, "independent multiplications and additions (AVX)");
}

MB_KERNEL(sse<f64, scalar>())
MB_KERNEL(sse<f64, v128>())
MB_KERNEL(avx<f64>())
MB_KERNEL(sse<f32, scalar>())
MB_KERNEL(sse<f32, v128>())
MB_KERNEL(avx<f32>())

}  // namespace
}  // namespace mb::mul_add
#endif
