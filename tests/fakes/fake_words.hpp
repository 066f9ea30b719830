// Words, halves and launch parameters, for the FAKE driver's kernels.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

namespace fake {

struct Work {
  double flop = 0, bytes_read = 0, bytes_written = 0;  // of one block in one iteration
};

inline bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }
inline bool is_stream(const std::string& symbol) {
  for (const char* what : {"read_u", "write_u", "copy_u", "triad_u", "read_bulk", "write_bulk", "copy_bulk", "mix_"})
    if (starts(symbol, what)) return true;
  return false;
}
// Bytes that one block of a stream has on their way at a time: independent 16-byte accesses of every thread, or a ring
// of stages.
inline double bytes_in_flight(const std::string& symbol, unsigned threads) {
  if (symbol.find("_bulk") != std::string::npos) return 8 * 8192;
  const auto at = symbol.rfind("_u");
  return 16.0 * threads * (at == std::string::npos ? 2 : std::stod(symbol.substr(at + 2)));
}
inline std::size_t parameter_bytes(const std::string& symbol) {
  if (symbol == "gate") return 32;
  return is_stream(symbol) ? 48 : 28;
}

struct Parameters {
  std::string bytes;

  std::uint64_t u64(std::size_t at) const {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, 8);
    return value;
  }
  std::uint32_t u32(std::size_t at) const {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at, 4);
    return value;
  }
  std::uintptr_t pointer(std::size_t at) const { return static_cast<std::uintptr_t>(u64(at)); }
  double iterations(const std::string& symbol) const { return is_stream(symbol) ? u32(44) : u32(24); }
  std::uint64_t* stamps(const std::string& symbol) const {
    return reinterpret_cast<std::uint64_t*>(pointer(is_stream(symbol) ? 24 : 16));
  }
  // Bytes of all arrays that a stream goes through: one for each 16 bytes a lane that its loop reads or writes.
  double working_set(const Work& work) const {
    if (bytes.size() != 48) return 1e300;
    const double arrays = work.bytes_read > 0 && work.bytes_written > 0 ? 1 + work.bytes_read / work.bytes_written : 1;
    return 16.0 * u32(32) * arrays;
  }
};

using Word4 = std::array<std::uint32_t, 4>;

inline float as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline std::uint32_t as_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

// Arithmetic on one stored element, which may be two packed halves.
inline float half_value(std::uint16_t h) {
  const int exponent = (h >> 10) & 31;
  const float mantissa = static_cast<float>(h & 1023) / 1024.0F;
  const float size = exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1.0F + mantissa, exponent - 15);
  return h & 0x8000 ? -size : size;
}
inline std::uint16_t half_bits(float v) {
  if (v == 0) return 0;
  int exponent = 0;
  const float m = std::frexp(std::fabs(v), &exponent);
  std::int32_t e = exponent + 14, f = static_cast<std::int32_t>(std::nearbyint((2 * m - 1) * 1024));
  if (f == 1024) ++e, f = 0;
  if (e <= 0) return v < 0 ? 0x8000 : 0;  // the fake flushes what a rotation never reaches
  return static_cast<std::uint16_t>((v < 0 ? 0x8000 : 0) | (e << 10) | f);
}
inline std::uint16_t bfloat_bits(float v) {
  const std::uint32_t bits = as_bits(v);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace fake
