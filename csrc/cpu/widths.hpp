// The register widths that kernels are compiled for: the word in a variant, the clock loop and the frequency license of
// each.
#pragma once

#include <cstddef>

namespace mb {

// A frequency license is the set of instructions that a core may slow down for; its word is the register width, and
// every aarch64 core runs NEON at the clock of scalars.
#if defined(__x86_64__)
inline constexpr const char* narrow_license = "128";
#else
inline constexpr const char* narrow_license = "neon";
#endif

// Any memory may be read and written through a `reg`.
struct v128 {
  typedef unsigned char reg __attribute__((vector_size(16), may_alias));
  static constexpr std::size_t bytes = 16;
  static constexpr const char* name = "v128";
  static constexpr const char* clock = "clock.v128";
  static constexpr const char* frequency_license = narrow_license;
};

struct v256 {
  typedef unsigned char reg __attribute__((vector_size(32), may_alias));
  static constexpr std::size_t bytes = 32;
  static constexpr const char* name = "v256";
  static constexpr const char* clock = "clock.v256";
  static constexpr const char* frequency_license = "256";
};

struct v512 {
  typedef unsigned char reg __attribute__((vector_size(64), may_alias));
  static constexpr std::size_t bytes = 64;
  static constexpr const char* name = "v512";
  static constexpr const char* clock = "clock.v512";
  static constexpr const char* frequency_license = "512";
};

// One element at a time, in the lowest lane of the narrowest vector register.
struct scalar {
  typedef v128::reg reg;
  static constexpr std::size_t bytes = v128::bytes;
  static constexpr const char* name = "scalar";
  static constexpr const char* frequency_license = narrow_license;
};

// One f64 at a time: the scalar of memory kernels, of which only these 8 bytes move.
struct word64 {
  typedef double element __attribute__((may_alias));
  typedef v128::reg reg;
  static constexpr std::size_t bytes = sizeof(element);
  static constexpr const char* name = "scalar";
  static constexpr const char* clock = v128::clock;
  static constexpr const char* frequency_license = narrow_license;
};

}  // namespace mb
