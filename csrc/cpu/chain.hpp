// The dependent integer chain that tells cycles from seconds, and what it must leave.
//
// x86-64: `imul` takes 3 cycles on every Intel core since Nehalem and every AMD core since Zen, on a port that
// multiply-adds leave free often enough. aarch64: a register `add` takes 1 cycle and shares no pipe with NEON.
#pragma once

#include <cstdint>

#include "../kernel.hpp"

namespace mb::chain {

// Odd, so that no product ever loses its low bits: any wrong count leaves a wrong value.
inline constexpr std::uint64_t start = 0x9e3779b97f4a7c15, factor = 0xd1342543de82ef95;

#if defined(__x86_64__)

inline constexpr int cycles_per_link = 3;
[[gnu::always_inline]] inline void link(std::uint64_t& value, std::uint64_t by) {
  asm volatile("imulq %1, %0" : "+r"(value) : "r"(by) : "cc");
}

#else

inline constexpr int cycles_per_link = 1;
[[gnu::always_inline]] inline void link(std::uint64_t& value, std::uint64_t by) {
  asm volatile("add %0, %0, %1" : "+r"(value) : "r"(by));
}

#endif

// The value after so many links, by repeated squaring rather than by the loop under test.
inline std::uint64_t after(std::uint64_t links) {
#if defined(__x86_64__)
  std::uint64_t power = 1;
  for (auto base = factor; links != 0; links >>= 1, base *= base)
    if ((links & 1) != 0) power *= base;
  return start * power;
#else
  return start + factor * links;
#endif
}

}  // namespace mb::chain
