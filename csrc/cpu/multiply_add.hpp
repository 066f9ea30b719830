// What the multiply-add kernels share: instructions as tags, register widths, operands in a context, the check, the data sheet.
// The loop itself is in multiply_add.inc, which each file includes once per instruction set.
#pragma once

#include "exact.hpp"

namespace mb {

#if defined(__x86_64__)
// 4 cycles of latency x 2 ports is 8 (5 x 2 for the dot products); 12 leaves slack, and 16 registers hold 12 and their operands.
inline constexpr int chains = 12;
#else
// 4 cycles of latency x 4 pipes is 16 on the widest aarch64 cores; 20 leaves slack, and there are 32 registers.
inline constexpr int chains = 20;
#endif
// Steps of every chain in one iteration of the loop: 5, so that an iteration can be lengthened by exactly a twentieth of its work.
inline constexpr int steps = 5;
inline constexpr int extra_chains = chains * steps / 20;

// A clock licence is the set of instructions that a core may slow down for; its word is the register width, and every aarch64 core
// runs NEON at the clock of scalars.
#if defined(__x86_64__)
inline constexpr const char* narrow_licence = "128";
#else
inline constexpr const char* narrow_licence = "neon";
#endif

struct scalar {
  static constexpr int bytes = 16;  // a scalar lives in the lowest lane of a vector register
  static constexpr const char* name = "scalar";
  static constexpr const char* clock = "v128";
  static constexpr const char* licence = narrow_licence;
  typedef unsigned char reg __attribute__((vector_size(16)));
};

struct v128 {
  static constexpr int bytes = 16;
  static constexpr const char* name = "v128";
  static constexpr const char* clock = "v128";
  static constexpr const char* licence = narrow_licence;
  typedef unsigned char reg __attribute__((vector_size(16)));
};

struct v256 {
  static constexpr int bytes = 32;
  static constexpr const char* name = "v256";
  static constexpr const char* clock = "v256";
  static constexpr const char* licence = "256";
  typedef unsigned char reg __attribute__((vector_size(32)));
};

struct v512 {
  static constexpr int bytes = 64;
  static constexpr const char* name = "v512";
  static constexpr const char* clock = "v512";
  static constexpr const char* licence = "512";
  typedef unsigned char reg __attribute__((vector_size(64)));
};

// One multiply-add instruction: the formats of its operands and accumulator, and how many products one accumulator takes.
template <class In, class Out, int products>
struct instruction {
  using in = In;
  using out = Out;
  static constexpr int depth = products;
};
struct fma_f64 : instruction<as_f64, as_f64, 1> {};
struct fma_f32 : instruction<as_f32, as_f32, 1> {};
struct fma_f16 : instruction<as_f16, as_f16, 1> {};
struct dot_bf16 : instruction<as_bf16, as_f32, 2> {};
struct dot_i8 : instruction<as_i8, as_i32, 4> {};
struct dot_i8_vex : instruction<as_i8, as_i32, 4> {};

template <class Op, class Width>
constexpr int lanes() {
  return std::is_same_v<Width, scalar> ? 1 : Width::bytes / static_cast<int>(Op::out::bytes);
}

// The layout of context::scratch.
struct operands {
  alignas(64) std::byte a[64];
  alignas(64) std::byte b[64];
  alignas(64) std::byte minus_b[64];
  alignas(64) std::byte start[chains][64];
  alignas(64) std::byte result[chains][64];
};
static_assert(sizeof(operands) <= sizeof(context::scratch));

inline operands& operands_of(context& own) { return *reinterpret_cast<operands*>(own.scratch.data()); }
inline const operands& operands_of(const context& own) { return *reinterpret_cast<const operands*>(own.scratch.data()); }

template <class Op, class Width>
void fill(context& own) {
  auto& held = operands_of(own);
  for (std::size_t lane = 0; lane < lanes<Op, Width>(); ++lane)
    for (std::size_t k = 0; k < Op::depth; ++k) {
      const auto at = (lane * Op::depth + k) * Op::in::bytes;
      Op::in::put(held.a + at, exact::left(lane, k));
      Op::in::put(held.b + at, exact::right(lane, k));
      Op::in::put(held.minus_b + at, -exact::right(lane, k));
    }
  for (std::size_t chain = 0; chain < chains; ++chain)
    for (std::size_t lane = 0; lane < lanes<Op, Width>(); ++lane)
      Op::out::put(held.start[chain] + lane * Op::out::bytes, exact::start(chain));
}

// Computes every lane of every chain from the integers alone and compares bit by bit.
template <class Op, class Width>
bool check(const context& own, std::uint64_t iterations) {
  const auto& held = operands_of(own);
  const auto level = exact::level(iterations, exact::period<typename Op::out>(steps, Op::depth));
  for (std::size_t chain = 0; chain < chains; ++chain)
    for (std::size_t lane = 0; lane < lanes<Op, Width>(); ++lane) {
      std::int64_t product = 0;
      for (std::size_t k = 0; k < Op::depth; ++k) product += exact::left(lane, k) * exact::right(lane, k);
      std::byte expected[8];
      Op::out::put(expected, static_cast<int>(exact::start(chain) + product * steps * level));
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

// A data sheet, check and operands around two loops of multiply_add.inc: the pure one and the one that is a twentieth longer.
template <class Op, class Width, class Loop, class Longer>
kernel multiply_add(row given) {
  const std::string in = Op::in::name, out = Op::out::name;
  constexpr int flop = 2 * Op::depth;
  sheet facts{.name = given.family + "." + in + (in == out ? "" : "." + out) + "." + given.variant,
              .measures = "compute",
              .says = given.says,
              .unit = std::is_same_v<Width, scalar> ? "scalar" : "vector",
              .dtype = in,
              .accumulator = out,
              .variant = given.variant,
              .licence = Width::licence,
              .ports = given.ports,
              .lanes = lanes<Op, Width>(),
              .flop_per_lane = flop,
              .chains = chains,
              .math = chains * steps,
              .per_iteration = {.flop = std::uint64_t{chains} * steps * lanes<Op, Width>() * flop},
              .params = {"lengthen"},
              .needs = std::move(given.needs),
              .companion = std::string("clock.") + Width::clock,
              .operands = "exact",
              .verified = given.verified,
              .symbol = symbol_of<Loop>()};
  const auto configure = [](context& own, const parameters& asked) {
    fill<Op, Width>(own);
    if (integer(asked, "lengthen", 0, 0, 5) != 0) own.loop = Longer::run;
  };
  return {std::move(facts), Loop::run, configure, check<Op, Width>};
}

}  // namespace mb
