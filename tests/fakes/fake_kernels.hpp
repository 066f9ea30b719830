// What the FAKE driver's kernels leave in memory: references written down again in C++, from what the sources say they compute.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace fake {

struct Work {
  double flop = 0, bytes_read = 0, bytes_written = 0;  // of one block in one iteration
};

inline bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }
inline bool is_stream(const std::string& symbol) {
  for (const char* what : {"read_u", "write_u", "copy_u", "triad_u"})
    if (starts(symbol, what)) return true;
  return false;
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
  std::uint64_t* stamps(const std::string& symbol) const { return reinterpret_cast<std::uint64_t*>(pointer(is_stream(symbol) ? 24 : 16)); }
  // Bytes of all arrays that a stream goes through: one for each 16 bytes a lane that its loop reads or writes.
  double working_set(const Work& work) const {
    if (bytes.size() != 48) return 0;
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

inline void stream(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  auto* out = reinterpret_cast<Word4*>(p.pointer(0));
  const auto* in = reinterpret_cast<const Word4*>(p.pointer(8));
  const auto* in2 = reinterpret_cast<const Word4*>(p.pointer(16));
  const std::uint64_t count = p.u32(32), first = p.u32(36), step = p.u32(40), iterations = p.u32(44);
  const unsigned unroll = static_cast<unsigned>(std::stoul(symbol.substr(symbol.rfind("_u") + 2)));
  const std::uint64_t tile = std::uint64_t{unroll} * threads;
  for (std::uint64_t b = 0; b < blocks; ++b) {
    std::vector<Word4> sums(threads, Word4{0, 0, 0, 0});
    std::uint64_t at = (first + b * tile) % count;
    for (std::uint64_t i = 0; i < iterations; ++i, at = (at + step) % count) {
      for (std::uint64_t e = 0; e < tile; ++e) {
        if (starts(symbol, "read")) {
          for (int w = 0; w < 4; ++w) sums[e % threads][static_cast<std::size_t>(w)] += in[at + e][static_cast<std::size_t>(w)];
        } else if (starts(symbol, "write")) {
          out[at + e] = in[e % threads];
        } else if (starts(symbol, "copy")) {
          out[at + e] = in[at + e];
        } else {
          const float scale = as_float(in2[count][3]);
          for (std::size_t w = 0; w < 4; ++w) out[at + e][w] = as_bits(as_float(in[at + e][w]) + scale * as_float(in2[at + e][w]));
        }
      }
    }
    if (starts(symbol, "read"))
      for (unsigned t = 0; t < threads; ++t) out[b * threads + t] = sums[t];
  }
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

template <class Element>
void turn(const Parameters& p, unsigned blocks, unsigned threads, unsigned turns,
          const std::function<Element(Element, Element, Element)>& mad) {
  constexpr unsigned pairs = 8;
  auto* out = reinterpret_cast<Element*>(p.pointer(0));
  const auto* in = reinterpret_cast<const Element*>(p.pointer(8));
  const Element a = in[0], b = in[1];
  std::uint64_t count = std::uint64_t{p.u32(24)} * turns;
  // Operands a = 1, b = -1 repeat after six turns, which a short run of this very loop shows; other operands are cut short.
  count = count > 600 ? 600 + count % 6 : count;
  const std::size_t slots = std::size_t{2} * pairs * threads;
  std::vector<Element> result(in + 2, in + 2 + slots);
  for (std::uint64_t t = 0; t < count; ++t)
    for (unsigned pair = 0; pair < pairs; ++pair)
      for (unsigned lane = 0; lane < threads; ++lane) {
        Element& x = result[(2 * pair) * threads + lane];
        Element& y = result[(2 * pair + 1) * threads + lane];
        x = mad(x, a, y);
        y = mad(y, b, x);
      }
  for (unsigned block = 0; block < blocks; ++block) std::memcpy(out + block * slots, result.data(), slots * sizeof(Element));
}

inline std::uint32_t halves(std::uint32_t x, std::uint32_t a, std::uint32_t y, bool bfloat) {
  std::uint32_t packed = 0;
  for (int shift : {0, 16}) {
    auto value = [&](std::uint32_t word) {
      const auto bits = static_cast<std::uint16_t>(word >> shift);
      return bfloat ? as_float(std::uint32_t{bits} << 16) : half_value(bits);
    };
    const float result = std::fma(value(a), value(y), value(x));
    packed |= std::uint32_t{bfloat ? bfloat_bits(result) : half_bits(result)} << shift;
  }
  return packed;
}

// One bit of the first result, or of the last tile that block 0 wrote, is turned.
inline void corrupt(const std::string& symbol, const Parameters& p) {
  std::size_t at = 0;
  if (is_stream(symbol) && !starts(symbol, "read")) {
    const std::uint64_t iterations = p.u32(44);
    at = static_cast<std::size_t>((p.u32(36) + std::uint64_t{p.u32(40)} * (iterations - 1)) % p.u32(32) * 16);
  }
  reinterpret_cast<unsigned char*>(p.pointer(0))[at] ^= 0x40;
}

inline void run(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  using u32 = std::uint32_t;
  if (is_stream(symbol)) return stream(symbol, p, blocks, threads);
  if (symbol == "fma_f64") return turn<double>(p, blocks, threads, 31, [](double x, double a, double y) { return std::fma(a, y, x); });
  if (symbol == "fma_f32") return turn<float>(p, blocks, threads, 31, [](float x, float a, float y) { return std::fma(a, y, x); });
  if (symbol == "mad_i32") return turn<u32>(p, blocks, threads, 31, [](u32 x, u32 a, u32 y) { return a * y + x; });
  if (symbol == "fma_f16x2") return turn<u32>(p, blocks, threads, 47, [](u32 x, u32 a, u32 y) { return halves(x, a, y, false); });
  if (symbol == "fma_bf16x2") return turn<u32>(p, blocks, threads, 47, [](u32 x, u32 a, u32 y) { return halves(x, a, y, true); });
  if (symbol == "dp4a_i8")
    return turn<u32>(p, blocks, threads, 31, [](u32 x, u32 a, u32 y) {
      for (int shift : {0, 8, 16, 24})
        x += static_cast<u32>(static_cast<std::int8_t>(a >> shift) * static_cast<std::int8_t>(y >> shift));
      return x;
    });
  if (symbol == "ticks") {
    for (unsigned i = 0; i < p.u32(24); ++i) reinterpret_cast<std::uint64_t*>(p.pointer(0))[i] = 1'000'000 + 32 * i;
  }
}

}  // namespace fake
