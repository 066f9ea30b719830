// The data sheets of a loop and of its reference clock, for loops that are written out beside multiply_add.inc.
#pragma once

#include "chain.hpp"
#include "multiply_add.hpp"

namespace mb {

// Registers the rate of a loop and its reference clock, which runs the same instructions on the same operands beside an
// integer chain and so tells the clock. `Of` gives both loops (`rate`, `clock`), the chain's links in an iteration
// (`links`), and how operands are filled and results compared (`fill`, `check`).
template <class Of>
std::vector<kernel> rated(sheet facts) {
  sheet beside{.name = "clock." + facts.name,
               .measures = "clock",
               .roles = {"clock"},
               .says = "dependent integer chain of known cycles beside " + facts.says,
               .unit = facts.unit,
               .dtype = facts.dtype,
               .accumulator = facts.accumulator,
               .variant = facts.variant,
               .frequency_license = facts.frequency_license,
               .math = facts.math,
               .beside = facts.beside,
               .cycles = Of::links * chain::cycles_per_link,
               .needs = facts.needs,
               .operands = facts.operands,
               .verified = facts.verified,
               .symbol = symbol_of<typename Of::clock>()};
  facts.measures = "compute";
  facts.reference_clock = beside.name;
  facts.symbol = symbol_of<typename Of::rate>();
  const auto configure = [](context& own, const parameters&) { Of::fill(own); };
  const auto right = [](const context& own, std::uint64_t iterations) {
    return own.result == chain::after(iterations * Of::links) && Of::check(own, iterations);
  };
  return {{std::move(facts), Of::rate::run, configure, Of::check},
          {std::move(beside), Of::clock::run, configure, right}};
}

// Whether a lane holds what so many steps of `product` each, up and down, must have left of where its chain started.
template <class Out>
bool holds(const std::byte* found, std::size_t chain, std::int64_t climbed) {
  std::byte expected[8];
  Out::put(expected, static_cast<int>(exact::start(chain) + climbed));
  return std::memcmp(expected, found, Out::bytes) == 0;
}

}  // namespace mb
