// What the multiply-add kernels share: instructions as tags, operands in a context, the check, the data sheet. The loop
// itself is in multiply_add.inc, which each file includes once per instruction set.
#pragma once

#include "chain.hpp"
#include "exact.hpp"
#include "widths.hpp"

namespace mb {

// One multiply-add instruction: the formats of its operands and accumulator, how many products one accumulator takes,
// how many accumulators run side by side, and how many steps of each make one iteration. Accumulators have to cover
// latency x ports, and with the operands fit the registers; steps make an iteration a multiple of 20 instructions, so
// that a twentieth can be added.
template <class In, class Out, int products, int independent, int repeats>
struct instruction {
  using in = In;
  using out = Out;
  static constexpr int depth = products;
  static constexpr int chains = independent;
  static constexpr int steps = repeats;
  static constexpr int math = chains * steps;
  static constexpr bool slow = false;   // starts only every second cycle on some cores
  static constexpr bool tiles = false;  // a product of matrices: two rows of `depth` by two columns
  static_assert(math % 20 == 0);
};

#if defined(__x86_64__)
// 4 cycles x 2 ports is 8; 12 leave slack and fit 16 registers.
struct fma_f64 : instruction<as_f64, as_f64, 1, 12, 5> {};
struct fma_f32 : instruction<as_f32, as_f32, 1, 12, 5> {};
struct fma_f16 : instruction<as_f16, as_f16, 1, 12, 5> {};
struct dot_bf16 : instruction<as_bf16, as_f32, 2, 12, 5> {
  static constexpr bool slow = true;
};
// 5 cycles x 2 ports is 10, but 12 lose 4 %; AVX-512 has registers for 20, the older encoding for 14.
struct dot_i8 : instruction<as_i8, as_i32, 4, 20, 3> {};
struct dot_i8_vex : instruction<as_i8, as_i32, 4, 14, 10> {};
#else
// 4 cycles x 4 pipes is 16 on the widest cores; 20 leave slack and fit 32 registers.
struct fma_f64 : instruction<as_f64, as_f64, 1, 20, 3> {};
struct fma_f32 : instruction<as_f32, as_f32, 1, 20, 3> {};
struct fma_f16 : instruction<as_f16, as_f16, 1, 20, 3> {};
struct dot_bf16 : instruction<as_bf16, as_f32, 2, 20, 3> {
  static constexpr bool slow = true;
};
struct dot_i8 : instruction<as_i8, as_i32, 4, 20, 3> {};
struct mmla_i8 : instruction<as_i8, as_i32, 8, 20, 3> {
  static constexpr bool tiles = true;
};
struct mmla_bf16 : instruction<as_bf16, as_f32, 4, 20, 3> {
  static constexpr bool tiles = true;
};
#endif
inline constexpr int most_chains = 20;

// Multiply-adds per link in the clock loop: as many as fit beside the chain without delaying it, since the clock also
// depends on how much power they draw. One link is 3 cycles on x86-64; at 512 bit no multiply-add takes the port of the
// chain, below it one in two could.
template <class Op, class Width>
constexpr int links_apart() {
#if defined(__x86_64__)
  return Op::slow ? 1 : std::is_same_v<Width, v512> ? 5 : 4;
#else
  return 1;
#endif
}

template <class Op, class Width>
constexpr std::size_t lanes() {
  return std::is_same_v<Width, scalar> ? 1 : Width::bytes / Op::out::bytes;
}

// The layout of context::scratch.
struct operands {
  alignas(64) std::byte a[64];
  alignas(64) std::byte b[64];
  alignas(64) std::byte minus_b[64];
  alignas(64) std::byte ones[64];
  alignas(64) std::byte start[most_chains][64];
  alignas(64) std::byte result[most_chains][64];
};
static_assert(sizeof(operands) <= sizeof(context::scratch));

inline operands& operands_of(context& own) { return *reinterpret_cast<operands*>(own.scratch.data()); }
inline const operands& operands_of(const context& own) {
  return *reinterpret_cast<const operands*>(own.scratch.data());
}

template <class Op, class Width>
void fill(context& own) {
  auto& held = operands_of(own);
  for (std::size_t lane = 0; lane < (Op::tiles ? 2 : lanes<Op, Width>()); ++lane)
    for (std::size_t k = 0; k < Op::depth; ++k) {
      const auto at = (lane * Op::depth + k) * Op::in::bytes;
      Op::in::put(held.a + at, exact::left(lane, k));
      Op::in::put(held.b + at, exact::right(lane, k));
      Op::in::put(held.minus_b + at, -exact::right(lane, k));
    }
  for (std::size_t chain = 0; chain < Op::chains; ++chain)
    for (std::size_t lane = 0; lane < lanes<Op, Width>(); ++lane)
      Op::out::put(held.start[chain] + lane * Op::out::bytes, exact::start(chain));
}

// Computes every lane of every chain from the integers alone and compares bit by bit.
template <class Op, class Width>
bool check(const context& own, std::uint64_t iterations) {
  const auto& held = operands_of(own);
  const auto level = exact::level(iterations, exact::period<typename Op::out>(Op::steps, Op::depth));
  for (std::size_t chain = 0; chain < Op::chains; ++chain)
    for (std::size_t lane = 0; lane < lanes<Op, Width>(); ++lane) {
      std::int64_t product = 0;
      const auto row = Op::tiles ? lane / 2 : lane, column = Op::tiles ? lane % 2 : lane;
      for (std::size_t k = 0; k < Op::depth; ++k) product += exact::left(row, k) * exact::right(column, k);
      std::byte expected[8];
      Op::out::put(expected, static_cast<int>(exact::start(chain) + product * Op::steps * level));
      if (std::memcmp(expected, held.result[chain] + lane * Op::out::bytes, Op::out::bytes) != 0) return false;
    }
  return true;
}

// The parts of a row that differ from what instruction and width imply.
struct row {
  std::string family;   // first word of the name
  std::string variant;  // last word of the name
  std::string ports;    // row of the architecture's port table
  std::vector<std::string> needs;
  std::string says;
  bool verified = true;
};

// Two kernels: the rate of an instruction, with a loop a twentieth longer behind its parameter `lengthen`; and its
// reference clock, which runs the same instructions on the same operands beside an integer chain and so tells the
// clock.
template <class Op, class Width, class Loop, class Longer, class Clock>
struct multiply_add {
  static std::vector<kernel> kernels(const row& given) { return {rate(given), clock(given)}; }

 private:
  static std::string name(const row& given) {
    const std::string in = Op::in::name, out = Op::out::name;
    return given.family + "." + in + (in == out ? "" : "." + out) + "." + given.variant;
  }

  static kernel rate(const row& given) {
    constexpr int flop = 2 * Op::depth;
    sheet facts = shared(given);
    facts.name = name(given);
    facts.measures = "compute";
    facts.roles = {"ceiling", "roof"};
    facts.says = given.says;
    facts.lanes = static_cast<int>(lanes<Op, Width>());
    facts.flop_per_lane = flop;
    facts.chains = Op::chains;
    facts.per_iteration.flop = std::uint64_t{Op::math} * lanes<Op, Width>() * flop;
    facts.ports = given.ports;
    facts.params = {"lengthen"};
    facts.reference_clock = "clock." + facts.name;
    facts.symbol = symbol_of<Loop>();
    const auto configure = [](context& own, const parameters& asked) {
      fill<Op, Width>(own);
      const auto percent = integer(asked, "lengthen", 0, 0, 5);
      if (percent != 0 && percent != 5) throw bad_parameter("parameter lengthen must be 0 or 5");
      if (percent == 5) own.loop = Longer::run;
    };
    return {std::move(facts), Loop::run, configure, check<Op, Width>};
  }

  static kernel clock(const row& given) {
    constexpr int links = Op::math / links_apart<Op, Width>();
    static_assert(Op::math % links_apart<Op, Width>() == 0);
    sheet facts = shared(given);
    facts.name = "clock." + name(given);
    facts.measures = "clock";
    facts.roles = {"clock"};
    facts.says = "dependent integer chain of known cycles beside " + given.says;
    facts.cycles = links * chain::cycles_per_link;
    facts.symbol = symbol_of<Clock>();
    const auto right = [](const context& own, std::uint64_t iterations) {
      return own.result == chain::after(iterations * links) && check<Op, Width>(own, iterations);
    };
    return {std::move(facts), Clock::run, [](context& own, const parameters&) { fill<Op, Width>(own); }, right};
  }

  static sheet shared(const row& given) {
    return {.unit = Op::tiles                       ? "matrix"
                    : std::is_same_v<Width, scalar> ? "scalar"
                                                    : "vector",
            .dtype = Op::in::name,
            .accumulator = Op::out::name,
            .variant = given.variant,
            .frequency_license = Width::frequency_license,
            .math = Op::math,
            .needs = given.needs,
            .operands = "exact",
            .verified = given.verified};
  }
};

}  // namespace mb
