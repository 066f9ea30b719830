// What the FAKE driver's tensor-core kernels leave: products by the fragment, tile and descriptor layouts of the PTX
// ISA, in doubles. Operands repeat with period two or add up linearly, so two trips are worked out and the rest is
// arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "fake_words.hpp"

namespace fake {

struct Format {
  int bits, exponent, mantissa;  // exponent 0: an integer
};
inline Format format(const std::string& name) {
  if (name == "f64") return {64, 11, 52};
  if (name == "f32" || name == "tf32") return {32, 8, 23};
  if (name == "f16") return {16, 5, 10};
  if (name == "bf16") return {16, 8, 7};
  if (name == "e4m3") return {8, 4, 3};
  if (name == "e5m2") return {8, 5, 2};
  if (name == "e2m1") return {4, 2, 1};
  if (name == "i8") return {8, 0, 7};
  if (name == "i32") return {32, 0, 31};
  throw std::runtime_error("fake: format " + name);
}

inline double value(const Format& f, std::uint64_t bits) {
  if (f.bits == 64) {
    double whole;
    std::memcpy(&whole, &bits, 8);
    return whole;
  }
  const std::uint64_t sign = std::uint64_t{1} << (f.bits - 1);
  bits &= (sign << 1) - 1;
  if (f.exponent == 0)
    return static_cast<double>(static_cast<std::int64_t>(bits) - static_cast<std::int64_t>((bits & sign) << 1));
  const auto mantissa = static_cast<double>(bits & ((1U << f.mantissa) - 1)) / (1 << f.mantissa);
  const int exponent = static_cast<int>((bits & (sign - 1)) >> f.mantissa), bias = (1 << (f.exponent - 1)) - 1;
  const double size = exponent == 0 ? std::ldexp(mantissa, 1 - bias) : std::ldexp(1 + mantissa, exponent - bias);
  return bits & sign ? -size : size;
}

inline std::uint64_t to_bits(const std::string& kind, double v) {
  if (kind == "f64") {
    std::uint64_t bits;
    std::memcpy(&bits, &v, 8);
    return bits;
  }
  if (kind == "i32") return static_cast<std::uint32_t>(static_cast<std::int64_t>(v));
  if (kind == "f16") return half_bits(static_cast<float>(v));
  return as_bits(static_cast<float>(v));
}

using Matrix = std::vector<std::vector<double>>;
inline Matrix matrix(int rows, int columns) {
  return Matrix(static_cast<std::size_t>(rows), std::vector<double>(static_cast<std::size_t>(columns)));
}

struct Shape {
  int m, n, k;
  std::string a, d;
};

// Symbols read mma_f16_f32_m16n8k16, mma_i8_m8n8k16, wgmma_e4m3_m64n256k32_ss.
inline Shape shape_of(const std::string& symbol) {
  std::vector<std::string> words;
  std::string word;
  for (char c : symbol + "_") {
    if (c != '_') {
      word += c;
      continue;
    }
    words.push_back(word);
    word.clear();
  }
  std::size_t at = 0;
  while (words[at][0] != 'm' || words[at].find('n') == std::string::npos) ++at;
  Shape s{};
  std::sscanf(words[at].c_str(), "m%dn%dk%d", &s.m, &s.n, &s.k);
  s.a = words[1];
  s.d = at == 3 ? words[2] : s.a == "i8" ? "i32" : s.a == "f64" ? "f64" : "f32";
  return s;
}

template <class Word>
void multiply_fragments(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  const Shape s = shape_of(symbol);
  const Format fa = format(s.a);
  const int per_word = fa.bits >= 32 ? 1 : 32 / fa.bits, halves = s.m / 8;
  const int a_words = halves * s.k / (4 * per_word), b_words = s.k / (4 * per_word),
            chains = s.k == 16 && s.a == "f64" ? 4 : 8;
  const bool packed = s.d == "f16";
  const int d_words = packed ? halves : 2 * halves;
  const auto* in = reinterpret_cast<const Word*>(p.pointer(8));
  auto* out = reinterpret_cast<Word*>(p.pointer(0));
  const Word mask = in[0];
  const double trips = p.u32(24), odd_trips = std::floor(trips / 2), even_trips = trips - odd_trips;
  auto slot = [&](int index, unsigned thread) { return in[4 + static_cast<std::size_t>(index) * threads + thread]; };
  auto element = [&](Word word, int j) {
    return value(fa, fa.bits >= 32 ? word : static_cast<std::uint64_t>(word) >> (fa.bits * j));
  };
  const std::size_t out_words = static_cast<std::size_t>(chains * d_words) * threads;
  for (unsigned warp = 0; warp < threads / 32; ++warp) {
    // Both A fragments summed, as they are and with the masked bits turned.
    Matrix a[2] = {matrix(s.m, s.k), matrix(s.m, s.k)};
    for (int tile = 0; tile < 2; ++tile)
      for (int r = 0; r < a_words; ++r)
        for (unsigned lane = 0; lane < 32; ++lane)
          for (int j = 0; j < per_word; ++j) {
            const int row = static_cast<int>(lane / 4) + 8 * (r % halves),
                      column = 4 * per_word * (r / halves) + static_cast<int>(lane % 4) * per_word + j;
            const Word word = slot(tile * a_words + r, warp * 32 + lane);
            a[0][static_cast<std::size_t>(row)][static_cast<std::size_t>(column)] += element(word, j);
            a[1][static_cast<std::size_t>(row)][static_cast<std::size_t>(column)] += element(word ^ mask, j);
          }
    for (int chain = 0; chain < chains; ++chain) {
      Matrix b = matrix(s.k, 8);
      for (int r = 0; r < b_words; ++r)
        for (unsigned lane = 0; lane < 32; ++lane)
          for (int j = 0; j < per_word; ++j)
            b[static_cast<std::size_t>(4 * per_word * r + static_cast<int>(lane % 4) * per_word + j)][lane / 4] =
                element(slot(2 * a_words + chain * b_words + r, warp * 32 + lane), j);
      for (unsigned lane = 0; lane < 32; ++lane)
        for (int r = 0; r < d_words; ++r) {
          const int half = packed ? r : r / 2;
          std::uint64_t word = 0;
          const Word start = slot(2 * a_words + chains * b_words + chain * d_words + r, warp * 32 + lane);
          for (int j = 0; j < (packed ? 2 : 1); ++j) {
            const std::size_t row = lane / 4 + static_cast<std::size_t>(8 * half),
                              column = 2 * (lane % 4) + static_cast<std::size_t>(packed ? j : r % 2);
            double sums[2] = {0, 0};
            for (int k = 0; k < s.k; ++k)
              for (int side = 0; side < 2; ++side)
                sums[side] += a[side][row][static_cast<std::size_t>(k)] * b[static_cast<std::size_t>(k)][column];
            const double d0 = value(format(s.d), packed ? static_cast<std::uint64_t>(start) >> (16 * j) : start);
            word |= to_bits(s.d, d0 + 4 * (even_trips * sums[0] + odd_trips * sums[1])) << (16 * j);
          }
          out[static_cast<std::size_t>(chain * d_words + r) * threads + warp * 32 + lane] = static_cast<Word>(word);
        }
    }
  }
  for (unsigned block = 1; block < blocks; ++block) std::memcpy(out + block * out_words, out, out_words * sizeof(Word));
}

// What a warp adds up of 32 elements that are the fragment A (16 x 16) of so many products with two B (16 x 8) in turn,
// four words a lane.
inline std::vector<Word4> products(const std::string& kind, const Word4* elements, const Word4* lanes_of_b, int count) {
  const Format f = format(kind);
  auto half = [&](std::uint32_t word, std::size_t j) { return value(f, word >> (16 * j)); };
  std::vector<Word4> left(32, Word4{0, 0, 0, 0});
  double a[16][16], b[16][8];
  for (std::size_t lane = 0; lane < 32; ++lane)
    for (std::size_t r = 0; r < 4; ++r)
      for (std::size_t j = 0; j < 2; ++j)
        a[lane / 4 + 8 * (r & 1)][8 * (r >> 1) + 2 * (lane % 4) + j] = half(elements[lane][r], j);
  for (int chain = 0; chain < std::min(count, 2); ++chain) {
    for (std::size_t lane = 0; lane < 32; ++lane)
      for (std::size_t r = 0; r < 2; ++r)
        for (std::size_t j = 0; j < 2; ++j)
          b[8 * r + 2 * (lane % 4) + j][lane / 4] = half(lanes_of_b[lane][static_cast<std::size_t>(2 * chain) + r], j);
    for (std::size_t lane = 0; lane < 32; ++lane)
      for (std::size_t word = 0; word < 4; ++word) {
        double sum = 0;
        for (std::size_t k = 0; k < 16; ++k)
          sum += a[lane / 4 + 8 * (word >> 1)][k] * b[k][2 * (lane % 4) + (word & 1)];
        left[lane][word] += as_bits(static_cast<float>(0 + sum * ((count + 1 - chain) / 2)));
      }
  }
  return left;
}

// A tile in shared memory by its descriptor: no swizzle, offsets in units of 16 bytes in bits 16 (along K) and 32
// (along M or N).
inline Matrix tile(const unsigned char* image, std::uint64_t descriptor, int rows, const Shape& s) {
  const Format f = format(s.a);
  const std::uint64_t leading = (descriptor >> 16 & 0x3FFF) * 16, stride = (descriptor >> 32 & 0x3FFF) * 16;
  Matrix found = matrix(rows, s.k);
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < s.k; ++k) {
      const int at = k * f.bits / 8;
      std::uint64_t bits = 0;
      const unsigned char* from = image + static_cast<std::uint64_t>(r / 8) * stride +
                                  static_cast<std::uint64_t>(at / 16) * leading +
                                  static_cast<std::uint64_t>(r % 8 * 16 + at % 16);
      std::memcpy(&bits, from, static_cast<std::size_t>(f.bits / 8));
      found[static_cast<std::size_t>(r)][static_cast<std::size_t>(k)] = value(f, bits);
    }
  return found;
}

inline void multiply_tiles(const std::string& symbol, const Parameters& p, unsigned blocks) {
  const Shape s = shape_of(symbol);
  const bool hopper = symbol.rfind("wgmma", 0) == 0;
  const auto* header = reinterpret_cast<const std::uint64_t*>(p.pointer(8));
  const auto* image = reinterpret_cast<const unsigned char*>(header + 4);
  auto* out = reinterpret_cast<std::uint32_t*>(p.pointer(0));
  const std::size_t a_bytes = static_cast<std::size_t>(s.m) * 32, b_bytes = static_cast<std::size_t>(s.n) * 32;
  if (!hopper && ((header[2] >> 17 & 0x3F) * 8 != static_cast<std::uint64_t>(s.n) ||
                  (header[2] >> 24 & 0x1F) * 16 != static_cast<std::uint64_t>(s.m)))
    throw std::runtime_error("fake: instruction word names another shape");
  std::vector<Matrix> a;
  for (int t = 0; t < 4; ++t) a.push_back(tile(image + static_cast<std::size_t>(t) * a_bytes, header[0], s.m, s));
  if (symbol.size() > 3 && symbol.substr(symbol.size() - 3) == "_rs") {
    const auto* words = reinterpret_cast<const std::uint32_t*>(image + 4 * a_bytes + 2 * b_bytes);
    const Format f = format(s.a);
    const int e = 32 / f.bits;
    for (std::size_t t = 0; t < 4; ++t)
      for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t thread = 0; thread < 128; ++thread)
          for (int j = 0; j < e; ++j) {
            const std::size_t lane = thread % 32, row = 16 * (thread / 32) + lane / 4 + 8 * (r % 2);
            const auto column = static_cast<std::size_t>(4 * e) * (r / 2) + (lane % 4) * static_cast<std::size_t>(e) +
                                static_cast<std::size_t>(j);
            a[t][row][column] = value(f, static_cast<std::uint64_t>(words[(t * 4 + r) * 128 + thread]) >> (f.bits * j));
          }
  }
  const Matrix b[2] = {tile(image + 4 * a_bytes, header[1], s.n, s),
                       tile(image + 4 * a_bytes + b_bytes, header[1], s.n, s)};
  const double trips = p.u32(24), odd = std::floor(trips / 2), even = trips - odd;
  auto sum = [&](std::size_t first, std::size_t step, double times, std::size_t row, std::size_t column) {
    double total = 0;
    for (std::size_t k = 0; k < static_cast<std::size_t>(s.k); ++k) {
      double left = 0;
      for (std::size_t t = first; t < 4; t += step) left += a[t][row][k];
      total += left * (even * b[0][column][k] + odd * b[1][column][k]);
    }
    return times * total;
  };
  std::size_t words = 0;
  if (hopper) {
    words = std::size_t{128} * 128;
    for (std::size_t thread = 0; thread < 128; ++thread)
      for (std::size_t w = 0; w < 128; ++w) {
        const std::size_t row = 16 * (thread / 32) + thread % 32 / 4 + 8 * (w % 4 / 2),
                          column = w / 4 * 8 + 2 * (thread % 4) + w % 2;
        out[w * 128 + thread] = static_cast<std::uint32_t>(to_bits(s.d, sum(0, 1, 2, row, column)));
      }
  } else {
    words = std::size_t{512} * 128;
    for (std::size_t column = 0; column < 512; ++column)
      for (std::size_t row = 0; row < 128; ++row)
        out[column * 128 + row] = static_cast<std::uint32_t>(to_bits(s.d, sum(column / 256, 2, 8, row, column % 256)));
  }
  for (unsigned block = 1; block < blocks; ++block) std::memcpy(out + block * words, out, words * 4);
}

}  // namespace fake
