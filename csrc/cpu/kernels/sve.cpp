// Multiply-adds and dot products of SVE, whose vectors are as long as the machine makes them.
//
// The compiler knows no array of such registers, so a loop is one asm statement: 20 accumulators in z0 to z19, operands
// in z30 and z31, 60 instructions an iteration; the assembler repeats the line. Nominal: lanes of this machine x FLOP x
// pipes x clock. Operands, exactness and the reference clock are those of multiply_add.hpp.
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include <algorithm>

#include "../../target.hpp"
#include "../multiply_add.hpp"
#include "../rated.hpp"

namespace mb::sve {

inline constexpr std::size_t longest = 256;
inline constexpr int chains = 20, count = 60;

// Bytes of a vector here; of the shortest one where there is no SVE.
std::size_t vector_bytes() {
  static const std::size_t found = [] {
    if ((getauxval(AT_HWCAP) & HWCAP_SVE) == 0) return std::size_t{16};
    const int told = prctl(PR_SVE_GET_VL);
    return told < 0 ? std::size_t{16} : static_cast<std::size_t>(told & PR_SVE_VL_LEN_MASK);
  }();
  return found;
}

// Vectors follow one another in context::scratch: the operands, what accumulators start with, the accumulators.
enum place : std::size_t { left_operand, right_operand, minus_right, first_start, first_sum = first_start + chains };
static_assert((first_sum + chains) * longest <= sizeof(context::scratch));

std::byte* vector(context& own, std::size_t index) { return own.scratch.data() + index * vector_bytes(); }
const std::byte* vector(const context& own, std::size_t index) { return own.scratch.data() + index * vector_bytes(); }

struct fma_f64 : instruction<as_f64, as_f64, 1, chains, 3> {};
struct fma_f32 : instruction<as_f32, as_f32, 1, chains, 3> {};
struct fma_f16 : instruction<as_f16, as_f16, 1, chains, 3> {};
struct dot_i8 : instruction<as_i8, as_i32, 4, chains, 3> {};
struct dot_bf16 : instruction<as_bf16, as_f32, 2, chains, 3> {};

struct registers {
  std::uint64_t left;
  std::uint64_t value, factor;
  const std::byte *a, *b;
  std::byte* sums;
};

#define MB_SVE_ALL_(line) ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19\n" line "\n.endr\n"
#define MB_SVE_(line, link)                                                                                           \
  asm volatile(                                                                                                       \
      ".arch_extension sve\n.arch_extension bf16\nptrue p0.b\nldr z30, [%[a]]\nldr z31, "                             \
      "[%[b]]\n" MB_SVE_ALL_("ldr z\\r, [%[sums], #\\r, mul vl]") "1:\n.rept 3\n" MB_SVE_ALL_(                        \
          line "\n" link) ".endr\nsubs %[left], %[left], #1\nb.ne 1b\n" MB_SVE_ALL_("str z\\r, [%[sums], "            \
                                                                                    "#\\r, mul vl]")                  \
      : [left] "+r"(now.left), [value] "+r"(now.value)                                                                \
      : [factor] "r"(now.factor), [a] "r"(now.a), [b] "r"(now.b), [sums] "r"(now.sums)                                \
      : "memory", "cc", "p0", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", \
        "v14", "v15", "v16", "v17", "v18", "v19", "v30", "v31")
#define MB_SVE_OF_(op, line)                                       \
  template <bool clocked>                                          \
  [[gnu::always_inline]] inline void several(op, registers& now) { \
    if constexpr (clocked)                                         \
      MB_SVE_(line, "add %[value], %[value], %[factor]");          \
    else                                                           \
      MB_SVE_(line, "");                                           \
  }

MB_TARGET_BEGIN("arch=armv8.2-a+sve")

MB_SVE_OF_(fma_f64, "fmla z\\r\\().d, p0/m, z30.d, z31.d")
MB_SVE_OF_(fma_f32, "fmla z\\r\\().s, p0/m, z30.s, z31.s")
MB_SVE_OF_(fma_f16, "fmla z\\r\\().h, p0/m, z30.h, z31.h")
MB_SVE_OF_(dot_i8, "sdot z\\r\\().s, z30.b, z31.b")
MB_SVE_OF_(dot_bf16, "bfdot z\\r\\().s, z30.h, z31.h")

// With `clocked` a link of the integer chain follows every instruction.
template <class Op, bool clocked>
struct loop {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    registers now{0, chain::start, chain::factor, vector(own, left_operand), nullptr, vector(own, first_sum)};
    __builtin_memcpy(vector(own, first_sum), vector(own, first_start), chains * vector_bytes());
    bool minus = false;
    for (std::uint64_t left = iterations; left != 0; minus = !minus) {
      now.left = std::min(left, exact::period<typename Op::out>(Op::steps, Op::depth));
      left -= now.left;
      now.b = vector(own, minus ? minus_right : right_operand);
      several<clocked>(Op{}, now);
    }
    own.result = now.value;
    return iterations;
  }
};

MB_TARGET_END

#undef MB_SVE_OF_
#undef MB_SVE_
#undef MB_SVE_ALL_

namespace {

template <class Op>
struct loops {
  using rate = loop<Op, false>;
  using clock = loop<Op, true>;
  static constexpr int links = count;

  static std::size_t lane_count() { return vector_bytes() / Op::out::bytes; }

  static void fill(context& own) {
    for (std::size_t lane = 0; lane < lane_count(); ++lane)
      for (std::size_t k = 0; k < Op::depth; ++k) {
        const auto at = (lane * Op::depth + k) * Op::in::bytes;
        Op::in::put(vector(own, left_operand) + at, exact::left(lane, k));
        Op::in::put(vector(own, right_operand) + at, exact::right(lane, k));
        Op::in::put(vector(own, minus_right) + at, -exact::right(lane, k));
      }
    for (std::size_t chain = 0; chain < chains; ++chain)
      for (std::size_t lane = 0; lane < lane_count(); ++lane)
        Op::out::put(vector(own, first_start + chain) + lane * Op::out::bytes, exact::start(chain));
  }

  static bool check(const context& own, std::uint64_t iterations) {
    const auto level = exact::level(iterations, exact::period<typename Op::out>(Op::steps, Op::depth));
    for (std::size_t chain = 0; chain < chains; ++chain)
      for (std::size_t lane = 0; lane < lane_count(); ++lane) {
        std::int64_t product = 0;
        for (std::size_t k = 0; k < Op::depth; ++k) product += exact::left(lane, k) * exact::right(lane, k);
        const auto* found = vector(own, first_sum + chain) + lane * Op::out::bytes;
        if (!holds<typename Op::out>(found, chain, product * Op::steps * level)) return false;
      }
    return true;
  }
};

template <class Op>
std::vector<kernel> rows(const char* family, const char* ports, const char* need, const char* says) {
  constexpr int flop = 2 * Op::depth;
  const std::string in = Op::in::name, out = Op::out::name;
  const auto lane_count = loops<Op>::lane_count();
  return rated<loops<Op>>({.name = std::string(family) + "." + in + (in == out ? "" : "." + out) + ".sve",
                           .roles = {"ceiling", "roof"},
                           .says = says,
                           .unit = "vector",
                           .dtype = in,
                           .accumulator = out,
                           .variant = "sve",
                           .frequency_license = narrow_license,
                           .ports = ports,
                           .lanes = static_cast<int>(lane_count),
                           .flop_per_lane = flop,
                           .chains = chains,
                           .math = count,
                           .per_iteration = {.flop = lane_count * flop * count},
                           .needs = {need},
                           .operands = "exact",
                           .verified = false});
}

MB_KERNEL(rows<fma_f64>("fma", "fma.sve", "sve", "independent fused multiply-adds (SVE)"))
MB_KERNEL(rows<fma_f32>("fma", "fma.sve", "sve", "independent fused multiply-adds (SVE)"))
MB_KERNEL(rows<fma_f16>("fma", "fma.sve", "sve", "independent fused multiply-adds (SVE)"))
MB_KERNEL(rows<dot_i8>("dot", "dot_i8.sve", "sve", "independent dot products of 4 bytes (SVE sdot)"))
MB_KERNEL(rows<dot_bf16>("dot", "dot_bf16.sve", "svebf16", "independent dot products of 2 bf16 (SVE bfdot)"))

}  // namespace
}  // namespace mb::sve
#endif
