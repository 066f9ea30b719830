// Operands on which a multiply-add loop stays exact for any number of iterations, and what it must leave.
//
// Every accumulator adds the same small integer once per step; after `period` iterations the sign turns, and turns back
// after as many more. So an accumulator runs a triangle: it never leaves the range in which its format holds integers
// exactly, yet its value tells how many iterations ran. Products differ by lane and starts by chain: a permuted
// operand, a missing chain or a dropped step leaves a wrong value.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "../kernel.hpp"

namespace mb {

// How one number format holds a small integer. `largest` is where consecutive integers end; 0: it wraps around.
struct as_f64 {
  static constexpr const char* name = "f64";
  static constexpr std::size_t bytes = 8;
  static constexpr std::int64_t largest = std::int64_t{1} << 53;
  static void put(std::byte* at, int value) {
    const double held = value;
    std::memcpy(at, &held, bytes);
  }
};

struct as_f32 {
  static constexpr const char* name = "f32";
  static constexpr std::size_t bytes = 4;
  static constexpr std::int64_t largest = 1 << 24;
  static void put(std::byte* at, int value) {
    const auto held = static_cast<float>(value);
    std::memcpy(at, &held, bytes);
  }
};

// The upper half of an f32; exact for the few bits that operands have.
struct as_bf16 {
  static constexpr const char* name = "bf16";
  static constexpr std::size_t bytes = 2;
  static constexpr std::int64_t largest = 256;
  static void put(std::byte* at, int value) {
    const auto held = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16);
    std::memcpy(at, &held, bytes);
  }
};

// 5 exponent bits (bias 15), 10 mantissa bits; written out because C++20 has no such type.
struct as_f16 {
  static constexpr const char* name = "f16";
  static constexpr std::size_t bytes = 2;
  static constexpr std::int64_t largest = 2048;
  static void put(std::byte* at, int value) {
    std::uint16_t held = value < 0 ? 0x8000 : 0;
    if (value != 0) {
      const auto size = static_cast<unsigned>(std::abs(value));
      const auto exponent = static_cast<unsigned>(std::bit_width(size)) - 1;
      held |= static_cast<std::uint16_t>((exponent + 15) << 10 | ((size << 10 >> exponent) & 0x3ff));
    }
    std::memcpy(at, &held, bytes);
  }
};

struct as_i32 {
  static constexpr const char* name = "i32";
  static constexpr std::size_t bytes = 4;
  static constexpr std::int64_t largest = std::int64_t{1} << 31;
  static void put(std::byte* at, int value) { std::memcpy(at, &value, bytes); }
};

struct as_i8 {
  static constexpr const char* name = "i8";
  static constexpr std::size_t bytes = 1;
  static constexpr std::int64_t largest = 128;
  static void put(std::byte* at, int value) { *at = static_cast<std::byte>(value); }
};

namespace exact {

constexpr int left(std::size_t row, std::size_t k) { return 1 + static_cast<int>((row + k) % 3); }
constexpr int right(std::size_t column, std::size_t k) { return 1 + static_cast<int>((column + k / 2) % 2); }
constexpr int start(std::size_t chain) { return 1 + static_cast<int>(chain); }

// The largest product of one pair of operands, so of one step per element of depth.
constexpr std::int64_t largest_product = 3 * 2;

// Iterations until the sign turns: as long as the format allows, at most 4096, so that the turn costs nothing against
// the loop.
template <class Out>
constexpr std::uint64_t period(int steps, int depth) {
  const std::int64_t room = (Out::largest - 64) / (largest_product * steps * depth);
  return static_cast<std::uint64_t>(room < 4096 ? room : 4096);
}

// How many iterations' worth of products the accumulators hold after so many iterations.
constexpr std::int64_t level(std::uint64_t iterations, std::uint64_t period) {
  const auto whole = iterations / period, rest = iterations % period;
  return static_cast<std::int64_t>(whole % 2 == 0 ? rest : period - rest);
}

static_assert(level(0, 4) == 0 && level(3, 4) == 3 && level(4, 4) == 4 && level(5, 4) == 3 && level(8, 4) == 0 &&
              level(9, 4) == 1);

}  // namespace exact
}  // namespace mb
