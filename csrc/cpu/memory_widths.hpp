// Register widths of memory kernels. Variant words and frequency licenses are those of the compute kernels.
#pragma once

#include <cstddef>

namespace mb::memory {

// Any memory may be read and written through these.
typedef unsigned char vector16 __attribute__((vector_size(16), may_alias));
typedef unsigned char vector32 __attribute__((vector_size(32), may_alias));
typedef unsigned char vector64 __attribute__((vector_size(64), may_alias));

#if defined(__x86_64__)
inline constexpr const char* narrow_license = "128";
#else
inline constexpr const char* narrow_license = "neon";
#endif

// One f64 at a time, in the lowest lane of a vector register.
struct word64 {
  typedef double element __attribute__((may_alias));
  typedef vector16 reg;
  static constexpr std::size_t bytes = 8;
  static constexpr const char* name = "scalar";
  static constexpr const char* clock = "clock.v128";
  static constexpr const char* frequency_license = narrow_license;
};

struct v128 {
  typedef float element __attribute__((may_alias));
  typedef vector16 reg;
  static constexpr std::size_t bytes = 16;
  static constexpr const char* name = "v128";
  static constexpr const char* clock = "clock.v128";
  static constexpr const char* frequency_license = narrow_license;
};

struct v256 {
  typedef float element __attribute__((may_alias));
  typedef vector32 reg;
  static constexpr std::size_t bytes = 32;
  static constexpr const char* name = "v256";
  static constexpr const char* clock = "clock.v256";
  static constexpr const char* frequency_license = "256";
};

struct v512 {
  typedef float element __attribute__((may_alias));
  typedef vector64 reg;
  static constexpr std::size_t bytes = 64;
  static constexpr const char* name = "v512";
  static constexpr const char* clock = "clock.v512";
  static constexpr const char* frequency_license = "512";
};

}  // namespace mb::memory
