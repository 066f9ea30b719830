// What the FAKE driver's kernels leave in memory: references written down again in C++, from what the sources say they
// compute.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "fake_tensor.hpp"
#include "fake_words.hpp"

namespace fake {

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

// A 16-byte word turned pairwise by a and b of the kernel's format, each multiply-add rounded once.
inline Word4 mixed(const std::string& symbol, Word4 v, const void* ab) {
  const unsigned fmas = static_cast<unsigned>(std::stoul(symbol.substr(symbol.rfind('_') + 1)));
  if (starts(symbol, "mix_f64")) {
    double x[2], turn[2];
    std::memcpy(x, v.data(), 16);
    std::memcpy(turn, ab, 16);
    for (unsigned f = 0; f < fmas; ++f) {
      x[0] = std::fma(turn[0], x[1], x[0]);
      x[1] = std::fma(turn[1], x[0], x[1]);
    }
    std::memcpy(v.data(), x, 16);
    return v;
  }
  const bool bfloat = starts(symbol, "mix_bf16"), half = starts(symbol, "mix_f16");
  std::uint32_t turn[2];
  std::memcpy(turn, ab, 8);
  auto mad = [&](std::uint32_t x, std::uint32_t a, std::uint32_t y) {
    return half || bfloat ? halves(x, a, y, bfloat) : as_bits(std::fma(as_float(a), as_float(y), as_float(x)));
  };
  for (unsigned f = 0; f < fmas; ++f)
    for (std::size_t at = 0; at < 4; at += 2) {
      v[at] = mad(v[at], turn[0], v[at + 1]);
      v[at + 1] = mad(v[at + 1], turn[1], v[at]);
    }
  return v;
}

// The words that 32 elements add to the sums of 32 threads: turned one by one, or multiplied together.
inline std::vector<Word4> mixed_group(const std::string& symbol, const Word4* from, const void* in2) {
  if (starts(symbol, "mix_mma")) {
    const auto end = symbol.rfind('_');
    return products(symbol.substr(8, end - 8), from, static_cast<const Word4*>(in2), std::stoi(symbol.substr(end + 1)));
  }
  std::vector<Word4> left;
  for (std::size_t lane = 0; lane < 32; ++lane) left.push_back(mixed(symbol, from[lane], in2));
  return left;
}

inline void stream(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  auto* out = reinterpret_cast<Word4*>(p.pointer(0));
  const auto* in = reinterpret_cast<const Word4*>(p.pointer(8));
  const auto* in2 = reinterpret_cast<const Word4*>(p.pointer(16));
  const std::uint64_t count = p.u32(32), first = p.u32(36), step = p.u32(40), iterations = p.u32(44);
  const bool bulk = symbol.find("_bulk") != std::string::npos, mix = starts(symbol, "mix");
  const std::uint64_t tile = bulk  ? 512
                             : mix ? 2 * threads
                                   : std::stoul(symbol.substr(symbol.rfind("_u") + 2)) * threads;
  if (bulk && starts(symbol, "read")) {
    for (std::uint64_t b = 0; b < blocks; ++b)
      for (std::uint64_t i = 0; i < iterations; ++i)
        std::memcpy(out + (b * 8 + i % 8) * tile, in + (first + b * tile + i * step) % count, tile * 16);
    return;
  }
  // The product's patterns repeat; every distinct group of elements is worked out once, by this kernel with its second
  // operand.
  static std::map<std::string, std::map<std::string, std::vector<Word4>>> known_groups;
  const std::size_t second = starts(symbol, "mix_mma") ? 512 : starts(symbol, "mix_f64") ? 16 : 8;
  auto& groups = known_groups[mix ? symbol + std::string(reinterpret_cast<const char*>(in2), second) : symbol];
  for (std::uint64_t b = 0; b < blocks; ++b) {
    std::vector<Word4> sums(threads, Word4{0, 0, 0, 0});
    std::uint64_t at = (first + b * tile) % count;
    for (std::uint64_t i = 0; i < iterations; ++i, at = (at + step) % count) {
      for (std::uint64_t e = 0; e < tile; ++e) {
        if (mix) {
          if (e % 32 != 0) continue;
          const std::string key(reinterpret_cast<const char*>(in + at + e), 512);
          auto known = groups.find(key);
          if (known == groups.end()) known = groups.emplace(key, mixed_group(symbol, in + at + e, in2)).first;
          for (std::size_t lane = 0; lane < 32; ++lane)
            for (std::size_t w = 0; w < 4; ++w) sums[(e + lane) % threads][w] += known->second[lane][w];
        } else if (starts(symbol, "read")) {
          for (int w = 0; w < 4; ++w)
            sums[e % threads][static_cast<std::size_t>(w)] += in[at + e][static_cast<std::size_t>(w)];
        } else if (starts(symbol, "write")) {
          out[at + e] = in[e % (bulk ? tile : threads)];
        } else if (starts(symbol, "copy")) {
          out[at + e] = in[at + e];
        } else {
          const float scale = as_float(in2[count][3]);
          for (std::size_t w = 0; w < 4; ++w)
            out[at + e][w] = as_bits(as_float(in[at + e][w]) + scale * as_float(in2[at + e][w]));
        }
      }
    }
    if (starts(symbol, "read") || mix)
      for (unsigned t = 0; t < threads; ++t) out[b * threads + t] = sums[t];
  }
}

template <class Element>
void turn(const Parameters& p, unsigned blocks, unsigned threads, unsigned turns,
          const std::function<Element(Element, Element, Element)>& mad) {
  constexpr unsigned pairs = 8;
  auto* out = reinterpret_cast<Element*>(p.pointer(0));
  const auto* in = reinterpret_cast<const Element*>(p.pointer(8));
  const Element a = in[0];
  std::uint64_t count = std::uint64_t{p.u32(24)} * turns;
  // Operands of which every second pair is the negative of the one before repeat after six turns by a = 1, which a
  // short run of this very loop shows; other operands are cut short.
  count = count > 600 ? 600 + count % 6 : count;
  const std::size_t slots = std::size_t{2} * pairs * threads;
  std::vector<Element> result(in + 2, in + 2 + slots);
  auto at = [&](unsigned pair, unsigned lane) { return result.data() + 2 * (std::size_t{pair} * threads + lane); };
  for (std::uint64_t t = 0; t < count; ++t) {
    for (unsigned pair = 0; pair < pairs; ++pair)
      for (unsigned lane = 0; lane < threads; ++lane) at(pair, lane)[0] = mad(at(pair, lane)[0], a, at(pair, lane)[1]);
    for (unsigned pair = 0; pair < pairs; ++pair)
      for (unsigned lane = 0; lane < threads; ++lane)
        at(pair, lane)[1] = mad(at(pair, lane)[1], a, at(pair ^ 1, lane)[0]);
  }
  for (unsigned block = 0; block < blocks; ++block)
    std::memcpy(out + block * slots, result.data(), slots * sizeof(Element));
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

// Sums of what was read, each access of four words; SLOTS tiles of shared memory, or two halves of L1 in turn.
inline void near(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  auto* out = reinterpret_cast<Word4*>(p.pointer(0));
  const auto* in = reinterpret_cast<const Word4*>(p.pointer(8));
  const std::uint32_t iterations = p.u32(24);
  for (unsigned b = 0; b < blocks; ++b)
    for (unsigned t = 0; t < threads; ++t) {
      if (symbol == "write_shared") {
        for (unsigned slot = 0; slot < 4; ++slot) out[(b * 4 + slot) * threads + t] = in[slot * threads + t];
        continue;
      }
      Word4 sum{0, 0, 0, 0};
      for (std::size_t w = 0; w < 4; ++w) {
        if (symbol == "read_shared") {
          for (unsigned slot = 0; slot < 4; ++slot) sum[w] += in[slot * threads + t][w] * 8 * iterations;
        } else {
          for (unsigned half = 0; half < 2; ++half)
            for (unsigned j = 0; j < 8; ++j)
              sum[w] += in[8 + half * in[0][0] + j * threads + t][w] * ((iterations + 1 - half) / 2);
        }
      }
      out[b * threads + t] = sum;
    }
}

// How many lines a ring of addresses visits, at most so many.
inline std::uint64_t ring(std::uint64_t start, std::uint64_t most) {
  std::uint64_t lines = 1;
  for (std::uint64_t at = *reinterpret_cast<const std::uint64_t*>(start); at != start && lines < most; ++lines)
    at = *reinterpret_cast<const std::uint64_t*>(at);
  return lines;
}

// Which half of a divided L2 a line lives in: a hash of all bits of its address.
inline bool far(std::uint64_t address) { return (((address >> 7) * 0x9E3779B97F4A7C15ULL) >> 63) != 0; }

// Where a cycle over so many lines is after so many steps: four rounds of a Feistel network on an even number of bits
// that hold all of them, taken again until the number is one of theirs.
inline std::uint32_t line_of(std::uint32_t step, std::uint32_t lines) {
  unsigned bits = 1;
  while (bits < 16 && (std::uint64_t{1} << (2 * bits)) < lines) ++bits;
  const std::uint32_t low = (1U << bits) - 1;
  do {
    std::uint32_t left = step >> bits, right = step & low;
    for (std::uint32_t round = 1; round <= 4; ++round) {
      std::uint32_t h = (right + 0x7F4A7C15U * round) * 0x9E3779B1U;
      h = (h ^ (h >> 15)) * 0x85EBCA77U;
      const std::uint32_t crossed = left ^ ((h ^ (h >> 13)) & low);
      left = right;
      right = crossed;
    }
    step = (left << bits) | right;
  } while (step >= lines);
  return step;
}

inline void lay(std::uint64_t first, std::uint32_t lines) {
  const std::uint32_t start = line_of(0, lines);
  std::uint32_t at = start;
  for (std::uint32_t step = 1; step <= lines; ++step) {
    const std::uint32_t to = step == lines ? start : line_of(step, lines);
    *reinterpret_cast<std::uint64_t*>(first + std::uint64_t{128} * at) = first + std::uint64_t{128} * to;
    at = to;
  }
}

inline void chase(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  if (symbol == "chase_lay") return lay(p.pointer(0), p.u32(24));
  if (symbol == "chase_touch") return;  // caches here know the size of a set, not its past
  const std::uint64_t steps = std::uint64_t{16} * p.u32(24);
  if (symbol == "chase_shared") {
    const auto* in = reinterpret_cast<const std::uint32_t*>(p.pointer(8));
    std::uint32_t at = 0;
    for (std::uint64_t i = 0; i < steps; ++i) at = in[at / 4];
    for (unsigned i = 0; i < blocks * threads; ++i) reinterpret_cast<std::uint32_t*>(p.pointer(0))[i] = at;
    return;
  }
  std::uint64_t at = p.pointer(8);
  for (std::uint64_t i = 0; i < steps; ++i) at = *reinterpret_cast<const std::uint64_t*>(at);
  for (unsigned i = 0; i < blocks * threads; ++i) reinterpret_cast<std::uint64_t*>(p.pointer(0))[i] = at;
}

inline void run(const std::string& symbol, const Parameters& p, unsigned blocks, unsigned threads) {
  using u32 = std::uint32_t;
  if (symbol == "empty") return;
  if (is_stream(symbol)) return stream(symbol, p, blocks, threads);
  if (starts(symbol, "chase")) return chase(symbol, p, blocks, threads);
  if (symbol == "read_shared" || symbol == "write_shared" || symbol == "read_l1")
    return near(symbol, p, blocks, threads);
  if (starts(symbol, "mma_f64")) return multiply_fragments<std::uint64_t>(symbol, p, blocks, threads);
  if (starts(symbol, "mma_")) return multiply_fragments<std::uint32_t>(symbol, p, blocks, threads);
  if (starts(symbol, "wgmma_") || starts(symbol, "tcgen05_")) return multiply_tiles(symbol, p, blocks);
  if (symbol == "fma_f64")
    return turn<double>(p, blocks, threads, 31, [](double x, double a, double y) { return std::fma(a, y, x); });
  if (symbol == "fma_f32")
    return turn<float>(p, blocks, threads, 31, [](float x, float a, float y) { return std::fma(a, y, x); });
  if (symbol == "mad_i32") return turn<u32>(p, blocks, threads, 31, [](u32 x, u32 a, u32 y) { return a * y + x; });
  if (symbol == "fma_f16x2")
    return turn<u32>(p, blocks, threads, 47, [](u32 x, u32 a, u32 y) { return halves(x, a, y, false); });
  if (symbol == "fma_bf16x2")
    return turn<u32>(p, blocks, threads, 47, [](u32 x, u32 a, u32 y) { return halves(x, a, y, true); });
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
