// The core clock beside loads: the reference clocks of memory loops, whose wide loads may run under a lighter frequency
// license than wide arithmetic. (Each arithmetic kernel has a reference clock of its own, in multiply_add.inc and
// amx.cpp.)
//
// One iteration is a chain of 4 dependent integer multiplications (12 cycles on x86-64; 16 additions and 16 cycles on
// aarch64) with 16 loads of one register width beside it, which never wait for one another nor for the chain. Cycles of
// an iteration divided by its seconds is the clock.
#include <algorithm>
#include <utility>

#include "../../target.hpp"
#include "../chain.hpp"
#include "../multiply_add.hpp"

namespace mb::issue {

inline constexpr std::size_t beside_chain = 16;
#if defined(__x86_64__)
inline constexpr std::size_t loads_per_link = 4;
#else
inline constexpr std::size_t loads_per_link = 1;
#endif
inline constexpr int links = static_cast<int>(beside_chain / loads_per_link);

#if defined(__x86_64__)
MB_TARGET_BEGIN("avx,fma")
namespace vex {
#include "../multiply_add.inc"
//
#include "../clock.inc"
}  // namespace vex
MB_TARGET_END

MB_TARGET_BEGIN("avx512f,avx512bw,avx512vl")
namespace evex {
#include "../multiply_add.inc"
//
#include "../clock.inc"
}  // namespace evex
MB_TARGET_END
#else
namespace base {
#include "../multiply_add.inc"
//
#include "../clock.inc"
}  // namespace base
#endif

namespace {

sheet facts(const std::string& name, const char* frequency_license, const char* variant, std::vector<std::string> needs,
            const std::string& symbol) {
  return {.name = name,
          .measures = "clock",
          .roles = {"clock"},
          .says = "dependent integer chain of known cycles beside loads of one register width",
          .unit = "scalar",
          .variant = variant,
          .frequency_license = frequency_license,
          .chains = 1,
          .cycles = links * chain::cycles_per_link,
          .needs = std::move(needs),
          .symbol = symbol};
}

bool check_chain(const context& own, std::uint64_t iterations) {
  return own.result == chain::after(iterations * links);
}

template <class Width, class Loop>
kernel beside_loads(std::vector<std::string> needs) {
  auto row = facts(std::string("clock.") + Width::name, Width::frequency_license, Width::name, std::move(needs),
                   symbol_of<Loop>());
  row.loads = beside_chain;
  row.access_bytes = static_cast<int>(Width::bytes);
  return {std::move(row), Loop::run, nullptr, check_chain};
}

#if defined(__x86_64__)
MB_KERNEL(beside_loads<v128, vex::load_clock_loop<v128>>({"avx"}))
MB_KERNEL(beside_loads<v256, vex::load_clock_loop<v256>>({"avx"}))
MB_KERNEL(beside_loads<v512, evex::load_clock_loop<v512>>({"avx512f"}))
#else
MB_KERNEL(beside_loads<v128, base::load_clock_loop<v128>>({"asimd"}))
#endif

}  // namespace
}  // namespace mb::issue
