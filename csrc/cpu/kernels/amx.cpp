// Tile multiplication (AMX): i8 into i32 and bf16 into f32, 16 x 16 accumulators a tile.
//
// The unit starts one multiplication of full tiles every 16 cycles and takes 52 to finish it, so 4 accumulator tiles
// keep it busy; 6 are used, beside one tile for each operand: all 8 that there are. Nominal: 256 lanes x 2 x 64 (i8) or
// 32 (bf16) products / 16 cycles = 2048 (1024) operations a cycle. The operating system grants tile state on request
// only.
#include <algorithm>

#include "../chain.hpp"
#include "../exact.hpp"
#include "../features.hpp"

#if defined(__x86_64__)

namespace mb::amx {

inline constexpr int tiles = 6, rows = 16, row_bytes = 64, tile_bytes = rows * row_bytes;
// Of the clock kernel: a chain of 32 multiplications is 96 cycles, in which 4 tile multiplications keep the unit busy
// for 64.
inline constexpr int links = 32, beside_chain = 4;

struct bytes {
  using in = as_i8;
  using out = as_i32;
  static constexpr std::size_t depth = 64;  // products per accumulator
  static constexpr std::size_t packed = 4;  // neighbours along k that share a 32-bit column of the right operand
};

struct halves {
  using in = as_bf16;
  using out = as_f32;
  static constexpr std::size_t depth = 32;
  static constexpr std::size_t packed = 2;
};

struct operands {
  alignas(64) std::byte a[tile_bytes];
  alignas(64) std::byte b[tile_bytes];
  alignas(64) std::byte minus_b[tile_bytes];
  alignas(64) std::byte start[tiles][tile_bytes];
  alignas(64) std::byte result[tiles][tile_bytes];
  std::int32_t product[rows * rows];  // a times b, made beforehand: the unit falls asleep while a check takes its time
};
static_assert(sizeof(operands) <= sizeof(context::scratch));

inline operands& held_by(context& own) { return *reinterpret_cast<operands*>(own.scratch.data()); }
inline const operands& held_by(const context& own) { return *reinterpret_cast<const operands*>(own.scratch.data()); }

// Palette 1: 8 tiles of 16 rows of 64 bytes.
struct alignas(64) tile_shapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows_of[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(tile_shapes) == 64);

// Tiles are named in the text: neither compiler allocates them, and no other code of this module touches them.
[[gnu::always_inline]] inline void enter(operands& held) {
  static const tile_shapes shapes;
  const long stride = row_bytes;
  asm volatile("ldtilecfg %0" ::"m"(shapes));
  asm volatile("tileloadd (%0,%1,1), %%tmm0" ::"r"(held.start[0]), "r"(stride) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm1" ::"r"(held.start[1]), "r"(stride) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm2" ::"r"(held.start[2]), "r"(stride) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm3" ::"r"(held.start[3]), "r"(stride) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm4" ::"r"(held.start[4]), "r"(stride) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm5" ::"r"(held.start[5]), "r"(stride) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm6" ::"r"(held.a), "r"(stride) : "memory");
}

[[gnu::always_inline]] inline void load_right(const std::byte* from) {
  const long stride = row_bytes;
  asm volatile("tileloadd (%0,%1,1), %%tmm7" ::"r"(from), "r"(stride) : "memory");
}

[[gnu::always_inline]] inline void leave(operands& held) {
  const long stride = row_bytes;
  asm volatile("tilestored %%tmm0, (%0,%1,1)" ::"r"(held.result[0]), "r"(stride) : "memory");
  asm volatile("tilestored %%tmm1, (%0,%1,1)" ::"r"(held.result[1]), "r"(stride) : "memory");
  asm volatile("tilestored %%tmm2, (%0,%1,1)" ::"r"(held.result[2]), "r"(stride) : "memory");
  asm volatile("tilestored %%tmm3, (%0,%1,1)" ::"r"(held.result[3]), "r"(stride) : "memory");
  asm volatile("tilestored %%tmm4, (%0,%1,1)" ::"r"(held.result[4]), "r"(stride) : "memory");
  asm volatile("tilestored %%tmm5, (%0,%1,1)" ::"r"(held.result[5]), "r"(stride) : "memory");
  asm volatile("tilerelease");
}

// One multiplication into one of the accumulator tiles 0 to 3.
template <int tile>
[[gnu::always_inline]] inline void one(bytes) {
  if constexpr (tile == 0) asm volatile("tdpbssd %tmm7, %tmm6, %tmm0");
  if constexpr (tile == 1) asm volatile("tdpbssd %tmm7, %tmm6, %tmm1");
  if constexpr (tile == 2) asm volatile("tdpbssd %tmm7, %tmm6, %tmm2");
  if constexpr (tile == 3) asm volatile("tdpbssd %tmm7, %tmm6, %tmm3");
}

template <int tile>
[[gnu::always_inline]] inline void one(halves) {
  if constexpr (tile == 0) asm volatile("tdpbf16ps %tmm7, %tmm6, %tmm0");
  if constexpr (tile == 1) asm volatile("tdpbf16ps %tmm7, %tmm6, %tmm1");
  if constexpr (tile == 2) asm volatile("tdpbf16ps %tmm7, %tmm6, %tmm2");
  if constexpr (tile == 3) asm volatile("tdpbf16ps %tmm7, %tmm6, %tmm3");
}

// One multiplication into each accumulator tile.
[[gnu::always_inline]] inline void step(bytes) {
  asm volatile(
      "tdpbssd %tmm7, %tmm6, %tmm0\n\ttdpbssd %tmm7, %tmm6, %tmm1\n\ttdpbssd %tmm7, %tmm6, %tmm2\n\t"
      "tdpbssd %tmm7, %tmm6, %tmm3\n\ttdpbssd %tmm7, %tmm6, %tmm4\n\ttdpbssd %tmm7, %tmm6, %tmm5");
}

[[gnu::always_inline]] inline void step(halves) {
  asm volatile(
      "tdpbf16ps %tmm7, %tmm6, %tmm0\n\ttdpbf16ps %tmm7, %tmm6, %tmm1\n\ttdpbf16ps %tmm7, %tmm6, %tmm2\n\t"
      "tdpbf16ps %tmm7, %tmm6, %tmm3\n\ttdpbf16ps %tmm7, %tmm6, %tmm4\n\ttdpbf16ps %tmm7, %tmm6, %tmm5");
}

template <class Op>
struct loop {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& held = held_by(own);
    enter(held);
    const std::byte *right = held.b, *next = held.minus_b;
    for (std::uint64_t left = iterations; left != 0; std::swap(right, next)) {
      const auto part = std::min(left, exact::period<typename Op::out>(1, Op::depth));
      left -= part;
      load_right(right);
      for (auto count = part; count != 0; --count) step(Op{});
    }
    leave(held);
    return iterations;
  }
};

// The same multiplications at two thirds of their rate beside an integer chain, for each dtype its own: nothing says
// that both draw the same power and so run at the same clock.
template <class Op>
struct clock_loop {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& held = held_by(own);
    enter(held);
    load_right(held.b);
    std::uint64_t value = chain::start;
    const std::uint64_t factor = chain::factor;
    for (auto count = iterations; count != 0; --count) {
      one<0>(Op{});
      links_of_a_quarter(value, factor);
      one<1>(Op{});
      links_of_a_quarter(value, factor);
      one<2>(Op{});
      links_of_a_quarter(value, factor);
      one<3>(Op{});
      links_of_a_quarter(value, factor);
    }
    own.result = value;
    leave(held);
    return iterations;
  }

  [[gnu::always_inline]] static void links_of_a_quarter(std::uint64_t& value, std::uint64_t factor) {
    static_assert(links == 8 * beside_chain);
    chain::link(value, factor), chain::link(value, factor), chain::link(value, factor), chain::link(value, factor);
    chain::link(value, factor), chain::link(value, factor), chain::link(value, factor), chain::link(value, factor);
  }
};

namespace {

template <class Op>
void fill(context& own, const parameters&) {
  if (!allow_tiles()) throw cannot_run("the operating system refuses this process the tile registers (arch_prctl)");
  auto& held = held_by(own);
  for (std::size_t k = 0; k < Op::depth; ++k)
    for (std::size_t i = 0; i < rows; ++i) {
      Op::in::put(held.a + i * row_bytes + k * Op::in::bytes, exact::left(i, k));
      const auto at = k / Op::packed * row_bytes + (i * Op::packed + k % Op::packed) * Op::in::bytes;
      Op::in::put(held.b + at, exact::right(i, k));
      Op::in::put(held.minus_b + at, -exact::right(i, k));
    }
  for (std::size_t i = 0; i < rows * rows; ++i) {
    held.product[i] = 0;
    for (std::size_t k = 0; k < Op::depth; ++k) held.product[i] += exact::left(i / rows, k) * exact::right(i % rows, k);
  }
  for (std::size_t tile = 0; tile < tiles; ++tile)
    for (std::size_t i = 0; i < rows * rows; ++i)
      Op::out::put(held.start[tile] + i * Op::out::bytes, exact::start(tile));
}

template <class Op>
bool check(const context& own, std::uint64_t iterations) {
  const auto& held = held_by(own);
  const auto level = exact::level(iterations, exact::period<typename Op::out>(1, Op::depth));
  for (std::size_t tile = 0; tile < tiles; ++tile)
    for (std::size_t i = 0; i < rows * rows; ++i) {
      std::byte expected[4];
      Op::out::put(expected, static_cast<int>(exact::start(tile) + std::int64_t{held.product[i]} * level));
      if (std::memcmp(expected, held.result[tile] + i * Op::out::bytes, Op::out::bytes) != 0) return false;
    }
  return true;
}

template <class Op>
std::string name() {
  return std::string("tile.") + Op::in::name + "." + Op::out::name + ".amx";
}

template <class Op>
kernel multiply(const char* need) {
  constexpr int flop = 2 * Op::depth;
  return {{.name = name<Op>(),
           .measures = "compute",
           .roles = {"ceiling", "roof"},
           .says = "independent tile multiplications (AMX), 16 x 16 accumulators a tile",
           .unit = "matrix",
           .dtype = Op::in::name,
           .accumulator = Op::out::name,
           .variant = "amx",
           .frequency_license = "amx",
           .ports = "tile.amx",
           .lanes = rows * rows,
           .flop_per_lane = flop,
           .chains = tiles,
           .math = tiles,
           .per_iteration = {.flop = std::uint64_t{tiles} * rows * rows * flop},
           .needs = {"amx_tile", need},
           .reference_clock = "clock." + name<Op>(),
           .operands = "exact",
           .symbol = symbol_of<loop<Op>>()},
          loop<Op>::run,
          fill<Op>,
          check<Op>};
}

template <class Op>
kernel clock(const char* need) {
  return {{.name = "clock." + name<Op>(),
           .measures = "clock",
           .roles = {"clock"},
           .says = "dependent integer chain of known cycles beside tile multiplications",
           .unit = "scalar",
           .variant = "amx",
           .frequency_license = "amx",
           .math = beside_chain,
           .cycles = links * chain::cycles_per_link,
           .needs = {"amx_tile", need},
           .symbol = symbol_of<clock_loop<Op>>()},
          clock_loop<Op>::run,
          fill<Op>,
          [](const context& own, std::uint64_t iterations) { return own.result == chain::after(iterations * links); }};
}

MB_KERNEL(multiply<bytes>("amx_int8"))
MB_KERNEL(multiply<halves>("amx_bf16"))
MB_KERNEL(clock<bytes>("amx_int8"))
MB_KERNEL(clock<halves>("amx_bf16"))

}  // namespace
}  // namespace mb::amx

#endif
