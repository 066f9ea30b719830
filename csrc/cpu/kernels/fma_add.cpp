// Multiply-adds and additions mixed: what a core does that has pipes for both, and no product of matrices can reach.
//
// AMD's cores since Zen have two pipes for multiply-adds and two for additions, Intel's since Golden Cove one more for
// additions; a loop of multiply-adds alone leaves those idle. Two mixes, for nobody knows beforehand which a core
// takes: two multiply-adds and two additions in turn (Zen 3 starts 3.99 of 4 a cycle; one and one in turn, 3.59,
// because its schedulers take them in pairs), and four and two. Where both share their pipes, as on Intel before Golden
// Cove and on Arm, either row is below the multiply-adds alone: it counts fewer FLOP an instruction. Nominal:
// instructions over what the pipes of either kind, and all of them, start in a cycle. It bounds no roofline, since
// matrix products have as many multiplications as additions.
#include <algorithm>
#include <numeric>
#include <utility>

#include "../../target.hpp"
#include "../multiply_add.hpp"
#include "../rated.hpp"

namespace mb::fma_add {

// So many multiply-adds and additions in turn, in an iteration of 48 multiply-adds.
template <class Width, int fused, int plain>
struct mix {
  using width = Width;
#if defined(__x86_64__)
  // 4 cycles x 2 pipes of multiply-adds are 8 chains, 3 x 2 of additions 6: with the operands all 16 registers.
  static constexpr int fused_chains = std::is_same_v<Width, v512> ? 12 : 8;
  static constexpr int plain_chains = std::is_same_v<Width, v512> ? 8 : 6;
#else
  static constexpr int fused_chains = 12, plain_chains = 8;
#endif
  static constexpr std::size_t fused_of_group = fused, plain_of_group = plain, group = fused + plain;
  static constexpr int fused_count = 48, plain_count = fused_count / fused * plain;
  static constexpr int count = fused_count + plain_count, chains = fused_chains + plain_chains;
  static constexpr int fused_steps = fused_count / fused_chains, plain_steps = plain_count / plain_chains;
  static_assert(fused_count % fused_chains == 0 && plain_count % plain_chains == 0 && chains <= most_chains);

  template <class Out>
  static constexpr std::uint64_t period() {
    return exact::period<Out>(std::max(fused_steps, plain_steps), 1);
  }
};

#if defined(__x86_64__)

MB_TARGET_BEGIN("avx,fma")
namespace vex {
#include "../multiply_add.inc"
//
#include "../fma_add.inc"
}  // namespace vex
MB_TARGET_END

MB_TARGET_BEGIN("avx512f,avx512bw,avx512vl")
namespace evex {
#include "../multiply_add.inc"
//
#include "../fma_add.inc"
}  // namespace evex
MB_TARGET_END

#else

namespace base {
#include "../multiply_add.inc"
//
#include "../fma_add.inc"
}  // namespace base

#endif

namespace {

template <class Mix, class Op, template <class, class, int> class Loop>
struct loops {
  using rate = Loop<Mix, Op, 0>;
  static constexpr int apart = links_apart<Op, typename Mix::width>() == 5 ? 6 : links_apart<Op, typename Mix::width>();
  using clock = Loop<Mix, Op, apart>;
  static constexpr int links = Mix::count / apart;
  static_assert(Mix::count % apart == 0);

  static void fill(context& own) {
    mb::fill<Op, typename Mix::width>(own);
    auto& held = operands_of(own);
    for (std::size_t chain = 0; chain < Mix::chains; ++chain)
      for (std::size_t lane = 0; lane < lanes<Op, typename Mix::width>(); ++lane)
        Op::out::put(held.start[chain] + lane * Op::out::bytes, exact::start(chain));
  }

  static bool check(const context& own, std::uint64_t iterations) {
    const auto& held = operands_of(own);
    const auto level = exact::level(iterations, Mix::template period<typename Op::out>());
    for (std::size_t chain = 0; chain < Mix::chains; ++chain)
      for (std::size_t lane = 0; lane < lanes<Op, typename Mix::width>(); ++lane) {
        const bool fused = chain < Mix::fused_chains;
        const std::int64_t product = (fused ? exact::left(lane, 0) : 1) * exact::right(lane, 0);
        const auto climbed = product * (fused ? Mix::fused_steps : Mix::plain_steps) * level;
        if (!holds<typename Op::out>(held.result[chain] + lane * Op::out::bytes, chain, climbed)) return false;
      }
    return true;
  }
};

// `narrower` and wider registers tell the same: the widest that can run here stands for all.
template <class Mix, class Op, template <class, class, int> class Loop>
std::vector<kernel> rows(const char* family, std::vector<std::string> needs, std::vector<const char*> wider) {
  using width = typename Mix::width;
  const std::string stem = std::string(family) + "." + Op::out::name + ".";
  const auto lane_count = lanes<Op, width>();
  sheet facts{.name = stem + width::name,
              .roles = {"ceiling"},
              .says = Mix::fused_of_group == Mix::plain_of_group
                          ? "independent fused multiply-adds and additions, two of either in turn"
                          : "independent fused multiply-adds and additions, four and two in turn",
              .unit = "vector",
              .dtype = Op::in::name,
              .accumulator = Op::out::name,
              .variant = width::name,
              .frequency_license = width::frequency_license,
              .ports = std::string("fma.") + width::name,
              .lanes = static_cast<int>(lane_count),
              .chains = Mix::fused_chains,
              .math = Mix::fused_count,
              .beside = {{"add", Mix::plain_count}},
              .per_iteration = {.flop = lane_count * (2 * Mix::fused_count + Mix::plain_count)},
              .needs = std::move(needs),
              .operands = "exact"};
#if !defined(__x86_64__)
  facts.verified = false;
#endif
  for (const auto* width_of : wider) facts.unless.push_back(stem + width_of);
  return rated<loops<Mix, Op, Loop>>(std::move(facts));
}

#if defined(__x86_64__)
MB_KERNEL(rows<mix<v128, 2, 2>, fma_f64, vex::mixed_loop>("fma_add", {"avx", "fma"}, {"v256"}))
MB_KERNEL(rows<mix<v256, 2, 2>, fma_f64, vex::mixed_loop>("fma_add", {"avx", "fma"}, {"v512"}))
MB_KERNEL(rows<mix<v512, 2, 2>, fma_f64, evex::mixed_loop>("fma_add", {"avx512f"}, {}))
MB_KERNEL(rows<mix<v128, 2, 2>, fma_f32, vex::mixed_loop>("fma_add", {"avx", "fma"}, {"v256"}))
MB_KERNEL(rows<mix<v256, 2, 2>, fma_f32, vex::mixed_loop>("fma_add", {"avx", "fma"}, {"v512"}))
MB_KERNEL(rows<mix<v512, 2, 2>, fma_f32, evex::mixed_loop>("fma_add", {"avx512f"}, {}))
MB_KERNEL(rows<mix<v128, 4, 2>, fma_f64, vex::mixed_loop>("fma2_add", {"avx", "fma"}, {"v256"}))
MB_KERNEL(rows<mix<v256, 4, 2>, fma_f64, vex::mixed_loop>("fma2_add", {"avx", "fma"}, {"v512"}))
MB_KERNEL(rows<mix<v512, 4, 2>, fma_f64, evex::mixed_loop>("fma2_add", {"avx512f"}, {}))
MB_KERNEL(rows<mix<v128, 4, 2>, fma_f32, vex::mixed_loop>("fma2_add", {"avx", "fma"}, {"v256"}))
MB_KERNEL(rows<mix<v256, 4, 2>, fma_f32, vex::mixed_loop>("fma2_add", {"avx", "fma"}, {"v512"}))
MB_KERNEL(rows<mix<v512, 4, 2>, fma_f32, evex::mixed_loop>("fma2_add", {"avx512f"}, {}))
#else
MB_KERNEL(rows<mix<v128, 2, 2>, fma_f64, base::mixed_loop>("fma_add", {"asimd"}, {}))
MB_KERNEL(rows<mix<v128, 2, 2>, fma_f32, base::mixed_loop>("fma_add", {"asimd"}, {}))
MB_KERNEL(rows<mix<v128, 4, 2>, fma_f64, base::mixed_loop>("fma2_add", {"asimd"}, {}))
MB_KERNEL(rows<mix<v128, 4, 2>, fma_f32, base::mixed_loop>("fma2_add", {"asimd"}, {}))
#endif

}  // namespace
}  // namespace mb::fma_add
